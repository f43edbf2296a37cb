//! What a device reports: the shapes and bounds that the daemon and the cloud agree on.
//!
//! An item of a report is telemetry or a notification. Its id is made where the item is first taken in and stays
//! with it, so that an item which is sent twice is kept once.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::Moment;

/// Items in one report.
pub const MOST_REPORTED: usize = 500;
/// Bytes of one report.
pub const LARGEST_REPORT: usize = 256 * 1024;
/// Bytes of one item.
pub const LARGEST_ITEM: usize = 64 * 1024;

/// What kind of report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReportKind {
    /// Measured values.
    Telemetry,
    /// Something that people should hear of.
    Notification,
}

/// Names one item among all of its device: 1 to 64 of letters, digits, `-`, `_`, `.`, `:`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReportId(Arc<str>);

/// A text is no [`ReportId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id has 1 to 64 of letters, digits, `-`, `_`, `.` and `:`")]
pub struct ReportIdError;

/// Telemetry, as a device writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry<D> {
    /// The item's name, where the device gives it one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<ReportId>,
    /// When it was measured; on arrival where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ts: Option<Moment>,
    /// The values, by name: a JSON object.
    pub data: D,
}

/// A notification, as a device writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notification<D> {
    /// The item's name, where the device gives it one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<ReportId>,
    /// When it happened; on arrival where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ts: Option<Moment>,
    /// What kind, as programs compare it: letters, digits, `-`, `_`, `.`.
    #[serde(rename = "type")]
    pub kind: NotificationType,
    /// How bad; `info` where absent.
    #[serde(default)]
    pub severity: Severity,
    /// One line for people.
    pub title: Line<200>,
    /// More for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Prose<4000>>,
    /// More for programs: a JSON object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<D>,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Good to know.
    #[default]
    Info,
    /// Look at it soon.
    Warning,
    /// Something does not work.
    Error,
    /// Get up.
    Critical,
}

/// A notification's kind: 1 to 64 of letters, digits, `-`, `_`, `.`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NotificationType(Arc<str>);

/// One line of 1 to `MOST` characters, none of them a control character.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Line<const MOST: usize>(Arc<str>);

/// At most `MOST` characters, of control characters only line ends and tabs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prose<const MOST: usize>(Arc<str>);

impl ReportKind {
    /// The last part of the paths where such items are taken in.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Telemetry => "telemetry",
            Self::Notification => "notifications",
        }
    }
}

impl ReportId {
    /// Makes one of the time and of random bytes: those made later sort later.
    pub fn new(at: crate::Timestamp, random: [u8; 10]) -> Self {
        let millis = u64::try_from(at.millis()).unwrap_or(0);
        Self(format!("{millis:012x}{}", crate::hex(&random)).into())
    }

    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ReportId {
    type Err = ReportIdError;
    fn from_str(text: &str) -> Result<Self, ReportIdError> {
        if is_word(text, b"-_.:") { Ok(Self(text.into())) } else { Err(ReportIdError) }
    }
}

impl TryFrom<String> for ReportId {
    type Error = ReportIdError;
    fn try_from(text: String) -> Result<Self, ReportIdError> {
        text.parse()
    }
}

impl From<ReportId> for String {
    fn from(id: ReportId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for ReportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl NotificationType {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for NotificationType {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, &'static str> {
        let is_legal = is_word(&text, b"-_.");
        is_legal.then(|| Self(text.into())).ok_or("`type` has 1 to 64 of letters, digits, `-`, `_` and `.`")
    }
}

impl From<NotificationType> for String {
    fn from(kind: NotificationType) -> Self {
        kind.0.as_ref().to_owned()
    }
}

impl<const MOST: usize> TryFrom<String> for Line<MOST> {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let is_line = !text.trim().is_empty() && !text.chars().any(char::is_control);
        let fits = text.chars().count() <= MOST;
        (is_line && fits)
            .then(|| Self(text.into()))
            .ok_or_else(|| format!("one line of 1 to {MOST} characters"))
    }
}

impl<const MOST: usize> From<Line<MOST>> for String {
    fn from(line: Line<MOST>) -> Self {
        line.0.as_ref().to_owned()
    }
}

impl<const MOST: usize> TryFrom<String> for Prose<MOST> {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let is_prose = !text.chars().any(|c| c.is_control() && !"\n\r\t".contains(c));
        let fits = text.chars().count() <= MOST;
        (is_prose && fits)
            .then(|| Self(text.into()))
            .ok_or_else(|| format!("text of at most {MOST} characters"))
    }
}

impl<const MOST: usize> From<Prose<MOST>> for String {
    fn from(prose: Prose<MOST>) -> Self {
        prose.0.as_ref().to_owned()
    }
}

fn is_word(text: &str, beside: &[u8]) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || beside.contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(legal)
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::*;

