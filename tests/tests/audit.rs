//! The audit log: every act of every route is in it, and nobody changes it unseen.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use serde_json::{Value, json};
use tests::{Cloud, Device, Finished, Provider, Service, cloud_program, run, run_ok};

use crate::keepers::flows::routes;

async fn verify(cloud: &Cloud, more: &str) -> Finished {
    cloud.command(format!("audit verify{more}").as_str()).await
}

/// Changes the database file of a cloud that does not run.
async fn tamper(cloud: &Cloud, sql: &str) {
    let script = "import sqlite3, sys\n\
        c = sqlite3.connect(sys.argv[1])\n\
        c.executescript('DROP TRIGGER audit_rows_do_not_change; DROP TRIGGER audit_rows_stay;' + sys.argv[2])\n\
        c.commit()\n";
    let database = cloud.data().join("tcpmux.db").display().to_string();
    run_ok("python3", ["-c", script, &database, sql], b"").await;
}

async fn after(sql: &str) -> (Cloud, String) {
    let mut cloud = Cloud::start().await;
    for number in 0..8 {
        cloud.passcode(&format!("cam-{number}")).await;
    }
    let whole = verify(&cloud, " -o json").await;
    assert_eq!(whole.code, 0, "{whole:?}");
    let report: Value = serde_json::from_str(&whole.stdout).unwrap();
    assert!(report["rows"].as_u64().unwrap() >= 8 && report["whole"] == true, "{report}");
    assert_eq!(cloud.stop().await, 0);
    tamper(&cloud, sql).await;
    cloud.start_again().await;
    (cloud, report["head"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn what_is_changed_taken_out_or_put_in_behind_the_clouds_back_is_named() {
    for (sql, named) in [
        ("UPDATE audit SET detail = replace(detail, 'cam-3', 'cam-9') WHERE detail LIKE '%cam-3%'", "was changed"),
        ("UPDATE audit SET actor = 'system' WHERE seq = 4", "row 4 was changed"),
        ("DELETE FROM audit WHERE seq = 5", "row 5 is missing"),
        (
            "INSERT INTO audit SELECT max(seq) + 1, at, actor, action, object, outcome, detail, prev_hash, hash
             FROM audit",
            "does not follow",
        ),
    ] {
        let (cloud, _) = after(sql).await;
        let found = verify(&cloud, "").await;
        assert_eq!(found.code, 1, "{sql}: {found:?}");
        assert!(found.stderr.contains(named), "{sql}: {}", found.stderr);
    }
}

#[tokio::test]
async fn a_cut_end_is_found_by_who_kept_the_head_and_only_then() {
    let (cloud, head) = after("DELETE FROM audit WHERE seq > (SELECT max(seq) - 3 FROM audit)").await;
    let alone = verify(&cloud, "").await;
    assert_eq!(alone.code, 0, "the rows that are left are a whole chain: {alone:?}");
    let found = verify(&cloud, &format!(" --expect {head}")).await;
    assert_eq!(found.code, 1, "{found:?}");

    let (untouched, head) = after("SELECT 1").await;
    assert_eq!(verify(&untouched, &format!(" --expect {head}")).await.code, 0);
    assert!(untouched.log().contains("the audit log's newest row"), "{}", untouched.log());
    let wrong = head.replace(':', ":00").chars().take(head.len()).collect::<String>();
    assert_eq!(verify(&untouched, &format!(" --expect {wrong}")).await.code, 1);
    assert_eq!(verify(&untouched, " --expect nonsense").await.code, 2);
}

#[tokio::test]
async fn an_exported_log_is_checked_without_any_cloud() {
    let cloud = Cloud::start().await;
    for number in 0..5 {
        cloud.passcode(&format!("cam-{number}")).await;
    }
    let exported = cloud.command("audit export").await;
    assert_eq!(exported.code, 0, "{exported:?}");
    let rows = exported.stdout.lines().count();
    drop(cloud);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("audit.jsonl");
    let check = async |text: &str| {
        std::fs::write(&file, text).unwrap();
        run(cloud_program(), ["audit", "verify", "--file", &file.display().to_string()], b"").await
    };
    let whole = check(&exported.stdout).await;
    assert_eq!(whole.code, 0, "{whole:?}");
    assert!(whole.stdout.contains(&format!("whole: {rows} rows")), "{}", whole.stdout);
    let changed = check(&exported.stdout.replace("cam-2", "cam-7")).await;
    assert_eq!((changed.code, changed.stderr.contains("was changed")), (1, true), "{changed:?}");
    let torn = check(&exported.stdout[..exported.stdout.len() - 20]).await;
    assert_eq!((torn.code, torn.stderr.contains("is no row")), (1, true), "{torn:?}");
}

#[tokio::test]
async fn the_newest_rows_are_listed() {
    let cloud = Cloud::start().await;
    cloud.passcode("cam-01").await;
    cloud.command("tenant new acme").await;
    let listed = cloud.command("audit ls --limit 2").await;
    let rows: Vec<&str> = listed.stdout.lines().collect();
    assert_eq!(rows.len(), 3, "{listed:?}");
    assert!(rows[1].contains("passcode.create") && rows[2].contains("tenant.create"), "{listed:?}");
}

/// What a successful call of a mutating route leaves.
enum Leaves {
    /// A row with this action.
    Row(&'static str),
    /// It is not called here, for this reason: it leaves none, or the row is looked at by another test.
    NotHere(&'static str),
}

use Leaves::{NotHere, Row};

#[rustfmt::skip]
const MUTATING: &[(&str, &str, &str, Leaves)] = &[
    ("admin", "POST", "/admin/api/otp", Row("passcode.create")),
    ("admin", "GET", "/admin/api/otp", Row("passcode.create")),
    ("admin", "POST", "/api/otp", Row("passcode.create")),
    ("admin", "GET", "/api/otp", Row("passcode.create")),
    ("admin", "DELETE", "/admin/api/otps/{id}", Row("passcode.remove")),
    ("admin", "POST", "/admin/api/tokens", Row("token.mint")),
    ("admin", "PUT", "/admin/api/devices/{id}/grants/{user}", Row("grant.put")),
    ("admin", "DELETE", "/admin/api/devices/{id}/grants/{user}", Row("grant.remove")),
    ("admin", "POST", "/admin/api/tenants", Row("tenant.create")),
    ("admin", "DELETE", "/admin/api/tenants/{name}", Row("tenant.remove")),
    ("user", "PATCH", "/v1/devices/{id}", Row("device.edit")),
    ("user", "PUT", "/v1/devices/{id}/grants/{user}", Row("grant.put")),
    ("user", "DELETE", "/v1/devices/{id}/grants/{user}", Row("grant.remove")),
    ("user", "POST", "/v1/token", NotHere("changes no right: what it says is a copy of grants, for five minutes")),
    ("user", "POST", "/logout", NotHere("leaves `login.end`, and takes a browser on a page of ours: told by the stories of sign-in")),
    ("device", "POST", "/.well-known/est/simpleenroll", Row("certificate.issue")),
    ("device", "POST", "/.well-known/est/simplereenroll", Row("certificate.issue")),
    ("admin", "POST", "/admin/api/certificates/{fingerprint}/revoke", Row("certificate.revoke")),
    ("admin", "DELETE", "/admin/api/devices/{id}", Row("device.remove")),
    ("user", "POST", "/v1/claims", NotHere("leaves `device.claim`, and needs the code that a device shows: told with claims")),
    ("user", "DELETE", "/v1/devices/{id}/owner", NotHere("leaves a row of the release: told with claims")),
    ("user", "POST", "/v1/devices/{id}/transfers", NotHere("leaves a row of the offer: told with claims")),
    ("user", "POST", "/v1/transfers/{id}/accept", NotHere("leaves a row of the transfer: told with claims")),
    ("user", "DELETE", "/v1/transfers/{id}", NotHere("leaves a row of the offer's end: told with claims")),
    ("admin", "DELETE", "/admin/api/devices/{id}/owner", NotHere("leaves a row of the release: told with claims")),
    ("device", "POST", "/device/v1/reset", NotHere("leaves a row of the release: told with claims")),
    ("user", "POST", "/v1/tickets", NotHere("changes no right: a ticket is a copy of a grant, for a minute")),
    ("device", "POST", "/device/v1/telemetry", NotHere("data of a device, in the event log; no act")),
    ("device", "POST", "/device/v1/notifications", NotHere("data of a device, in the event log; no act")),
    ("user", "POST", "/v1/notifications/{id}/read", NotHere("a mark in one's own inbox changes no right")),
    ("user", "PUT", "/v1/notifications/settings", NotHere("what oneself is told of changes no right")),
    ("user", "POST", "/v1/push/fcm", NotHere("where oneself is told of something changes no right")),
    ("user", "DELETE", "/v1/push/fcm", NotHere("where oneself is told of something changes no right")),
    ("user", "POST", "/v1/webhooks", NotHere("leaves a row, and needs a receiver at a public address: told with notifications")),
    ("user", "PATCH", "/v1/webhooks/{id}", NotHere("leaves a row `webhook.…`: told with notifications")),
    ("user", "DELETE", "/v1/webhooks/{id}", NotHere("leaves a row `webhook.…`: told with notifications")),
    ("user", "POST", "/v1/webhooks/{id}/rotate", NotHere("leaves a row `webhook.…`: told with notifications")),
    ("user", "POST", "/v1/webhooks/{id}/test", NotHere("one message to one's own receiver changes no right")),
    ("user", "POST", "/v1/webhooks/{id}/deliveries/{delivery}/redeliver", NotHere("one message again to one's own receiver")),
];

#[tokio::test]
async fn every_route_that_changes_something_leaves_a_row() {
    let told: BTreeMap<(&str, &str, &str), &Leaves> =
        MUTATING.iter().map(|(door, method, path, leaves)| ((*door, *method, *path), leaves)).collect();
    let routes = routes().await;
    let field = |route: &Value, name: &str| route[name].as_str().unwrap().to_owned();
    let keys: BTreeSet<(String, String, String)> = routes
        .iter()
        .map(|route| (field(route, "door"), field(route, "method"), field(route, "path")))
        .filter(|(_, method, path)| !path.starts_with("/d/") && (method != "GET" || path.ends_with("/otp")))
        .collect();
    let untold: Vec<_> = keys.iter().filter(|(d, m, p)| !told.contains_key(&(&**d, &**m, &**p))).collect();
    assert!(untold.is_empty(), "say in MUTATING which audit row these leave, or why none: {untold:#?}");
    for (_, _, path, leaves) in MUTATING {
        if let NotHere(why) = leaves {
            assert!(why.len() > 20, "{path}: why?");
        }
    }

    let scene = Scene::build().await;
    for (door, method, path, leaves) in MUTATING {
        let Row(action) = leaves else { continue };
        let before = scene.newest().await;
        scene.perform(door, method, path).await;
        let rows = scene.since(before).await;
        let found = rows.iter().find(|row| row["action"] == *action && row["outcome"] == "ok");
        let row = found.unwrap_or_else(|| panic!("{method} {path} left no {action}: {rows:#?}"));
        for member in ["actor", "object"] {
            assert!(!row[member].as_str().unwrap().is_empty(), "{row}");
        }
        let kind = if *door == "user" { "user:" } else { "" };
        assert!(row["actor"].as_str().unwrap().starts_with(kind), "the person is named: {row}");
    }
    assert_eq!(verify(&scene.cloud, "").await.code, 0);
}

/// A cloud with an owner, a friend, and a device for every act.
struct Scene {
    cloud: Cloud,
    provider: Provider,
    friend: String,
    _device: Device,
    _service: Service,
}

impl Scene {
    async fn build() -> Self {
        let (provider, service) = (Provider::start().await, Service::echo().await);
        let cloud = Cloud::with_provider(&provider).await;
        let device = Device::enrol_and_run(&cloud, "cam-01", &[("shell", service.url("tcp"))]).await;
        let owner = cloud.user_id(&provider.token("alice")).await;
        let friend = cloud.user_id(&provider.token("bob")).await;
        cloud.grant("cam-01", &owner, json!({"level": "owner"})).await;
        Self { cloud, provider, friend, _device: device, _service: service }
    }

    /// Calls a route so that it succeeds.
    async fn perform(&self, door: &str, method: &str, path: &str) {
        let device = self.cloud.device_record("cam-01").await;
        let fingerprint = device["certificate"]["fingerprint"].as_str().unwrap_or_default().to_owned();
        let (address, body) = match (door, path) {
            ("device", "/.well-known/est/simpleenroll") => {
                tests::EnrolledDevice::enrol(&self.cloud, "cam-03").await;
                return;
            }
            ("device", _) => return self.renew().await,
            (_, "/admin/api/otp" | "/api/otp") => (path.to_owned(), json!({})),
            (_, "/admin/api/otps/{id}") => {
                let made = self.cloud.administer(Method::POST, "/admin/api/otp", json!({})).await;
                (path.replace("{id}", made["id"].as_str().unwrap()), Value::Null)
            }
            (_, "/admin/api/tokens") => (path.to_owned(), json!({"device": "cam-01"})),
            (_, "/admin/api/tenants") => (path.to_owned(), json!({"name": "acme"})),
            (_, "/v1/devices/{id}") => (path.replace("{id}", "cam-01"), json!({"name": "The door camera"})),
            (_, path) if path.ends_with("/grants/{user}") => {
                let path = path.replace("{id}", "cam-01").replace("{user}", &self.friend);
                (path, if method == "PUT" { json!({"level": "viewer"}) } else { Value::Null })
            }
            _ => {
                let path = path.replace("{fingerprint}", &fingerprint).replace("{id}", "cam-01");
                (path.replace("{name}", "acme"), if method == "POST" { json!({}) } else { Value::Null })
            }
        };
        let called: Method = method.parse().unwrap();
        if door == "admin" {
            let body = if method == "GET" { Value::Null } else { body };
            self.cloud.administer(called, &address, body).await;
            return;
        }
        let mut call = self.cloud.user().call(called, &address).bearer(&self.provider.token("alice"));
        if method == "PATCH" {
            let shown = self.cloud.user().get(&address).bearer(&self.provider.token("alice")).send().await;
            call = call.header("if-match", shown.header("etag"));
        }
        let answer = if body.is_null() { call.send().await } else { call.json(&body).send().await };
        let status = answer.status;
        assert!(status.is_success(), "{method} {address}: {status} {}", answer.text().await);
    }

    /// Another device renews its certificate with its daemon's own request.
    async fn renew(&self) {
        let device = tests::EnrolledDevice::enrol(&self.cloud, "cam-04").await;
        let directory = tempfile::tempdir().unwrap();
        let (key, csr) = (directory.path().join("key.pem"), directory.path().join("csr.pem"));
        let (key, csr) = (key.display().to_string(), csr.display().to_string());
        let words = ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &key];
        run_ok("openssl", words, b"").await;
        run_ok("openssl", ["req", "-new", "-key", &key, "-subj", "/CN=cam-04", "-out", &csr], b"").await;
        let der = run_ok("openssl", ["req", "-in", &csr, "-outform", "PEM"], b"").await;
        let body: String = der.lines().filter(|line| !line.starts_with("-----")).collect();
        let answer = self
            .cloud
            .device()
            .showing(&device.identity())
            .post("/.well-known/est/simplereenroll")
            .header("content-type", "application/pkcs10")
            .body(body)
            .send()
            .await;
        answer.expect(200).await;
    }

    async fn newest(&self) -> u64 {
        let page =
            self.cloud.administer(Method::GET, "/admin/api/audit?order=newest&limit=1", Value::Null).await;
        page["items"][0]["seq"].as_u64().unwrap()
    }

    async fn since(&self, seq: u64) -> Vec<Value> {
        let path = format!("/admin/api/audit?limit=500&cursor={seq}");
        self.cloud.administer(Method::GET, &path, Value::Null).await["items"].as_array().unwrap().clone()
    }
}
