//! Making tokens: for our own authorizer alone.

use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use model::Secret;
use serde::Serialize;
use serde_json::{Value, json};

use super::key::VerifyingKey;

/// Why a key or a token was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// The bytes are not an unencrypted PKCS#8 P-256 key.
    #[error("this is not an unencrypted PKCS#8 private key on P-256")]
    NotAKey,
    /// The crypto library failed.
    #[error("the crypto library could not make a key or a signature")]
    Crypto,
    /// The body cannot be written as JSON.
    #[error("the token's body cannot be written as JSON")]
    Body,
}

/// An ES256 private key. Its `kid` is the RFC 7638 thumbprint of the public key.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    id: String,
}

impl SigningKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// [`SigningError::Crypto`] when the system gives no randomness.
    pub fn generate() -> Result<Self, SigningError> {
        let pair =
            EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| SigningError::Crypto)?;
        Ok(Self::of(pair))
    }

    /// Reads a PKCS#8 DER (RFC 5958).
    ///
    /// # Errors
    /// [`SigningError::NotAKey`].
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, SigningError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der);
        pair.map(Self::of).map_err(|_| SigningError::NotAKey)
    }

    /// The key as PKCS#8 DER, for its file.
    ///
    /// # Errors
    /// [`SigningError::Crypto`].
    pub fn to_pkcs8(&self) -> Result<Secret<Vec<u8>>, SigningError> {
        let der = self.pair.to_pkcs8v1().map_err(|_| SigningError::Crypto)?;
        Ok(Secret::new(der.as_ref().to_vec()))
    }

    /// The `kid`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The public key as JWK with `kid`, `alg` and `use`.
    pub fn public_jwk(&self) -> Value {
        let (x, y) = coordinates(&self.pair);
        json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": self.id, "alg": "ES256", "use": "sig"})
    }

    /// The public key, to verify with.
    pub fn verifying_key(&self) -> VerifyingKey {
        let jwk = self.public_jwk();
        VerifyingKey::from_jwk(jwk.as_object().expect("public_jwk makes an object"))
            .expect("the public half of a P-256 pair is a P-256 key")
    }

    /// A signed token (RFC 7515 §3.1) with this `typ`.
    ///
    /// # Errors
    /// [`SigningError`] when the body is not JSON or the library fails.
    pub fn sign(&self, typ: &str, body: &impl Serialize) -> Result<String, SigningError> {
        let header = json!({"alg": "ES256", "typ": typ, "kid": self.id}).to_string();
        let body = serde_json::to_vec(body).map_err(|_| SigningError::Body)?;
        let mut token = URL_SAFE_NO_PAD.encode(header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(body, &mut token);
        let signature =
            self.pair.sign(&SystemRandom::new(), token.as_bytes()).map_err(|_| SigningError::Crypto)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    fn of(pair: EcdsaKeyPair) -> Self {
        let (x, y) = coordinates(&pair);
        // RFC 7638 §3.2: the required members alone, in the order of their names, without white space.
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let id = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, canonical.as_bytes()));
        Self { pair, id }
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}

fn coordinates(pair: &EcdsaKeyPair) -> (String, String) {
    let point = pair.public_key().as_ref();
    // SEC 1: 0x04, then both coordinates.
    (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..65]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_file() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::from_pkcs8(key.to_pkcs8().unwrap().expose()).unwrap();
        assert_eq!(key.id(), again.id());
        assert_eq!(key.public_jwk(), again.public_jwk());
        assert_ne!(key.id(), SigningKey::generate().unwrap().id());
        assert_eq!(SigningKey::from_pkcs8(b"no key").unwrap_err(), SigningError::NotAKey);
    }

    #[test]
    fn another_library_finds_the_same_thumbprint() {
        let key = SigningKey::generate().unwrap();
        let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(key.public_jwk()).unwrap();
        assert_eq!(jwk.thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256).unwrap(), key.id());
    }

    #[test]
    fn the_private_key_is_not_printed() {
        let key = SigningKey::generate().unwrap();
        assert_eq!(format!("{key:?}"), format!("SigningKey {{ id: {:?}, .. }}", key.id()));
    }
}
