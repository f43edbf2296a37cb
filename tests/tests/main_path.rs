//! The main path: from a passcode to a proxied request.

use serde_json::{Value, json};
use tests::{Cloud, Device, EnrolledDevice, Nginx, Provider, Service, client_program, run, run_ok, web};

#[tokio::test]
async fn a_passcode_by_curl_enrols_a_device_that_answers_for_its_nginx() {
    let cloud = Cloud::start().await;
    let root = cloud.root().display().to_string();
    // The very line of the README, at both paths and with both methods.
    for (path, method) in
        [("/admin/api/otp", "GET"), ("/admin/api/otp", "POST"), ("/api/otp", "GET"), ("/api/otp", "POST")]
    {
        let url = cloud.admin().url(&format!("{path}?device=cam-01"));
        let key = format!("Authorization: PROV-ADMIN {}", cloud.key());
        let passcode =
            run_ok("curl", ["-sS", "-f", "-X", method, "--cacert", &root, "-H", &key, &url], b"").await;
        assert!(
            passcode.len() >= 32 && !passcode.contains(char::is_whitespace),
            "the passcode alone: {passcode:?}"
        );
        let text = format!(
            "tcpmux://{}/?ca={}&otp={passcode}&device=cam-01",
            cloud.device_address(),
            cloud.fingerprint()
        );
        EnrolledDevice::enrol_with(&text, "cam-01").await;
    }
    let nginx = Nginx::start().await;
    let _device = Device::enrol_and_run(&cloud, "cam-01", &[("web", nginx.url())]).await;
    let token = cloud.command("token --device cam-01").await;
    assert_eq!(token.code, 0, "{}", token.stderr);
    let bearer = format!("Authorization: Bearer {}", token.stdout.trim());
    let url = cloud.user().url("/d/cam-01/web/hello.txt");
    let page = run_ok("curl", ["-sS", "-f", "--cacert", &root, "-H", &bearer, &url], b"").await;
    assert_eq!(page, "hello from nginx\n");
}

#[tokio::test]
async fn what_the_passcode_door_says_to_programs() {
    let cloud = Cloud::start().await;
    let call = cloud.admin().post("/admin/api/otp").admin(cloud.key()).header("accept", "application/json");
    let answer = call.json(&json!({"device": "cam-01", "ttl": "10m"})).send().await;
    assert!([200, 201].contains(&answer.status.as_u16()), "{}", answer.status);
    assert!(answer.header("cache-control").contains("no-store"));
    let made = answer.json().await;
    for member in ["id", "otp", "device", "tenant", "expires_at", "enroll"] {
        assert!(made[member].is_string(), "{member} in {made}");
    }
    assert_eq!((made["device"].as_str(), made["tenant"].as_str()), (Some("cam-01"), Some("default")));
    // The string works as it is: it names the public URL's host.
    EnrolledDevice::enrol_with(made["enroll"].as_str().unwrap(), "cam-01").await;
    let listed = cloud.administer(http::Method::GET, "/admin/api/otps", Value::Null).await;
    assert!(listed.to_string().contains(made["id"].as_str().unwrap()), "{listed}");
    assert!(!listed.to_string().contains(made["otp"].as_str().unwrap()), "metadata only: {listed}");
    let bearer = cloud.admin().get("/admin/api/otp").bearer(cloud.key()).send().await.expect(200).await;
    assert!(bearer.header("content-type").starts_with("text/plain"));
    assert!(!bearer.text().await.ends_with('\n'));
}

