//! Making tokens: for our own authorizer alone.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use jsonwebtoken::{
    Algorithm, EncodingKey, Header,
    errors::ErrorKind,
    jwk::{Jwk, PublicKeyUse, ThumbprintHash},
};
use model::Secret;
use serde::Serialize;
use serde_json::Value;

use super::key::{VerifyingKey, choose_cryptography};

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
    key: EncodingKey,
    id: String,
    public: Jwk,
}

impl SigningKey {
    /// Makes a new key.
    ///
    /// # Errors
    /// [`SigningError::Crypto`] when the system gives no randomness.
    pub fn generate() -> Result<Self, SigningError> {
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        Self::from_pkcs8(key.map_err(|_| SigningError::Crypto)?.as_ref())
    }

    /// Reads a PKCS#8 DER (RFC 5958).
    ///
    /// # Errors
    /// [`SigningError::NotAKey`].
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, SigningError> {
        choose_cryptography();
        let key = EncodingKey::from_ec_der(der);
        let read = || {
            let mut public = Jwk::from_encoding_key(&key, Algorithm::ES256)?;
            let id = public.thumbprint(ThumbprintHash::SHA256)?;
            public.common.key_id = Some(id.clone());
            public.common.public_key_use = Some(PublicKeyUse::Signature);
            jsonwebtoken::errors::Result::Ok((id, public))
        };
        let (id, public) = read().map_err(|_| SigningError::NotAKey)?;
        Ok(Self { key, id, public })
    }

    /// The key as PKCS#8 DER, for its file.
    ///
    /// # Errors
    /// None for a key in memory.
    pub fn to_pkcs8(&self) -> Result<Secret<Vec<u8>>, SigningError> {
        Ok(Secret::new(self.key.as_bytes().to_vec()))
    }

    /// The `kid`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The public key as JWK with `kid`, `alg` and `use`.
    pub fn public_jwk(&self) -> Value {
        serde_json::to_value(&self.public).expect("a JWK is made of texts alone")
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
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some(typ.to_owned());
        header.kid = Some(self.id.clone());
        jsonwebtoken::encode(&header, body, &self.key).map_err(|error| match error.kind() {
            ErrorKind::Json(_) => SigningError::Body,
            _ => SigningError::Crypto,
        })
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{
        digest::{SHA256, digest},
        signature::{
            ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED_SIGNING, Ed25519KeyPair, KeyPair,
            UnparsedPublicKey,
        },
    };
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::json;

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

    /// RFC 7638 §3.2: the required members alone, in the order of their names, without white space.
    #[test]
    fn the_kid_is_the_thumbprint() {
        let key = SigningKey::generate().unwrap();
        let jwk = key.public_jwk();
        let text = format!(r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#, jwk["x"], jwk["y"]);
        assert_eq!(key.id(), URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes())));
        let names: Vec<_> = jwk.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["alg", "crv", "kid", "kty", "use", "x", "y"], "nothing private");
        assert_eq!(
            (&jwk["alg"], &jwk["use"], &jwk["kid"]),
            (&"ES256".into(), &"sig".into(), &key.id().into())
        );
    }

    #[test]
    fn a_token_is_signed_as_the_standard_says() {
        let key = SigningKey::generate().unwrap();
        let token = key.sign("at+jwt", &json!({"sub": "alice"})).unwrap();
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let (header, body) = signed.split_once('.').unwrap();
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
        let header: Value = serde_json::from_slice(&decode(header)).unwrap();
        assert_eq!(header, json!({"alg": "ES256", "typ": "at+jwt", "kid": key.id()}));
        assert_eq!(decode(body), br#"{"sub":"alice"}"#);
        let pkcs8 = key.to_pkcs8().unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.expose()).unwrap();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref());
        assert!(public.verify(signed.as_bytes(), &decode(signature)).is_ok());
        assert!(public.verify(b"other", &decode(signature)).is_err(), "control");
    }

    #[test]
    fn a_key_of_another_kind_or_form_is_no_key() {
        let p384 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let ed25519 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let good = SigningKey::generate().unwrap().to_pkcs8().unwrap();
        assert!(SigningKey::from_pkcs8(good.expose()).is_ok(), "control");
        for bad in [p384.as_ref(), ed25519.as_ref(), &good.expose()[..100], &[]] {
            assert_eq!(SigningKey::from_pkcs8(bad).unwrap_err(), SigningError::NotAKey);
        }
    }

    #[test]
    fn a_body_that_is_not_json_is_not_signed() {
        let key = SigningKey::generate().unwrap();
        let body = std::collections::BTreeMap::from([(vec![1], 1)]);
        assert_eq!(key.sign("JWT", &body), Err(SigningError::Body));
    }

    #[test]
    fn the_private_key_is_not_printed() {
        let key = SigningKey::generate().unwrap();
        assert_eq!(format!("{key:?}"), format!("SigningKey {{ id: {:?}, .. }}", key.id()));
    }
}
