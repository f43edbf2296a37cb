//! Tokens made by hand, right ones and wrong ones: any head, any body, signed or not.

use std::time::UNIX_EPOCH;

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// A P-256 key that signs tokens.
#[derive(Debug)]
pub struct Signer {
    pair: EcdsaKeyPair,
    kid: String,
}

impl Signer {
    /// A fresh key under this key id.
    ///
    /// # Panics
    /// If there is no randomness.
    pub fn new(kid: &str) -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self { pair, kid: kid.to_owned() }
    }

    /// The public key as a JWK.
    pub fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.kid,
            "x": base64url(&point[1..33]), "y": base64url(&point[33..65]),
        })
    }

    /// A token with the usual head.
    pub fn sign(&self, kind: &str, body: &Value) -> String {
        self.sign_raw(&json!({"alg": "ES256", "kid": self.kid, "typ": kind}).to_string(), &body.to_string())
    }

    /// A token with this head and this body, whatever they are.
    ///
    /// # Panics
    /// If there is no randomness.
    pub fn sign_raw(&self, head: &str, body: &str) -> String {
        let text = format!("{}.{}", base64url(head), base64url(body));
        let signature = self.pair.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        format!("{text}.{}", base64url(signature))
    }

    /// A token whose "secret" is this key's public point: what a verifier that lets the token choose
    /// the algorithm would believe.
    pub fn confuse(&self, body: &Value) -> String {
        let head = json!({"alg": "HS256", "kid": self.kid, "typ": "at+jwt"});
        let text = format!("{}.{}", base64url(head.to_string()), base64url(body.to_string()));
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.pair.public_key().as_ref());
        format!("{text}.{}", base64url(hmac::sign(&key, text.as_bytes())))
    }
}

/// Base64 as tokens use it.
pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// Seconds since 1970.
///
/// # Panics
/// If the clock stands before that.
#[expect(clippy::disallowed_methods, reason = "the programs under test read the same wall clock")]
pub fn now() -> u64 {
    std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