#[tokio::test]
async fn a_person_signs_in_is_granted_a_device_and_reaches_it() {
    let provider = Provider::start().await;
    let cloud = Cloud::with_provider(&provider).await;
    let web = web().await;
    let _device = Device::enrol_and_run(&cloud, "cam-01", &[("web", web.url("http"))]).await;
    let alice = provider.token("alice");

    let (first, second) = tokio::join!(cloud.user_id(&alice), cloud.user_id(&alice));
    assert_eq!(first, second, "the first call makes the user, once");
    let me = cloud.user().get("/v1/me").bearer(&alice).send().await.json().await;
    assert_eq!((me["subject"].as_str(), me["issuer"].as_str()), (Some("alice"), Some(&*provider.issuer())));
    assert_eq!((me["email"].as_str(), me["tenant"].as_str()), (Some("alice@example.com"), Some("default")));

    // Nothing is granted: a token that opens nothing, and the answer of a device that does not exist.
    let nothing = cloud.user_token(&alice).await;
    for path in ["/d/cam-01/web/method", "/d/no-such-device/web/method"] {
        assert_eq!(cloud.user().get(path).bearer(&nothing).send().await.problem().await, "403 TMX-4030");
    }
    let devices = cloud.user().get("/v1/devices").bearer(&alice).send().await.expect(200).await.json().await;
    assert_eq!(devices["items"], json!([]));
    assert_eq!(cloud.user().get("/v1/devices/cam-01").bearer(&alice).send().await.status, 404);

    cloud.grant("cam-01", &first, json!({"level": "viewer"})).await;
    let devices = cloud.user().get("/v1/devices").bearer(&alice).send().await.expect(200).await.json().await;
    assert_eq!(devices["items"][0]["id"], "cam-01");
    assert_eq!(
        (devices["items"][0]["online"].as_bool(), devices["items"][0]["level"].as_str()),
        (Some(true), Some("viewer"))
    );
    let viewer = cloud.user_token(&alice).await;
    let door = cloud.user();
    assert_eq!(door.get("/d/cam-01/web/method").bearer(&viewer).send().await.header("x-method"), "GET");
    assert_eq!(door.post("/d/cam-01/web/count").bearer(&viewer).send().await.problem().await, "403 TMX-4031");

    cloud.grant("cam-01", &first, json!({"level": "operator"})).await;
    // The token that was made before the change is stale for this device.
    assert_eq!(door.get("/d/cam-01/web/method").bearer(&viewer).send().await.problem().await, "403 TMX-4030");
    let operator = cloud.user_token(&alice).await;
    let counted = door.post("/d/cam-01/web/count").bearer(&operator).body("12345").send().await;
    assert_eq!(counted.expect(200).await.text().await, "5");

    // The provider's token opens nothing at the proxy, the proxy's nothing at the API.
    let wrong = door.get("/d/cam-01/web/method").bearer(&alice).send().await;
    assert_eq!(wrong.status, 401);
    assert_eq!(door.get("/v1/me").bearer(&operator).send().await.status, 401);
}

#[tokio::test]
async fn the_daemon_refuses_a_cloud_whose_authority_is_not_the_one_in_the_string() {
    let cloud = Cloud::start().await;
    let other = Cloud::start().await;
    let passcode = cloud.passcode("cam-01").await;
    let state = tempfile::tempdir().unwrap();
    let wrong = format!(
        "tcpmux://{}/?ca={}&otp={passcode}&device=cam-01",
        cloud.device_address(),
        other.fingerprint()
    );
    let refused = EnrolledDevice::try_enrol(&wrong, &state.path().join("state")).await;
    assert_ne!(refused.code, 0, "{}", refused.stdout);
    assert!(!refused.stderr.contains(&passcode));
    // The passcode never left: it still is good.
    let right = format!(
        "tcpmux://{}/?ca={}&otp={passcode}&device=cam-01",
        cloud.device_address(),
        cloud.fingerprint()
    );
    EnrolledDevice::enrol_with(&right, "cam-01").await;
}

#[tokio::test]
async fn a_daemon_without_an_identity_says_what_to_do_and_status_tells_who_a_device_is() {
    let cloud = Cloud::start().await;
    let empty = tempfile::tempdir().unwrap();
    let path = empty.path().join("state").display().to_string();
    let refused = run(client_program(), ["run", "--no-local-api", "--state", &path], b"").await;
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("enroll"), "{}", refused.stderr);
    let service = Service::echo().await;
    let device = Device::enrol_and_run(&cloud, "cam-01", &[("echo", service.url("tcp"))]).await;
    let state = device.state().display().to_string();
    let status = run(client_program(), ["status", "--state", &state], b"").await;
    assert!(status.stdout.contains("cam-01"), "{status:?}");
}
