//! Certification requests (RFC 2986), read by our own hand.
//!
//! Nothing of a request but its public key ever reaches a certificate. Names are read so that the caller can
//! compare them with whom it knows; everything else is either no more than what is given anyway, and
//! ignored, or more, and refused.

mod attributes;
mod extensions;
mod subject;

use model::DeviceId;

use crate::{
    DeviceCertificate, KeyError, PublicKey,
    der::{self, DerError, Reader, tag},
    signature::SignatureAlgorithm,
};
use attributes::Attributes;

/// A request whose every byte was checked, with proof that the sender has the private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRequest {
    public_key: PublicKey,
    common_name: Option<DeviceId>,
    dns_names: Vec<String>,
}

/// Why a request is refused. [`Self::word`] is stable; the text says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// More than [`CertificateRequest::LARGEST`] bytes.
    #[error("the request has {0} bytes, more than 16384")]
    TooLarge(usize),
    /// Not DER, or not shaped like a request.
    #[error("the request is not a DER CertificationRequest: {0}")]
    Der(#[from] DerError),
    /// Another version than v1.
    #[error("the request's version is not v1 (0)")]
    Version,
    /// A subject that is neither empty nor exactly one CN holding a device id.
    #[error("{0}; leave the subject empty or make it exactly CN=<device id>")]
    Subject(String),
    /// A name that no device certificate can have.
    #[error("{0}; leave names out, they are set from the passcode or the current certificate")]
    Names(String),
    /// Something that may be there once is there twice, or in a second form.
    #[error("{0} is there more than once or in a form that is not taken")]
    Duplicate(String),
    /// More attributes, extensions or names than any honest request has.
    #[error("the request has more than 32 {0}")]
    TooMany(&'static str),
    /// A CA certificate is asked for.
    #[error("the request asks for a CA certificate; ask for an end-entity one or leave the extension out")]
    AsksCa,
    /// A key usage beyond digitalSignature is asked for.
    #[error("the request asks for more key usage than digitalSignature; leave keyUsage out")]
    KeyUsage,
    /// An extended key usage beyond clientAuth is asked for.
    #[error("the request asks for extended key usage {0}; device certificates have clientAuth alone")]
    ExtendedKeyUsage(String),
    /// An extension that would change what the certificate is good for, or an unknown critical one.
    #[error("the request asks for extension {0}, which is not given; leave it out")]
    Extension(String),
    /// A challengePassword, which may bind the request to a TLS session that this server cannot check.
    #[error("the request holds a challengePassword, which cannot be checked here; make it without one")]
    ChallengePassword,
    /// The public key is not allowed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Signed with an algorithm that is not taken.
    #[error(
        "the request is signed with an algorithm that is not taken; use ECDSA or RSA (PKCS#1) with SHA-256, SHA-384 or SHA-512, or Ed25519"
    )]
    SignatureAlgorithm,
    /// The signature was not made by the request's own key over these bytes.
    #[error("the request's signature does not verify with the public key in it")]
    Signature,
}

impl CertificateRequest {
    /// Most bytes of a request.
    pub const LARGEST: usize = 16 * 1024;

    /// Reads a first request. Cheap checks come first, the signature last.
    pub fn parse(der: &[u8]) -> Result<Self, RequestError> {
        Self::read(der, None)
    }

    /// Reads a request to follow `current`: some clients copy the extensions of their certificate into it,
    /// so an extension that equals the current one asks for nothing more.
    pub fn parse_successor(der: &[u8], current: &DeviceCertificate) -> Result<Self, RequestError> {
        Self::read(der, Some(current))
    }

    /// The key to certify, under its true algorithm.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The SubjectPublicKeyInfo.
    pub fn spki_der(&self) -> &[u8] {
        self.public_key.spki_der()
    }

    /// SHA-256 of the SubjectPublicKeyInfo.
    pub fn spki_sha256(&self) -> [u8; 32] {
        self.public_key.spki_sha256()
    }

    /// The subject's CN; `None` for an empty subject. Proves nothing: the caller compares it.
    pub fn common_name(&self) -> Option<&DeviceId> {
        self.common_name.as_ref()
    }

    /// The dNSNames asked for, in their order. They prove nothing: the caller compares them.
    pub fn dns_names(&self) -> &[String] {
        &self.dns_names
    }

    fn read(der: &[u8], current: Option<&DeviceCertificate>) -> Result<Self, RequestError> {
        if der.len() > Self::LARGEST {
            return Err(RequestError::TooLarge(der.len()));
        }
        der::check(der)?;
        let mut outer =
            Reader::new(der).expect(tag::SEQUENCE, "a CertificationRequest was expected")?.reader();
        let info = outer.expect(tag::SEQUENCE, "a CertificationRequestInfo was expected")?;
        let algorithm = outer.expect(tag::SEQUENCE, "a signatureAlgorithm was expected")?;
        let signature = outer.expect(tag::BIT_STRING, "a signature was expected")?.whole_octets()?;
        outer.finish()?;

        let mut inside = info.reader();
        let version = inside.expect(tag::INTEGER, "a version was expected")?;
        if version.content != [0] {
            return Err(RequestError::Version);
        }
        let subject = inside.expect(tag::SEQUENCE, "a subject was expected")?;
        let key = inside.expect(tag::SEQUENCE, "a SubjectPublicKeyInfo was expected")?;
        let attributes = inside.expect(tag::context_constructed(0), "attributes were expected")?;
        inside.finish()?;

        let common_name = subject::common_name(&subject)?;
        let Attributes { dns_names } = Attributes::read(&attributes, current)?;
        let algorithm = SignatureAlgorithm::read(algorithm.whole).ok_or(RequestError::SignatureAlgorithm)?;
        let public_key = PublicKey::from_spki(key.whole)?;
        if !public_key.has_signed(algorithm, info.whole, signature) {
            return Err(RequestError::Signature);
        }
        Ok(Self { public_key, common_name, dns_names })
    }
}

impl RequestError {
    /// One word for scripts and tests; never changes.
    pub fn word(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "csr-too-large",
            Self::Der(_) | Self::Key(KeyError::Der(_)) => "der",
            Self::Version => "csr-version",
            Self::Subject(_) => "csr-subject",
            Self::Names(_) => "identity-mismatch",
            Self::Duplicate(_) => "csr-duplicate",
            Self::TooMany(_) => "csr-too-many",
            Self::AsksCa => "csr-asks-ca",
            Self::KeyUsage => "csr-key-usage",
            Self::ExtendedKeyUsage(_) => "csr-eku",
            Self::Extension(_) => "csr-extension",
            Self::ChallengePassword => "pop-binding-unsupported",
            Self::Key(KeyError::Type(_)) => "key-type",
            Self::Key(KeyError::Blocked(_)) => "key-blocked",
            Self::SignatureAlgorithm => "sig-alg",
            Self::Signature => "csr-signature",
        }
    }
}
