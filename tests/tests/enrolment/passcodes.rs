//! Passcodes as an operator gets them with curl (contract §3), and what everybody else gets.

use std::collections::BTreeSet;

use http::Method;
use serde_json::{Value, json};
use tests::{Cloud, Door, Finished, now, run};

/// Calls with curl as it is typed; head and body of the answer.
async fn curl(cloud: &Cloud, url: &str, words: &[&str]) -> (String, String) {
    let root = cloud.root().display().to_string();
    let mut all = vec!["-sS", "-i", "--cacert", &root];
    all.extend(words);
    all.push(url);
    let Finished { code, stdout, stderr, .. } = run("curl", all, b"").await;
    assert_eq!(code, 0, "{url}: {stderr}");
    let (head, body) = stdout.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {stdout}"));
    (head.to_owned(), body.to_owned())
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{head}"))
}

fn field<'a>(head: &'a str, name: &str) -> &'a str {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value.trim())
}

/// An answer without what differs from second to second.
fn octets(answer: &(String, String)) -> String {
    let head: Vec<&str> =
        answer.0.lines().filter(|line| !line.to_ascii_lowercase().starts_with("date:")).collect();
    format!("{}\n{}", head.join("\n"), answer.1)
}

#[tokio::test]
async fn curl_gets_the_passcode_alone_by_get_and_by_post_on_both_paths() {
    let cloud = Cloud::start().await;
    let mut seen = BTreeSet::new();
    for path in ["/admin/api/otp", "/api/otp"] {
        for method in ["GET", "POST"] {
            for scheme in ["PROV-ADMIN", "Bearer"] {
                let key = format!("Authorization: {scheme} {}", cloud.key());
                let (head, body) = curl(&cloud, &cloud.admin().url(path), &["-X", method, "-H", &key]).await;
                assert!([200, 201].contains(&status(&head)), "{method} {path}: {head}");
                assert!(field(&head, "content-type").starts_with("text/plain"), "{head}");
                assert_eq!(field(&head, "cache-control"), "no-store");
                assert!(field(&head, "vary").to_ascii_lowercase().contains("accept"), "{head}");
                let passcode: model::Passcode =
                    body.parse().unwrap_or_else(|error| panic!("{error}: {body}"));
                assert_eq!(passcode.reveal(), body, "the passcode alone, and nothing around it");
                assert_eq!(passcode.secret_bytes().len() * 8, 160);
                assert!(seen.insert(body), "a passcode came twice");
            }
        }
    }
}

#[tokio::test]
async fn what_an_operator_may_choose_comes_in_the_query_or_as_json() {
    let cloud = Cloud::start().await;
    let key = format!("Authorization: PROV-ADMIN {}", cloud.key());
    let made = cloud.administer(Method::POST, "/admin/api/tenants", json!({"name": "acme"})).await;
    assert_eq!(made["name"], "acme", "{made}");
    let body = json!({"device": "cam-01", "tenant": "acme", "ttl": "10m"}).to_string();
    let as_json =
        ["-H", &key, "-H", "Accept: application/json", "-H", "Content-Type: application/json", "-d", &body];
    let (head, text) = curl(&cloud, &cloud.admin().url("/admin/api/otp"), &as_json).await;
    assert!([200, 201].contains(&status(&head)), "{head} {text}");
    assert_eq!(
        (field(&head, "content-type"), field(&head, "cache-control")),
        ("application/json", "no-store")
    );
    let by_body: Value = serde_json::from_str(&text).unwrap();
    let by_query = curl(
        &cloud,
        &cloud.admin().url("/api/otp?device=cam-01&tenant=acme&ttl=10m"),
        &["-H", &key, "-H", "Accept: application/json"],
    )
    .await;
    let by_query: Value = serde_json::from_str(&by_query.1).unwrap();
    for made in [by_body, by_query] {
        let members: BTreeSet<&str> = made.as_object().unwrap().keys().map(String::as_str).collect();
        let wanted = ["id", "otp", "device", "tenant", "expires_at", "enroll"];
        assert_eq!(members, BTreeSet::from(wanted), "{made}");
        assert_eq!((&made["device"], &made["tenant"]), (&"cam-01".into(), &"acme".into()));
        let string = made["enroll"].as_str().unwrap();
        let (otp, ca) = (made["otp"].as_str().unwrap(), cloud.fingerprint());
        for part in [&*format!("otp={otp}"), &format!("ca={ca}"), "device=cam-01"] {
            assert!(string.starts_with("tcpmux://localhost:") && string.contains(part), "{string}");
        }
        let end = run("date", ["-u", "-d", made["expires_at"].as_str().unwrap(), "+%s"], b"").await;
        let left = end.stdout.trim().parse::<u64>().unwrap() - now();
        assert!((590..=600).contains(&left), "ten minutes: {left} s");
    }
    for bad in
        ["device=CAM_01", "ttl=0s", "ttl=9999d", "ttl=soon", "device=a--b", "unknown=1", "tenant=nobody"]
    {
        let url = cloud.admin().url(&format!("/admin/api/otp?{bad}"));
        let (head, text) = curl(&cloud, &url, &["-H", &key]).await;
        assert!((400..500).contains(&status(&head)), "{bad}: {head}");
        assert!(
            field(&head, "content-type").contains("problem+json") && text.contains("detail"),
            "{bad}: {text}"
        );
    }
}

