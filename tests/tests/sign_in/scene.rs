//! The scene of these stories: a cloud with a provider of the test, and a person's browser.

use serde_json::{Value, json};
use tests::{Browser, Cloud, Page, Provider};
use url::Url;

/// The cloud's own host, as the browser's cookies know it.
pub(super) const CLOUD: &str = "localhost";
pub(super) const LOGIN: &str = "__Host-tcpmux";

/// A sign-in that has come as far as the provider.
pub(super) struct Asked {
    /// Where the browser was sent.
    pub(super) url: Url,
}

impl Asked {
    /// A parameter of the request to the provider.
    pub(super) fn parameter(&self, name: &str) -> String {
        Page::parameter(&self.url, name).unwrap_or_else(|| panic!("no {name} in {}", self.url))
    }

    /// The identity token that the provider would give.
    pub(super) fn identity(&self, provider: &Provider, subject: &str) -> Value {
        let mut body = provider.body(subject);
        body["aud"] = json!("web");
        body["nonce"] = json!(self.parameter("nonce"));
        body
    }

    /// Has the provider give this identity token for this code.
    pub(super) fn answer_with(&self, provider: &Provider, code: &str, identity: &Value) {
        let answer =
            json!({"id_token": provider.sign(identity), "access_token": "x", "token_type": "Bearer"});
        provider.will_redeem(
            code,
            &self.parameter("code_challenge"),
            &self.parameter("redirect_uri"),
            answer,
        );
    }

    /// Where the provider sends the browser back to.
    pub(super) fn back(&self, provider: &Provider, code: &str) -> Url {
        let mut url = Url::parse(&self.parameter("redirect_uri")).unwrap();
        url.query_pairs_mut()
            .append_pair("code", code)
            .append_pair("state", &self.parameter("state"))
            .append_pair("iss", &provider.issuer());
        url
    }
}

/// A cloud with one provider, named `idp`.
pub(super) async fn cloud(provider: &Provider) -> Cloud {
    Cloud::plan()
        .config("device_domain = \"devices.example\"")
        .config(&provider.sign_in_config("idp"))
        .start()
        .await
}

pub(super) fn browser(cloud: &Cloud) -> Browser {
    Browser::new(cloud.user())
}

/// Begins a sign-in with this provider, as far as the redirect to it.
pub(super) async fn ask(browser: &mut Browser, cloud: &Cloud, name: &str) -> Asked {
    let page = browser.visit(&cloud.user().url(&format!("/login/{name}"))).await.expect(303);
    Asked { url: page.location().unwrap() }
}

/// Signs a person in, from the first page to the last.
pub(super) async fn sign_in(
    browser: &mut Browser,
    cloud: &Cloud,
    provider: &Provider,
    subject: &str,
) -> Page {
    let asked = ask(browser, cloud, "idp").await;
    asked.answer_with(provider, subject, &asked.identity(provider, subject));
    browser.open(asked.back(provider, subject).as_str()).await
}

/// A call of the cloud's API as a script of its own page would make it.
pub(super) async fn api(browser: &mut Browser, cloud: &Cloud, path: &str) -> Page {
    let url = Url::parse(&cloud.user().url(path)).unwrap();
    browser.call(http::Method::GET, &url, &[("sec-fetch-site", "same-origin")], "").await
}
