//! What local programs report: read, checked, given an id and a time, and written as the cloud wants it.
//!
//! A program learns at once that its report makes no sense, and not from a log hours later. A report is taken in
//! whole or not at all.

use model::{LARGEST_ITEM, MOST_REPORTED, Moment, Notification, ReportId, ReportKind, Telemetry, Timestamp};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, value::RawValue};

use crate::spool::NewRecord;

/// A report that can wait.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) records: Vec<NewRecord>,
    pub(crate) ids: Vec<ReportId>,
}

/// Why a report was not understood, for whoever wrote the program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadReport {
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    #[error("a report has 1 to {MOST_REPORTED} items")]
    Count,
    #[error("item {index}: {problem}")]
    Item { index: usize, problem: String },
}

/// Reads one item or an array of them. Items without an id get one, items without a time get `now`.
pub(crate) fn read(
    kind: ReportKind,
    body: &[u8],
    now: Timestamp,
    mut fresh: impl FnMut() -> ReportId,
) -> Result<Report, BadReport> {
    let not_json = |error: serde_json::Error| BadReport::NotJson(error.to_string());
    let items: Vec<&RawValue> = match body.trim_ascii_start().first() {
        Some(b'[') => serde_json::from_slice(body).map_err(not_json)?,
        _ => vec![serde_json::from_slice(body).map_err(not_json)?],
    };
    if items.is_empty() || items.len() > MOST_REPORTED {
        return Err(BadReport::Count);
    }
    let mut report =
        Report { records: Vec::with_capacity(items.len()), ids: Vec::with_capacity(items.len()) };
    for (index, item) in items.into_iter().enumerate() {
        let text = item.get();
        let written = match kind {
            ReportKind::Telemetry => telemetry(text, now, &mut fresh),
            ReportKind::Notification => notification(text, now, &mut fresh),
        };
        let written = written.and_then(|(id, json)| {
            if json.len() > LARGEST_ITEM {
                return Err(format!("an item has at most {} KiB", LARGEST_ITEM / 1024));
            }
            Ok((id, json))
        });
        let (id, json) = written.map_err(|problem| BadReport::Item { index, problem })?;
        report.records.push(NewRecord { kind, json });
        report.ids.push(id);
    }
    Ok(report)
}

type Written = Result<(ReportId, Vec<u8>), String>;

fn telemetry(text: &str, now: Timestamp, fresh: impl FnOnce() -> ReportId) -> Written {
    let mut item: Telemetry<Map<String, Value>> = parse(text)?;
    let id = item.id.get_or_insert_with(fresh).clone();
    item.ts.get_or_insert(Moment(now));
    write(&item).map(|json| (id, json))
}

fn notification(text: &str, now: Timestamp, fresh: impl FnOnce() -> ReportId) -> Written {
    let mut item: Notification<Map<String, Value>> = parse(text)?;
    let id = item.id.get_or_insert_with(fresh).clone();
    item.ts.get_or_insert(Moment(now));
    write(&item).map(|json| (id, json))
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn write(item: &impl Serialize) -> Result<Vec<u8>, String> {
    serde_json::to_vec(item).map_err(|error| error.to_string())
}

/// What the cloud says of each item of a batch.
#[derive(Debug, Deserialize)]
pub(crate) struct Results {
    pub(crate) results: Vec<ItemResult>,
}

/// What became of an item.
#[derive(Debug, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub(crate) enum ItemResult {
    /// It is in the log.
    Accepted,
    /// It was in the log already.
    Duplicate,
    /// The cloud will never take it.
    Rejected {
        /// Why, for programs.
        #[serde(default)]
        code: String,
        /// Why, for people.
        #[serde(default)]
        detail: String,
    },
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp(1_795_303_719_250);

    fn read_as(kind: ReportKind, body: &str) -> Result<Vec<Value>, String> {
        let mut number = 0;
        let fresh = || {
            number += 1;
            format!("fresh-{number}").parse().unwrap()
        };
        let report = read(kind, body.as_bytes(), NOW, fresh).map_err(|error| error.to_string())?;
        let items: Vec<Value> =
            report.records.iter().map(|record| serde_json::from_slice(&record.json).unwrap()).collect();
        assert!(report.ids.iter().zip(&items).all(|(id, item)| item["id"] == id.as_str()));
        Ok(items)
    }

    #[test]
    fn one_item_or_many_get_what_they_lack() {
        let one = read_as(ReportKind::Telemetry, r#" {"data":{"t":21.5}}"#).unwrap();
        assert_eq!(one, [json!({"id": "fresh-1", "ts": "2026-11-21T23:28:39.250Z", "data": {"t": 21.5}})]);
        let own = json!({"id": "mine", "ts": "2026-11-21T00:00:00.000Z", "data": {}});
        let many = read_as(ReportKind::Telemetry, &json!([own, {"data": {"a": [1]}}]).to_string()).unwrap();
        assert_eq!((&many[0], many[1]["id"].as_str()), (&own, Some("fresh-1")));
        let note = read_as(ReportKind::Notification, r#"{"type":"door","title":"open"}"#).unwrap();
        assert_eq!((&note[0]["severity"], &note[0]["title"]), (&json!("info"), &json!("open")));
    }

    #[test]
    fn what_makes_no_sense_is_refused_as_a_whole_and_says_where() {
        let refused = |kind, body: &str| read_as(kind, body).unwrap_err();
        let telemetry = |body: &str| refused(ReportKind::Telemetry, body);
        assert!(telemetry("").contains("not JSON"));
        assert!(telemetry("{").contains("not JSON"));
        assert!(telemetry(r#"{"data":{}} {}"#).contains("not JSON"));
        assert!(telemetry("[]").contains("1 to 500"));
        assert!(telemetry(&json!(vec![json!({"data": {}}); 501]).to_string()).contains("1 to 500"));
        assert!(telemetry(r#"[{"data":{}},{"dta":{}}]"#).starts_with("item 1: "));
        assert!(telemetry(r#"{"data":{"n":1e999}}"#).starts_with("item 0: "), "no program could read it");
        assert!(telemetry(&json!({"data": {"x": "y".repeat(65_536)}}).to_string()).contains("64 KiB"));
        assert!(telemetry(&format!("{}{}", "[".repeat(200), "]".repeat(200))).contains("item 0"));
        assert!(refused(ReportKind::Notification, r#"{"type":"x"}"#).contains("title"));
        assert_eq!(
            read_as(ReportKind::Telemetry, &json!(vec![json!({"data": {}}); 500]).to_string()).unwrap().len(),
            500
        );
    }

    #[test]
    fn the_clouds_words_are_understood() {
        let text = r#"{"results":[{"status":"accepted","id":"a","seq":1},{"status":"duplicate"},
            {"status":"rejected","code":"malformed","detail":"no"}]}"#;
        let results: Results = serde_json::from_str(text).unwrap();
        assert!(matches!(
            results.results[..],
            [ItemResult::Accepted, ItemResult::Duplicate, ItemResult::Rejected { .. }]
        ));
    }
}
