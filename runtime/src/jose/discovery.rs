//! What a provider says about itself (OpenID Connect Discovery §3, RFC 8414 §2).

use serde_json::{Map, Value};
use url::Url;

use super::{
    KeyFetcher, RemoteKeySetError,
    fetch::fetchable,
    json,
    remote::{discovery_url, jwks_url},
};

/// A provider's discovery document, which names exactly the issuer that was asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Discovery {
    members: Map<String, Value>,
    is_loopback_http: bool,
}

impl Discovery {
    /// Fetches the document of an issuer.
    ///
    /// # Errors
    /// [`RemoteKeySetError`], also when it names another issuer: one provider could speak for another.
    pub async fn fetch(issuer: &str, fetcher: &KeyFetcher) -> Result<Self, RemoteKeySetError> {
        let url = discovery_url(issuer)?;
        let document = fetcher.fetch(&url).await?;
        let useless = |reason| RemoteKeySetError::Discovery { url: url.to_string(), reason };
        let members = json::object(&document).map_err(useless)?;
        // OpenID Connect Discovery §4.3: exactly the configured issuer.
        if members.get("issuer").and_then(Value::as_str) != Some(issuer) {
            return Err(useless("names another issuer than the configured one"));
        }
        if members.get("jwks_uri").and_then(Value::as_str).is_none() {
            return Err(useless("has no `jwks_uri`"));
        }
        Ok(Self { members, is_loopback_http: url.scheme() == "http" })
    }

    /// An endpoint, as in `token_endpoint`; `None` where it is absent or an address that is not called.
    pub fn endpoint(&self, member: &str) -> Option<Url> {
        fetchable(self.text(member)?, self.is_loopback_http)
    }

    /// Whether a member is `true`.
    pub fn is_true(&self, member: &str) -> bool {
        self.members.get(member) == Some(&Value::Bool(true))
    }

    /// Whether a list has a text; `None` where there is no such list.
    pub fn lists(&self, member: &str, text: &str) -> Option<bool> {
        Some(self.members.get(member)?.as_array()?.iter().any(|item| item.as_str() == Some(text)))
    }

    pub(super) fn jwks(&self) -> Result<Url, RemoteKeySetError> {
        jwks_url(self.text("jwks_uri").unwrap_or_default(), self.is_loopback_http)
    }

    fn text(&self, member: &str) -> Option<&str> {
        self.members.get(member).and_then(Value::as_str)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn document(members: Value, is_loopback_http: bool) -> Discovery {
        Discovery { members: members.as_object().unwrap().clone(), is_loopback_http }
    }

    #[test]
    fn endpoints_are_https_unless_the_issuer_is_on_loopback() {
        let members = json!({"token_endpoint": "http://127.0.0.1:1/token", "x": "https://a.example.com/x"});
        let secure = document(members.clone(), false);
        assert!(secure.endpoint("token_endpoint").is_none());
        assert!(secure.endpoint("x").is_some() && secure.endpoint("y").is_none());
        assert!(document(members, true).endpoint("token_endpoint").is_some());
    }

    #[test]
    fn members_of_another_type_are_absent() {
        let members = json!({"a": "true", "b": true, "list": ["x", 1], "c": {}});
        let document = document(members, false);
        assert!(!document.is_true("a") && document.is_true("b"));
        assert_eq!(document.lists("list", "x"), Some(true));
        assert_eq!(document.lists("list", "y"), Some(false));
        assert_eq!(document.lists("c", "x"), None);
    }
}
