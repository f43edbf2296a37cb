//! The operator's signer of tokens, in the minimal deployment: away, with new keys, and not the one.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Cloud, Process, Provider, Service, Signer, eventually_within, now, web};

use crate::minimal::Pki;

#[tokio::test]
async fn known_keys_stand_while_the_signer_is_away_and_new_ones_are_fetched_when_they_are_used() {
    let site = Site::open().await;
    let token = site.token(&json!({}));
    site.provider.set_down(true);
    // One that was not seen before is verified with what is known.
    let another = site.token(&json!({"jti": "another"}));
    for token in [&token, &another] {
        site.call(token).await.expect(200).await;
    }
    site.provider.set_down(false);
    site.provider.rotate();
    let rotated = site.token(&json!({}));
    site.call(&rotated).await.expect(200).await;
    site.call(&token).await.expect(200).await;
}

#[tokio::test]
async fn tokens_of_any_other_signer_are_refused_although_they_say_the_same() {
    let site = Site::open().await;
    let right = site.body(&json!({}));
    let signer = site.provider.signer();
    let elsewhere = Provider::start().await;
    let spoilt = [
        ("another key under a known id", Signer::new("key-1").sign("at+jwt", &right)),
        ("a provider that this cloud does not know", elsewhere.signer().sign("at+jwt", &right)),
        ("another issuer's name", site.token(&json!({"iss": elsewhere.issuer()}))),
        ("no issuer", site.token(&json!({"iss": null}))),
        ("no subject", site.token(&json!({"sub": null}))),
        ("of another kind", signer.sign("JWT", &right)),
        ("unsigned", signer.sign_raw(r#"{"alg":"none","typ":"at+jwt"}"#, &right.to_string())),
        ("signed with the public key", signer.confuse(&right)),
    ];
    for (what, token) in spoilt {
        let refused = site.call(&token).await;
        let said = refused.problem().await;
        assert!(said.starts_with("401 TMX-40"), "{what}: {said}");
    }
    site.call(&site.token(&json!({}))).await.expect(200).await;
}

/// A minimal cloud, its operator's signer, and one device that answers.
struct Site {
    cloud: Cloud,
    provider: Provider,
    _pki: Pki,
    _web: Service,
    _daemon: Process,
}

impl Site {
    async fn open() -> Self {
        let pki = Pki::make().await;
        let provider = Provider::start().await;
        let web = web().await;
        let plan = Cloud::plan().config(&pki.config(&provider)).trusted(&pki.file("ca.crt"));
        let cloud = plan.start().await;
        let daemon = pki.device("cam-01", &cloud, &web.url("http")).await;
        let site = Self { cloud, provider, _pki: pki, _web: web, _daemon: daemon };
        let token = site.token(&json!({}));
        eventually_within(Duration::from_secs(20), "the device answers", || async {
            let answer = site.call(&token).await;
            if answer.status == 200 { Ok(()) } else { Err(answer.problem().await) }
        })
        .await;
        site
    }

    async fn call(&self, token: &str) -> tests::Answer {
        self.cloud.user().get("/d/cam-01/web/method").bearer(token).send().await
    }

    fn token(&self, changes: &Value) -> String {
        self.provider.signer().sign("at+jwt", &self.body(changes))
    }

    /// The body of a token with some members changed, or taken away by null.
    fn body(&self, changes: &Value) -> Value {
        let mut body = json!({
            "iss": self.provider.issuer(), "aud": "tcpmux:proxy", "sub": "robot", "iat": now(),
            "exp": now() + 300, "jti": "1", "devices": {"cam-01": {"level": "operator"}},
        });
        for (name, value) in changes.as_object().unwrap() {
            if value.is_null() {
                body.as_object_mut().unwrap().remove(name);
            } else {
                body[name] = value.clone();
            }
        }
        body
    }
}
