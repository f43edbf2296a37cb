//! Certificates of our own CAs, and what an issuer puts into what it issues.

use model::{Fingerprint, Timestamp};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{
    KeyError, PublicKey,
    der::{self, DerError, Reader, write},
    pem, sha256,
    signature::SignatureAlgorithm,
};

/// A CA certificate of the hierarchy, read and checked to be one.
#[derive(Debug, Clone)]
pub struct CaCertificate {
    der: Vec<u8>,
    fingerprint: Fingerprint,
    issuer: Issuer,
}

/// What is taken from an issuer when a certificate is written, linted and verified.
#[derive(Debug, Clone)]
pub(crate) struct Issuer {
    /// The Name is this CN alone.
    pub(crate) common_name: String,
    pub(crate) public_key: PublicKey,
    pub(crate) algorithm: SignatureAlgorithm,
    pub(crate) not_before: Timestamp,
    pub(crate) not_after: Timestamp,
}

/// Why a certificate is not a CA certificate of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CaCertificateError {
    /// Not DER.
    #[error("the CA certificate is not DER: {0}")]
    Der(#[from] DerError),
    /// Not a certificate, or of a shape that the ceremony never makes.
    #[error("the CA certificate {0}")]
    Shape(&'static str),
    /// Its key is not allowed.
    #[error("the CA certificate's key: {0}")]
    Key(#[from] KeyError),
}

impl CaCertificate {
    /// Reads a certificate that the ceremony made.
    pub fn read(der: &[u8]) -> Result<Self, CaCertificateError> {
        der::check(der)?;
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|_| CaCertificateError::Shape("cannot be read"))?;
        let constraints = certificate.basic_constraints().ok().flatten();
        if !constraints.is_some_and(|found| found.critical && found.value.ca) {
            return Err(CaCertificateError::Shape("is not of a CA"));
        }
        let usage = certificate.key_usage().ok().flatten();
        if !usage.is_some_and(|found| found.value.key_cert_sign() && found.value.crl_sign()) {
            return Err(CaCertificateError::Shape("may not sign certificates and revocation lists"));
        }
        let public_key = PublicKey::from_spki(certificate.public_key().raw)?;
        let algorithm = SignatureAlgorithm::of_issuer(public_key.kind())
            .ok_or(CaCertificateError::Shape("has a key that nothing is signed with here"))?;
        let common_name = certificate.subject().iter_common_name().next();
        let common_name = common_name.and_then(|name| name.as_str().ok()).unwrap_or_default();
        let issuer = Issuer {
            common_name: common_name.to_owned(),
            algorithm,
            not_before: Timestamp::from_secs(certificate.validity().not_before.timestamp()),
            not_after: Timestamp::from_secs(certificate.validity().not_after.timestamp()),
            public_key,
        };
        if certificate.subject().as_raw() != issuer.name() {
            return Err(CaCertificateError::Shape("is not named by exactly one CN"));
        }
        Ok(Self { der: der.to_vec(), fingerprint: Fingerprint(sha256(der)), issuer })
    }

    /// The certificate.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// The certificate as PEM.
    pub fn pem(&self) -> String {
        pem::encode(pem::CERTIFICATE, &self.der)
    }

    /// SHA-256 of the DER.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// The CA's public key.
    pub fn public_key(&self) -> &PublicKey {
        &self.issuer.public_key
    }

    /// Last moment of its validity: nothing that it issues lives longer.
    pub fn not_after(&self) -> Timestamp {
        self.issuer.not_after
    }

    /// The signed part.
    pub(crate) fn tbs(&self) -> Option<&[u8]> {
        let certificate = Reader::new(&self.der).next().ok()?;
        Some(certificate.reader().next().ok()?.whole)
    }

    pub(crate) fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// The one dNSName subtree that its certificates must lie in, if it is constrained so.
    pub(crate) fn permitted_subtree(&self) -> Option<String> {
        use x509_parser::extensions::GeneralName;
        let (_, certificate) = X509Certificate::from_der(&self.der).ok()?;
        let constraints = certificate.name_constraints().ok()??;
        match constraints.value.permitted_subtrees.as_deref() {
            Some([subtree]) => match subtree.base {
                GeneralName::DNSName(name) => Some(name.to_owned()),
                _ => None,
            },
            _ => None,
        }
    }
}

impl Issuer {
    /// A root-to-be: its own issuer.
    pub(crate) fn of_root(
        common_name: &str,
        public_key: &PublicKey,
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Option<Self> {
        Some(Self {
            common_name: common_name.to_owned(),
            public_key: public_key.clone(),
            algorithm: SignatureAlgorithm::of_issuer(public_key.kind())?,
            not_before,
            not_after,
        })
    }

    /// The Name, as DER.
    pub(crate) fn name(&self) -> Vec<u8> {
        write::common_name(&self.common_name)
    }
}
