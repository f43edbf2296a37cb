//! The same with a provider that nobody here wrote: the certified `oidc-provider` of npm.

use http::Method;
use serde_json::Value;
use tests::{Browser, Cloud, OidcProvider, Page, eventually};
use url::Url;

use super::scene::{LOGIN, browser};

const PUBLIC: &str = "https://cloud.example";
const BACK: &str = "https://cloud.example/login/idp/callback";

async fn cloud(provider: &OidcProvider) -> Cloud {
    Cloud::plan().config(&format!("public_url = \"{PUBLIC}\"")).config(&provider.config()).start().await
}

/// From the first page to the last, as a person.
async fn sign_in(browser: &mut Browser, provider: &OidcProvider, person: &str) -> Page {
    let page = browser.open(&format!("{PUBLIC}/login/idp")).await.expect(200);
    provider.agree(browser, page, person).await
}

/// As far as the redirect back to the cloud, which is not followed.
async fn code_of(browser: &mut Browser, provider: &OidcProvider, person: &str) -> Url {
    sign_in(browser, provider, person).await.expect(200);
    let mut page = browser.visit(&format!("{PUBLIC}/login/idp")).await.expect(303);
    // The provider knows the person by now and asks nothing more.
    while let Some(next) = page.location() {
        if next.as_str().starts_with(BACK) {
            return next;
        }
        page = browser.visit(next.as_str()).await;
    }
    panic!("not sent back, but {}: {}", page.url, page.text);
}

async fn me(browser: &mut Browser) -> Page {
    let url = Url::parse(&format!("{PUBLIC}/v1/me")).unwrap();
    browser.call(Method::GET, &url, &[("sec-fetch-site", "same-origin")], "").await
}

#[tokio::test]
async fn a_person_signs_in_at_a_certified_provider() {
    let provider = OidcProvider::start(BACK).await;
    let cloud = cloud(&provider).await;
    let mut browser = browser(&cloud);
    let page = sign_in(&mut browser, &provider, "alice").await.expect(200);
    assert_eq!(page.url.as_str(), format!("{PUBLIC}/login"));
    assert!(page.text.contains("alice@example.com"), "{}", page.text);
    let me: Value = serde_json::from_str(&me(&mut browser).await.expect(200).text).unwrap();
    assert_eq!((me["subject"].as_str(), me["issuer"].as_str()), (Some("alice"), Some(provider.issuer())));
}

#[tokio::test]
async fn whoever_declines_at_the_provider_is_not_signed_in() {
    let provider = OidcProvider::start(BACK).await;
    let cloud = cloud(&provider).await;
    let mut browser = browser(&cloud);
    let page = browser.open(&format!("{PUBLIC}/login/idp")).await.expect(200);
    let page = browser.open(&format!("{}/abort", page.url)).await.expect(403);
    assert!(page.text.contains("access_denied"), "{}", page.text);
    assert_eq!(browser.cookie("cloud.example", LOGIN), None);
}

#[tokio::test]
async fn the_provider_itself_refuses_a_code_used_twice_or_by_another_sign_in() {
    let provider = OidcProvider::start(BACK).await;
    let cloud = cloud(&provider).await;
    let (mut alice, mut mallory) = (browser(&cloud), browser(&cloud));
    let of_alice = code_of(&mut alice, &provider, "alice").await;
    let of_mallory = code_of(&mut mallory, &provider, "mallory").await;
    let carried = |code: &Url, into: &Url| {
        let code = Page::parameter(code, "code").unwrap();
        let mut url = Url::parse(BACK).unwrap();
        url.query_pairs_mut()
            .append_pair("code", &code)
            .append_pair("state", &Page::parameter(into, "state").unwrap())
            .append_pair("iss", provider.issuer());
        url
    };
    // Mallory's browser, mallory's state, alice's code: the proof key is another.
    let page = mallory.open(carried(&of_alice, &of_mallory).as_str()).await.expect(400);
    assert!(page.text.contains("does not take this code"), "{}", page.text);
    let me_now: Value = serde_json::from_str(&me(&mut mallory).await.expect(200).text).unwrap();
    assert_eq!(me_now["subject"], "mallory", "as before");

    let first = code_of(&mut alice, &provider, "alice").await;
    alice.open(first.as_str()).await.expect(200);
    let next = code_of(&mut alice, &provider, "alice").await;
    let page = alice.open(carried(&first, &next).as_str()).await.expect(400);
    assert!(page.text.contains("does not take this code"), "{}", page.text);
}

#[tokio::test]
async fn a_provider_that_was_away_and_has_new_keys_is_believed_again_by_itself() {
    let mut provider = OidcProvider::start(BACK).await;
    let cloud = cloud(&provider).await;
    let mut alice = browser(&cloud);
    sign_in(&mut alice, &provider, "alice").await.expect(200);
    provider.stop();
    let away = eventually("new sign-ins are told that the provider is away", || {
        let mut newcomer = browser(&cloud);
        async move {
            let page = newcomer.visit(&format!("{PUBLIC}/login/idp")).await;
            if page.status == 503 { Ok(page) } else { Err(page.status) }
        }
    })
    .await;
    assert!(away.text.contains("does not answer"), "{}", away.text);
    me(&mut alice).await.expect(200);
    provider.start_again().await;
    eventually("sign-ins begin again", || {
        let mut newcomer = browser(&cloud);
        async move {
            let page = newcomer.visit(&format!("{PUBLIC}/login/idp")).await;
            if page.status == 303 { Ok(()) } else { Err(page.status) }
        }
    })
    .await;
    let mut bob = browser(&cloud);
    sign_in(&mut bob, &provider, "bob").await.expect(200);
    me(&mut bob).await.expect(200);
    me(&mut alice).await.expect(200);
}
