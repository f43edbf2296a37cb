//! Tokens and key sets of strangers.

use std::{sync::OnceLock, time::Duration};

use model::Timestamp;
use runtime::jose::{Expectations, KeySet, MAX_TOKEN_BYTES, TypRule, UnverifiedToken, verify};
use serde_json::json;

/// No token is taken that nobody signed, whatever it says; and nothing of it is believed before.
pub(super) fn token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(read) = UnverifiedToken::read(text) else { return };
    assert!(text.len() <= MAX_TOKEN_BYTES && !read.issuer().is_empty());
    let _ = read.claimed_end();
    let expected = Expectations {
        issuer: read.issuer(),
        audience: "tcpmux",
        typ: TypRule::Provider,
        now: Timestamp::from_secs(1_800_000_000),
        leeway: Duration::from_secs(60),
    };
    assert!(verify(text, keys(), &expected).is_err(), "a token that nobody signed was taken");
}

/// A document of keys: bounded, and each key with one algorithm.
pub(super) fn key_set(bytes: &[u8]) {
    let Ok(keys) = KeySet::read_jwks(bytes) else { return };
    assert!(!keys.is_empty() && keys.len() <= 64);
    for (nth, key) in keys.iter().enumerate() {
        assert!(keys[..nth].iter().all(|other| other.id() != key.id()), "two keys of one name");
    }
}

/// The example key of RFC 7515 appendix A.3, whose private half signs nothing here.
fn keys() -> &'static KeySet {
    static KEYS: OnceLock<KeySet> = OnceLock::new();
    KEYS.get_or_init(|| {
        let document = json!({"keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "k",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
            "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
        }]});
        KeySet::new(KeySet::read_jwks(document.to_string().as_bytes()).expect("the example is a key set"))
    })
}
