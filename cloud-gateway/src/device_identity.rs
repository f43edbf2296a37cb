//! Devices that call over HTTP: from a device token, or from the client certificate of the connection, to a proven
//! device.

use std::{sync::Arc, time::Duration};

use ca::{DeviceCertificate, DeviceNaming};
use http::{HeaderMap, header::AUTHORIZATION};
use model::{Code, DeviceActor, DoorKey, Refusal, Timestamp};
use registry::{Admission, NotAdmitted, Presented};
use runtime::{http::ConnectionInfo, jose::bearer};

use crate::device_tokens::DeviceTokens;

/// Proves devices by their tokens or certificates.
#[derive(Debug)]
pub struct DeviceGuard {
    naming: DeviceNaming,
    admission: Arc<dyn Admission>,
    tokens: Option<Arc<DeviceTokens>>,
}

impl DeviceGuard {
    /// Reads names in this way and asks this admission.
    pub fn new(naming: DeviceNaming, admission: Arc<dyn Admission>) -> Self {
        Self { naming, admission, tokens: None }
    }

    /// The same, which takes device tokens too.
    pub(crate) fn with_tokens(self, tokens: Arc<DeviceTokens>) -> Self {
        Self { tokens: Some(tokens), ..self }
    }

    /// The device at the other end. Whoever shows a token is judged by it; a certificate that is shown beside it has
    /// to be of the same device.
    pub(crate) async fn prove(
        &self,
        headers: &HeaderMap,
        connection: Option<&ConnectionInfo>,
        door_key: &DoorKey,
        now: Timestamp,
    ) -> Result<DeviceActor, Refusal> {
        let shows_certificate = connection.is_some_and(|connection| !connection.certificates.is_empty());
        let Some(tokens) = self.tokens.as_ref().filter(|_| headers.contains_key(AUTHORIZATION)) else {
            return self.by_certificate(connection, door_key, now).await;
        };
        let device = tokens.prove(bearer(headers)?, door_key).await?;
        if shows_certificate
            && self.by_certificate(connection, door_key, now).await?.device() != device.device()
        {
            return Err(Refusal::new(
                Code::NotGranted,
                "the token is of another device than the certificate",
            ));
        }
        Ok(device)
    }

    /// The device at the other end, by its certificate alone: a token that is shown beside it says nothing here.
    pub(crate) async fn prove_by_certificate(
        &self,
        connection: Option<&ConnectionInfo>,
        door_key: &DoorKey,
        now: Timestamp,
    ) -> Result<DeviceActor, Refusal> {
        if connection.is_none_or(|connection| connection.certificates.is_empty()) {
            return Err(Refusal::new(
                Code::TokenMissing,
                "this needs the device's client certificate in the handshake; a token is not enough",
            ));
        }
        self.by_certificate(connection, door_key, now).await
    }

    /// The handshake has verified the chain and that the device holds the key.
    async fn by_certificate(
        &self,
        connection: Option<&ConnectionInfo>,
        door_key: &DoorKey,
        now: Timestamp,
    ) -> Result<DeviceActor, Refusal> {
        let leaf = connection.and_then(|connection| connection.certificates.first());
        let leaf = leaf.ok_or(Refusal::new(
            Code::TokenMissing,
            "this needs a device token, or the device's client certificate",
        ))?;
        let refused = |reason: &dyn std::fmt::Display| {
            tracing::info!(%reason, "a client certificate was not accepted");
            Refusal::new(Code::NotGranted, "this client certificate is not accepted here")
        };
        let certificate = DeviceCertificate::read(leaf).map_err(|reason| refused(&reason))?;
        let presented = Presented {
            fingerprint: certificate.fingerprint(),
            device: self.naming.device(&certificate).map_err(|reason| refused(&reason))?,
            not_after: certificate.not_after(),
        };
        let admitted = self.admission.admit_or_read(&presented, READ_WITHIN, || now).await;
        let admitted = admitted.map_err(|reason| match reason {
            NotAdmitted::Unread => Refusal::new(
                Code::Unavailable,
                "this cloud has just started and has not read the certificate's row yet; try again",
            )
            .retry_after(2),
            reason => refused(&reason),
        })?;
        Ok(DeviceActor::new(door_key, admitted.device, admitted.fingerprint))
    }
}

/// How long a row may take that is read because somebody asks with its certificate.
const READ_WITHIN: Duration = Duration::from_secs(5);
