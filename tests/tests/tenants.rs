//! Tenants while the cloud runs: made and used at once, deleted with everything they hold, also when the process
//! dies in the middle.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use tests::{Cloud, Device, EnrolledDevice, Provider, eventually_within, run_ok, web};
use tokio::time::{Instant, timeout};

/// A cloud whose provider tells the tenant in the member `org`.
async fn cloud_of(provider: &Provider) -> Cloud {
    let config = provider.config().replace("tenant = \"default\"", "tenant_claim = \"org\"");
    Cloud::plan().config(&config).start().await
}

fn token(provider: &Provider, subject: &str, org: &str) -> String {
    let mut body = provider.body(subject);
    body["org"] = json!(org);
    provider.sign(&body)
}

async fn enrolment_string(cloud: &Cloud, tenant: &str, device: &str) -> String {
    let made =
        cloud.administer(Method::POST, "/admin/api/otp", json!({"device": device, "tenant": tenant})).await;
    let (otp, ca, door) = (made["otp"].as_str().unwrap(), cloud.fingerprint(), cloud.device_address());
    format!("tcpmux://{door}/?ca={ca}&otp={otp}&device={device}")
}

async fn run_in(cloud: &Cloud, tenant: &str, device: &str, service: String) -> Device {
    let text = enrolment_string(cloud, tenant, device).await;
    let running = EnrolledDevice::enrol_with(&text, device).await.run(&[("web", service)]);
    let path = format!("/admin/api/devices/{device}?tenant={tenant}");
    eventually_within(Duration::from_secs(20), "the device is online", || async {
        let record = cloud.administer(Method::GET, &path, Value::Null).await;
        if record["online"] == true { Ok(()) } else { Err(record) }
    })
    .await;
    running
}

/// How many rows of a tenant each table has, told by another program.
async fn rows_of(cloud: &Cloud, tenant: &str) -> Vec<(String, u64)> {
    let script = "import json, sqlite3, sys\n\
        c = sqlite3.connect('file:' + sys.argv[1] + '?mode=ro', uri=True)\n\
        tables = [t for (t,) in c.execute(\"SELECT name FROM sqlite_schema WHERE type = 'table'\")]\n\
        of = [t for t in tables if any(r[1] == 'tenant' for r in c.execute(f'PRAGMA table_info({t})'))]\n\
        count = lambda t: c.execute(f'SELECT count(*) FROM {t} WHERE tenant = ?', (sys.argv[2],)).fetchone()[0]\n\
        print(json.dumps([[t, count(t)] for t in of]))\n";
    let database = cloud.data().join("tcpmux.db").display().to_string();
    serde_json::from_str(&run_ok("python3", ["-c", script, &database, tenant], b"").await).unwrap()
}

#[tokio::test]
async fn a_tenant_is_used_as_soon_as_it_is_made_and_leaves_nothing_when_it_goes() {
    let (provider, service) = (Provider::start().await, web().await);
    let cloud = cloud_of(&provider).await;
    let carol = token(&provider, "carol", "acme");
    let early = cloud.user().get("/v1/me").bearer(&carol).send().await;
    assert_eq!(early.problem().await, "403 TMX-4030", "no token ever makes a tenant");
    let listed = cloud.administer(Method::GET, "/admin/api/tenants", Value::Null).await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "{listed}");

    // Made, and used without a restart: passcode, device, person, grant, request.
    assert_eq!(cloud.command("tenant new acme").await.code, 0);
    let mut device = run_in(&cloud, "acme", "cam-01", service.url("http")).await;
    let other = run_in(&cloud, "default", "cam-01", service.url("http")).await;
    let user = cloud.user_id(&carol).await;
    let grant = format!("/admin/api/devices/cam-01/grants/{user}?tenant=acme");
    cloud.administer(Method::PUT, &grant, json!({"level": "operator"})).await;
    let held = cloud.user_token(&carol).await;
    let get = async |token: &str| cloud.user().get("/d/cam-01/web/method").bearer(token).send().await;
    assert_eq!(get(&held).await.expect(200).await.header("x-method"), "GET");
    let stranger = cloud.user_token(&token(&provider, "carol", "default")).await;
    assert_eq!(
        get(&stranger).await.problem().await,
        "403 TMX-4030",
        "the same name elsewhere is somebody else"
    );
    let mut stream =
        cloud.user().get("/d/cam-01/web/chunks/1000000000").bearer(&held).send().await.expect(200).await;
    stream.next().await.unwrap().unwrap();
    let serial = cloud
        .administer(Method::GET, "/admin/api/devices/cam-01?tenant=acme", Value::Null)
        .await["certificate"]["serial"]
        .as_str()
        .unwrap()
        .to_uppercase();
    let unused = enrolment_string(&cloud, "acme", "cam-02").await;
    let before = rows_of(&cloud, "acme").await;
    let bare = |rows: &[(String, u64)]| rows.iter().filter(|(_, count)| *count > 0).count();
    assert!(bare(&before) >= 6, "the counting counts: {before:?}");

    // A script that does not say that it means it removes nothing.
    let asked = cloud.command("tenant rm acme").await;
    assert_eq!(asked.code, 2, "{asked:?}");
    assert!(asked.stderr.contains("--yes"), "{}", asked.stderr);
    assert_eq!(get(&held).await.status, 200);
    let removed = cloud.command("tenant rm acme --yes").await;
    assert_eq!(removed.code, 0, "{removed:?}");

    let ended = timeout(Duration::from_secs(5), async { while let Some(Ok(_)) = stream.next().await {} });
    ended.await.expect("a live stream ends with its tenant");
    let refused = get(&held).await.problem().await;
    assert!(["403 TMX-4030", "503 TMX-3001"].contains(&&*refused), "{refused}");
    assert_eq!(cloud.user().get("/v1/me").bearer(&carol).send().await.status, 403);
    let state = tempfile::tempdir().unwrap();
    assert_ne!(EnrolledDevice::try_enrol(&unused, &state.path().join("state")).await.code, 0);
    let left: Vec<_> = rows_of(&cloud, "acme").await.into_iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(left, [("certificates".to_owned(), 1)], "revoked ones stay for the lists");
    let list = cloud.device().get("/crl/devices.crl").send().await.expect(200).await.bytes().await.unwrap();
    let list = run_ok("openssl", ["crl", "-inform", "DER", "-noout", "-text"], &list).await;
    assert!(list.contains(&serial), "{serial} in {list}");
    device.kill();
    assert_eq!(cloud.command("tenant rm acme --yes").await.code, 4);
    assert_eq!(cloud.command("tenant rm default --yes").await.code, 5);

    // The other tenant's device of the same name never noticed.
    let operator = cloud.token("cam-01", "operator").await;
    assert_eq!(get(&operator).await.status, 200);
    drop(other);

    // The next tenant of the name: another device of the same id, and the token of before is not for it.
    assert_eq!(cloud.command("tenant new acme").await.code, 0);
    let _again = run_in(&cloud, "acme", "cam-01", service.url("http")).await;
    assert_eq!(get(&held).await.problem().await, "403 TMX-4030");
    let carol_again = cloud.user_id(&carol).await;
    assert_ne!(carol_again, user);
    let grant = format!("/admin/api/devices/cam-01/grants/{carol_again}?tenant=acme");
    cloud.administer(Method::PUT, &grant, json!({"level": "operator"})).await;
    assert_eq!(get(&cloud.user_token(&carol).await).await.status, 200);
    assert_eq!(get(&held).await.problem().await, "403 TMX-4030");
    assert_eq!(cloud.command("audit verify").await.code, 0);
}

