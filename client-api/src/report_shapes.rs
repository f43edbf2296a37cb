//! The shapes of reports as the OpenAPI document tells them. What is read is in `model`; a test compares the two.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// One item or an array of them.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = TelemetryReport)]
#[expect(dead_code, reason = "it is described, and made by the test alone")]
pub(crate) enum TelemetryReport {
    /// One.
    One(TelemetryItem),
    /// Several.
    Many(Vec<TelemetryItem>),
}

/// One item or an array of them.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = NotificationReport)]
#[expect(dead_code, reason = "it is described, and made by the test alone")]
pub(crate) enum NotificationReport {
    /// One.
    One(NotificationItem),
    /// Several.
    Many(Vec<NotificationItem>),
}

/// Measured values.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TelemetryItem {
    /// Names the item among all of its device: sent twice, it is kept once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Za-z0-9_.:-]{1,64}$")]
    id: Option<String>,
    /// When it was measured, RFC 3339 or milliseconds since 1970; on arrival where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    ts: Option<String>,
    /// The values, by name.
    #[schema(value_type = Object)]
    data: BTreeMap<String, Value>,
}

/// Something that people should hear of.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NotificationItem {
    /// Names the item among all of its device: sent twice, it is kept once.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Za-z0-9_.:-]{1,64}$")]
    id: Option<String>,
    /// When it happened, RFC 3339 or milliseconds since 1970; on arrival where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    ts: Option<String>,
    /// What kind, as programs compare it.
    #[serde(rename = "type")]
    #[schema(pattern = "^[A-Za-z0-9_.-]{1,64}$")]
    kind: String,
    /// How bad; `info` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^(info|warning|error|critical)$")]
    severity: Option<String>,
    /// One line for people.
    #[schema(min_length = 1, max_length = 200)]
    title: String,
    /// More for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 4000)]
    body: Option<String>,
    /// More for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    data: Option<BTreeMap<String, Value>>,
}

#[cfg(test)]
mod tests {
    use model::{Notification, Telemetry};
    use serde_json::{Map, json};

    use super::*;

    #[test]
    fn what_is_described_is_what_is_read() {
        let some = |text: &str| Some(text.to_owned());
        let data = BTreeMap::from([("t".to_owned(), json!(21))]);
        let (id, ts) = (some("a"), some("2027-01-15T08:00:00.000Z"));
        let item = TelemetryItem { id: id.clone(), ts: ts.clone(), data: data.clone() };
        let described = json!(TelemetryReport::One(item));
        let read: Telemetry<Map<String, Value>> = serde_json::from_value(described.clone()).unwrap();
        assert_eq!(json!(read), described, "no member is lost, none is unknown");
        let (severity, body, data) = (some("error"), some("more"), Some(data));
        let item =
            NotificationItem { id, ts, kind: "door".into(), severity, title: "open".into(), body, data };
        let described = json!(NotificationReport::Many(vec![item]));
        let read: Vec<Notification<Map<String, Value>>> = serde_json::from_value(described.clone()).unwrap();
        assert_eq!(json!(read), described);
        assert!(
            serde_json::from_value::<Telemetry<Map<String, Value>>>(json!(TelemetryItem::default())).is_ok()
        );
    }
}
