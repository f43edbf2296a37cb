//! The small header every stream of the cloud begins with.

use std::{fmt, str::FromStr, time::Duration};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use model::{Level, NameError, RequestId, ServiceName};
use serde::{Deserialize, Serialize};

/// What kind of bytes a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamKind {
    /// One HTTP/1.1 exchange; WebSockets too, since they begin as one.
    Http,
    /// A raw byte pipe with half-close.
    Tcp,
    /// A call to the daemon itself, never reachable for users.
    Agent,
}

/// Where on the device a stream goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Destination {
    /// A service that the device exposes.
    Service(ServiceName),
    /// The daemon itself: the reserved name `tcpmux.agent`, which no service can have.
    Agent,
}

/// What the cloud tells the device about a stream before its first byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamHeader {
    /// What kind of bytes follow.
    pub kind: StreamKind,
    /// Where they go. [`Destination::Agent`] exactly where the kind is [`StreamKind::Agent`].
    pub service: Destination,
    /// How long the device may take for its status byte; whole milliseconds, 1 ms to [`MAX_OPEN_DEADLINE`].
    pub deadline: Duration,
    /// The request as it is called in logs and in `X-Request-Id`.
    pub request_id: RequestId,
    /// The W3C trace id; zeros where there is none.
    pub trace_id: [u8; 16],
    /// Address of the client as text: printable ASCII, at most 64 bytes, may be empty.
    pub client: String,
    /// SHA-256 of who asks, so that a device can tell users apart without learning who they are.
    pub principal: [u8; 32],
    /// What the caller may do.
    pub level: Level,
    /// Reserved for a grant signed by the authorizer; 1 to [`MAX_ASSERTION`] bytes where present.
    pub assertion: Option<Bytes>,
}

/// Why a header could not be written or read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// A version this side does not speak.
    #[error("stream header version {0} is not supported: this side speaks version 1")]
    Version(u8),
    /// A total length outside of what is possible.
    #[error("a stream header of {0} bytes is not possible")]
    Length(usize),
    /// A kind byte without meaning.
    #[error("stream kind {0} is not known")]
    Kind(u8),
    /// A level byte without meaning.
    #[error("level {0} is not known")]
    Level(u8),
    /// A service name that breaks the grammar, or the reserved name with another kind, or the reverse.
    #[error("the service name of a stream header is not valid for its kind")]
    Service,
    /// A deadline of zero or beyond the maximum.
    #[error("the open deadline must be 1 ms to {} s", MAX_OPEN_DEADLINE.as_secs())]
    Deadline,
    /// A client address with other characters or too long.
    #[error("the client address must be at most {MAX_CLIENT} bytes of printable ASCII")]
    Client,
    /// An assertion that is empty or too long.
    #[error("an assertion has 1 to {MAX_ASSERTION} bytes")]
    Assertion,
}

impl StreamHeader {
    /// The bytes on the wire; refused where a field is outside its limits.
    pub fn encode(&self) -> Result<Bytes, HeaderError> {
        self.check()?;
        let service = self.service.as_str().as_bytes();
        let assertion = self.assertion.as_deref().unwrap_or_default();
        let total = FIXED + service.len() + self.client.len() + assertion.len();
        let mut out = BytesMut::with_capacity(total);
        out.put_u8(VERSION);
        out.put_u16(total as u16);
        out.put_u8(self.kind.to_byte());
        out.put_u8(level_to_byte(self.level));
        out.put_u32(self.deadline.as_millis() as u32);
        out.put_slice(&request_bytes(&self.request_id));
        out.put_slice(&self.trace_id);
        out.put_slice(&self.principal);
        out.put_u8(service.len() as u8);
        out.put_u8(self.client.len() as u8);
        out.put_u16(assertion.len() as u16);
        out.put_slice(service);
        out.put_slice(self.client.as_bytes());
        out.put_slice(assertion);
        Ok(out.freeze())
    }

    /// How long the header at the start of `bytes` is: `None` until that can be said.
    pub fn length(bytes: &[u8]) -> Result<Option<usize>, HeaderError> {
        match bytes {
            [] => Ok(None),
            [version, ..] if *version != VERSION => Err(HeaderError::Version(*version)),
            [_, high, low, ..] => {
                let total = usize::from(u16::from_be_bytes([*high, *low]));
                if (FIXED + 1..=MAX_HEADER).contains(&total) {
                    Ok(Some(total))
                } else {
                    Err(HeaderError::Length(total))
                }
            }
            _ => Ok(None),
        }
    }

