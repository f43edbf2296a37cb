//! Calls of the cloud to the daemon itself: one stream, one request, one reply.
//!
//! Streams of kind [`StreamKind::Agent`] go to the daemon and to nothing else on the device; no caller of the cloud's
//! doors can have one opened. Both texts are JSON behind a length of two octets, at most [`MAX_CALL`] octets; the asker
//! ends its half behind the request, the daemon behind the reply, and anything more is an error. See
//! `docs/protocol.md` §4.

use std::{future::Future, io, time::Duration};

use model::{ClaimCode, DeviceRef, Level, RequestId, Secret, Target, Timestamp};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::{Destination, Dialer, IncomingStream, OpenError, StreamHeader, StreamKind, TunnelStream, wire};

/// What the cloud wants of the daemon.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AgentRequest {
    /// The device has no owner: show this code to the people around it, instead of any other.
    ClaimCode {
        /// The code.
        code: ClaimCode,
    },
    /// The device has an owner, or a new code will come: show no code any more.
    ForgetClaimCode,
    /// With this token the device's programs may speak to the device gateway.
    DeviceToken {
        /// The token. A secret.
        #[serde(with = "wire::secret_text")]
        token: Secret<String>,
        /// Its end.
        expires_at: Timestamp,
        /// Where the gateway is, as in `https://cloud.example.com:7443`.
        gateway: String,
    },
    /// Are you there, and how are you?
    Diagnose,
    /// A request of a newer cloud; to be answered with [`AgentReply::Refused`].
    #[serde(other)]
    Unknown,
}

/// What the daemon answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AgentReply {
    /// It is done, and lasts: what was asked for outlives a power cut.
    Done,
    /// It was not done.
    Refused {
        /// Why, for people.
        reason: String,
    },
    /// How the daemon is.
    Diagnosis(Diagnosis),
    /// A reply of a newer daemon.
    #[serde(other)]
    Unknown,
}

/// How a daemon is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Diagnosis {
    /// Its version, for people.
    #[serde(default)]
    pub agent_version: String,
    /// How many seconds it has been running.
    #[serde(default)]
    pub uptime_s: u64,
    /// SHA-256 of the claim code that it shows at this moment.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "wire::hex32")]
    pub claim_digest: Option<[u8; 32]>,
    /// Whether the device's clock is not behind what the cloud proved.
    #[serde(default)]
    pub clock_plausible: bool,
}

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// No stream to the daemon.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It took too long.
    #[error("the call was not over after {} s", CALL_LIMIT.as_secs())]
    TimedOut,
    /// A text of no octets, or of too many.
    #[error("a call's text of {0} octets: 1 to {MAX_CALL} are allowed")]
    Length(usize),
    /// A text that is not the JSON it should be.
    #[error("a call's text could not be read: {0}")]
    Malformed(serde_json::Error),
    /// Octets behind the one text.
    #[error("something followed the one text of a call")]
    Surplus,
    /// The stream broke.
    #[error("the stream of a call failed: {0}")]
    Stream(io::Error),
}

impl AgentRequest {
    /// The word in logs; never what the request carries.
    pub fn name(&self) -> &'static str {
        match self {
            Self::ClaimCode { .. } => "claim_code",
            Self::ForgetClaimCode => "forget_claim_code",
            Self::DeviceToken { .. } => "device_token",
            Self::Diagnose => "diagnose",
            Self::Unknown => "unknown",
        }
    }
}

impl AgentReply {
    /// A refusal with its reason.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self::Refused { reason: reason.into() }
    }
}

/// Asks the daemon of a device, wherever its session is held. The request id is what both sides' logs call it.
///
/// # Errors
/// If there is no reply within [`CALL_LIMIT`]; whether the daemon did what was asked is then not known.
pub async fn ask(
    dialer: &dyn Dialer,
    device: &DeviceRef,
    request: &AgentRequest,
    request_id: RequestId,
) -> Result<AgentReply, AgentError> {
    let called = async {
        let mut stream = dialer.open(&target(device), header(request_id)).await?;
        match put(&mut stream, request).await {
            // A device that refused has said why, and that tells more than a write that failed.
            Err(AgentError::Stream(error)) => {
                stream.accepted().await?;
                Err(AgentError::Stream(error))
            }
            Err(error) => Err(error),
            Ok(()) => take(&mut stream).await,
        }
    };
    timeout(CALL_LIMIT, called).await.map_err(|_| AgentError::TimedOut)?
}

/// The daemon's side of one call: reads the request, has it handled, writes the reply.
///
/// # Errors
/// If the caller broke the form, was too slow or went away; the stream is reset then. A request that came whole has
/// been handled even if its reply could not be written.
pub async fn answer<H, F>(stream: IncomingStream, handle: H) -> Result<(), AgentError>
where
    H: FnOnce(AgentRequest) -> F,
    F: Future<Output = AgentReply>,
{
    let mut stream = stream.accept().await;
    let asked = timeout(CALL_LIMIT, take(&mut stream)).await.map_err(|_| AgentError::TimedOut)?;
    let reply = handle(asked?).await;
    timeout(CALL_LIMIT, put(&mut stream, &reply)).await.map_err(|_| AgentError::TimedOut)?
}

/// Where the streams of calls go. The kind decides; the service's name stands for nothing on the device.
fn target(device: &DeviceRef) -> Target {
    Target {
        device: device.clone(),
        service: PLACE.parse().expect("the name keeps to the grammar of services"),
    }
}

fn header(request_id: RequestId) -> StreamHeader {
    StreamHeader {
        kind: StreamKind::Agent,
        service: Destination::Agent,
        deadline: OPEN_LIMIT,
        request_id,
        trace_id: [0; 16],
        client: String::new(),
        principal: [0; 32],
        level: Level::Owner,
        assertion: None,
    }
}

/// Writes the one text and ends this half.
async fn put(stream: &mut TunnelStream, message: &impl Serialize) -> Result<(), AgentError> {
    let text = Secret::new(serde_json::to_vec(message).map_err(AgentError::Malformed)?);
    let length = text.expose().len();
    let prefix = u16::try_from(length).ok().filter(|_| length <= MAX_CALL);
    let prefix = prefix.ok_or(AgentError::Length(length))?.to_be_bytes();
    // One frame: a reader that waits for all of it is not woken twice.
    let framed = Secret::new([&prefix[..], text.expose()].concat());
    stream.write_all(framed.expose()).await.map_err(broken)?;
    stream.shutdown().await.map_err(broken)
}

/// Reads the one text, up to the end of the peer's half.
async fn take<T: DeserializeOwned>(stream: &mut TunnelStream) -> Result<T, AgentError> {
    let length = usize::from(stream.read_u16().await.map_err(broken)?);
    if length == 0 || length > MAX_CALL {
        return Err(AgentError::Length(length));
    }
    let mut text = Secret::new(vec![0; length]);
    stream.read_exact(text.expose_mut()).await.map_err(broken)?;
    if stream.read(&mut [0]).await.map_err(broken)? > 0 {
        return Err(AgentError::Surplus);
    }
    serde_json::from_slice(text.expose()).map_err(AgentError::Malformed)
}

fn broken(error: io::Error) -> AgentError {
    match OpenError::from_io(&error) {
        Some(refused) => AgentError::Open(refused),
        None => AgentError::Stream(error),
    }
}

/// The longest text of a call.
pub const MAX_CALL: usize = 16 * 1024;
/// How long a call may take.
pub const CALL_LIMIT: Duration = Duration::from_secs(10);
const OPEN_LIMIT: Duration = Duration::from_secs(5);
const PLACE: &str = "agent";
