//! What device and cloud say to each other when a tunnel begins.

use std::time::Duration;

use model::{Generation, ServiceName, SessionId};
use serde::{Deserialize, Serialize};

use crate::{Destination, LocalHost, StreamKind, wire};

/// The device introduces itself; the first message on the control stream.
///
/// Who the device is stands in its certificate alone, never here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Version of the daemon, for people.
    pub agent_version: String,
    /// Random at each start of the daemon: the same certificate with another boot id may be a clone.
    pub boot_id: String,
    /// Which of the device's sessions this is (0 where there is only one).
    #[serde(default)]
    pub slot: u8,
    /// Features the daemon knows; one is used only where both sides name it.
    #[serde(default)]
    pub features: Vec<String>,
    /// SHA-256 of the claim code that the device holds; absent once it is owned.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "wire::hex32")]
    pub claim_digest: Option<[u8; 32]>,
    /// The services that the device exposes.
    #[serde(default)]
    pub services: Vec<ServiceOffer>,
}

impl Hello {
    /// What the destination of a stream takes for its own name.
    pub(crate) fn host_of(&self, destination: &Destination) -> Option<&LocalHost> {
        let Destination::Service(name) = destination else { return None };
        self.services.iter().find(|offer| offer.name == *name)?.host.as_ref()
    }
}

/// One service that a device exposes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceOffer {
    /// Its name.
    pub name: ServiceName,
    /// How it is spoken to: [`StreamKind::Http`] or [`StreamKind::Tcp`].
    pub kind: StreamKind,
    /// Whether viewers may open WebSockets on it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub viewer_websocket: bool,
    /// What it takes for its own name; absent where it has none, as behind a Unix socket or raw TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<LocalHost>,
}

/// The cloud takes the session; the answer to [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// What the cloud calls this session.
    pub session: SessionId,
    /// Fencing number: within a slot the newest generation is served.
    pub generation: Generation,
    /// Features the cloud knows.
    #[serde(default)]
    pub features: Vec<String>,
    /// A side that heard nothing for this long sends a ping; after 1.4 times this long the peer is dead.
    #[serde(with = "wire::milliseconds")]
    pub heartbeat: Duration,
    /// What the cloud will keep to.
    #[serde(default)]
    pub limits: SessionLimits,
}

/// What the cloud promises not to exceed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionLimits {
    /// Streams open at one time.
    pub streams: u32,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self { streams: 512 }
    }
}

/// The cloud does not take the session; the other answer to [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Why.
    pub reason: RefusedReason,
    /// The device waits at least this long before it tries again.
    #[serde(
        default,
        rename = "retry_after_ms",
        skip_serializing_if = "Option::is_none",
        with = "wire::optional_milliseconds"
    )]
    pub retry_after: Option<Duration>,
}

/// Why a session was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusedReason {
    /// The node has no room.
    Busy,
    /// The node is going away: try another address.
    Draining,
    /// Something the node needs is away.
    Unavailable,
    /// The certificate is not, or no longer, admitted.
    NotAdmitted,
    /// Two machines use this certificate in turns.
    CloneSuspected,
    /// The hello cannot be served, for instance a slot beyond the last.
    BadHello,
    /// A reason that a newer cloud knows.
    #[serde(other)]
    Other,
}
