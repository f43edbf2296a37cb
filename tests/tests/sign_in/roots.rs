//! Providers of two companies, each with a certificate of its own CA.

use http::Method;
use tests::{Cloud, Provider, eventually};

fn with_ca(provider: &Provider, ca: &Provider) -> String {
    let root = ca.root().expect("it is behind TLS");
    format!("{}ca = {:?}\n", provider.config(), root.display().to_string())
}

#[tokio::test]
async fn each_provider_is_trusted_by_its_own_ca_alone() {
    let (first, second) = (Provider::start_behind_tls().await, Provider::start_behind_tls().await);
    let own = [with_ca(&first, &first), with_ca(&second, &second)];
    let cloud = Cloud::plan().config(&own[0]).config(&own[1]).start().await;
    for provider in [&first, &second] {
        eventually("its people are let in", || async {
            let call = cloud.user().call(Method::GET, "/v1/me").bearer(&provider.token("alice"));
            let answer = call.send().await;
            if answer.status == 200 { Ok(()) } else { Err(answer.text().await) }
        })
        .await;
    }

    let crossed = [with_ca(&first, &first), with_ca(&second, &first)];
    let cloud = Cloud::plan().config(&crossed[0]).config(&crossed[1]).start().await;
    eventually("control: the first's people are let in", || async {
        let answer = cloud.user().get("/v1/me").bearer(&first.token("alice")).send().await;
        if answer.status == 200 { Ok(()) } else { Err(answer.text().await) }
    })
    .await;
    // The other's CA vouches for nothing of the second: its keys are never known.
    cloud.user().get("/v1/me").bearer(&second.token("alice")).send().await.expect(503).await;
}
