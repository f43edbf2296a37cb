//! Secrets that browsers carry: 32 random bytes in hex, of which only the digest is kept here.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use model::Secret;
use store::BrowserDigest;

/// A secret of 256 bits, as cookies, states and codes carry it: 64 hex digits.
#[derive(Debug, Clone)]
pub(crate) struct BrowserKey(Secret<String>);

impl BrowserKey {
    /// A new one.
    pub(crate) fn fresh() -> Self {
        Self(Secret::new(model::hex(&runtime::random::bytes::<32>())))
    }

    /// One that a browser shows; `None` for what was never made here.
    pub(crate) fn shown(text: &str) -> Option<Self> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == 64 && text.bytes().all(is_digit)).then(|| Self(Secret::new(text.to_owned())))
    }

    /// The text to hand out.
    pub(crate) fn expose(&self) -> &str {
        self.0.expose()
    }

    /// What is kept of it.
    pub(crate) fn digest(&self) -> BrowserDigest {
        digest(&SHA256, self.expose().as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    /// What is shown of it where it will prove itself later (RFC 7636 §4.2, method S256).
    pub(crate) fn challenge(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.digest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_made_here_is_taken_and_nothing_is_printed() {
        let key = BrowserKey::fresh();
        assert_eq!(BrowserKey::shown(key.expose()).unwrap().digest(), key.digest());
        assert_ne!(BrowserKey::fresh().digest(), key.digest());
        assert!(!format!("{key:?}").contains(key.expose()));
        let upper = key.expose().to_uppercase();
        for bad in ["", "x", &key.expose()[1..], &"g".repeat(64), &upper] {
            assert!(BrowserKey::shown(bad).is_none() || bad == key.expose(), "{bad}");
        }
    }

    /// The example of RFC 7636 appendix B, hashed as there.
    #[test]
    fn the_challenge_is_that_of_the_standard() {
        let verifier = BrowserKey(Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".into()));
        assert_eq!(verifier.challenge(), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }
}