#[tokio::test]
async fn a_tenant_of_thousands_of_devices_goes_although_the_process_dies_in_the_middle() {
    let mut cloud = Cloud::start().await;
    cloud.administer(Method::POST, "/admin/api/tenants", json!({"name": "acme"})).await;
    assert_eq!(cloud.stop().await, 0);
    // As if they had enrolled over the years.
    let script = "import os, sqlite3, sys\n\
        c = sqlite3.connect(sys.argv[1])\n\
        for n in range(3000):\n\
        \x20   c.execute(\"INSERT INTO devices (tenant, id, created_at) VALUES ('acme', ?, 0)\", (f'd{n}',))\n\
        \x20   c.execute(\"INSERT INTO certificates (serial, issuer, tenant, device, status, spki_sha256, not_before, \
        not_after, created_at, tbs, der, fingerprint) VALUES (?, 'devices', 'acme', ?, 'active', ?, 0, 4000000000000, \
        0, x'00', x'00', ?)\", (os.urandom(18), f'd{n}', os.urandom(32), os.urandom(32)))\n\
        c.commit()\n";
    run_ok("python3", ["-c", script, &cloud.data().join("tcpmux.db").display().to_string()], b"").await;
    cloud.start_again().await;
    let devices = |rows: &[(String, u64)]| {
        rows.iter().find(|(table, _)| table == "devices").map_or(0, |(_, count)| *count)
    };
    assert_eq!(devices(&rows_of(&cloud, "acme").await), 3000);

    let asking = cloud.admin().call(Method::DELETE, "/admin/api/tenants/acme").admin(cloud.key());
    let tasks = runtime::Tasks::new();
    let asking = tasks.spawn(asking.try_send());
    let left = eventually_within(Duration::from_secs(20), "some devices are gone", || async {
        let left = devices(&rows_of(&cloud, "acme").await);
        if left < 2900 { Ok(left) } else { Err(left) }
    })
    .await;
    // Others are served while it goes on.
    let began = Instant::now();
    cloud.passcode("cam-01").await;
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    cloud.kill();
    assert!(left > 0, "it was in the middle");
    assert!(asking.await.unwrap().is_some_and(|answer| answer.is_err()), "nobody was told that it is done");

    cloud.start_again().await;
    eventually_within(Duration::from_secs(60), "the tenant is gone", || async {
        let listed = cloud.administer(Method::GET, "/admin/api/tenants", Value::Null).await;
        if listed["items"].as_array().unwrap().len() == 1 { Ok(()) } else { Err(listed) }
    })
    .await;
    let left: Vec<_> = rows_of(&cloud, "acme").await.into_iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(left, [("certificates".to_owned(), 3000)]);
    let page =
        cloud.administer(Method::GET, "/admin/api/certificates?tenant=acme&limit=500", Value::Null).await;
    let is_revoked = |row: &Value| row["status"] == "revoked";
    assert!(page["items"].as_array().unwrap().iter().all(is_revoked), "{page}");
    assert_eq!(cloud.command("audit verify").await.code, 0);
}
