//! Signing in and out with a browser, and what a login is good for.

use http::Method;
use serde_json::{Value, json};
use tests::{Cloud, Provider};
use url::Url;

use super::scene::{CLOUD, LOGIN, api, ask, browser, cloud, sign_in};

#[tokio::test]
async fn a_person_signs_in_uses_the_cloud_and_signs_out() {
    let provider = Provider::start().await;
    let cloud = cloud(&provider).await;
    let mut browser = browser(&cloud);

    let choice = browser.open(&cloud.user().url("/login")).await.expect(200);
    assert!(
        choice.text.contains("href=\"/login/idp\"") && !choice.text.contains("<script"),
        "{}",
        choice.text
    );
    assert_eq!(choice.headers["cache-control"], "no-store");
    let asked = ask(&mut browser, &cloud, "idp").await;
    assert!(asked.url.as_str().starts_with(&format!("{}/authorize?", provider.issuer())), "{}", asked.url);
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", "web"),
        ("scope", "openid email"),
        ("code_challenge_method", "S256"),
    ] {
        assert_eq!(asked.parameter(name), value);
    }
    assert_eq!(asked.parameter("redirect_uri"), cloud.user().url("/login/idp/callback"));

    let page = sign_in(&mut browser, &cloud, &provider, "alice").await.expect(200);
    assert!(page.text.contains("alice@example.com"), "{}", page.text);
    let me: Value =
        serde_json::from_str(&api(&mut browser, &cloud, "/v1/me").await.expect(200).text).unwrap();
    let by_token = cloud.user_id(&provider.token("alice")).await;
    assert_eq!((me["subject"].as_str(), me["id"].as_str()), (Some("alice"), Some(by_token.as_str())));

    let secret = browser.cookie(CLOUD, LOGIN).unwrap().to_owned();
    let page = browser.submit(&page, &[]).await.expect(200);
    assert!(page.text.contains("Sign in with"), "{}", page.text);
    assert_eq!(browser.cookie(CLOUD, LOGIN), None);
    browser.put_cookie(CLOUD, LOGIN, &secret);
    api(&mut browser, &cloud, "/v1/me").await.expect(401);
    assert!(!cloud.log().contains(&secret), "the log has no secret");
    let database = std::fs::read(cloud.data().join("tcpmux.db")).unwrap();
    assert!(!database.windows(64).any(|window| window == secret.as_bytes()), "only digests are stored");
}

#[tokio::test]
async fn a_login_survives_a_restart_and_a_sign_in_under_way_begins_again() {
    let provider = Provider::start().await;
    let mut cloud = cloud(&provider).await;
    let mut browser = browser(&cloud);
    sign_in(&mut browser, &cloud, &provider, "alice").await.expect(200);
    let asked = ask(&mut browser, &cloud, "idp").await;
    asked.answer_with(&provider, "late", &asked.identity(&provider, "alice"));
    assert_eq!(cloud.stop().await, 0);
    cloud.start_again().await;
    api(&mut browser, &cloud, "/v1/me").await.expect(200);
    let page = browser.open(asked.back(&provider, "late").as_str()).await.expect(400);
    assert!(page.text.contains("Try again"), "{}", page.text);
}

/// A device's own host is another origin of the same site: no cookie rule of browsers keeps its pages from making
/// a browser send the cloud's cookie.
#[tokio::test]
async fn a_login_counts_only_for_the_clouds_own_pages() {
    let provider = Provider::start().await;
    let cloud = cloud(&provider).await;
    let mut browser = browser(&cloud);
    sign_in(&mut browser, &cloud, &provider, "alice").await.expect(200);
    let ours = cloud.user().url("");
    let [me, token, out] =
        ["/v1/me", "/v1/token", "/logout"].map(|path| Url::parse(&cloud.user().url(path)).unwrap());
    let json = ("content-type", "application/json");
    for headers in [
        &[("sec-fetch-site", "same-site")][..],
        &[("sec-fetch-site", "cross-site")],
        &[("origin", "https://cam-01.devices.example")],
        &[("origin", "null")],
    ] {
        browser.call(Method::GET, &me, headers, "").await.expect(403);
        browser.call(Method::POST, &out, headers, "").await.expect(403);
        let headers: Vec<_> = headers.iter().copied().chain([json]).collect();
        browser.call(Method::POST, &token, &headers, "{}").await.expect(403);
    }
    browser.call(Method::POST, &token, &[json], "{}").await.expect(403);
    let text = [("origin", ours.as_str()), ("content-type", "text/plain")];
    browser.call(Method::POST, &token, &text, "{}").await.expect(415);
    browser.call(Method::POST, &token, &[("origin", ours.as_str()), json], "{}").await.expect(200);
    browser.call(Method::GET, &me, &[("sec-fetch-site", "same-origin")], "").await.expect(200);
    browser.call(Method::POST, &out, &[("origin", ours.as_str())], "").await.expect(303);
}

