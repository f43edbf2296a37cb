//! Why a connection did not become a session: told to the device, logged and counted, here alone.

use std::{net::SocketAddr, time::Duration};

use ca::IdentityError;
use registry::{NotAdmitted, Presented};
use tcpmux_proto::{GreetError, Hello, Refused, RefusedReason};

use crate::{clones::RETRY_WHEN_DAMPED, counts};

/// Why a connection did not become a session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoSession {
    #[error("the connection did not agree on the tunnel protocol")]
    Protocol,
    #[error("the connection shows no certificate")]
    NoCertificate,
    #[error("the certificate names no device: {0}")]
    Identity(IdentityError),
    #[error("{0}")]
    Admission(NotAdmitted),
    #[error("no session began: {0}")]
    Hello(GreetError),
    #[error("the hello cannot be served: {0}")]
    BadHello(&'static str),
    #[error("all sessions that this server may hold are taken")]
    Full,
    #[error("this server is going away")]
    Draining,
    #[error("the certificate is in use at another place")]
    Clone,
    #[error("a newer session of the device was quicker")]
    Overtaken,
}

impl NoSession {
    /// The cause as the metric's label.
    fn label(&self) -> &'static str {
        match self {
            Self::Protocol => "protocol",
            Self::NoCertificate => "no_certificate",
            Self::Identity(_) => "identity",
            Self::Admission(NotAdmitted::Unread) => "unread",
            Self::Admission(NotAdmitted::Unknown) => "unknown",
            Self::Admission(NotAdmitted::OtherDevice) => "other_device",
            Self::Admission(NotAdmitted::Pending) => "pending",
            Self::Admission(NotAdmitted::Retired) => "retired",
            Self::Admission(NotAdmitted::Revoked) => "revoked",
            Self::Admission(NotAdmitted::Expired) => "expired",
            Self::Admission(NotAdmitted::Tenant) => "tenant",
            Self::Hello(GreetError::TimedOut) => "no_hello",
            Self::Hello(_) => "broken_hello",
            Self::BadHello(_) => "bad_hello",
            Self::Full => "full",
            Self::Draining => "draining",
            Self::Clone => "clone",
            Self::Overtaken => "overtaken",
        }
    }

    /// What the device is told.
    pub(crate) fn answer(&self) -> Refused {
        let (reason, retry_after) = match self {
            Self::Full => (RefusedReason::Busy, Some(RETRY_WHEN_FULL)),
            Self::Admission(NotAdmitted::Unread) => (RefusedReason::Busy, Some(RETRY_WHEN_UNREAD)),
            Self::Draining => (RefusedReason::Draining, Some(RETRY_WHEN_DRAINING)),
            Self::Clone => (RefusedReason::CloneSuspected, Some(RETRY_WHEN_DAMPED)),
            Self::BadHello(_) | Self::Hello(_) | Self::Protocol => (RefusedReason::BadHello, None),
            Self::Identity(_) | Self::Admission(_) | Self::NoCertificate | Self::Overtaken => {
                (RefusedReason::NotAdmitted, None)
            }
        };
        // Spread, so that those refused together do not come again together.
        let retry_after = retry_after.map(|least| least.mul_f64(1.0 + fastrand::f64()));
        Refused { reason, retry_after }
    }
}

/// A hello is JSON of a machine that may be in wrong hands: what is kept of it is bounded.
pub(crate) fn check(hello: &Hello) -> Result<(), NoSession> {
    let word = |text: &str| text.len() <= WORD && text.bytes().all(|byte| byte.is_ascii_graphic());
    let refuse = |what| Err(NoSession::BadHello(what));
    if hello.slot != 0 {
        return refuse("this server has slot 0 alone");
    }
    if hello.boot_id.is_empty() || !word(&hello.boot_id) {
        return refuse("a boot id has 1 to 64 printable ASCII characters");
    }
    if !word(&hello.agent_version) {
        return refuse("an agent version has at most 64 printable ASCII characters");
    }
    if hello.services.len() > SERVICES {
        return refuse("a device has at most 64 services");
    }
    Ok(())
}

/// The one place where a refusal is logged and counted.
pub(crate) fn note(no: &NoSession, presented: Option<&Presented>, peer: SocketAddr) {
    counts::session_refused(no.label());
    let device = presented.map(|presented| presented.device.to_string());
    let certificate = presented.map(|presented| presented.fingerprint.to_string());
    tracing::info!(cause = no.label(), reason = %no, device, certificate, %peer, "device refused");
}

const WORD: usize = 64;
const SERVICES: usize = 64;
const RETRY_WHEN_FULL: Duration = Duration::from_secs(10);
const RETRY_WHEN_UNREAD: Duration = Duration::from_secs(2);
const RETRY_WHEN_DRAINING: Duration = Duration::from_secs(2);
