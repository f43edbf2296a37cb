//! How the certificates of a deployment's devices name them.

use model::{DeviceRef, TenantName};

use crate::{DeploymentDomain, DeviceCertificate, IdentityError, NameSource};

/// Whose certificates a door takes, and where they name the device.
#[derive(Debug, Clone)]
pub enum DeviceNaming {
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

impl DeviceNaming {
    /// The device that the certificate names.
    pub fn device(&self, certificate: &DeviceCertificate) -> Result<DeviceRef, IdentityError> {
        match self {
            Self::Deployment(domain) => certificate.device(domain),
            Self::Operator { source, tenant } => certificate.operator_device(*source, tenant),
        }
    }
}
