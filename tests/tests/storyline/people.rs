//! People with browsers: signed in at the provider, calling the cloud as a page of its own would.

use http::Method;
use serde_json::{Value, json};
use tests::{Browser, Cloud, OidcProvider};
use url::Url;

use super::PUBLIC;

/// Somebody who is signed in.
pub(super) struct Person {
    browser: Browser,
    /// Their id, as `GET /v1/me` shows it.
    pub(super) id: String,
}

impl Person {
    /// From the sign-in page to the provider's own pages and back.
    pub(super) async fn sign_in(cloud: &Cloud, provider: &OidcProvider, name: &str) -> Self {
        let mut browser = Browser::new(cloud.user());
        let page = browser.open(&format!("{PUBLIC}/login/idp")).await.expect(200);
        let page = provider.agree(&mut browser, page, name).await.expect(200);
        assert_eq!(page.url.as_str(), format!("{PUBLIC}/login"), "{}", page.text);
        let mut person = Self { browser, id: String::new() };
        let (_, me) = person.call(Method::GET, "/v1/me", Value::Null).await;
        assert_eq!((me["subject"].as_str(), me["issuer"].as_str()), (Some(name), Some(provider.issuer())));
        person.id = me["id"].as_str().unwrap().to_owned();
        person
    }

    /// Calls the API; status and answer.
    pub(super) async fn call(&mut self, method: Method, path: &str, body: Value) -> (u16, Value) {
        let url = Url::parse(&format!("{PUBLIC}{path}")).unwrap();
        let headers =
            [("origin", PUBLIC), ("sec-fetch-site", "same-origin"), ("content-type", "application/json")];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let page = self.browser.call(method, &url, &headers, &body).await;
        (page.status.as_u16(), serde_json::from_str(&page.text).unwrap_or(Value::Null))
    }

    /// The same with a GET, which has to succeed.
    pub(super) async fn read(&mut self, path: &str) -> Value {
        let (status, answer) = self.call(Method::GET, path, Value::Null).await;
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// A proxy token for all that was granted to them.
    pub(super) async fn token(&mut self) -> String {
        let (status, answer) = self.call(Method::POST, "/v1/token", json!({})).await;
        assert_eq!(status, 200, "{answer}");
        answer["token"].as_str().unwrap().to_owned()
    }
}