    fn telemetry(item: Value) -> Result<Telemetry<Map<String, Value>>, String> {
        serde_json::from_value(item).map_err(|error| error.to_string())
    }

    fn notification(item: Value) -> Result<Notification<Map<String, Value>>, String> {
        serde_json::from_value(item).map_err(|error| error.to_string())
    }

    #[test]
    fn telemetry_has_an_object_of_values_and_may_have_an_id_and_a_time() {
        let full = json!({"id": "a:1", "ts": "1970-01-01T00:00:00.001Z", "data": {"t": 21}});
        assert_eq!(serde_json::to_value(telemetry(full.clone()).unwrap()).unwrap(), full);
        assert!(telemetry(json!({"data": {}})).is_ok());
        for bad in [
            json!({}),
            json!([]),
            json!({"data": 21}),
            json!({"data": [1]}),
            json!({"data": {}, "value": 1}),
            json!({"data": {}, "id": ""}),
            json!({"data": {}, "id": "a b"}),
            json!({"data": {}, "id": "x".repeat(65)}),
            json!({"data": {}, "ts": "yesterday"}),
        ] {
            assert!(telemetry(bad.clone()).is_err(), "{bad}");
        }
        assert!(telemetry(json!({"data": {}, "dta": 1})).unwrap_err().contains("dta"), "the member is named");
    }

    #[test]
    fn a_notification_has_a_kind_and_a_title() {
        let least = notification(json!({"type": "door.open", "title": "The door is open"})).unwrap();
        assert_eq!((least.severity, least.kind.as_str()), (Severity::Info, "door.open"));
        let full = json!({
            "id": "n1", "type": "x", "severity": "critical", "title": "t", "body": "a\nb", "data": {"a": 1},
        });
        assert_eq!(serde_json::to_value(notification(full.clone()).unwrap()).unwrap(), full);
        let with = |member: &str, value: Value| {
            let mut item = full.clone();
            item[member] = value;
            notification(item)
        };
        for (member, bad) in [
            ("type", json!("")),
            ("type", json!("a b")),
            ("severity", json!("bad")),
            ("title", json!("")),
            ("title", json!("  ")),
            ("title", json!("a\nb")),
            ("title", json!("x".repeat(201))),
            ("body", json!("\u{7}")),
            ("body", json!("x".repeat(4001))),
            ("data", json!(1)),
        ] {
            assert!(with(member, bad.clone()).is_err(), "{member}: {bad}");
        }
        assert!(notification(json!({"type": "x"})).is_err());
    }

    #[test]
    fn ids_made_later_sort_later() {
        let id = |at, random| ReportId::new(crate::Timestamp(at), [random; 10]);
        assert!(id(1_795_303_719_000, 255) < id(1_795_303_719_001, 0));
        let made = id(1_795_303_719_000, 7);
        assert_eq!(made.as_str().parse(), Ok(made.clone()));
        assert_eq!(made.as_str().len(), 32);
    }
}
