//! The operator's key.

use std::net::IpAddr;

use http::HeaderMap;
use model::{Code, Refusal, Secret};
use runtime::jose::authorization;

use crate::attempts::Attempts;

/// The admin key, and who guessed at it lately.
#[derive(Debug)]
pub struct AdminKey {
    key: Secret<String>,
    attempts: Attempts,
}

impl AdminKey {
    /// Guards with this key, the trimmed content of the key's file.
    pub fn new(key: Secret<String>) -> Self {
        Self { key, attempts: Attempts::default() }
    }

    /// Whether the request carries the key, as `PROV-ADMIN` or `Bearer`. Every failure has one answer.
    ///
    /// A source with many failures is told to wait; the right key passes even then, so that nobody can lock the
    /// operator out. The key has 256 random bits: the limit is against noise, not against guessing.
    pub(crate) fn prove(&self, headers: &HeaderMap, source: IpAddr) -> Result<(), Refusal> {
        let is_right = authorization(headers).is_ok_and(|(scheme, key)| {
            let is_known = scheme.eq_ignore_ascii_case("prov-admin") || scheme.eq_ignore_ascii_case("bearer");
            is_known && !self.key.expose().is_empty() && self.key.matches(key.as_bytes())
        });
        if is_right {
            return Ok(());
        }
        if self.attempts.fail(source) {
            tracing::warn!(%source, "a call to the admin door without the admin key");
            Err(Refusal::new(Code::TokenMissing, "this needs the admin key"))
        } else {
            Err(Refusal::new(Code::TooMany, "too many attempts without the admin key").retry_after(60))
        }
    }
}

#[cfg(test)]
mod tests {
    use http::header::AUTHORIZATION;

    use super::*;

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
    }

    fn status(key: &AdminKey, headers: &HeaderMap) -> u16 {
        key.prove(headers, IpAddr::from([127, 0, 0, 1]))
            .map_or_else(|refusal| refusal.http_status(), |()| 200)
    }

    #[tokio::test]
    async fn the_key_opens_in_both_forms_and_nothing_else_does() {
        let key = AdminKey::new(Secret::new("s3cret".into()));
        for good in ["PROV-ADMIN s3cret", "prov-admin s3cret", "Bearer s3cret"] {
            assert_eq!(status(&key, &headers(good)), 200, "{good}");
        }
        assert_eq!(status(&key, &HeaderMap::new()), 401);
        for bad in [
            "PROV-ADMIN s3cre",
            "PROV-ADMIN s3cret1",
            "PROV-ADMIN S3CRET",
            "Basic s3cret",
            "s3cret",
            "PROV-ADMIN ",
        ] {
            assert_eq!(status(&key, &headers(bad)), 401, "{bad}");
        }
        let mut twice = headers("PROV-ADMIN s3cret");
        twice.append(AUTHORIZATION, "PROV-ADMIN wrong".parse().unwrap());
        assert_eq!(status(&key, &twice), 401);
    }

    #[tokio::test]
    async fn an_empty_key_opens_nothing() {
        let key = AdminKey::new(Secret::new(String::new()));
        assert_eq!(status(&key, &headers("PROV-ADMIN ")), 401);
        assert_eq!(status(&key, &headers("PROV-ADMIN  ")), 401);
    }

    #[tokio::test]
    async fn failures_are_limited_but_the_right_key_passes() {
        let key = AdminKey::new(Secret::new("s3cret".into()));
        let last = (0..30).map(|_| status(&key, &headers("PROV-ADMIN wrong"))).last();
        assert_eq!(last, Some(429));
        assert_eq!(status(&key, &headers("PROV-ADMIN s3cret")), 200);
    }
}
