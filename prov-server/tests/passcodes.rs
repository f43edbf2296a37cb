//! The operator's side of passcodes (contract §3).
#![allow(missing_docs, clippy::unwrap_used, reason = "a test file; its helpers may panic")]

mod scene;

use model::Passcode;
use scene::{Est, HOUR, Scene};

#[tokio::test]
async fn a_passcode_is_answered_alone_and_never_kept() {
    let scene = Scene::new().await;
    for (method, path, status) in [
        ("POST", "/admin/api/otp", 201),
        ("GET", "/admin/api/otp", 200),
        ("POST", "/api/otp", 201),
        ("GET", "/api/otp", 200),
    ] {
        let answer = scene.admin(method, path, "*/*", "").await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(answer.header("content-type").starts_with("text/plain"));
        assert_eq!(answer.header("cache-control"), "no-store");
        let text = answer.text();
        assert!(text.parse::<Passcode>().is_ok() && text.len() == 33, "{text:?}");
        for name in ["tcpmux.db", "tcpmux.db-wal"] {
            let file = std::fs::read(scene.folder.path().join(name)).unwrap();
            assert!(!file.windows(33).any(|window| window == text.as_bytes()), "{name} holds the passcode");
        }
    }
}

#[tokio::test]
async fn a_passcode_as_json_tells_what_a_device_needs() {
    let scene = Scene::new().await;
    let body = r#"{"device":"cam-01","ttl":"15m"}"#;
    let (status, json) = scene.json("POST", "/admin/api/otp", body).await;
    assert_eq!(status, 201);
    assert_eq!((&json["device"], &json["tenant"]), (&"cam-01".into(), &"default".into()));
    assert_eq!(json["expires_at"], scene::START.plus(HOUR / 4).rfc3339());
    let otp = json["otp"].as_str().unwrap();
    let ca = scene.hierarchy.root_fingerprint_text();
    assert_eq!(json["enroll"], format!("tcpmux://localhost:7443/?ca={ca}&otp={otp}&device=cam-01"));

    let (_, list) = scene.json("GET", "/admin/api/otps", "").await;
    let item = &list["items"][0];
    assert_eq!((&item["id"], &item["status"]), (&json["id"], &"open".into()));
    assert!(!list.to_string().contains(otp));
    let uri = format!("/admin/api/otps/{}", json["id"].as_str().unwrap());
    assert_eq!(scene.admin("DELETE", &uri, "*/*", "").await.status, 204);
    assert_eq!(scene.admin("DELETE", &uri, "*/*", "").await.status, 404);
    let rows = scene.audit().await;
    assert!(rows.iter().all(|row| !format!("{row:?}").contains(otp)));
    let actions: Vec<_> = rows.iter().map(|row| (row.action.as_str(), row.actor.as_str())).collect();
    assert_eq!(actions, [("passcode.create", "admin@127.0.0.1"), ("passcode.remove", "admin@127.0.0.1")]);
}

#[tokio::test]
async fn a_probe_makes_no_passcode() {
    let scene = Scene::new().await;
    for path in ["/admin/api/otp", "/api/otp"] {
        let answer = scene.admin("HEAD", path, "*/*", "").await;
        assert_eq!((answer.status.as_u16(), answer.header("allow")), (405, "GET, POST"));
    }
    assert_eq!(scene.audit().await.len(), 0);
}

#[tokio::test]
async fn wishes_are_bounded_and_named_when_wrong() {
    let scene = Scene::new().await;
    for (uri, body, status, word) in [
        ("/admin/api/otp?ttl=31d", "", 400, "30d"),
        ("/admin/api/otp?ttl=0s", "", 400, "1s"),
        ("/admin/api/otp?ttl=soon", "", 400, "length of time"),
        ("/admin/api/otp?device=CAM", "", 400, "device id"),
        ("/admin/api/otp?divice=cam", "", 400, "divice"),
        ("/admin/api/otp", r#"{"ttl":5}"#, 400, "string"),
        ("/admin/api/otp?device=a", r#"{"device":"b"}"#, 400, "differ"),
        ("/admin/api/otp?tenant=nobody", "", 404, "tenant"),
    ] {
        let answer = scene.admin("POST", uri, "*/*", body).await;
        assert_eq!(answer.status, status, "{uri} {body}");
        assert!(answer.text().contains(word), "{uri}: {}", answer.text());
    }
    assert_eq!(scene.admin("POST", "/admin/api/otp?ttl=30d", "*/*", "").await.status, 201);
}

#[tokio::test]
async fn lists_come_by_page() {
    let scene = Scene::new().await;
    for _ in 0..3 {
        scene.passcode("").await;
    }
    let (_, first) = scene.json("GET", "/admin/api/otps?limit=2", "").await;
    let cursor = first["next_cursor"].as_str().unwrap();
    let (_, second) = scene.json("GET", &format!("/admin/api/otps?limit=2&cursor={cursor}"), "").await;
    let mut ids: Vec<_> = [&first, &second]
        .into_iter()
        .flat_map(|page| page["items"].as_array().unwrap())
        .map(|item| item["id"].to_string())
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!((ids.len(), &second["next_cursor"]), (3, &serde_json::Value::Null));
    assert_eq!(scene.admin("GET", "/admin/api/otps?cursor=x", "*/*", "").await.status, 400);
}

#[tokio::test]
async fn a_removed_passcode_is_as_unknown_as_any() {
    let scene = Scene::new().await;
    let (_, json) = scene.json("POST", "/admin/api/otp?device=cam-01", "").await;
    let uri = format!("/admin/api/otps/{}", json["id"].as_str().unwrap());
    scene.admin("DELETE", &uri, "*/*", "").await;
    let request = scene::Device::new().request(None);
    let answer = scene.send(Est::enrol(&request, "", json["otp"].as_str().unwrap())).await;
    let never = scene.send(Est::enrol(&request, "", "0".repeat(33).as_str())).await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer, never);
}
