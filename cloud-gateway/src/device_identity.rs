//! Devices that call over HTTP: from the client certificate of the connection to a proven device.

use std::sync::Arc;

use ca::{DeviceCertificate, DeviceNaming};
use model::{Code, DeviceActor, DoorKey, Refusal, Timestamp};
use registry::{Admission, Presented};
use runtime::http::ConnectionInfo;

/// Proves devices by their certificates.
#[derive(Debug)]
pub struct DeviceGuard {
    naming: DeviceNaming,
    admission: Arc<dyn Admission>,
}

impl DeviceGuard {
    /// Reads names in this way and asks this admission.
    pub fn new(naming: DeviceNaming, admission: Arc<dyn Admission>) -> Self {
        Self { naming, admission }
    }

    /// The device at the other end; the handshake has verified the chain and that it holds the key.
    pub(crate) fn prove(
        &self,
        connection: Option<&ConnectionInfo>,
        door_key: &DoorKey,
        now: Timestamp,
    ) -> Result<DeviceActor, Refusal> {
        let leaf = connection.and_then(|connection| connection.certificates.first());
        let leaf =
            leaf.ok_or(Refusal::new(Code::TokenMissing, "this needs the device's client certificate"))?;
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
        let admitted = self.admission.admit(&presented, now).map_err(|reason| refused(&reason))?;
        Ok(DeviceActor::new(door_key, admitted.device, admitted.fingerprint))
    }
}
