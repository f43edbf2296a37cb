//! Giving this device up from the device itself: the cloud ends its ownership and every grant on it.
//!
//! The device's certificate is the proof, over mutual TLS; what the daemon holds besides, like the token that the cloud
//! pushed, is none. The state stays as it is: the device remains enrolled, and shows a new claim code.

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use runtime::Clock;
use serde::Deserialize;

use crate::{
    DaemonConfig, HttpsError, StateError,
    https::{Answer, Connection},
    trust,
};

/// Why a reset did not end the ownership, or why that is not known.
#[derive(Debug, thiserror::Error)]
pub enum ResetError {
    /// There is no usable identity.
    #[error(transparent)]
    State(#[from] StateError),
    /// There was no connection; nothing was asked.
    #[error("{0}; nothing was changed: try again when the cloud can be reached (tcpmux-client doctor)")]
    Unreachable(HttpsError),
    /// The connection ended between the question and the answer.
    #[error("{0}; whether the ownership has ended is not known: run it again, twice does no harm")]
    Unanswered(HttpsError),
    /// The operator of the cloud does not let a device end its ownership.
    #[error(
        "this cloud does not let a device end its ownership: its owner can (DELETE /v1/devices/ID/owner), or its \
         operator, who can also allow it ([claims] factory_reset = \"device\")"
    )]
    Policy,
    /// The cloud does not take this certificate any more.
    #[error(
        "the cloud does not accept this device's certificate: it has ended, or was replaced or revoked; start the \
         daemon, which renews it (tcpmux-client run), or enrol again with a new passcode (tcpmux-client enroll -)"
    )]
    NotAccepted,
    /// The server knows no ownership: a cloud without people, or an older one.
    #[error("{0} knows no resets: it is a cloud of an older version, or one without a gateway for devices")]
    NoSuchRoute(String),
    /// The cloud answered something else.
    #[error("the cloud answered {status}: {text}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its reason, without control characters.
        text: String,
    },
}

/// The part of a problem document that is looked at.
#[derive(Debug, Default, Deserialize)]
struct Problem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    detail: String,
}

/// Has the cloud end the ownership of this device. A device that nobody owns stays as it is.
///
/// # Errors
/// [`ResetError`], which says whether something may have changed.
pub async fn reset(config: &DaemonConfig, clock: Clock) -> Result<(), ResetError> {
    let identity = config.identity()?;
    let tls = trust::verified_http(&identity.anchors, Some(&identity), &config.trusted_time(clock));
    let opened = Connection::open(&identity.server, &config.way_out, tls).await;
    let mut connection = opened.map_err(ResetError::Unreachable)?;
    let request = Request::post("/device/v1/reset").body(Full::new(Bytes::new()));
    let request = request.expect("a constant path is an address");
    let answer = connection.exchange(request).await.map_err(ResetError::Unanswered)?;
    outcome(&answer, &identity.server.to_string())
}

fn outcome(answer: &Answer, server: &str) -> Result<(), ResetError> {
    let problem: Problem = serde_json::from_slice(&answer.body).unwrap_or_default();
    match (answer.status, problem.code.as_str()) {
        (StatusCode::NO_CONTENT, _) => Ok(()),
        (StatusCode::FORBIDDEN, POLICY) => Err(ResetError::Policy),
        (StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED, _) => Err(ResetError::NotAccepted),
        (StatusCode::NOT_FOUND, _) => Err(ResetError::NoSuchRoute(server.to_owned())),
        (status, _) => {
            let said: String = problem.detail.chars().filter(|c| !c.is_control()).take(200).collect();
            let text = if said.is_empty() { answer.first_line() } else { said };
            Err(ResetError::Refused { status: status.as_u16(), text })
        }
    }
}

/// The code of a refusal by policy; one of the certificate has another.
const POLICY: &str = "TMX-4031";
