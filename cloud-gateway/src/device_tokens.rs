//! Device tokens: what a device shows at the device gateway in place of its certificate.
//!
//! A token is minted for one session and the certificate that the session stands on. It is good for minutes, and
//! not a moment longer than the certificate: who revokes the one revokes the other. Its `typ` and `aud` are its own,
//! so that it is no proxy token, and no proxy token is one.

use std::{sync::Arc, time::Duration};

use model::{
    CertificateStatus, Code, DeviceActor, DeviceRef, DoorKey, Fingerprint, Generation, Refusal, Secret,
    SessionId, TenantName, Timestamp,
};
use registry::{Registry, SessionRecord};
use runtime::{
    Clock,
    jose::{self, Expectations, SigningError, TokenBody, TokenError, TypRule},
};
use serde::Serialize;

use crate::authorizer::Authorizer;

/// `aud` of every device token.
pub const DEVICE_AUDIENCE: &str = "tcpmux:device";

/// A token that is on its way to its device.
#[derive(Debug)]
pub struct DeviceToken {
    /// The token itself.
    pub token: Secret<String>,
    /// Its end.
    pub expires_at: Timestamp,
    /// Where it is good, as in `https://cloud.example.com:7443`.
    pub gateway: String,
}

/// Mints and proves device tokens.
#[derive(Debug)]
pub(crate) struct DeviceTokens {
    authorizer: Arc<Authorizer>,
    registry: Registry,
    clock: Clock,
    life: Duration,
    gateway: String,
}

#[derive(Debug, Serialize)]
struct Body<'a> {
    iss: &'a str,
    aud: &'static str,
    sub: &'a str,
    tenant: &'a TenantName,
    sid: &'a SessionId,
    generation: Generation,
    certificate: Fingerprint,
    iat: i64,
    exp: i64,
    jti: &'a str,
}

impl DeviceTokens {
    /// Tokens with this life, for the gateway at `device_url`.
    pub(crate) fn new(
        authorizer: Arc<Authorizer>,
        registry: Registry,
        clock: Clock,
        life: Duration,
        device_url: &str,
    ) -> Self {
        Self { authorizer, registry, clock, life, gateway: format!("https://{device_url}") }
    }

    /// How long a token is good.
    pub(crate) fn life(&self) -> Duration {
        self.life
    }

    /// A token for the device of this session.
    pub(crate) fn mint(&self, session: &SessionRecord) -> Result<DeviceToken, SigningError> {
        let now = self.clock.now();
        let expires_at = Timestamp::from_secs(now.plus(self.life).secs());
        let body = Body {
            iss: self.authorizer.issuer(),
            aud: DEVICE_AUDIENCE,
            sub: session.device.device.as_str(),
            tenant: &session.device.tenant,
            sid: &session.session,
            generation: session.generation,
            certificate: session.certificate,
            iat: now.secs(),
            exp: expires_at.secs(),
            jti: &model::hex(&runtime::random::bytes::<16>()),
        };
        let token = Secret::new(self.authorizer.sign(TYP, &body)?);
        Ok(DeviceToken { token, expires_at, gateway: self.gateway.clone() })
    }

    /// The device whose token this is, if it may still come in.
    pub(crate) async fn prove(&self, token: &str, door_key: &DoorKey) -> Result<DeviceActor, Refusal> {
        let now = self.clock.now();
        let expected = Expectations {
            issuer: self.authorizer.issuer(),
            audience: DEVICE_AUDIENCE,
            typ: TypRule::Only(TYP),
            now,
            leeway: LEEWAY,
        };
        let body = jose::verify(token, self.authorizer.keys(), &expected)?;
        let (device, generation, certificate) = read(&body)?;
        let refused = |why: &'static str| {
            tracing::info!(%device, why, "a device token was not accepted");
            Refusal::new(Code::NotGranted, "this device is not admitted any more")
        };
        // The view decides for tokens as for handshakes: a certificate that ended takes its tokens along.
        let entry = self.registry.certificates().lookup_or_read(certificate).await;
        let entry = entry.filter(|entry| entry.device == device && entry.not_after > now);
        match entry.map(|entry| entry.status) {
            Some(CertificateStatus::Active) => {}
            // Its successor was used by a newer session; this one may still be on its way out.
            Some(CertificateStatus::Retired) => {
                let session = self.registry.lookup(&device).await;
                if session.is_none_or(|session| session.generation != generation) {
                    return Err(refused("the certificate was succeeded and the session is over"));
                }
            }
            Some(CertificateStatus::Revoked) => return Err(refused("the certificate is revoked")),
            Some(CertificateStatus::Pending) | None => return Err(refused("the certificate is not known")),
        }
        Ok(DeviceActor::new(door_key, device, certificate))
    }
}

fn read(body: &TokenBody) -> Result<(DeviceRef, Generation, Fingerprint), TokenError> {
    let tenant =
        body.text("tenant").and_then(|text| text.parse().ok()).ok_or(TokenError::Member("tenant"))?;
    let device = body.subject.parse().map_err(|_| TokenError::Member("sub"))?;
    let generation = body.members.get("generation").and_then(serde_json::Value::as_u64);
    let generation = Generation(generation.ok_or(TokenError::Member("generation"))?);
    let certificate = body.text("certificate").and_then(|text| text.parse().ok());
    let certificate = certificate.ok_or(TokenError::Member("certificate"))?;
    Ok((DeviceRef::new(tenant, device), generation, certificate))
}

/// `typ` of every device token.
const TYP: &str = "tcpmux-device+jwt";
/// Nodes of one cloud keep their clocks closer than strangers do.
const LEEWAY: Duration = Duration::from_secs(5);

#[cfg(test)]
#[path = "device_tokens_tests.rs"]
mod tests;
