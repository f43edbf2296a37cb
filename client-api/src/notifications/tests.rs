use std::time::Duration;

use model::{DeviceRef, Level, UserActor};
use serde_json::{Value, json};
use store::NewEvent;

use super::testing::{Receiver, eventually};
use crate::testing::{NOW, Room, forever};

/// Alice owns `cam-01`.
async fn scene(push: Option<&Receiver>) -> (Room, UserActor, DeviceRef) {
    let room = Room::with_push(push).await;
    let alice = room.user("default", "alice").await;
    let device = room.device("default", "cam-01").await;
    room.grant(&device, &alice, forever(Level::Owner)).await;
    (room, alice, device)
}

async fn notify(room: &Room, device: &DeviceRef, severity: &str, title: &str) {
    let data = json!({"type": "door.open", "severity": severity, "title": title});
    let event = NewEvent::of_device(device, "notification", NOW).with(data);
    room.store.append_events(vec![event], NOW).await.unwrap();
}

async fn webhook(room: &Room, user: &UserActor, body: Value) -> String {
    let (status, made) = room.by_user(user, "POST", "/v1/webhooks", &body.to_string()).await;
    assert_eq!(status, 201, "{made}");
    made["id"].as_str().unwrap().to_owned()
}

async fn inbox(room: &Room, user: &UserActor) -> Vec<String> {
    let (status, page) = room.as_user(user, "/v1/notifications").await;
    assert_eq!(status, 200, "{page}");
    page["items"].as_array().unwrap().iter().map(|item| item["title"].as_str().unwrap().to_owned()).collect()
}

async fn until_inbox(room: &Room, user: &UserActor, titles: &[&str]) {
    eventually(&format!("an inbox of {titles:?}"), || async {
        let found = inbox(room, user).await;
        if found == titles { Ok(()) } else { Err(found) }
    })
    .await;
}

async fn until_delivery(room: &Room, user: &UserActor, hook: &str, wanted: Value) -> Value {
    eventually(&format!("a delivery with {wanted}"), || async {
        let (_, page) = room.as_user(user, &format!("/v1/webhooks/{hook}/deliveries")).await;
        let newest = page["items"][0].clone();
        let fits = wanted.as_object().unwrap().iter().all(|(name, value)| newest[name] == *value);
        if fits { Ok(newest) } else { Err(page) }
    })
    .await
}

#[tokio::test]
async fn a_notification_reaches_the_inbox_and_the_webhook_of_whoever_has_a_grant_and_nobody_else() {
    let (room, alice, device) = scene(None).await;
    let bob = room.user("default", "bob").await;
    let (hers, his) = (Receiver::start(&["204"]).await, Receiver::start(&["204"]).await);
    let hook = webhook(&room, &alice, json!({"url": hers.url("/hook?x=1"), "types": ["notification"]})).await;
    webhook(&room, &bob, json!({"url": his.url("/"), "types": ["notification"]})).await;
    notify(&room, &device, "warning", "Open").await;
    let request = hers.until(1).await.remove(0);
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["type"], "notification");
    assert_eq!(body["source"], "/tenants/default/devices/cam-01");
    assert_eq!(body["data"]["title"], "Open");
    let delivered = until_delivery(&room, &alice, &hook, json!({"state": "delivered"})).await;
    let id = delivered["id"].as_str().unwrap();
    assert!(head.starts_with("POST /hook?x=1 HTTP/1.1\r\n"), "{head}");
    for header in [
        format!("webhook-id: {id}"),
        format!("webhook-timestamp: {}", NOW.secs()),
        "content-type: application/cloudevents+json; charset=utf-8".into(),
    ] {
        assert!(head.contains(&header), "{header} in {head}");
    }
    assert!(head.contains(&format!(".{id}.{}.", NOW.secs())), "the signature is over id and time: {head}");
    assert_eq!((&delivered["status"], &delivered["attempts"]), (&json!(204), &json!(1)));
    assert_eq!(inbox(&room, &alice).await, ["Open"]);
    assert_eq!(inbox(&room, &bob).await, [] as [&str; 0]);
    assert!(his.requests().is_empty());
    room.grant(&device, &bob, forever(Level::Viewer)).await;
    notify(&room, &device, "warning", "Control").await;
    until_inbox(&room, &bob, &["Control"]).await;
}

