//! A notification as Firebase Cloud Messaging takes it (HTTP v1), for each platform. Pure.

use aws_lc_rs::digest::{SHA256, digest};
use model::Severity;
use serde_json::{Map, Value, json};
use store::Platform;

use super::notice::Told;

/// The `message` without its `token`. It is cut to what the service takes: first the prose, then the data.
pub(crate) fn message(platform: Platform, told: &Told<'_>) -> Value {
    let notice = &told.notice;
    let is_urgent = notice.severity >= Severity::Error;
    let title = cut(&notice.title, MOST_TITLE);
    let mut body = cut(notice.body.as_deref().unwrap_or_default(), MOST_PROSE);
    let mut data = data(told);
    let key = collapse_key(told);
    loop {
        let mut message = Map::new();
        message.insert("notification".into(), json!({"title": title, "body": body}));
        message.insert("data".into(), data.clone().into());
        let (name, block) = match platform {
            Platform::Android => (
                "android",
                json!({
                    "collapse_key": key,
                    "priority": if is_urgent { "HIGH" } else { "NORMAL" },
                    "ttl": format!("{LIFE_SECONDS}s"),
                    "notification": {"tag": key},
                }),
            ),
            Platform::Ios => (
                "apns",
                json!({
                    "headers": {
                        "apns-collapse-id": key,
                        "apns-priority": if is_urgent { "10" } else { "5" },
                        "apns-expiration": (told.at.secs() + LIFE_SECONDS).to_string(),
                    },
                    "payload": {"aps": {"thread-id": thread(told), "sound": "default"}},
                }),
            ),
            Platform::Web => (
                "webpush",
                json!({
                    "headers": {
                        "Topic": key,
                        "TTL": LIFE_SECONDS.to_string(),
                        "Urgency": if is_urgent { "high" } else { "normal" },
                    },
                    "notification": {"tag": key},
                }),
            ),
        };
        message.insert(name.into(), block);
        let message = Value::from(message);
        let over = message.to_string().len().saturating_sub(MOST_BYTES);
        if over == 0 {
            return message;
        }
        if body.is_empty() {
            data.retain(|name, _| name != DATA);
        } else {
            // A character is at most six bytes of JSON, and at least one.
            body = cut(&body, body.len().saturating_sub(over.div_ceil(6).max(1)));
        }
    }
}

/// All values are texts. Names that the service keeps for itself are not used.
fn data(told: &Told<'_>) -> Map<String, Value> {
    let notice = &told.notice;
    let mut data = Map::new();
    data.insert("id".into(), format!("ev_{}", told.sequence).into());
    data.insert("type".into(), notice.kind.clone().into());
    data.insert("severity".into(), json!(notice.severity));
    data.insert("time".into(), told.at.rfc3339().into());
    if let Some(device) = told.device {
        data.insert("device".into(), device.as_str().into());
    }
    if let Some(more) = &notice.data {
        let text = Value::from(more.clone()).to_string();
        if text.len() <= MOST_DATA {
            data.insert(DATA.into(), text.into());
        }
    }
    data
}

/// Later notices of a device and type take the place of earlier ones that nobody has seen: 32 letters, since that
/// is all that web push has room for.
fn collapse_key(told: &Told<'_>) -> String {
    let text = format!("{} {}", thread(told), told.notice.kind);
    model::hex(&digest(&SHA256, text.as_bytes()).as_ref()[..16])
}

fn thread<'a>(told: &'a Told<'_>) -> &'a str {
    told.device.map_or("tcpmux", |device| device.as_str())
}

/// At most this many bytes, cut between characters, with a sign that something is missing.
fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(most.saturating_sub(ELLIPSIS.len()));
    if end == 0 { String::new() } else { format!("{}{ELLIPSIS}", &text[..end]) }
}

const DATA: &str = "data";
const ELLIPSIS: &str = "…";
const LIFE_SECONDS: i64 = 24 * 60 * 60;
/// What the service takes, less the receiver's address and some room.
const MOST_BYTES: usize = 4096 - 512;
const MOST_TITLE: usize = 400;
const MOST_PROSE: usize = 2000;
const MOST_DATA: usize = 1500;

#[cfg(test)]
mod tests {
    use model::{DeviceId, Timestamp};

    use super::*;
    use crate::notifications::notice::Notice;

    fn told<'a>(device: &'a DeviceId, severity: &str, body: &str, data: Value) -> Told<'a> {
        let notice =
            json!({"type": "door.open", "severity": severity, "title": "Open", "body": body, "data": data});
        let at = Timestamp::from_secs(1_800_000_000);
        Told { sequence: 7, device: Some(device), at, notice: Notice::read(&notice) }
    }

    #[test]
    fn each_platform_gets_its_own_form() {
        let device: DeviceId = "cam-01".parse().unwrap();
        let told = told(&device, "critical", "the door", json!({"door": 2}));
        let android = message(Platform::Android, &told);
        assert_eq!(android["notification"], json!({"title": "Open", "body": "the door"}));
        assert_eq!(android["android"]["priority"], "HIGH");
        assert_eq!(android["android"]["ttl"], "86400s");
        assert_eq!(
            android["data"],
            json!({"id": "ev_7", "type": "door.open", "severity": "critical", "device": "cam-01",
                   "time": "2027-01-15T08:00:00Z", "data": "{\"door\":2}"})
        );
        assert!(android.get("apns").is_none() && android.get("webpush").is_none());
        let ios = message(Platform::Ios, &told);
        assert_eq!(ios["apns"]["headers"]["apns-priority"], "10");
        assert_eq!(ios["apns"]["headers"]["apns-expiration"], "1800086400");
        assert_eq!(ios["apns"]["payload"]["aps"]["thread-id"], "cam-01");
        let web = message(Platform::Web, &told);
        assert_eq!(web["webpush"]["headers"]["Urgency"], "high");
        assert_eq!(web["webpush"]["headers"]["Topic"].as_str().unwrap().len(), 32);
        let calm = Told { notice: Notice::read(&json!({"type": "x", "title": "t"})), ..told.clone() };
        assert_eq!(message(Platform::Android, &calm)["android"]["priority"], "NORMAL");
        assert_ne!(
            message(Platform::Android, &calm)["android"]["collapse_key"],
            android["android"]["collapse_key"]
        );
    }

    #[test]
    fn a_message_is_never_too_large_and_cut_between_characters() {
        let device: DeviceId = "cam-01".parse().unwrap();
        for body in ["x".repeat(4000), "\u{1F600}".repeat(4000), "\u{1}\"\n".repeat(1500), "ä".repeat(1999)]
        {
            for data in [json!({}), json!({"blob": "y".repeat(1400)}), json!({"blob": "z".repeat(60_000)})] {
                let told = told(&device, "info", &body, data);
                for platform in [Platform::Android, Platform::Ios, Platform::Web] {
                    let message = message(platform, &told);
                    assert!(message.to_string().len() <= MOST_BYTES);
                    let shown = message["notification"]["body"].as_str().unwrap();
                    let kept = shown.strip_suffix(ELLIPSIS).unwrap_or(shown);
                    assert!(body.starts_with(kept) && !kept.is_empty(), "{} of {}", shown.len(), body.len());
                }
            }
        }
        assert_eq!(cut("aäb", 4), "aäb");
        assert_eq!(cut("aäbcdef", 5), "a…", "control");
    }
}
