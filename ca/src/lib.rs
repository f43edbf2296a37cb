//! The certificate craft: from the bytes of a request to a certificate, and back to who a certificate names.
//!
//! This room decides what a well-formed request is and what each kind of certificate contains. It never
//! decides who may have one, stores no row, speaks no HTTP, reads no clock and takes serials from outside.
//!
//! - in: [`CertificateRequest`] (strict, proof of possession checked), [`PublicKey`]
//! - out: [`Profile`] → [`Authority::prepare`] → [`Prepared`] → [`Authority::sign`] → [`Certificate`];
//!   [`Authority::recorded`] after a crash; [`Authority::revocation_list`]
//! - keys: [`KeyStore`], [`FileKeys`]; [`PrivateKey`] for the doors' own certificates
//! - the tree: [`Hierarchy`] (root, *devices* and *services* intermediates), [`DeploymentDomain`]
//! - who is it: [`DeviceCertificate`], [`DeviceNaming`]
//! - wrapping: [`pem`], [`pkcs7`]

mod authority;
mod ca_certificate;
mod certificate;
mod crl;
mod der;
mod domain;
mod file_keys;
mod hierarchy;
mod identity;
mod key_store;
mod lint;
mod naming;
pub mod pem;
pub mod pkcs7;
mod private_key;
mod profile;
mod public_key;
mod request;
mod signature;
mod tbs;

pub use authority::{Authority, PrepareError, Prepared, SignError};
pub use ca_certificate::{CaCertificate, CaCertificateError};
pub use certificate::Certificate;
pub use crl::RevokedEntry;
pub use der::DerError;
pub use domain::{DeploymentDomain, DomainError};
pub use file_keys::{FileKeys, FileKeysError};
pub use hierarchy::{Hierarchy, HierarchyError};
pub use identity::{DeviceCertificate, IdentityError, NameSource};
pub use key_store::{KeyName, KeyStore, KeyStoreError};
pub use lint::LintError;
pub use naming::DeviceNaming;
pub use private_key::{PrivateKey, PrivateKeyError};
pub use profile::{Profile, ProfileError};
pub use public_key::{KeyError, KeyKind, PublicKey};
pub use request::{CertificateRequest, RequestError};

/// SHA-256 of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}
