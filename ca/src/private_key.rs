//! Private keys held in memory.

use model::Secret;
use rcgen::{KeyPair, PublicKeyData, SignatureAlgorithm, SigningKey};
use rustls_pki_types::PrivatePkcs8KeyDer;
use zeroize::Zeroize;

use crate::{
    KeyError, KeyName, KeyStoreError, PublicKey,
    der::{Reader, tag},
    public_key,
};

/// A P-256 key (doors, intermediates) or P-384 key (the root).
pub struct PrivateKey {
    pair: KeyPair,
    pkcs8: Secret<Vec<u8>>,
    public: PublicKey,
}

/// Why a private key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrivateKeyError {
    /// The bytes are not a PKCS#8 P-256 or P-384 key.
    #[error("the file does not hold a PKCS#8 P-256 or P-384 private key")]
    Format,
    /// The system gave no random bytes or the computation failed.
    #[error("a key could not be made: the cryptographic library failed")]
    Generation,
    /// The public half is one that nobody may use.
    #[error(transparent)]
    Public(#[from] KeyError),
}

impl PrivateKey {
    /// Makes a new P-256 key.
    pub fn generate() -> Result<Self, PrivateKeyError> {
        Self::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
    }

    /// Makes a new P-384 key, which only the root has.
    pub(crate) fn generate_root() -> Result<Self, PrivateKeyError> {
        Self::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384)
    }

    /// Reads a PKCS#8 key (RFC 5958) of either curve.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, PrivateKeyError> {
        let algorithm = algorithm_of(pkcs8).ok_or(PrivateKeyError::Format)?;
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&PrivatePkcs8KeyDer::from(pkcs8), algorithm);
        Self::from_pair(pair.map_err(|_| PrivateKeyError::Format)?)
    }

    /// The key as PKCS#8 DER.
    pub fn pkcs8_der(&self) -> &Secret<Vec<u8>> {
        &self.pkcs8
    }

    /// The public half.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// Signs with ECDSA and the curve's own hash; the signature is DER. `name` is for the error alone.
    pub(crate) fn sign_as(&self, name: KeyName, message: &[u8]) -> Result<Vec<u8>, KeyStoreError> {
        let signature = self.pair.sign(message);
        signature.map_err(|_| KeyStoreError::Unavailable { key: name, reason: "signing failed".into() })
    }

    fn generate_for(algorithm: &'static SignatureAlgorithm) -> Result<Self, PrivateKeyError> {
        Self::from_pair(KeyPair::generate_for(algorithm).map_err(|_| PrivateKeyError::Generation)?)
    }

    fn from_pair(mut pair: KeyPair) -> Result<Self, PrivateKeyError> {
        let pkcs8 = Secret::new(pair.serialize_der());
        // The pair keeps a copy of the bytes that it would not wipe when dropped, and signs without it.
        pair.zeroize();
        let public = PublicKey::from_spki(&pair.subject_public_key_info())?;
        Ok(Self { pair, pkcs8, public })
    }
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PrivateKey").field("public", &self.public).finish_non_exhaustive()
    }
}

/// What the key that is named in a PKCS#8 header signs with. rcgen would find out by trying, also kinds of
/// keys and formats that have no place here, and leave copies behind.
fn algorithm_of(pkcs8: &[u8]) -> Option<&'static SignatureAlgorithm> {
    let mut outer = Reader::new(pkcs8);
    let mut fields = outer.expect(tag::SEQUENCE, "a PrivateKeyInfo was expected").ok()?.reader();
    outer.finish().ok()?;
    fields.expect(tag::INTEGER, "a version was expected").ok()?;
    match fields.next().ok()?.whole {
        public_key::P256_IDENTIFIER => Some(&rcgen::PKCS_ECDSA_P256_SHA256),
        public_key::P384_IDENTIFIER => Some(&rcgen::PKCS_ECDSA_P384_SHA384),
        _ => None,
    }
}
