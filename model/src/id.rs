//! Identifiers that are made by us and only compared by others.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

macro_rules! opaque {
    ($(#[$doc:meta])* $type:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// Makes a new one from 16 random bytes.
            pub fn from_random(bytes: [u8; 16]) -> Self {
                Self(format!(concat!($prefix, "{}"), crate::hex(&bytes)).into())
            }

            /// The identifier's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = String;
            /// Accepts the prefix and 32 lower-case hex digits, nothing else.
            fn from_str(text: &str) -> Result<Self, String> {
                let rest = text.strip_prefix($prefix).unwrap_or("");
                if rest.len() == 32 && rest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
                    Ok(Self(text.into()))
                } else {
                    Err(format!(concat!("not a ", stringify!($type), ": expected ", $prefix, " and 32 hex digits")))
                }
            }
        }

        impl TryFrom<String> for $type {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(id: $type) -> Self {
                id.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

opaque! {
    /// A person, as this cloud knows them: one per (issuer, subject) of an identity provider.
    UserId, "usr_"
}
opaque! {
    /// One live authenticated connection of a device.
    SessionId, "ses_"
}
opaque! {
    /// One running server process; new at every start.
    NodeId, "node_"
}
opaque! {
    /// One request of a client; the same in the proxy's log, the stream header and the answer.
    RequestId, "req_"
}

opaque! {
    /// An address of a user's own that is called when something happens.
    WebhookId, "wh_"
}
opaque! {
    /// One message on its way to one receiver: the same in every repetition, so that the receiver can tell.
    DeliveryId, "msg_"
}
opaque! {
    /// One app on one machine that takes push messages.
    PushRegistrationId, "push_"
}

/// Fencing number of a session: grows with every session of a device, never repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