#[tokio::test]
async fn a_login_is_no_proxy_token_and_no_bearer() {
    let provider = Provider::start().await;
    let cloud = cloud(&provider).await;
    let mut browser = browser(&cloud);
    sign_in(&mut browser, &cloud, &provider, "alice").await.expect(200);
    let secret = browser.cookie(CLOUD, LOGIN).unwrap().to_owned();
    api(&mut browser, &cloud, "/d/cam-01/web/").await.expect(401);
    for path in ["/d/cam-01/web/", "/v1/me", "/v1/devices"] {
        cloud.user().get(path).bearer(&secret).send().await.expect(401).await;
    }
    cloud
        .admin()
        .get("/admin/api/devices")
        .header("cookie", format!("{LOGIN}={secret}"))
        .send()
        .await
        .expect(401)
        .await;
}

#[tokio::test]
async fn whoever_is_signed_in_keeps_working_while_the_provider_is_down() {
    let provider = Provider::start().await;
    let cloud = cloud(&provider).await;
    let mut browser = browser(&cloud);
    sign_in(&mut browser, &cloud, &provider, "alice").await.expect(200);
    let token = provider.token("bob");
    cloud.user_id(&token).await;
    provider.set_down(true);
    let page = tests::eventually("new sign-ins are told that the provider is away", || {
        let url = cloud.user().url("/login/idp");
        let mut newcomer = tests::Browser::new(cloud.user());
        async move {
            let page = newcomer.visit(&url).await;
            if page.status == 503 { Ok(page) } else { Err(page.status) }
        }
    })
    .await;
    assert!(
        page.text.contains("does not answer") && page.headers.contains_key("retry-after"),
        "{}",
        page.text
    );
    api(&mut browser, &cloud, "/v1/me").await.expect(200);
    cloud.user_id(&token).await;
    provider.set_down(false);
    tests::eventually("sign-ins begin again by themselves", || {
        let url = cloud.user().url("/login/idp");
        let mut newcomer = tests::Browser::new(cloud.user());
        async move {
            let page = newcomer.visit(&url).await;
            if page.status == 303 { Ok(()) } else { Err(page.status) }
        }
    })
    .await;
}

#[tokio::test]
async fn each_provider_has_its_people_and_its_tenant() {
    let (first, second) = (Provider::start().await, Provider::start().await);
    let other = second.sign_in_config("second").replace("tenant = \"default\"", "tenant = \"acme\"");
    let cloud = Cloud::plan().config(&first.sign_in_config("idp")).config(&other).start().await;
    cloud.administer(Method::POST, "/admin/api/tenants", json!({"name": "acme"})).await;
    let mut seen = vec![];
    for (name, provider) in [("idp", &first), ("second", &second)] {
        let mut browser = browser(&cloud);
        let asked = ask(&mut browser, &cloud, name).await;
        asked.answer_with(provider, "code", &asked.identity(provider, "alice"));
        browser.open(asked.back(provider, "code").as_str()).await.expect(200);
        let me: Value = serde_json::from_str(&api(&mut browser, &cloud, "/v1/me").await.text).unwrap();
        seen.push((me["tenant"].as_str().unwrap().to_owned(), me["id"].as_str().unwrap().to_owned()));
    }
    assert_eq!((seen[0].0.as_str(), seen[1].0.as_str()), ("default", "acme"));
    assert_ne!(seen[0].1, seen[1].1, "the same subject of another issuer is another person");
}
