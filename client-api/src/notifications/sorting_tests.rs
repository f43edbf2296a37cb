use std::cell::Cell;

use model::{DeviceRef, TenantName, Timestamp, UserId, WebhookId};
use serde_json::json;
use store::{NewEvent, Platform, PushRegistrationRow, WebhookWish};

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn event(subject: &str) -> EventRow {
    let device = DeviceRef::new(TenantName::default(), "cam-01".parse().unwrap());
    let data = json!({"type": "x", "severity": "warning", "title": "t"});
    EventRow { seq: 7, received_at: NOW, event: NewEvent::of_device(&device, subject, NOW).with(data) }
}

fn webhook(types: Option<&[&str]>, devices: Option<&[&str]>, created_at: Timestamp) -> WebhookRow {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    WebhookRow {
        id: WebhookId::from_random([1; 16]),
        tenant: TenantName::default(),
        user: UserId::from_random([2; 16]),
        wanted: WebhookWish {
            url: "https://example.com/".into(),
            types: types.map(words),
            devices: devices.map(|all| all.iter().map(|id| id.parse().unwrap()).collect()),
            enabled: true,
        },
        disabled_for: None,
        created_at,
        earlier_secret_until: None,
        failing_since: None,
        overflowed: 0,
    }
}

#[test]
fn a_webhook_gets_what_it_asks_for_and_telemetry_by_name_alone() {
    let later = Timestamp(NOW.0 + 1);
    for (types, devices, created, subject, wanted) in [
        (None, None, NOW, "notification", true),
        (None, None, NOW, "device.connected", true),
        (None, None, NOW, "telemetry", false),
        (Some(&["telemetry"][..]), None, NOW, "telemetry", true),
        (Some(&["telemetry"][..]), None, NOW, "notification", false),
        (Some(&["notification"][..]), Some(&["cam-01"][..]), NOW, "notification", true),
        (None, Some(&["cam-02"][..]), NOW, "notification", false),
        (None, None, later, "notification", false),
    ] {
        let row = webhook(types, devices, created);
        assert_eq!(wants(&row, &event(subject)), wanted, "{types:?} {devices:?} {subject}");
    }
    let mut of_user = event("webhook.disabled");
    of_user.event.device = None;
    assert!(wants(&webhook(None, None, NOW), &of_user));
    assert!(!wants(&webhook(None, Some(&["cam-01"]), NOW), &of_user), "it is of no device");
}

#[test]
fn notifications_go_to_inboxes_and_apps_and_other_events_to_webhooks_alone() {
    let number = Cell::new(0_u8);
    let fresh = || {
        number.set(number.get() + 1);
        DeliveryId::from_random([number.get(); 16])
    };
    let recipient = |settings: Option<&str>| Recipient {
        user: UserId::from_random([2; 16]),
        grant: None,
        settings: settings.map(str::to_owned),
        webhooks: vec![webhook(None, None, NOW)],
        apps: vec![PushRegistrationRow {
            id: model::PushRegistrationId::from_random([3; 16]),
            tenant: TenantName::default(),
            user: UserId::from_random([2; 16]),
            platform: Platform::Web,
            token: "t".into(),
            created_at: NOW,
        }],
    };
    let channels = |sorted: &Sorted| sorted.deliveries.iter().map(|one| one.channel).collect::<Vec<_>>();
    let sorted = plan(event("notification"), vec![recipient(None)], true, fresh);
    assert_eq!((sorted.inboxes.len(), channels(&sorted)), (1, vec!["webhook", "fcm"]));
    assert_ne!(sorted.deliveries[0].id, sorted.deliveries[1].id);
    let sorted = plan(event("notification"), vec![recipient(None)], false, fresh);
    assert_eq!((sorted.inboxes.len(), channels(&sorted)), (1, vec!["webhook"]), "no account");
    let sorted = plan(event("device.connected"), vec![recipient(None)], true, fresh);
    assert_eq!((sorted.inboxes.len(), channels(&sorted)), (0, vec!["webhook"]));
    let mild = Some(r#"{"minimum_severity":"critical","channels":{"webhook":true,"fcm":true}}"#);
    let sorted = plan(event("notification"), vec![recipient(mild)], true, fresh);
    assert_eq!((sorted.inboxes.len(), channels(&sorted)), (1, vec![]));
    let sorted = plan(event("device.connected"), vec![recipient(mild)], true, fresh);
    assert_eq!(channels(&sorted), ["webhook"], "settings are about notifications");
}
