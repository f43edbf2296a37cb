//! Who came in: from a certificate to what admission is asked about.

use ca::{DeviceCertificate, DeviceNaming, IdentityError};
use registry::Presented;

/// Reads whom a certificate names. Its chain has been verified by TLS before.
pub(crate) fn presented(naming: &DeviceNaming, certificate: &[u8]) -> Result<Presented, IdentityError> {
    let certificate = DeviceCertificate::read(certificate)?;
    Ok(Presented {
        fingerprint: certificate.fingerprint(),
        device: naming.device(&certificate)?,
        not_after: certificate.not_after(),
    })
}
