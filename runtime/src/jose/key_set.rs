//! The keys of one issuer.

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde_json::{Map, Value};

use super::{json, key::VerifyingKey};

/// Why a JWK set is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Not a JWK set.
    #[error("the JWK set {0}")]
    Malformed(&'static str),
    /// More keys than anyone needs.
    #[error("the JWK set holds more than {MAX_KEYS} keys")]
    TooMany,
    /// A JWK set in which no key can verify tokens here.
    #[error("the JWK set holds no signature key of RS256, PS256, ES256, ES384 or EdDSA")]
    NoUsableKey,
}

/// Public keys by `kid`. Replaced as a whole and atomically; whoever is verifying keeps what they began with.
#[derive(Debug, Default)]
pub struct KeySet(ArcSwap<Vec<VerifyingKey>>);

impl KeySet {
    /// A set of these keys.
    pub fn new(keys: Vec<VerifyingKey>) -> Self {
        Self(ArcSwap::from_pointee(keys))
    }

    /// The usable keys of a JWK set document (RFC 7517 §5). Keys for other purposes are left out, as RFC 7517 §5 asks; of two
    /// keys with one `kid` the first stands.
    ///
    /// # Errors
    /// [`KeySetError`] when it is not a set, is too large or holds nothing usable.
    pub fn read_jwks(document: &[u8]) -> Result<Vec<VerifyingKey>, KeySetError> {
        let members = json::object(document).map_err(KeySetError::Malformed)?;
        let Some(Value::Array(jwks)) = members.get("keys") else {
            return Err(KeySetError::Malformed("has no list `keys`"));
        };
        if jwks.len() > MAX_KEYS {
            return Err(KeySetError::TooMany);
        }
        let mut keys: Vec<VerifyingKey> = Vec::new();
        let empty = Map::new();
        for jwk in jwks {
            match VerifyingKey::from_jwk(jwk.as_object().unwrap_or(&empty)) {
                Ok(key) if keys.iter().any(|other| other.id() == key.id()) => {
                    tracing::warn!(kid = ?key.id(), "two keys of a JWK set have the same kid; the first is used");
                }
                Ok(key) => keys.push(key),
                Err(reason) => tracing::debug!(%reason, "a key of a JWK set is not used"),
            }
        }
        if keys.is_empty() { Err(KeySetError::NoUsableKey) } else { Ok(keys) }
    }

    /// Puts other keys in place of all present ones.
    pub fn replace(&self, keys: Vec<VerifyingKey>) {
        self.0.store(Arc::new(keys));
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.load().is_empty()
    }

    /// Calls `found` with the key of this `kid`; a token without one fits only where there is a single key.
    pub(super) fn with_key<T>(&self, id: Option<&str>, found: impl FnOnce(&VerifyingKey) -> T) -> Option<T> {
        let keys = self.0.load();
        let key = match id {
            Some(id) => keys.iter().find(|key| key.id() == Some(id)),
            None => keys.first().filter(|_| keys.len() == 1),
        };
        key.map(found)
    }
}

const MAX_KEYS: usize = 64;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::jose::SigningKey;

    fn document(keys: &[Value]) -> Vec<u8> {
        json!({ "keys": keys }).to_string().into_bytes()
    }

    #[test]
    fn keys_for_other_purposes_are_left_out() {
        let good = SigningKey::generate().unwrap().public_jwk();
        let oct = json!({"kty": "oct", "k": "c2VjcmV0", "alg": "HS256", "kid": "h"});
        let keys = KeySet::read_jwks(&document(&[oct.clone(), good, json!(1)])).unwrap();
        assert_eq!(keys.len(), 1);
        assert_eq!(KeySet::read_jwks(&document(&[oct])).unwrap_err(), KeySetError::NoUsableKey);
        assert_eq!(KeySet::read_jwks(&document(&[])).unwrap_err(), KeySetError::NoUsableKey);
    }

    #[test]
    fn of_two_keys_with_one_kid_the_first_stands() {
        let mut first = SigningKey::generate().unwrap().public_jwk();
        let mut second = SigningKey::generate().unwrap().public_jwk();
        first["kid"] = "same".into();
        second["kid"] = "same".into();
        assert_eq!(KeySet::read_jwks(&document(&[first, second])).unwrap().len(), 1);
    }

    #[test]
    fn documents_that_are_no_set_or_too_large_are_refused() {
        for bad in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#] {
            assert!(matches!(KeySet::read_jwks(bad.as_bytes()), Err(KeySetError::Malformed(_))), "{bad}");
        }
        let many = vec![json!({}); MAX_KEYS + 1];
        assert_eq!(KeySet::read_jwks(&document(&many)).unwrap_err(), KeySetError::TooMany);
    }

    #[test]
    fn a_token_without_kid_fits_a_single_key_only() {
        let keys = || vec![SigningKey::generate().unwrap().verifying_key()];
        assert!(KeySet::new(keys()).with_key(None, |_| ()).is_some());
        let two: Vec<_> = keys().into_iter().chain(keys()).collect();
        assert!(KeySet::new(two).with_key(None, |_| ()).is_none());
        assert!(KeySet::new(keys()).with_key(Some("other"), |_| ()).is_none());
    }
}