/// Row 56. There is one key in this version: none to revoke, and no scopes.
#[tokio::test]
async fn without_the_key_every_answer_is_the_same_401() {
    let cloud = Cloud::start().await;
    let url = cloud.admin().url("/admin/api/otp");
    let key = cloud.key().to_owned();
    let long = format!("Authorization: PROV-ADMIN {}", "a".repeat(20_000));
    let wrong = [
        "X-Nothing: at all".to_owned(),
        "Authorization: PROV-ADMIN wrong".into(),
        format!("Authorization: PROV-ADMIN {}", &key[..key.len() - 1]),
        format!("Authorization: PROV-ADMIN {key}0"),
        format!("Authorization: PROV-ADMIN {}", key.to_uppercase()),
        format!("Authorization: PROV-ADMIN\t{key}x"),
        format!("Authorization: Basic {key}"),
        format!("Authorization: {key}"),
        format!("Cookie: key={key}"),
        long,
    ];
    let mut answers = vec![];
    for header in &wrong {
        let answer = curl(&cloud, &url, &["-H", header]).await;
        assert_eq!(status(&answer.0), 401, "{header}: {}", answer.0);
        answers.push(octets(&answer));
    }
    answers.push(octets(&curl(&cloud, &cloud.admin().url(&format!("/admin/api/otp?key={key}")), &[]).await));
    answers.dedup();
    assert_eq!(answers.len(), 1, "a hint: {answers:#?}");
    // A megabyte is not even read.
    let huge = format!("Authorization: PROV-ADMIN {}", "a".repeat(1 << 20));
    let request = format!("GET /admin/api/otp HTTP/1.1\r\nHost: localhost\r\n{huge}\r\n\r\n");
    let answer = cloud.admin().exchange(request).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer:.60}");
    // Who guesses on has to wait; the operator has not, not even from the same address.
    let guesser = cloud.admin().from_source([127, 0, 0, 7].into());
    let mut last = 0;
    for _ in 0..30 {
        let answer = guesser.get("/admin/api/otp").admin("guess").send().await;
        last = answer.status.as_u16();
        assert_eq!(answer.header("retry-after").is_empty(), last == 401);
    }
    assert_eq!(last, 429);
    for door in [guesser, cloud.admin()] {
        door.get("/admin/api/otp").admin(&key).send().await.expect(200).await;
    }
}

/// Row 42, and the same the other way round.
#[tokio::test]
async fn at_every_other_door_the_address_does_not_exist_with_or_without_the_key() {
    let cloud = Cloud::start().await;
    let call = async |door: &Door, method: &Method, path: &str, key: Option<&str>| {
        let call = door.call(method.clone(), path);
        let answer = if let Some(key) = key { call.admin(key) } else { call }.send().await;
        let status = answer.status.as_u16();
        let fields: Vec<_> = answer
            .headers
            .clone()
            .into_iter()
            .filter(|(name, _)| name.as_ref().is_none_or(|name| name != "date"))
            .collect();
        (status, format!("{fields:?} {}", answer.text().await))
    };
    let key = Some(cloud.key());
    let admin_paths = [
        "/admin/api/otp",
        "/api/otp",
        "/admin/api/otps",
        "/admin/api/devices",
        "/admin/api/certificates",
        "/admin/api/ca",
        "/metrics",
        "/readyz",
    ];
    let (admin, user, device) = (cloud.admin(), cloud.user(), cloud.device());
    for door in [&user, &device] {
        for path in admin_paths {
            for method in [Method::GET, Method::POST] {
                let without = call(door, &method, path, None).await;
                let with = call(door, &method, path, key).await;
                assert_eq!(with.0, 404, "{method} {path} at {}", door.address());
                assert_eq!(with, without, "{method} {path} at {}", door.address());
            }
        }
    }
    let device_paths = ["/.well-known/est/cacerts", "/.well-known/est/simpleenroll", "/crl/devices.crl"];
    for door in [&user, &admin] {
        for path in device_paths {
            for method in [Method::GET, Method::POST] {
                assert_eq!(
                    call(door, &method, path, key).await.0,
                    404,
                    "{method} {path} at {}",
                    door.address()
                );
            }
        }
    }
    assert_eq!(
        call(&admin, &Method::GET, admin_paths[0], key).await.0,
        200,
        "control: at its own door it exists"
    );
    assert_eq!(call(&device, &Method::GET, device_paths[0], None).await.0, 200);
}

/// Row 57.
#[tokio::test]
async fn a_probe_makes_no_passcode_and_nothing_of_one_is_kept_on_the_way() {
    let cloud = Cloud::start().await;
    let key = format!("Authorization: PROV-ADMIN {}", cloud.key());
    let count = async || {
        let listed = cloud.administer(Method::GET, "/admin/api/otps", Value::Null).await;
        listed["items"].as_array().unwrap().len()
    };
    let (head, _) = curl(&cloud, &cloud.admin().url("/admin/api/otp"), &["-I", "-H", &key]).await;
    assert_eq!((status(&head), field(&head, "allow")), (405, "GET, POST"));
    assert_eq!(count().await, 0);
    let (head, passcode) = curl(&cloud, &cloud.admin().url("/admin/api/otp"), &["-H", &key]).await;
    assert_eq!(field(&head, "cache-control"), "no-store");
    assert!(field(&head, "vary").to_ascii_lowercase().contains("authorization"), "{head}");
    assert_eq!(count().await, 1);
    // The list has its metadata alone, and taking it back ends it.
    let listed = cloud.administer(Method::GET, "/admin/api/otps", Value::Null).await;
    assert!(!listed.to_string().contains(&passcode), "{listed}");
    let id = listed["items"][0]["id"].as_str().unwrap();
    let path = format!("/admin/api/otps/{id}");
    let gone = cloud.admin().call(Method::DELETE, &path).admin(cloud.key()).send().await;
    assert_eq!(gone.status, 204);
    let late =
        super::applicant::Applicant::new().enrolment(&cloud.device(), "cam-01", &passcode).send().await;
    assert_eq!(super::applicant::refusal(late).await, "401 passcode-invalid");
}
