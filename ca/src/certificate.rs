//! What comes out at the end.

use model::{Fingerprint, Serial, Timestamp};

use crate::{pem, sha256};

/// A certificate that was signed, read again and verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate.
    pub der: Vec<u8>,
    /// SHA-256 of `der`.
    pub fingerprint: Fingerprint,
    /// Its serial number.
    pub serial: Serial,
    /// First moment of its validity; whole seconds.
    pub not_before: Timestamp,
    /// Last moment of its validity; whole seconds.
    pub not_after: Timestamp,
}

impl Certificate {
    pub(crate) fn new(der: Vec<u8>, serial: Serial, not_before: Timestamp, not_after: Timestamp) -> Self {
        Self { fingerprint: Fingerprint(sha256(&der)), der, serial, not_before, not_after }
    }

    /// The certificate as PEM.
    pub fn pem(&self) -> String {
        pem::encode(pem::CERTIFICATE, &self.der)
    }
}
