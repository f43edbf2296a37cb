//! One public key with the one algorithm that it may be used with.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents, VerificationAlgorithm,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, crypto, errors::ErrorKind};
use serde_json::{Map, Value};

use super::TokenError;

/// The signature algorithms that tokens may use (RFC 7518 §3.1, RFC 8037 §3.1). Nothing symmetric, no `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// The name in a token's header and in a JWK.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    fn of_library(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Ps256 => jsonwebtoken::Algorithm::PS256,
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::Es384 => jsonwebtoken::Algorithm::ES384,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

/// Why a JWK is not used. Providers publish keys for other purposes too, so this is rarely an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// A symmetric key, or a kind of key that is not known here.
    #[error("the key type or curve is not supported")]
    Kind,
    /// For encryption, or not for verifying.
    #[error("the key is not for verifying signatures")]
    Purpose,
    /// `alg` is not supported or does not fit the key.
    #[error("the key's `alg` does not fit it or is not supported")]
    Algorithm,
    /// A member is missing, of the wrong type or size, or the numbers are not a key.
    #[error("the key's member `{0}` is missing or malformed")]
    Member(&'static str),
}

/// A public key, its `kid` and its algorithm.
pub struct VerifyingKey {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl VerifyingKey {
    /// Reads a JWK (RFC 7517). An RSA key without `alg` is an RS256 key.
    ///
    /// # Errors
    /// [`KeyError`] for anything but an asymmetric signature key that is consistent with itself.
    pub fn from_jwk(jwk: &Map<String, Value>) -> Result<Self, KeyError> {
        let id = optional_text(jwk, "kid")?;
        if id.is_some_and(|id| id.is_empty() || id.len() > MAX_KEY_ID_BYTES) {
            return Err(KeyError::Member("kid"));
        }
        if optional_text(jwk, "use")?.is_some_and(|purpose| purpose != "sig") {
            return Err(KeyError::Purpose);
        }
        match jwk.get("key_ops") {
            None => {}
            Some(Value::Array(operations)) if operations.iter().any(|operation| operation == "verify") => {}
            Some(_) => return Err(KeyError::Purpose),
        }
        let kind = optional_text(jwk, "kty")?.ok_or(KeyError::Member("kty"))?;
        let curve = optional_text(jwk, "crv")?;
        let algorithm = match (kind, curve, optional_text(jwk, "alg")?) {
            ("RSA", _, None | Some("RS256")) => Algorithm::Rs256,
            ("RSA", _, Some("PS256")) => Algorithm::Ps256,
            ("EC", Some("P-256"), None | Some("ES256")) => Algorithm::Es256,
            ("EC", Some("P-384"), None | Some("ES384")) => Algorithm::Es384,
            ("OKP", Some("Ed25519"), None | Some("EdDSA" | "Ed25519")) => Algorithm::EdDsa,
            ("RSA", ..) | ("EC", Some("P-256" | "P-384"), _) | ("OKP", Some("Ed25519"), _) => {
                return Err(KeyError::Algorithm);
            }
            _ => return Err(KeyError::Kind),
        };
        let key = match algorithm {
            Algorithm::Rs256 | Algorithm::Ps256 => rsa(jwk)?,
            Algorithm::Es256 => point(jwk, 32, &ECDSA_P256_SHA256_FIXED)?,
            Algorithm::Es384 => point(jwk, 48, &ECDSA_P384_SHA384_FIXED)?,
            Algorithm::EdDsa => edwards(jwk)?,
        };
        choose_cryptography();
        Ok(Self { id: id.map(str::to_owned), algorithm, key })
    }

    /// The `kid`, where the key has one.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The one algorithm that this key verifies.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Verifies the two parts of a token around its last dot.
    pub(super) fn verify(&self, signed: &str, signature: &str) -> Result<(), TokenError> {
        match crypto::verify(signature, signed.as_bytes(), &self.key, self.algorithm.of_library()) {
            Ok(true) => Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::Base64(_)) => {
                Err(TokenError::Malformed("its signature is not base64url"))
            }
            Ok(false) | Err(_) => Err(TokenError::Signature),
        }
    }
}

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifyingKey").field("id", &self.id).field("algorithm", &self.algorithm).finish()
    }
}

/// Settles once what jsonwebtoken computes with. It would settle that itself at first use, and panic there if
/// some crate in the program had enabled its other library, too.
pub(super) fn choose_cryptography() {
    // An error says that it is settled already.
    let _ = crypto::aws_lc::DEFAULT_PROVIDER.install_default();
}

// jsonwebtoken takes any octets for a key and would refuse every token instead, so they are checked before.

fn rsa(jwk: &Map<String, Value>) -> Result<DecodingKey, KeyError> {
    let n = octets(jwk, "n", 256..=1024)?;
    let e = octets(jwk, "e", 1..=4)?;
    if n[0] == 0 || n[n.len() - 1] & 1 == 0 {
        return Err(KeyError::Member("n"));
    }
    if e[0] == 0 || e[e.len() - 1] & 1 == 0 || e == [1] {
        return Err(KeyError::Member("e"));
    }
    let key = DecodingKey::from_rsa_raw_components(&n, &e);
    let parsed = RsaPublicKeyComponents { n, e }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256);
    parsed.map(|_| key).map_err(|_| KeyError::Member("n"))
}

