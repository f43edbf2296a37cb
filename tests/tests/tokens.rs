//! Tokens: D14 and D15. Every wrong one is refused, nothing reaches the device, nothing is fetched.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tests::{Cloud, Device, EnrolledDevice, Provider, Service, Signer, base64url, eventually, now};

use crate::stage::Stage;

#[tokio::test]
async fn every_spoilt_token_of_a_provider_is_refused_at_the_api() {
    let provider = Provider::start().await;
    let trap = Service::mirror().await;
    let cloud = Cloud::with_provider(&provider).await;
    let user = cloud.user();
    let signer = provider.signer();
    user.get("/v1/me").bearer(&provider.token("alice")).send().await.expect(200).await;

    let mut wrong: Vec<(String, String)> = vec![];
    let mut body = |name: &str, change: &dyn Fn(&mut Value)| {
        let mut body = provider.body("mallory");
        change(&mut body);
        wrong.push((name.to_owned(), provider.sign(&body)));
    };
    body("expired", &|b| b["exp"] = json!(now() - 120));
    body("no exp", &|b| drop(b.as_object_mut().unwrap().remove("exp")));
    body("exp as text", &|b| b["exp"] = json!((now() + 600).to_string()));
    body("exp null", &|b| b["exp"] = Value::Null);
    body("huge exp", &|b| b["exp"] = json!(1e300));
    body("negative exp", &|b| b["exp"] = json!(-1));
    body("not yet", &|b| b["nbf"] = json!(now() + 3600));
    body("nbf as text", &|b| b["nbf"] = json!("tomorrow"));
    body("other audience", &|b| b["aud"] = json!("another-app"));
    body("audience of the proxy", &|b| b["aud"] = json!("tcpmux:proxy"));
    body("no audience", &|b| drop(b.as_object_mut().unwrap().remove("aud")));
    body("audience a number", &|b| b["aud"] = json!(7));
    body("other issuer", &|b| b["iss"] = json!("https://login.example.com"));
    body("issuer with a slash", &|b| b["iss"] = json!(format!("{}/", b["iss"].as_str().unwrap())));
    body("no issuer", &|b| drop(b.as_object_mut().unwrap().remove("iss")));
    body("no subject", &|b| drop(b.as_object_mut().unwrap().remove("sub")));
    body("empty subject", &|b| b["sub"] = json!(""));
    body("subject a number", &|b| b["sub"] = json!(7));

    let good = provider.body("mallory").to_string();
    let head = |head: Value| signer.sign_raw(&head.to_string(), &good);
    let trap_url = trap.url("http");
    let signed = provider.token("mallory");
    let parts: Vec<&str> = signed.split('.').collect();
    let named: Vec<(&str, String)> = vec![
        ("alg none", format!("{}.{}.", base64url(r#"{"alg":"none","typ":"JWT"}"#), base64url(&good))),
        ("alg NONE", format!("{}.{}.", base64url(r#"{"alg":"NonE","kid":"key-1"}"#), base64url(&good))),
        ("HS256 with the public key", signer.confuse(&provider.body("mallory"))),
        ("ES384 head", head(json!({"alg": "ES384", "kid": "key-1"}))),
        ("RS256 head", head(json!({"alg": "RS256", "kid": "key-1"}))),
        ("no kid of another key", Signer::new("key-1").sign("JWT", &provider.body("mallory"))),
        ("unknown kid", head(json!({"alg": "ES256", "kid": "nobody"}))),
        ("kid a path", head(json!({"alg": "ES256", "kid": "../../../../dev/null"}))),
        ("kid a number", head(json!({"alg": "ES256", "kid": 1}))),
        (
            "jku",
            Signer::new("evil")
                .sign_raw(&json!({"alg": "ES256", "kid": "evil", "jku": trap_url}).to_string(), &good),
        ),
        (
            "x5u",
            Signer::new("evil")
                .sign_raw(&json!({"alg": "ES256", "kid": "evil", "x5u": trap_url}).to_string(), &good),
        ),
        ("embedded key", {
            let evil = Signer::new("evil");
            evil.sign_raw(&json!({"alg": "ES256", "kid": "evil", "jwk": evil.jwk()}).to_string(), &good)
        }),
        ("crit", head(json!({"alg": "ES256", "kid": "key-1", "crit": ["exp"], "exp": 1}))),
        ("another type", head(json!({"alg": "ES256", "kid": "key-1", "typ": "logout+jwt"}))),
        (
            "duplicate members",
            signer.sign_raw(
                &json!({"alg": "ES256", "kid": "key-1"}).to_string(),
                &good.replacen('{', "{\"sub\":\"admin\",", 1),
            ),
        ),
        (
            "duplicate members in the head",
            signer.sign_raw(r#"{"alg":"none","alg":"ES256","kid":"key-1"}"#, &good),
        ),
        ("body no object", signer.sign_raw(&json!({"alg": "ES256", "kid": "key-1"}).to_string(), "[]")),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("two parts", format!("{}.{}", parts[0], parts[1])),
        ("five parts", format!("{signed}.a.b")),
        ("padded", format!("{}=.{}.{}", parts[0], parts[1], parts[2])),
        ("signature of another body", {
            let other = provider.token("bob");
            format!("{}.{}.{}", parts[0], parts[1], other.rsplit('.').next().unwrap())
        }),
        ("a zero signature", format!("{}.{}.{}", parts[0], parts[1], base64url([0; 64]))),
        ("a DER signature", format!("{}.{}.{}", parts[0], parts[1], base64url([0x30, 6, 2, 1, 1, 2, 1, 1]))),
        ("long", format!("{}.{}.{}", parts[0], "A".repeat(30_000), parts[2])),
    ];
    wrong.extend(named.into_iter().map(|(name, token)| (name.to_owned(), token)));
    let before = provider.connections();
    for (name, token) in &wrong {
        for path in ["/v1/me", "/v1/devices"] {
            let refused = user.get(path).bearer(token).send().await;
            assert_eq!(refused.status, 401, "{name}");
        }
        assert_eq!(user.post("/v1/token").bearer(token).json(&json!({})).send().await.status, 401, "{name}");
    }
    assert_eq!(trap.connections(), 0, "no key is fetched from where a token says");
    assert!(provider.connections() <= before + 2, "unknown keys make few visits to the provider");
    for two in [("authorization", "Bearer a"), ("authorization", "Basic YTpi")] {
        let call = user.get("/v1/me").bearer(&provider.token("alice")).header(two.0, two.1);
        assert!((400..402).contains(&call.send().await.status.as_u16()), "two credentials");
    }
    assert_eq!(
        user.get(&format!("/v1/me?access_token={}", provider.token("alice"))).send().await.status,
        401
    );
}

#[tokio::test]
async fn a_token_opens_its_own_device_service_and_tenant_and_no_other() {
    let provider = Provider::start().await;
    let service = Service::mirror().await;
    let stage = Stage::on(
        Cloud::with_provider(&provider).await,
        &[("web", service.url("http")), ("api", service.url("http"))],
    )
    .await;
    let _other = Device::enrol_and_run(&stage.cloud, "cam-02", &[("web", service.url("http"))]).await;
    let alice = provider.token("alice");
    let id = stage.cloud.user_id(&alice).await;
    stage.cloud.grant("cam-01", &id, json!({"level": "operator", "services": ["web"]})).await;
    let token = stage.cloud.user_token(&alice).await;
    let user = stage.cloud.user();
    let get = async |path: &str, token: &str| user.get(path).bearer(token).send().await;
    assert_eq!(get("/d/cam-01/api/", &token).await.problem().await, "403 TMX-4031");
    assert_eq!(get("/d/cam-02/web/", &token).await.problem().await, "403 TMX-4030");
    assert_eq!(get("/d/cam-01/web/", &alice).await.status, 401);
    assert_eq!(service.connections(), 0, "not a byte at a device");
    get("/d/cam-01/web/", &token).await.expect(200).await;

    // The same name in another tenant is another device, and a token says which tenant it is for.
    stage.cloud.administer(http::Method::POST, "/admin/api/tenants", json!({"name": "acme"})).await;
    let made = json!({"device": "cam-01", "tenant": "acme"});
    let made = stage.cloud.administer(http::Method::POST, "/admin/api/otp", made).await;
    EnrolledDevice::enrol_with(made["enroll"].as_str().unwrap(), "cam-01").await;
    let minted = json!({"device": "cam-01", "level": "operator"});
    let minted = stage.cloud.administer(http::Method::POST, "/admin/api/tokens?tenant=acme", minted).await;
    let foreign = minted["token"].as_str().unwrap();
    let before = service.connections();
    assert_eq!(get("/d/cam-01/web/", foreign).await.problem().await, "503 TMX-3001", "acme's own is offline");
    assert_eq!(service.connections(), before, "and the other's is not reached in its stead");
}

#[tokio::test]
async fn a_ticket_is_no_bearer_and_opens_its_own_device_and_service_alone() {
    let provider = Provider::start().await;
    let service = Service::mirror().await;
    let services = [("web", service.url("http")), ("api", service.url("http"))];
    let stage = Stage::on(Cloud::with_provider(&provider).await, &services).await;
    let _other = Device::enrol_and_run(&stage.cloud, "cam-02", &[("web", service.url("http"))]).await;
    let alice = provider.token("alice");
    let id = stage.cloud.user_id(&alice).await;
    for device in ["cam-01", "cam-02"] {
        stage.cloud.grant(device, &id, json!({"level": "operator"})).await;
    }
    let user = stage.cloud.user();
    let ticket = async || {
        let asked = json!({"device": "cam-01", "service": "web"});
        let made = user.post("/v1/tickets").bearer(&alice).json(&asked).send().await.expect(201).await;
        made.json().await["ticket"].as_str().unwrap().to_owned()
    };
    for path in ["/d/cam-01/web/", "/v1/devices/cam-01/streams/web", "/v1/me", "/v1/events"] {
        let refused = user.get(path).bearer(&ticket().await).send().await;
        assert_eq!(refused.status, 401, "{path}: a ticket is no token");
    }
    let open = async |path: &str| {
        let opened = user.websocket(&format!("{path}?ticket={}", ticket().await), &[]).await;
        opened.expect_err("the service speaks no WebSocket")
    };
    for path in ["/d/cam-02/web/ws", "/d/cam-01/api/ws"] {
        let status = open(path).await;
        assert!([401, 403].contains(&status), "{path}: {status}");
    }
    assert_eq!(service.connections(), 0, "not a byte at a device");
    open("/d/cam-01/web/ws").await;
    assert_eq!(service.connections(), 1, "control: its own service is reached");
}

#[tokio::test]
async fn spoilt_tokens_for_the_proxy_never_reach_a_device() {
    let provider = Provider::start().await;
    let service = Service::mirror().await;
    let stage = Stage::on(Cloud::with_provider(&provider).await, &[("web", service.url("http"))]).await;
    let user = stage.cloud.user();
    let parts: Vec<&str> = stage.token.split('.').collect();
    let issuer = stage.cloud.listening()["public_url"].as_str().unwrap();
    let jwks = user.get("/.well-known/jwks.json").send().await.json().await;
    let kid = &jwks["keys"][0]["kid"];
    let evil = Signer::new("evil");
    let body = json!({
        "iss": issuer, "aud": "tcpmux:proxy", "sub": "mallory", "tenant": "default", "gv": 1_000_000, "until": now() + 600,
        "iat": now(), "exp": now() + 300, "jti": "1", "devices": {"cam-01": {"level": "owner"}},
    });
    let mut as_provider = body.clone();
    as_provider["iss"] = json!(provider.issuer());
    for (name, token) in [
        (
            "of another key, under our key's name",
            evil.sign_raw(
                &json!({"alg": "ES256", "kid": kid, "typ": "at+jwt"}).to_string(),
                &body.to_string(),
            ),
        ),
        ("of another key", evil.sign("at+jwt", &body)),
        ("of the provider's key", provider.signer().sign("at+jwt", &as_provider)),
        ("of the provider's key in our name", provider.signer().sign("at+jwt", &body)),
        (
            "unsigned",
            format!(
                "{}.{}.",
                base64url(json!({"alg": "none", "typ": "at+jwt"}).to_string()),
                base64url(body.to_string())
            ),
        ),
        ("with a body of its own", format!("{}.{}.{}", parts[0], base64url(body.to_string()), parts[2])),
        (
            "with a head of its own",
            format!(
                "{}.{}.{}",
                base64url(json!({"alg": "ES256", "kid": kid, "typ": "JWT"}).to_string()),
                parts[1],
                parts[2]
            ),
        ),
        ("cut", stage.token[..stage.token.len() - 8].to_owned()),
    ] {
        let refused = user.get("/d/cam-01/web/").bearer(&token).send().await;
        assert_eq!(refused.status, 401, "a token {name}");
        assert!(user.get("/v1/me").bearer(&token).send().await.status == 401);
    }
    for path in [
        format!("/d/cam-01/web/?access_token={}", stage.token),
        format!("/d/cam-01/web/?token={}", stage.token),
    ] {
        assert_eq!(user.get(&path).send().await.status, 401, "not in the query");
    }
    assert_eq!(service.connections(), 0);
}

#[tokio::test]
async fn a_provider_may_rotate_its_keys_and_go_away() {
    let provider = Provider::start().await;
    let cloud = Cloud::with_provider(&provider).await;
    let before = provider.token("alice");
    let id = cloud.user_id(&before).await;
    provider.rotate();
    let after = provider.token("alice");
    eventually("the new key is known", || async {
        let answer = cloud.user().get("/v1/me").bearer(&after).send().await;
        if answer.status == 200 { Ok(()) } else { Err(answer.problem().await) }
    })
    .await;
    provider.set_down(true);
    for token in [&before, &after] {
        assert_eq!(cloud.user_id(token).await, id, "the last good keys are kept");
    }
}

#[tokio::test]
async fn a_provider_that_claims_to_be_another_is_not_believed() {
    let provider = Provider::start().await;
    provider.claim_to_be("https://login.example.com");
    let cloud = Cloud::with_provider(&provider).await;
    let refused = cloud.user().get("/v1/me").bearer(&provider.token("alice")).send().await;
    assert!([401, 503].contains(&refused.status.as_u16()), "{}", refused.status);
    let mut forged = provider.body("alice");
    forged["iss"] = json!("https://login.example.com");
    assert_eq!(cloud.user().get("/v1/me").bearer(&provider.sign(&forged)).send().await.status, 401);
}

#[tokio::test]
async fn fifty_first_calls_at_once_make_one_user() {
    let provider = Provider::start().await;
    let cloud = Cloud::with_provider(&provider).await;
    let token = provider.token("alice");
    let ids: BTreeSet<String> = join_all((0..50).map(|_| cloud.user_id(&token))).await.into_iter().collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_ne!(
        cloud.user_id(&provider.token("bob")).await,
        *ids.first().unwrap(),
        "control: another is another"
    );
}