#[tokio::test]
async fn a_receiver_that_fails_is_tried_again_under_the_same_name_and_on_request() {
    let (room, alice, device) = scene(None).await;
    let receiver = Receiver::start(&["500", "503|retry-after: 100", "200"]).await;
    let hook = webhook(&room, &alice, json!({"url": receiver.url("/"), "types": ["notification"]})).await;
    notify(&room, &device, "info", "Open").await;
    let first = until_delivery(&room, &alice, &hook, json!({"attempts": 1, "state": "pending"})).await;
    assert_eq!((&first["status"], &first["reason"]), (&json!(500), &json!("it answered 500")));
    room.time.advance(Duration::from_secs(7));
    room.api.wake();
    until_delivery(&room, &alice, &hook, json!({"attempts": 2, "status": 503})).await;
    room.time.advance(Duration::from_secs(60));
    room.api.wake();
    let (_, page) = room.as_user(&alice, &format!("/v1/webhooks/{hook}/deliveries?state=pending")).await;
    assert_eq!(page["items"][0]["attempts"], 2, "it has asked for a hundred seconds");
    room.time.advance(Duration::from_secs(41));
    room.api.wake();
    let done = until_delivery(&room, &alice, &hook, json!({"attempts": 3, "state": "delivered"})).await;
    let name = format!("webhook-id: {}\r\n", done["id"].as_str().unwrap());
    assert!(receiver.requests().iter().all(|request| request.contains(&name)));
    let path = format!("/v1/webhooks/{hook}/deliveries/{}/redeliver", done["id"].as_str().unwrap());
    assert_eq!(room.by_user(&alice, "POST", &path, "").await.0, 202);
    assert!(receiver.until(4).await[3].contains(&name));
    let bob = room.user("default", "bob").await;
    assert_eq!(room.by_user(&bob, "POST", &path, "").await.0, 404);
}

#[tokio::test]
async fn a_receiver_that_is_gone_or_dead_for_days_is_switched_off_and_its_owner_told() {
    let (room, alice, device) = scene(None).await;
    let (gone, dead) = (Receiver::start(&["410"]).await, Receiver::start(&["500"]).await);
    let gone_hook = webhook(&room, &alice, json!({"url": gone.url("/"), "types": ["notification"]})).await;
    notify(&room, &device, "info", "One").await;
    until_inbox(&room, &alice, &["A webhook of yours was switched off", "One"]).await;
    let (_, shown) = room.as_user(&alice, &format!("/v1/webhooks/{gone_hook}")).await;
    assert_eq!((&shown["enabled"], &shown["disabled_for"]), (&json!(false), &json!("it answered 410 Gone")));
    let hook = webhook(&room, &alice, json!({"url": dead.url("/"), "types": ["notification"]})).await;
    notify(&room, &device, "info", "Two").await;
    until_delivery(&room, &alice, &hook, json!({"attempts": 1})).await;
    room.time.advance(Duration::from_secs(4 * 86_400));
    room.api.wake();
    until_delivery(&room, &alice, &hook, json!({"attempts": 2})).await;
    assert_eq!(room.as_user(&alice, &format!("/v1/webhooks/{hook}")).await.1["enabled"], true, "control");
    room.time.advance(Duration::from_secs(86_400));
    room.api.wake();
    eventually("the webhook is switched off", || async {
        let (_, shown) = room.as_user(&alice, &format!("/v1/webhooks/{hook}")).await;
        if shown["disabled_for"] == "it has failed for five days" { Ok(()) } else { Err(shown) }
    })
    .await;
    let trial = format!("/v1/webhooks/{hook}/test");
    assert_eq!(room.by_user(&alice, "POST", &trial, "").await.0, 409);
    let path = format!("/v1/webhooks/{hook}");
    let body = json!({"enabled": true, "types": null});
    let patched = room.asked(&alice, "PATCH", &path, &[("if-match", "*")], &body).await;
    let shown = &patched.body;
    assert_eq!((patched.status, &shown["disabled_for"], &shown["types"]), (200, &Value::Null, &Value::Null));
    assert_eq!(room.by_user(&alice, "POST", &trial, "").await.0, 202);
}

