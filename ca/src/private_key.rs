//! Private keys held in memory.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
        KeyPair,
    },
};
use model::Secret;

use crate::{KeyError, KeyName, KeyStoreError, PublicKey, der::write, public_key};

/// A P-256 key (doors, intermediates) or P-384 key (the root).
pub struct PrivateKey {
    pair: EcdsaKeyPair,
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
        Self::generate_as(&ECDSA_P256_SHA256_ASN1_SIGNING)
    }

    /// Makes a new P-384 key, which only the root has.
    pub(crate) fn generate_root() -> Result<Self, PrivateKeyError> {
        Self::generate_as(&ECDSA_P384_SHA384_ASN1_SIGNING)
    }

    /// Reads a PKCS#8 key (RFC 5958) of either curve.
    pub fn from_pkcs8(pkcs8: &[u8]) -> Result<Self, PrivateKeyError> {
        let pair = [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING]
            .into_iter()
            .find_map(|algorithm| EcdsaKeyPair::from_pkcs8(algorithm, pkcs8).ok())
            .ok_or(PrivateKeyError::Format)?;
        Self::from_pair(pair, Secret::new(pkcs8.to_vec()))
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
        match self.pair.sign(&SystemRandom::new(), message) {
            Ok(signature) => Ok(signature.as_ref().to_vec()),
            Err(_) => Err(KeyStoreError::Unavailable { key: name, reason: "signing failed".into() }),
        }
    }

    fn generate_as(algorithm: &'static EcdsaSigningAlgorithm) -> Result<Self, PrivateKeyError> {
        let pair = EcdsaKeyPair::generate(algorithm).map_err(|_| PrivateKeyError::Generation)?;
        let document = pair.to_pkcs8v1().map_err(|_| PrivateKeyError::Generation)?;
        Self::from_pair(pair, Secret::new(document.as_ref().to_vec()))
    }

    fn from_pair(pair: EcdsaKeyPair, pkcs8: Secret<Vec<u8>>) -> Result<Self, PrivateKeyError> {
        let point = pair.public_key().as_ref();
        let identifier =
            if point.len() == 65 { public_key::P256_IDENTIFIER } else { public_key::P384_IDENTIFIER };
        let public = PublicKey::from_spki(&write::sequence(&[identifier, &write::bit_string(point)]))?;
        Ok(Self { pair, pkcs8, public })
    }
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PrivateKey").field("public", &self.public).finish_non_exhaustive()
    }
}