    /// Reads one header that fills `bytes` exactly.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        if Self::length(bytes)? != Some(bytes.len()) {
            return Err(HeaderError::Length(bytes.len()));
        }
        let total = bytes.len();
        let mut rest = &bytes[3..];
        let kind = StreamKind::of_byte(rest.get_u8())?;
        let level = level_of_byte(rest.get_u8())?;
        let deadline = Duration::from_millis(u64::from(rest.get_u32()));
        let request_id = RequestId::from_random(take(&mut rest));
        let trace_id = take(&mut rest);
        let principal = take(&mut rest);
        let service_len = usize::from(rest.get_u8());
        let client_len = usize::from(rest.get_u8());
        let assertion_len = usize::from(rest.get_u16());
        if FIXED + service_len + client_len + assertion_len != total {
            return Err(HeaderError::Length(total));
        }
        let (service, rest) = rest.split_at(service_len);
        let (client, assertion) = rest.split_at(client_len);
        let text = |bytes| std::str::from_utf8(bytes).ok();
        let header = Self {
            kind,
            service: text(service).and_then(|t| t.parse().ok()).ok_or(HeaderError::Service)?,
            deadline,
            request_id,
            trace_id,
            client: text(client).ok_or(HeaderError::Client)?.to_owned(),
            principal,
            level,
            assertion: (assertion_len > 0).then(|| Bytes::copy_from_slice(assertion)),
        };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), HeaderError> {
        if (self.kind == StreamKind::Agent) != (self.service == Destination::Agent) {
            return Err(HeaderError::Service);
        }
        if self.deadline < Duration::from_millis(1) || self.deadline > MAX_OPEN_DEADLINE {
            return Err(HeaderError::Deadline);
        }
        if self.client.len() > MAX_CLIENT || !self.client.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(HeaderError::Client);
        }
        match &self.assertion {
            Some(assertion) if assertion.is_empty() || assertion.len() > MAX_ASSERTION => {
                Err(HeaderError::Assertion)
            }
            _ => Ok(()),
        }
    }
}

impl StreamKind {
    fn to_byte(self) -> u8 {
        match self {
            Self::Http => 1,
            Self::Tcp => 2,
            Self::Agent => 3,
        }
    }

    fn of_byte(byte: u8) -> Result<Self, HeaderError> {
        match byte {
            1 => Ok(Self::Http),
            2 => Ok(Self::Tcp),
            3 => Ok(Self::Agent),
            other => Err(HeaderError::Kind(other)),
        }
    }
}

impl Destination {
    /// The name on the wire and in logs.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Service(name) => name.as_str(),
            Self::Agent => AGENT,
        }
    }
}

impl From<ServiceName> for Destination {
    fn from(name: ServiceName) -> Self {
        Self::Service(name)
    }
}

impl FromStr for Destination {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text == AGENT { Ok(Self::Agent) } else { text.parse().map(Self::Service) }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn level_to_byte(level: Level) -> u8 {
    match level {
        Level::Viewer => 1,
        Level::Operator => 2,
        Level::Owner => 3,
    }
}

fn level_of_byte(byte: u8) -> Result<Level, HeaderError> {
    match byte {
        1 => Ok(Level::Viewer),
        2 => Ok(Level::Operator),
        3 => Ok(Level::Owner),
        other => Err(HeaderError::Level(other)),
    }
}

fn request_bytes(id: &RequestId) -> [u8; 16] {
    id.as_str()
        .split_once('_')
        .and_then(|(_, digits)| model::unhex(digits))
        .and_then(|bytes| bytes.try_into().ok())
        .expect("a request id is a prefix and 32 hex digits")
}

fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let mut out = [0; N];
    rest.copy_to_slice(&mut out);
    out
}

/// The longest open deadline a header can carry.
pub const MAX_OPEN_DEADLINE: Duration = Duration::from_secs(300);
/// The longest assertion.
pub const MAX_ASSERTION: usize = 4096;
/// The longest header: every field at its limit.
pub const MAX_HEADER: usize = FIXED + 32 + MAX_CLIENT + MAX_ASSERTION;

const VERSION: u8 = 1;
const AGENT: &str = "tcpmux.agent";
const MAX_CLIENT: usize = 64;
/// version 1, total 2, kind 1, level 1, deadline 4, request 16, trace 16, principal 32, three lengths 1 + 1 + 2.
const FIXED: usize = 77;