#[tokio::test]
async fn addresses_inside_are_refused_when_a_webhook_is_made_and_when_it_is_changed() {
    let (room, alice, _) = scene(None).await;
    let hook = webhook(&room, &alice, json!({"url": "https://example.com/"})).await;
    let path = format!("/v1/webhooks/{hook}");
    for url in [
        "https://10.0.0.1/",
        "https://169.254.169.254/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://100.64.0.1/",
        "https://0.0.0.0/",
        "http://example.com/",
        "https://example.com:25/",
        "ftp://example.com/",
        "example.com",
        "",
    ] {
        let body = json!({"url": url}).to_string();
        assert_eq!(room.by_user(&alice, "POST", "/v1/webhooks", &body).await.0, 400, "{url}");
        assert_eq!(room.by_user(&alice, "PATCH", &path, &body).await.0, 400, "{url}");
    }
    for body in [
        json!({"url": "https://example.com/", "types": ["nothing"]}),
        json!({"url": "https://example.com/", "devices": ["--"]}),
        json!({"url": "https://example.com/", "secret": "x"}),
        json!({}),
    ] {
        assert_eq!(room.by_user(&alice, "POST", "/v1/webhooks", &body.to_string()).await.0, 400, "{body}");
    }
    for _ in 1..10 {
        webhook(&room, &alice, json!({"url": "https://example.com/"})).await;
    }
    let eleventh = room.by_user(&alice, "POST", "/v1/webhooks", r#"{"url":"https://example.com/"}"#).await;
    assert_eq!(eleventh.0, 409);
}

#[tokio::test]
async fn a_webhook_is_changed_only_as_it_was_read() {
    let (room, alice, _) = scene(None).await;
    let hook = webhook(&room, &alice, json!({"url": "https://example.com/"})).await;
    let path = format!("/v1/webhooks/{hook}");
    let read = async || room.asked(&alice, "GET", &path, &[], &Value::Null).await.tag.expect("an ETag");
    let change = async |headers: &[(&str, &str)], body: Value| {
        let answered = room.asked(&alice, "PATCH", &path, headers, &body).await;
        (answered.status, answered.tag)
    };
    let first = read().await;
    assert_eq!(change(&[], json!({"enabled": false})).await.0, 428, "nobody changes what they have not read");
    let (status, second) = change(&[("if-match", &first)], json!({"enabled": false})).await;
    assert_eq!((status, second.as_deref()), (200, Some(read().await.as_str())));
    assert_ne!(second.as_ref(), Some(&first));
    assert_eq!(change(&[("if-match", &first)], json!({"types": []})).await.0, 412, "somebody was faster");
    assert_eq!(
        change(&[("if-match", &first)], json!({"url": "ftp://x"})).await.0,
        400,
        "what is wrong goes first"
    );
    let listed = format!("\"0\", {}", read().await);
    assert_eq!(change(&[("if-match", &listed)], json!({"enabled": true})).await.0, 200);
}

#[tokio::test]
async fn the_secret_is_shown_once_and_after_a_rotation_both_sign_for_a_day() {
    let (room, alice, _) = scene(None).await;
    let receiver = Receiver::start(&["200"]).await;
    let body = json!({"url": receiver.url("/"), "types": ["notification"]}).to_string();
    let (_, made) = room.by_user(&alice, "POST", "/v1/webhooks", &body).await;
    let (hook, old) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
    let path = format!("/v1/webhooks/{hook}");
    assert!(room.as_user(&alice, &path).await.1.get("secret").is_none());
    assert!(room.as_user(&alice, "/v1/webhooks").await.1["items"][0].get("secret").is_none());
    let (_, rotated) = room.by_user(&alice, "POST", &format!("{path}/rotate"), "").await;
    let new = rotated["secret"].as_str().unwrap();
    assert_ne!(old, new);
    let trial = format!("{path}/test");
    let word = |secret: &str| format!("v1,{}.", secret.strip_prefix("whsec_").unwrap());
    assert_eq!(room.by_user(&alice, "POST", &trial, "").await.0, 202);
    let request = receiver.until(1).await.remove(0);
    let (first, second) = (request.find(&word(new)).unwrap(), request.find(&word(old)).unwrap());
    assert!(first < second, "the current one first: {request}");
    room.time.advance(Duration::from_secs(86_401));
    assert_eq!(room.by_user(&alice, "POST", &trial, "").await.0, 202);
    let request = receiver.until(2).await.remove(1);
    assert!(request.contains(&word(new)) && !request.contains(&word(old)), "{request}");
    let bob = room.user("default", "bob").await;
    for (method, path) in [
        ("GET", path.clone()),
        ("PATCH", path.clone()),
        ("DELETE", path.clone()),
        ("POST", trial),
        ("POST", format!("{path}/rotate")),
        ("GET", format!("{path}/deliveries")),
    ] {
        assert_eq!(room.by_user(&bob, method, &path, "{}").await.0, 404, "{method} {path}");
    }
    assert_eq!(room.by_user(&alice, "DELETE", &path, "").await.0, 204);
    assert_eq!(room.as_user(&alice, &path).await.0, 404);
}

#[tokio::test]
async fn settings_decide_what_is_sent_and_the_inbox_keeps_everything() {
    let (room, alice, device) = scene(None).await;
    let receiver = Receiver::start(&["200"]).await;
    webhook(&room, &alice, json!({"url": receiver.url("/"), "types": ["notification"]})).await;
    let put = |settings: Value| {
        let (room, alice) = (&room, &alice);
        async move {
            let path = "/v1/notifications/settings";
            let (status, kept) = room.by_user(alice, "PUT", path, &settings.to_string()).await;
            assert_eq!(status, 200, "{kept}");
            assert_eq!(room.as_user(alice, path).await.1, kept);
        }
    };
    let mut titles = vec![];
    for (settings, severity, title) in [
        (json!({"minimum_severity": "error"}), "warning", "too mild"),
        (json!({"quiet_devices": ["cam-01"]}), "critical", "quiet"),
        (json!({"channels": {"webhook": false}}), "critical", "no webhooks"),
        (json!({"minimum_severity": "error", "quiet_devices": ["cam-02"]}), "error", "sent"),
    ] {
        put(settings).await;
        notify(&room, &device, severity, title).await;
        titles.insert(0, title);
        until_inbox(&room, &alice, &titles).await;
    }
    let sent = receiver.until(1).await;
    assert!(sent.len() == 1 && sent[0].contains("\"sent\""), "{sent:?}");
    for bad in [json!({"minimum_severity": "bad"}), json!({"channel": {}}), json!({"quiet_devices": ["A B"]})]
    {
        let put = room.by_user(&alice, "PUT", "/v1/notifications/settings", &bad.to_string()).await;
        assert_eq!(put.0, 400, "{bad}");
    }
}

#[tokio::test]
async fn an_app_gets_a_push_message_and_one_that_is_gone_is_forgotten() {
    let unregistered = r#"404||{"error":{"details":[{"errorCode":"UNREGISTERED"}]}}"#;
    let service = Receiver::start(&["401", "200", unregistered]).await;
    let (room, alice, device) = scene(Some(&service)).await;
    let app = json!({"token": "tok:EN_1", "platform": "android"}).to_string();
    let (status, shown) = room.by_user(&alice, "POST", "/v1/push/fcm", &app).await;
    assert_eq!(status, 201, "{shown}");
    assert!(!shown.to_string().contains("tok:EN_1"));
    notify(&room, &device, "critical", "Open").await;
    let requests = service.until(2).await;
    assert!(requests[0].contains("authorization: Bearer first"), "{requests:?}");
    assert!(requests[1].starts_with("POST /v1/projects/demo-1/messages:send HTTP/1.1\r\n"));
    assert!(
        requests[1].contains("authorization: Bearer second"),
        "a refused token is replaced: {requests:?}"
    );
    let body: Value = serde_json::from_str(requests[1].split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(
        (&body["message"]["token"], &body["message"]["android"]["priority"]),
        (&json!("tok:EN_1"), &json!("HIGH"))
    );
    notify(&room, &device, "info", "Again").await;
    eventually("the app is forgotten", || async {
        let (_, page) = room.as_user(&alice, "/v1/push/fcm").await;
        if page["items"] == json!([]) { Ok(()) } else { Err(page) }
    })
    .await;
    assert_eq!(room.by_user(&alice, "DELETE", "/v1/push/fcm", r#"{"token":"tok:EN_1"}"#).await.0, 404);
    let without = Room::with_push(None).await;
    let bob = without.user("default", "bob").await;
    assert_eq!(without.by_user(&bob, "POST", "/v1/push/fcm", &app).await.0, 409);
}

#[tokio::test]
async fn an_inbox_is_paged_from_either_end_and_remembers_what_was_read() {
    let (room, alice, device) = scene(None).await;
    for title in ["1", "2", "3"] {
        notify(&room, &device, "info", title).await;
    }
    until_inbox(&room, &alice, &["3", "2", "1"]).await;
    let titles = |page: &Value| -> Vec<String> {
        page["items"].as_array().unwrap().iter().map(|item| item["title"].as_str().unwrap().into()).collect()
    };
    let (_, page) = room.as_user(&alice, "/v1/notifications?limit=2").await;
    assert_eq!(titles(&page), ["3", "2"]);
    let cursor = page["next_cursor"].as_str().unwrap();
    let (_, rest) = room.as_user(&alice, &format!("/v1/notifications?limit=2&cursor={cursor}")).await;
    assert_eq!((titles(&rest), &rest["next_cursor"]), (vec!["1".to_owned()], &Value::Null));
    let first = rest["items"][0]["id"].as_str().unwrap();
    let (_, since) = room.as_user(&alice, &format!("/v1/notifications?since={first}")).await;
    assert_eq!(titles(&since), ["2", "3"]);
    let read = format!("/v1/notifications/{first}/read");
    assert_eq!(room.by_user(&alice, "POST", &read, "").await.0, 204);
    let (_, unread) = room.as_user(&alice, "/v1/notifications?unread=true").await;
    assert_eq!(titles(&unread), ["3", "2"]);
    let bob = room.user("default", "bob").await;
    for (user, path) in [
        (&bob, read.as_str()),
        (&alice, "/v1/notifications/ev_99999/read"),
        (&alice, "/v1/notifications/x/read"),
    ] {
        assert_eq!(room.by_user(user, "POST", path, "").await.0, 404, "{path}");
    }
    assert_eq!(room.as_user(&alice, "/v1/notifications?since=x").await.0, 400);
}
