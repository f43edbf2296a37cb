//! The API is what its OpenAPI document says: schemathesis, which nobody here wrote, reads the document that a cloud
//! serves and calls every operation with what fits it and with what does not, as people of two tenants: one who names
//! any device, one who names a device of their own.
//!
//! The same calls every time: nothing is drawn, no memory of earlier runs, no budget of time that cuts a run short.

use std::time::Duration;

use http::Method;
use serde_json::json;
use tests::{Cloud, EnrolledDevice, Provider, run_within, workspace};

#[tokio::test]
async fn every_operation_answers_as_the_document_says_and_none_is_open_that_should_not_be() {
    let provider = Provider::start().await;
    let config = format!(
        "[[oidc]]\nissuer = \"{}\"\naudience = \"tcpmux\"\ntenant_claim = \"org\"\n",
        provider.issuer()
    );
    let cloud = Cloud::plan().config(&config).start().await;
    let directory = tempfile::tempdir().unwrap();
    for (tenant, names_own) in [("umbra", false), ("globex", true)] {
        let (token, friend) = people_of(&cloud, &provider, tenant).await;
        let file = directory.path().join(format!("{tenant}.toml"));
        let own = format!(
            "[[operations]]\ninclude-path-regex = \"^/v1/devices/\"\nparameters = {{ \"path.id\" = \"cam-01\" }}\n\
             [[operations]]\ninclude-path-regex = \"/grants/\"\n\
             parameters = {{ \"path.id\" = \"cam-01\", \"path.user\" = \"{friend}\" }}\n"
        );
        std::fs::write(&file, if names_own { own } else { String::new() }).unwrap();
        // It remembers failures where it is started.
        let program = workspace().join("target/schemathesis/bin/schemathesis").display().to_string();
        let mut words: Vec<String> = vec!["-C".into(), directory.path().display().to_string(), program];
        words.extend(["--config-file".into(), file.display().to_string(), "run".into()]);
        words.push(cloud.user().url("/v1/openapi.json"));
        words.extend(["--tls-verify".into(), cloud.root().display().to_string()]);
        words.extend(["-H".into(), format!("Authorization: Bearer {token}")]);
        words.extend(OPTIONS.split_whitespace().map(str::to_owned));
        let finished = run_within(Duration::from_secs(150), "env", words, b"").await;
        let said = finished.stdout.replace(&token, "(token)");
        assert_eq!(finished.code, 0, "as the owner of a device of {tenant}: {said}\n{}", finished.stderr);
        // As in `515 generated, 515 passed, 14 skipped`.
        let counts = said.lines().find(|line| line.contains(" generated, ")).unwrap_or_default();
        let number = |word: &str| {
            let part = counts.split(',').find(|part| part.trim().ends_with(word)).unwrap_or_default();
            part.split_whitespace().next().and_then(|number| number.parse::<u32>().ok()).unwrap_or(0)
        };
        assert!(number("passed") > 200 && number("passed") == number("generated"), "{said}");
    }
    let log = cloud.log();
    assert!(!log.contains("internal fault") && !log.contains("panicked"), "{log}");
}

/// The token of a person of a new tenant, who owns `cam-01` there, and the id of a friend.
async fn people_of(cloud: &Cloud, provider: &Provider, tenant: &str) -> (String, String) {
    cloud.administer(Method::POST, "/admin/api/tenants", json!({"name": tenant})).await;
    let token = |who: &str| {
        let mut body = provider.body(&format!("{who}-of-{tenant}"));
        body["org"] = json!(tenant);
        provider.sign(&body)
    };
    let (owner, friend) = (token("owner"), token("friend"));
    let user = cloud.user_id(&owner).await;
    let asked = json!({"device": "cam-01", "tenant": tenant});
    let made = cloud.administer(Method::POST, "/admin/api/otp", asked).await;
    EnrolledDevice::enrol_with(made["enroll"].as_str().unwrap(), "cam-01").await;
    let path = format!("/admin/api/devices/cam-01/grants/{user}?tenant={tenant}");
    cloud.administer(Method::PUT, &path, json!({"level": "owner"})).await;
    (owner, cloud.user_id(&friend).await)
}

/// Devices' own APIs and the device door are not people's; a stream of events has no end to wait for. Of a refusal's status in detail the document says no more
/// than `default`, so that what is refused is checked by form; that wrong values are refused is the rooms' own tests.
const OPTIONS: &str = "--phases examples,coverage,fuzzing --max-examples 25 --generation-deterministic
    --workers 1 --request-retries 0 --no-color --suppress-health-check all
    --exclude-path-regex ^/(d|device)/ --exclude-operation-id openStream --exclude-operation-id listen
    --checks not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance,ignored_auth,unsupported_method";
