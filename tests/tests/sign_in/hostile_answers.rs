//! Answers of providers, and of whoever plays one, that must not sign anybody in. Each has its control.

use serde_json::{Value, json};
use tests::{Cloud, Provider, Signer, now};
use url::Url;

use super::scene::{Asked, CLOUD, LOGIN, ask, browser, cloud, sign_in};

/// What a test does to an identity token.
type Spoil = fn(&mut Value);

#[tokio::test]
async fn an_identity_token_of_another_sign_in_client_issuer_or_time_is_not_believed() {
    let provider = Provider::start().await;
    let cloud = cloud(&provider).await;
    let spoilt: [(&str, u16, Spoil); 16] = [
        ("as it is", 200, |_| {}),
        ("another nonce", 401, |body| body["nonce"] = json!("0".repeat(64))),
        ("no nonce", 401, |body| drop(body.as_object_mut().unwrap().remove("nonce"))),
        ("another audience", 401, |body| body["aud"] = json!("tcpmux")),
        ("another audience too", 401, |body| body["aud"] = json!(["web", "other"])),
        ("for us, as party of two", 200, |body| {
            body["aud"] = json!(["web", "other"]);
            body["azp"] = json!("web");
        }),
        ("another party", 401, |body| body["azp"] = json!("other")),
        ("another issuer", 401, |body| body["iss"] = json!("https://login.example.com")),
        ("over for a while", 401, |body| body["exp"] = json!(now() - 75)),
        ("over by a clock that is behind", 200, |body| body["exp"] = json!(now() - 45)),
        ("of a clock far ahead", 401, |body| body["iat"] = json!(now() + 75)),
        ("of a clock a little ahead", 200, |body| body["iat"] = json!(now() + 45)),
        ("of nobody", 401, |body| body["sub"] = json!("")),
        // What the scene's provider gives as access token, hashed as OpenID Connect Core §3.1.3.6 says.
        ("with the access token it names", 200, |body| body["at_hash"] = json!("LXEWQrcmsEQBYnyp-6wy9Q")),
        ("with another access token", 401, |body| body["at_hash"] = json!("77QmUPtjPfzWtF2AnpK9RQ")),
        ("with a name that is no text", 401, |body| body["at_hash"] = json!(7)),
    ];
    for (what, status, spoil) in spoilt {
        let mut browser = browser(&cloud);
        let asked = ask(&mut browser, &cloud, "idp").await;
        let mut identity = asked.identity(&provider, "alice");
        spoil(&mut identity);
        asked.answer_with(&provider, "code", &identity);
        let page = browser.open(asked.back(&provider, "code").as_str()).await;
        assert_eq!(page.status.as_u16(), status, "{what}: {}", page.text);
        assert_eq!(browser.cookie(CLOUD, LOGIN).is_some(), status == 200, "{what}");
    }
}

#[tokio::test]
async fn a_strangers_signature_is_not_believed() {
    let provider = Provider::start().await;
    let cloud = cloud(&provider).await;
    let mut browser = browser(&cloud);
    let asked = ask(&mut browser, &cloud, "idp").await;
    let forged = Signer::new("key-1").sign("JWT", &asked.identity(&provider, "alice"));
    let (challenge, to) = (asked.parameter("code_challenge"), asked.parameter("redirect_uri"));
    provider.will_redeem("code", &challenge, &to, json!({"id_token": forged}));
    browser.open(asked.back(&provider, "code").as_str()).await.expect(401);
    assert_eq!(browser.cookie(CLOUD, LOGIN), None);
    sign_in(&mut browser, &cloud, &provider, "alice").await.expect(200);
}

#[tokio::test]
async fn a_key_that_the_provider_has_just_begun_to_use_is_learnt() {
    let provider = Provider::start().await;
    let cloud = cloud(&provider).await;
    sign_in(&mut browser(&cloud), &cloud, &provider, "alice").await.expect(200);
    provider.rotate();
    sign_in(&mut browser(&cloud), &cloud, &provider, "bob").await.expect(200);
}

#[tokio::test]
async fn a_state_is_good_once_in_the_browser_that_it_was_given_to() {
    let provider = Provider::start().await;
    let cloud = cloud(&provider).await;
    let mut alice = browser(&cloud);
    let prepared = |asked: &Asked, code: &str| {
        asked.answer_with(&provider, code, &asked.identity(&provider, "alice"));
        asked.back(&provider, code)
    };

    // Somebody else's browser is sent here with alice's answer, or without any state at all.
    let asked = ask(&mut alice, &cloud, "idp").await;
    let back = prepared(&asked, "stolen");
    let mut mallory = browser(&cloud);
    mallory.open(back.as_str()).await.expect(400);
    ask(&mut mallory, &cloud, "idp").await;
    let asked = ask(&mut alice, &cloud, "idp").await;
    mallory.open(prepared(&asked, "stolen-2").as_str()).await.expect(400);
    assert_eq!(mallory.cookie(CLOUD, LOGIN), None);
    alice.open(back.as_str()).await.expect(400);
    mallory.open(&cloud.user().url("/login/idp/callback?code=x")).await.expect(400);

    // Twice.
    let asked = ask(&mut alice, &cloud, "idp").await;
    let back = prepared(&asked, "once");
    alice.open(back.as_str()).await.expect(200);
    prepared(&asked, "once");
    alice.open(back.as_str()).await.expect(400);
}

