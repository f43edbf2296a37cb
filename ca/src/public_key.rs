//! The public keys that may be in a certificate here.

mod known;
mod rsa;

use aws_lc_rs::signature::ParsedPublicKey;

use crate::{
    der::{self, DerError, Reader, tag},
    sha256,
    signature::SignatureAlgorithm,
};

/// A checked SubjectPublicKeyInfo: P-256, P-384, Ed25519, or RSA of 2048 to 4096 bits with e = 65537.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    spki: Vec<u8>,
    kind: KeyKind,
    /// Offset in `spki` of the octets inside its BIT STRING.
    key_at: usize,
}

/// What kind of key it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// NIST P-256.
    P256,
    /// NIST P-384.
    P384,
    /// Ed25519.
    Ed25519,
    /// RSA.
    Rsa {
        /// Bits of the modulus.
        bits: u16,
    },
}

/// Why a public key is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not a SubjectPublicKeyInfo.
    #[error("the public key is not DER: {0}")]
    Der(#[from] DerError),
    /// Another algorithm, curve or size.
    #[error("{0}; make a P-256, P-384 or Ed25519 key, or RSA with 2048 to 4096 bits and exponent 65537")]
    Type(&'static str),
    /// A key whose private half others know or can compute.
    #[error("{0}; make a new key on the device")]
    Blocked(&'static str),
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo (RFC 5280 §4.1.2.7); costly checks come after cheap ones.
    pub fn from_spki(spki: &[u8]) -> Result<Self, KeyError> {
        der::check(spki)?;
        let mut outer = Reader::new(spki);
        let info = outer.expect(tag::SEQUENCE, "a SubjectPublicKeyInfo was expected")?;
        let mut inside = info.reader();
        let algorithm = inside.expect(tag::SEQUENCE, "an AlgorithmIdentifier was expected")?;
        let bits = inside.expect(tag::BIT_STRING, "a BIT STRING with the key was expected")?;
        inside.finish()?;
        let key = bits.whole_octets()?;
        let kind = match algorithm.whole {
            P256_IDENTIFIER => point(key, 32, KeyKind::P256)?,
            P384_IDENTIFIER => point(key, 48, KeyKind::P384)?,
            ED25519_IDENTIFIER if key.len() == 32 => KeyKind::Ed25519,
            ED25519_IDENTIFIER => return Err(KeyError::Type("an Ed25519 key has 32 octets")),
            RSA_IDENTIFIER => rsa::read(key)?,
            other => return Err(KeyError::Type(unknown_algorithm(other))),
        };
        if let Some(why) = known::why_blocked(kind, key) {
            return Err(KeyError::Blocked(why));
        }
        let public_key = Self { spki: spki.to_vec(), kind, key_at: spki.len() - key.len() };
        public_key
            .parsed()
            .map_err(|_| KeyError::Type("the octets are not a point on the curve or not a valid key"))?;
        Ok(public_key)
    }

    /// The whole SubjectPublicKeyInfo.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// SHA-256 of the SubjectPublicKeyInfo: how a key is named in rows.
    pub fn spki_sha256(&self) -> [u8; 32] {
        sha256(&self.spki)
    }

    /// What kind of key it is.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The octets inside the BIT STRING.
    pub(crate) fn octets(&self) -> &[u8] {
        &self.spki[self.key_at..]
    }

    /// Leftmost 160 bits of the SHA-256 of the key's octets (RFC 7093 §2, method 1).
    pub(crate) fn identifier(&self) -> [u8; 20] {
        let digest = sha256(self.octets());
        digest[..20].try_into().expect("20 of 32 octets")
    }

    /// Whether `signature` is this key's over `message`.
    pub(crate) fn has_signed(&self, algorithm: SignatureAlgorithm, message: &[u8], signature: &[u8]) -> bool {
        let Some(verifier) = algorithm.verifier(self.kind) else { return false };
        aws_lc_rs::signature::UnparsedPublicKey::new(verifier, self.octets())
            .verify(message, signature)
            .is_ok()
    }

    fn parsed(&self) -> Result<ParsedPublicKey, aws_lc_rs::error::KeyRejected> {
        let algorithm = match self.kind {
            KeyKind::P256 | KeyKind::P384 => SignatureAlgorithm::EcdsaSha256,
            KeyKind::Ed25519 => SignatureAlgorithm::Ed25519,
            KeyKind::Rsa { .. } => SignatureAlgorithm::RsaSha256,
        };
        let verifier = algorithm.verifier(self.kind).expect("each kind goes with the algorithm chosen above");
        ParsedPublicKey::new(verifier, self.octets())
    }
}

fn point(key: &[u8], coordinate: usize, kind: KeyKind) -> Result<KeyKind, KeyError> {
    match key.split_first() {
        Some((4, rest)) if rest.len() == 2 * coordinate => Ok(kind),
        Some((2 | 3, rest)) if rest.len() == coordinate => {
            Err(KeyError::Type("the point is compressed, only uncompressed points are taken"))
        }
        _ => Err(KeyError::Type("the octets are not an uncompressed point of this curve")),
    }
}

fn unknown_algorithm(identifier: &[u8]) -> &'static str {
    if identifier.windows(EC_PUBLIC_KEY.len()).any(|window| window == EC_PUBLIC_KEY) {
        "the key is on another curve than P-256 and P-384, or its curve is not named"
    } else {
        "the key's algorithm or its parameters are not among those taken here"
    }
}

/// id-ecPublicKey, 1.2.840.10045.2.1.
const EC_PUBLIC_KEY: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01";
pub(crate) const P256_IDENTIFIER: &[u8] =
    b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
pub(crate) const P384_IDENTIFIER: &[u8] =
    b"\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22";
const ED25519_IDENTIFIER: &[u8] = b"\x30\x05\x06\x03\x2b\x65\x70";
const RSA_IDENTIFIER: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
