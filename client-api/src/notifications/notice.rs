//! What a notification says, as its event keeps it. Pure.

use model::{DeviceId, Severity, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use store::EventRow;

/// What a device, or the cloud itself, wants people to hear of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Notice {
    #[serde(rename = "type", default)]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) severity: Severity,
    #[serde(default)]
    pub(crate) title: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) body: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<Map<String, Value>>,
}

/// A notice with where it comes from.
#[derive(Debug, Clone)]
pub(crate) struct Told<'a> {
    pub(crate) sequence: u64,
    pub(crate) device: Option<&'a DeviceId>,
    pub(crate) at: Timestamp,
    pub(crate) notice: Notice,
}

impl Notice {
    /// Reads what the event log keeps. What an intake let through always fits; anything else is shown without words.
    pub(crate) fn read(data: &Value) -> Self {
        Self::deserialize(data).unwrap_or_else(|_| Self {
            kind: String::new(),
            severity: Severity::default(),
            title: String::new(),
            body: None,
            data: None,
        })
    }
}

impl<'a> Told<'a> {
    /// The notice of an event for inboxes; `None` for other events.
    pub(crate) fn of(row: &'a EventRow) -> Option<Self> {
        FOR_INBOXES.contains(&row.event.subject.as_str()).then(|| Self {
            sequence: row.seq,
            device: row.event.device.as_ref(),
            at: row.event.at,
            notice: Notice::read(&row.event.data),
        })
    }
}

/// The types of events that go into inboxes.
const FOR_INBOXES: [&str; 2] = ["notification", WEBHOOK_DISABLED];
/// The cloud has switched off a webhook.
pub(crate) const WEBHOOK_DISABLED: &str = "webhook.disabled";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_an_intake_keeps_is_read_and_what_nobody_wrote_is_shown_without_words() {
        let full = json!({"type": "door.open", "severity": "warning", "title": "Open", "body": "b", "data": {"a": 1}});
        let read = Notice::read(&full);
        assert_eq!(
            (read.kind.as_str(), read.severity, read.title.as_str()),
            ("door.open", Severity::Warning, "Open")
        );
        assert_eq!(serde_json::to_value(&read).unwrap(), full);
        assert_eq!(Notice::read(&json!({"type": "x", "title": "t"})).severity, Severity::Info);
        assert_eq!(Notice::read(&json!([1])).title, "");
    }
}
