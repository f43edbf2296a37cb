//! The first certificate: check the CA's fingerprint, then show the passcode, then keep what comes.

use std::time::Duration;

use model::{DeviceId, Fingerprint, Passcode};
use runtime::Backoff;
use rustls_pki_types::CertificateDer;

use crate::{
    CertificateFacts, EstError, Identity, ServerAddress, StateDirectory, StateError, TrustedTime, WayOut,
    certificate::fingerprint,
    est::{Stranger, Verified},
    key::Key,
    state::Right,
};

/// What is needed to enrol a device.
#[derive(Debug, Clone)]
pub struct EnrollRequest {
    /// The cloud's device door.
    pub server: ServerAddress,
    /// SHA-256 of its root certificate.
    pub ca: Fingerprint,
    /// The passcode.
    pub passcode: Passcode,
    /// Who the device is; the request names it, and another name is refused.
    pub device: Option<DeviceId>,
    /// Who it would like to be, where neither `device` nor the passcode says.
    pub suggestion: Option<DeviceId>,
    /// Where to keep the identity.
    pub state: StateDirectory,
    /// The way out.
    pub way_out: WayOut,
}

/// Why enrolment failed.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// The server's CA is another one; the passcode was not sent.
    #[error(
        "{server} has another CA than the enrolment string says; the passcode was not sent\n  \
         expected sha256:{expected}\n  {found}\n  \
         Either the string belongs to another cloud, or somebody stands between this device and the cloud"
    )]
    WrongCa {
        /// Where.
        server: ServerAddress,
        /// The fingerprint asked for.
        expected: Fingerprint,
        /// What was there instead, in words.
        found: String,
    },
    /// The server does not take the passcode.
    #[error(
        "the passcode was refused: it is wrong, expired, or was used with another key\n  \
         Ask the operator for a new one: tcpmux passcode new"
    )]
    PasscodeRefused,
    /// Neither the passcode nor the request names the device.
    #[error(
        "the server needs a name for this device: the passcode is not bound to one\n  \
         Repeat with --device ID ({0})"
    )]
    NoName(String),
    /// The passcode is bound to another device.
    #[error("the passcode is not for {device}: {text}")]
    OtherDevice {
        /// The name in the request.
        device: DeviceId,
        /// What the server says.
        text: String,
    },
    /// The certificate that came does not fit the request.
    #[error("the server sent a certificate that does not fit the request: {0}")]
    Unfit(&'static str),
    /// The server could not be asked, or did not answer properly.
    #[error(transparent)]
    Est(#[from] EstError),
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
}

/// Enrols the device and makes the new identity the current one.
///
/// What may pass is tried again a few times, always with the same key, so that a certificate whose
/// delivery failed is delivered again.
///
/// # Errors
/// As [`EnrollError`] says; the identity before, if there was one, is still the current one then.
pub async fn enroll(request: &EnrollRequest, time: &TrustedTime) -> Result<Identity, EnrollError> {
    request.state.prepare()?;
    let _alone = request.state.lock(Right::Change)?;
    let key = request.state.pending_key()?;
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(8));
    for attempt in 1.. {
        match enroll_once(request, &key, time).await {
            Err(EnrollError::Est(error)) if error.is_passing() && attempt < ATTEMPTS => {
                let mut delay = backoff.next_delay();
                if let EstError::Refused { retry_after: Some(asked), .. } = &error {
                    delay = delay.max(*asked).min(LONGEST_WAIT);
                }
                tracing::warn!(%error, attempt, delay_s = delay.as_secs_f32(), "enrolment will be tried again");
                tokio::time::sleep(delay).await;
            }
            outcome => return outcome.map_err(|error| explained(error, request)),
        }
    }
    unreachable!("the last attempt returns")
}

async fn enroll_once(
    request: &EnrollRequest,
    key: &Key,
    time: &TrustedTime,
) -> Result<Identity, EnrollError> {
    let anchor = pinned_root(request).await?;
    let anchors = [CertificateDer::from(anchor)];
    let verified = Verified::connect(&request.server, &anchors, None, &request.way_out, time).await?;
    // A bound passcode wins over a suggestion, so a suggestion must not stand in the signed request.
    let user = request.device.as_ref().or(request.suggestion.as_ref());
    let csr = key.certificate_request(request.device.as_ref());
    let certificate = verified.enrol(user, &request.passcode, &csr).await?;
    let facts = check_issued(&certificate, key).map_err(EnrollError::Unfit)?;
    if request.device.is_some() && facts.device != request.device {
        return Err(EnrollError::Unfit("it names another device"));
    }
    if let Some(proven) = time.proven() {
        request.state.remember_time(proven)?;
    }
    Ok(request.state.install(&request.server, key, &certificate, &anchors)?)
}

/// The root certificate that has the fingerprint. Everything before this is said to a stranger.
async fn pinned_root(request: &EnrollRequest) -> Result<Vec<u8>, EnrollError> {
    let stranger = Stranger::connect(&request.server, &request.way_out).await?;
    let offered = stranger.ca_certificates().await?;
    let prints: Vec<_> = offered.iter().map(|der| fingerprint(der)).collect();
    match prints.iter().position(|print| *print == request.ca) {
        Some(at) => Ok(offered.into_iter().nth(at).unwrap_or_default()),
        None => Err(EnrollError::WrongCa {
            server: request.server.clone(),
            expected: request.ca,
            found: match &prints[..] {
                [] => "it offers no certificate".into(),
                prints => {
                    let list: Vec<_> = prints.iter().map(|print| format!("sha256:{print}")).collect();
                    format!("it offers {}", list.join(", "))
                }
            },
        }),
    }
}

/// The certificate must be for the key that asked.
pub(crate) fn check_issued(certificate: &[u8], key: &Key) -> Result<CertificateFacts, &'static str> {
    let facts = CertificateFacts::read(certificate).map_err(|_| "it cannot be read")?;
    if facts.public_key_info != key.public_key_info() {
        return Err("it is for another key");
    }
    Ok(facts)
}

fn explained(error: EnrollError, request: &EnrollRequest) -> EnrollError {
    match error {
        EnrollError::Est(EstError::Refused { status: 401, .. }) => EnrollError::PasscodeRefused,
        EnrollError::Est(EstError::Refused { status: 400, text, .. })
            if request.device.is_none() && request.suggestion.is_none() =>
        {
            EnrollError::NoName(text)
        }
        EnrollError::Est(EstError::Refused { status: 403, text, .. }) => match &request.device {
            Some(device) => EnrollError::OtherDevice { device: device.clone(), text },
            None => EnrollError::Est(EstError::Refused { status: 403, text, retry_after: None }),
        },
        other => other,
    }
}

const ATTEMPTS: u32 = 5;
const LONGEST_WAIT: Duration = Duration::from_secs(60);
