//! The sign-in provider goes away: who is signed in goes on, who is new is told so, and all is well when it
//! is back.

use std::time::Duration;

use serde_json::json;
use tests::{Cloud, Device, Provider, eventually_within, web};

#[tokio::test]
async fn who_is_signed_in_goes_on_while_the_provider_is_away() {
    let provider = Provider::start().await;
    let cloud = Cloud::with_provider(&provider).await;
    let web = web().await;
    let _device = Device::enrol_and_run(&cloud, "cam-01", &[("web", web.url("http"))]).await;
    let alice = provider.token("alice");
    let id = cloud.user_id(&alice).await;
    cloud.grant("cam-01", &id, json!({"level": "operator"})).await;
    let before = cloud.user_token(&alice).await;

    provider.set_down(true);
    // Also somebody who was never here, with a token of a key that is known.
    let bob = provider.token("bob");
    cloud.user_id(&bob).await;
    let minted = cloud.user_token(&alice).await;
    for token in [&before, &minted] {
        cloud.user().get("/d/cam-01/web/method").bearer(token).send().await.expect(200).await;
    }
    // A key that nobody could fetch is unknown, and that is said in time.
    provider.rotate();
    let carol = provider.token("carol");
    let refused = cloud.user().get("/v1/me").bearer(&carol).send().await;
    assert!([401, 503].contains(&refused.status.as_u16()), "{}", refused.status);
    let said = refused.problem().await;
    assert!(["401 TMX-4004", "503 TMX-5003"].contains(&&*said), "{said}");
    cloud.user().get("/d/cam-01/web/method").bearer(&before).send().await.expect(200).await;
}

#[tokio::test]
async fn a_cloud_that_starts_without_its_provider_serves_devices_and_fetches_the_keys_when_it_can() {
    let provider = Provider::start().await;
    provider.set_down(true);
    let cloud = Cloud::with_provider(&provider).await;
    let web = web().await;
    let _device = Device::enrol_and_run(&cloud, "cam-01", &[("web", web.url("http"))]).await;
    let by_admin = cloud.token("cam-01", "operator").await;
    cloud.user().get("/d/cam-01/web/method").bearer(&by_admin).send().await.expect(200).await;
    let alice = provider.token("alice");
    let refused = cloud.user().get("/v1/me").bearer(&alice).send().await;
    assert_eq!(refused.status, 503, "nobody can say whether she is alice");
    assert!(!refused.header("retry-after").is_empty(), "{:?}", refused.headers);
    assert!(refused.problem().await.starts_with("503 TMX-"));

    provider.set_down(false);
    eventually_within(Duration::from_secs(40), "the keys are fetched", || async {
        let answer = cloud.user().get("/v1/me").bearer(&alice).send().await;
        if answer.status == 200 { Ok(()) } else { Err(answer.problem().await) }
    })
    .await;
}
