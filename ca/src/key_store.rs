//! The seam between what is signed and where the keys live.

use crate::PublicKey;

/// Signs bytes with keys that never leave it: files now, a hardware token elsewhere.
///
/// Contract: a signature is ECDSA in DER, with SHA-256 by a P-256 key and SHA-384 by a P-384 key. Calls may
/// block, so async callers run them where blocking is allowed. Nothing is checked here: only
/// [`crate::Authority`] calls it, with bytes it has linted.
pub trait KeyStore: Send + Sync + 'static {
    /// Hashes and signs `message`.
    fn sign(&self, key: KeyName, message: &[u8]) -> Result<Vec<u8>, KeyStoreError>;

    /// The public half of a key.
    fn public_key(&self, key: KeyName) -> Result<PublicKey, KeyStoreError>;
}

/// The keys of a deployment's hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyName {
    /// Signs the two intermediates in the ceremony, and nothing afterwards.
    Root,
    /// Signs device certificates and their revocation list.
    Devices,
    /// Signs the doors' certificates.
    Services,
}

impl KeyName {
    /// The word used in file names and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Devices => "devices",
            Self::Services => "services",
        }
    }
}

/// Why a key store does not sign.
#[derive(Debug, thiserror::Error)]
pub enum KeyStoreError {
    /// The key is not in this store; the root key never is in a running server.
    #[error("the {} key is not in this key store", .0.as_str())]
    Absent(KeyName),
    /// The store has the key and failed; trying again later may help.
    #[error("the {} key cannot be used now: {reason}", .key.as_str())]
    Unavailable {
        /// Which key.
        key: KeyName,
        /// What failed.
        reason: String,
    },
}