fn point(
    jwk: &Map<String, Value>,
    size: usize,
    algorithm: &'static dyn VerificationAlgorithm,
) -> Result<DecodingKey, KeyError> {
    let mut uncompressed = vec![4];
    uncompressed.extend(octets(jwk, "x", size..=size)?);
    uncompressed.extend(octets(jwk, "y", size..=size)?);
    let key = DecodingKey::from_ec_der(&uncompressed);
    ParsedPublicKey::new(algorithm, uncompressed).map(|_| key).map_err(|_| KeyError::Member("x"))
}

fn edwards(jwk: &Map<String, Value>) -> Result<DecodingKey, KeyError> {
    let x = octets(jwk, "x", 32..=32)?;
    let key = DecodingKey::from_ed_der(&x);
    ParsedPublicKey::new(&ED25519, x).map(|_| key).map_err(|_| KeyError::Member("x"))
}

fn octets(
    jwk: &Map<String, Value>,
    member: &'static str,
    sizes: std::ops::RangeInclusive<usize>,
) -> Result<Vec<u8>, KeyError> {
    let text = optional_text(jwk, member)?.ok_or(KeyError::Member(member))?;
    // Checked before decoding, so that a huge member costs nothing.
    if text.len() > MAX_MEMBER_CHARS {
        return Err(KeyError::Member(member));
    }
    let octets = URL_SAFE_NO_PAD.decode(text).map_err(|_| KeyError::Member(member))?;
    if sizes.contains(&octets.len()) { Ok(octets) } else { Err(KeyError::Member(member)) }
}

fn optional_text<'a>(jwk: &'a Map<String, Value>, member: &'static str) -> Result<Option<&'a str>, KeyError> {
    match jwk.get(member) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(KeyError::Member(member)),
    }
}

pub(super) const MAX_KEY_ID_BYTES: usize = 256;
const MAX_MEMBER_CHARS: usize = 1400;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::jose::SigningKey;

    fn read(jwk: Value) -> Result<VerifyingKey, KeyError> {
        VerifyingKey::from_jwk(jwk.as_object().unwrap())
    }

    fn sample() -> Value {
        SigningKey::generate().unwrap().public_jwk()
    }

    #[test]
    fn a_key_has_exactly_one_algorithm() {
        assert_eq!(read(sample()).unwrap().algorithm(), Algorithm::Es256);
        let mut without = sample();
        without.as_object_mut().unwrap().remove("alg");
        assert_eq!(read(without).unwrap().algorithm(), Algorithm::Es256);
        for alg in ["HS256", "none", "RS256", "ES384", "es256", ""] {
            let mut jwk = sample();
            jwk["alg"] = alg.into();
            assert_eq!(read(jwk).unwrap_err(), KeyError::Algorithm, "{alg}");
        }
    }

    #[test]
    fn symmetric_and_unknown_keys_are_no_keys() {
        for jwk in [
            json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256", "kid": "a"}),
            json!({"kty": "oct", "k": "c2VjcmV0"}),
            json!({"kty": "EC", "crv": "secp256k1", "x": "", "y": ""}),
            json!({"kty": "OKP", "crv": "X25519", "x": ""}),
            json!({"kty": "AKP"}),
        ] {
            assert_eq!(read(jwk.clone()).unwrap_err(), KeyError::Kind, "{jwk}");
        }
    }

    #[test]
    fn a_key_for_another_purpose_is_no_key() {
        let mut jwk = sample();
        jwk["use"] = "enc".into();
        assert_eq!(read(jwk).unwrap_err(), KeyError::Purpose);
        let mut jwk = sample();
        jwk["key_ops"] = json!(["encrypt"]);
        assert_eq!(read(jwk).unwrap_err(), KeyError::Purpose);
        let mut jwk = sample();
        jwk["key_ops"] = json!(["verify"]);
        assert!(read(jwk).is_ok(), "control");
    }

    #[test]
    fn numbers_that_are_no_key_are_refused() {
        for (member, value) in [
            ("x", json!("AA")),
            ("x", json!(URL_SAFE_NO_PAD.encode([7; 32]))),
            ("y", json!(1)),
            ("kid", json!("")),
            ("kid", json!("k".repeat(257))),
            ("kty", json!(null)),
        ] {
            let mut jwk = sample();
            jwk[member] = value.clone();
            assert!(read(jwk).is_err(), "{member} = {value}");
        }
    }

    #[test]
    fn small_and_odd_rsa_keys_are_refused() {
        let modulus = |bytes: usize| {
            let mut n = vec![0xc5; bytes];
            n[0] |= 0x80;
            URL_SAFE_NO_PAD.encode(n)
        };
        assert!(read(json!({"kty": "RSA", "n": modulus(256), "e": "AQAB"})).is_ok(), "control");
        for (n, e) in [
            (modulus(128), "AQAB"),
            (modulus(1025), "AQAB"),
            (modulus(100_000), "AQAB"),
            (modulus(256), "AQ"),
            (modulus(256), "AA"),
            (modulus(256), "Ag"),
            (modulus(256), ""),
        ] {
            assert!(read(json!({"kty": "RSA", "n": n, "e": e})).is_err(), "{} {e}", n.len());
        }
    }
}
