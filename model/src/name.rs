//! Names that parsed once and are valid for ever.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

/// Why a text is not a name. The message says which rule it breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No characters at all.
    #[error("a {0} cannot be empty")]
    Empty(&'static str),
    /// More characters than a name of this kind may have.
    #[error("a {kind} has at most {max} characters")]
    TooLong {
        /// What the name was to name.
        kind: &'static str,
        /// The most characters it may have.
        max: usize,
    },
    /// A character outside `a-z0-9-`, or `-` at an end.
    #[error("a {0} has only a-z, 0-9 and '-', and neither begins nor ends with '-'")]
    Character(&'static str),
    /// `--` joins a service and a device in a host name, so it cannot be inside either.
    #[error("a {0} cannot contain '--'")]
    DoubleHyphen(&'static str),
}

fn check(kind: &'static str, text: &str, max: usize) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty(kind));
    }
    if text.len() > max {
        return Err(NameError::TooLong { kind, max });
    }
    let legal = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    if !text.as_bytes().iter().all(legal) || text.starts_with('-') || text.ends_with('-') {
        return Err(NameError::Character(kind));
    }
    if text.contains("--") {
        return Err(NameError::DoubleHyphen(kind));
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// The name's text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                check($kind, text, $max)?;
                Ok(Self(text.into()))
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($type), "({})"), &self.0)
            }
        }
    };
}

name! {
    /// A device's name, unique within its tenant: a DNS label of at most 63 characters without `--`.
    DeviceId, "device id", 63
}
name! {
    /// The name of a local target on a device, at most 32 characters.
    ServiceName, "service name", 32
}
name! {
    /// A word by which people group their devices, at most 32 characters.
    Tag, "tag", 32
}
name! {
    /// A tenant's name, at most 63 characters. Small users only ever meet `default`.
    TenantName, "tenant name", 63
}

impl Default for TenantName {
    fn default() -> Self {
        Self("default".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_of_names() {
        for good in ["a", "cam-01", "0", "a-b-c", &"x".repeat(63)] {
            assert_eq!(good.parse::<DeviceId>().unwrap().as_str(), good);
        }
        for bad in
            ["", "-a", "a-", "a--b", "A", "cam_01", "cam.01", "a b", "cаm", "a\0", "a\n", &"x".repeat(64)]
        {
            assert!(bad.parse::<DeviceId>().is_err(), "{bad:?}");
        }
        assert!("x".repeat(33).parse::<ServiceName>().is_err());
    }

    #[test]
    fn a_name_is_checked_when_it_is_read_from_json() {
        assert!(serde_json::from_str::<DeviceId>("\"cam-01\"").is_ok());
        assert!(serde_json::from_str::<DeviceId>("\"../etc\"").is_err());
    }
}
