//! Certificates of our own doors, for the roof: a new key each time, from the *services* intermediate.

use std::net::IpAddr;

use ca::{PrivateKey, PrivateKeyError};
use model::{Fingerprint, Secret, Timestamp};

use crate::{issuing::IssueError, provisioning::Provisioning};

/// A door's new certificate and its key.
#[derive(Debug, Clone)]
pub struct DoorCertificate {
    /// What the door sends: its certificate, then the *services* intermediate; DER.
    pub chain: Vec<Vec<u8>>,
    /// The private key, PKCS#8 DER. It exists here alone.
    pub key: Secret<Vec<u8>>,
    /// The certificate's fingerprint.
    pub fingerprint: Fingerprint,
    /// Its beginning.
    pub not_before: Timestamp,
    /// Its end; a door asks for the next one at two thirds of the way.
    pub not_after: Timestamp,
}

/// Why a door has no certificate.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// No key could be made.
    #[error(transparent)]
    Key(#[from] PrivateKeyError),
    /// The certificate could not be made.
    #[error("no certificate for this door: {0}")]
    Issue(Box<dyn std::error::Error + Send + Sync>),
}

impl Provisioning {
    /// Makes a key and a serverAuth certificate for these host names and addresses; audited, and in
    /// the registry like every other.
    pub async fn issue_door_certificate(
        &self,
        names: &[String],
        addresses: &[IpAddr],
    ) -> Result<DoorCertificate, DoorError> {
        let key = PrivateKey::generate()?;
        let row = self.issuing.issue_door(names, addresses, key.public_key()).await?;
        let (Some(der), Some(fingerprint)) = (row.der, row.certificate.fingerprint) else {
            return Err(IssueError::Interrupted.into());
        };
        metrics::counter!("tcpmux_certificates_issued_total", "kind" => "door").increment(1);
        tracing::info!(%fingerprint, names = names.join(","), "door certificate issued");
        let issuer = self.issuing.hierarchy().services().certificate().der().to_vec();
        Ok(DoorCertificate {
            chain: vec![der, issuer],
            key: key.pkcs8_der().clone(),
            fingerprint,
            not_before: row.certificate.not_before,
            not_after: row.certificate.not_after,
        })
    }
}

impl From<IssueError> for DoorError {
    fn from(error: IssueError) -> Self {
        Self::Issue(error.into())
    }
}