#[tokio::test]
async fn a_code_of_another_sign_in_is_refused_by_the_proof_key() {
    let provider = Provider::start().await;
    let cloud = cloud(&provider).await;
    let (mut alice, mut mallory) = (browser(&cloud), browser(&cloud));
    let of_alice = ask(&mut alice, &cloud, "idp").await;
    of_alice.answer_with(&provider, "code-of-alice", &of_alice.identity(&provider, "alice"));
    let of_mallory = ask(&mut mallory, &cloud, "idp").await;
    let page = mallory.open(of_mallory.back(&provider, "code-of-alice").as_str()).await.expect(400);
    assert!(page.text.contains("another sign-in"), "{}", page.text);
    assert_eq!(mallory.cookie(CLOUD, LOGIN), None);
}

/// The attack of RFC 9700 §4.4: an honest provider's code is to be carried to another provider's token endpoint.
#[tokio::test]
async fn one_provider_cannot_answer_for_another() {
    let (honest, evil) = (Provider::start().await, Provider::start().await);
    let cloud = Cloud::plan()
        .config(&honest.sign_in_config("honest"))
        .config(&evil.sign_in_config("evil"))
        .start()
        .await;
    let mut browser = browser(&cloud);
    for (what, provider_named, path) in [
        ("at the address of the other", honest.issuer(), "/login/honest/callback"),
        ("in its own name", honest.issuer(), "/login/evil/callback"),
        ("in nobody's name", String::new(), "/login/evil/callback"),
    ] {
        let asked = ask(&mut browser, &cloud, "evil").await;
        let mut back = Url::parse(&cloud.user().url(path)).unwrap();
        back.query_pairs_mut().append_pair("code", "c").append_pair("state", &asked.parameter("state"));
        if !provider_named.is_empty() {
            back.query_pairs_mut().append_pair("iss", &provider_named);
        }
        let before = evil.connections();
        browser.open(back.as_str()).await.expect(400);
        assert_eq!(browser.cookie(CLOUD, LOGIN), None, "{what}");
        assert!(evil.connections() <= before + 2, "{what}: discovery and keys at most, no code");
    }
    let asked = ask(&mut browser, &cloud, "evil").await;
    asked.answer_with(&evil, "c", &asked.identity(&evil, "eve"));
    browser.open(asked.back(&evil, "c").as_str()).await.expect(200);
}

#[tokio::test]
async fn nobody_is_sent_to_a_foreign_address() {
    let provider = Provider::start().await;
    let cloud = cloud(&provider).await;
    for wanted in [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example",
        "/handover/../..//evil.example",
        "/login?return=//evil.example",
        "javascript:alert(1)",
        "/handover?\r\nLocation: https://evil.example",
    ] {
        let encoded: String = url::form_urlencoded::byte_serialize(wanted.as_bytes()).collect();
        let mut browser = browser(&cloud);
        let choice = browser.open(&cloud.user().url(&format!("/login?return={encoded}"))).await.expect(200);
        assert!(!choice.text.contains("evil"), "{wanted}: {}", choice.text);
        let begun =
            browser.visit(&cloud.user().url(&format!("/login/idp?return={encoded}"))).await.expect(303);
        let asked = Asked { url: begun.location().unwrap() };
        asked.answer_with(&provider, "code", &asked.identity(&provider, "alice"));
        let page = browser.visit(asked.back(&provider, "code").as_str()).await.expect(303);
        assert_eq!(page.location().unwrap().as_str(), cloud.user().url("/login"), "{wanted}");
    }
}

#[tokio::test]
async fn a_provider_that_says_no_is_quoted_in_plain_text() {
    let provider = Provider::start().await;
    let cloud = cloud(&provider).await;
    let mut browser = browser(&cloud);
    let asked = ask(&mut browser, &cloud, "idp").await;
    let mut back = Url::parse(&asked.parameter("redirect_uri")).unwrap();
    back.query_pairs_mut()
        .append_pair("state", &asked.parameter("state"))
        .append_pair("iss", &provider.issuer())
        .append_pair("error", "access_denied")
        .append_pair("error_description", "<script>alert(1)</script>");
    let page = browser.open(back.as_str()).await.expect(403);
    assert!(page.text.contains("access_denied") && !page.text.contains("<script>"), "{}", page.text);
}

#[tokio::test]
async fn a_script_cannot_begin_a_sign_in_unseen() {
    let provider = Provider::start().await;
    let cloud = cloud(&provider).await;
    let url = Url::parse(&cloud.user().url("/login/idp")).unwrap();
    let mut browser = browser(&cloud);
    browser.call(http::Method::GET, &url, &[("sec-fetch-mode", "no-cors")], "").await.expect(400);
    browser.call(http::Method::GET, &url, &[("sec-fetch-mode", "navigate")], "").await.expect(303);
}
