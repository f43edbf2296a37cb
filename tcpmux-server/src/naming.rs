//! How a device is named in its certificate.

use ca::{DeploymentDomain, DeviceCertificate, IdentityError, NameSource};
use model::TenantName;
use registry::Presented;

/// Whose certificates the device door takes, and where they name the device.
#[derive(Debug, Clone)]
pub enum Naming {
    /// Certificates of this deployment: exactly one SAN under its domain, which names device and tenant.
    Deployment(DeploymentDomain),
    /// Certificates of the operator's own CA.
    Operator {
        /// Where the device's id stands.
        source: NameSource,
        /// The tenant that all of them belong to.
        tenant: TenantName,
    },
}

impl Naming {
    /// Reads who a certificate names. Its chain has been verified by TLS before.
    pub(crate) fn read(&self, certificate: &[u8]) -> Result<Presented, IdentityError> {
        let certificate = DeviceCertificate::read(certificate)?;
        let device = match self {
            Self::Deployment(domain) => certificate.device(domain)?,
            Self::Operator { source, tenant } => certificate.operator_device(*source, tenant)?,
        };
        Ok(Presented { fingerprint: certificate.fingerprint(), device, not_after: certificate.not_after() })
    }
}
