//! Targets of the fuzzer in this room: filters of subscribers, cursors, and what devices report.

use model::{DeviceRef, LARGEST_ITEM, MOST_REPORTED, Timestamp};
use serde_json::Value;

use crate::{
    events::{conditions::Conditions, fields::Fields, history::Cursor, history_csv, topic::Pattern},
    reports,
};

/// `where=`: read twice it is the same, and holds or not without harm.
pub fn conditions(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(conditions) = Conditions::parse(text) else { return };
    assert_eq!(Conditions::parse(text).as_ref(), Ok(&conditions));
    for data in samples() {
        let holds = conditions.hold(&data);
        if let Ok(ended) = Conditions::parse(&format!("{text};")) {
            assert_eq!(ended.hold(&data), holds, "a mark at the end changes nothing");
        }
    }
}

/// `fields=`: everything selected was there, at the same place, and selecting it again selects all of it.
pub fn fields(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(fields) = Fields::parse(text) else { return };
    for data in samples() {
        let Some(selected) = fields.select(&data) else { continue };
        assert!(is_within(&selected, &data), "{selected} is not of {data}");
        assert_eq!(fields.select(&selected).as_ref(), Some(&selected));
    }
}

/// Topics and patterns: nobody gets another tenant's, and a pattern without a star means one subject.
pub fn topic(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let tenant = "acme".parse().expect("a name");
    if Pattern::of_topic(text, &tenant).is_ok() {
        let named = text.split('.').next().unwrap_or_default();
        assert!(named.eq_ignore_ascii_case("acme"));
    }
    let Some(pattern) = Pattern::parse(text) else { return };
    match text.strip_suffix('*') {
        None => {
            assert!(pattern.matches(text));
            assert!(!pattern.matches(&format!("{text}.more")) && !pattern.matches(&format!("{text}x")));
        }
        Some(stem) => {
            assert!(pattern.matches(&format!("{stem}a")) && pattern.matches(&format!("{stem}a.b")));
            assert!(!pattern.matches(stem.trim_end_matches('.')) || stem.is_empty());
        }
    }
}

/// A body of a device, as telemetry and as notifications: each item is judged for itself, what is kept has a time that
/// can be true and a bounded size, and stands in a table as one row.
pub fn report(bytes: &[u8]) {
    let device = DeviceRef::new("acme".parse().expect("a name"), "cam".parse().expect("a name"));
    let now = Timestamp::from_secs(1_800_000_000);
    for kind in [model::ReportKind::Telemetry, model::ReportKind::Notification] {
        let Some(kept) = reports::judged_for_fuzzing(bytes, kind, &device, now) else { continue };
        assert!(kept.len() <= MOST_REPORTED);
        for (at, source_id, data) in kept {
            assert!((1_577_836_800_000..=now.millis() + 300_000).contains(&at.millis()), "{at:?}");
            assert!(source_id.is_none_or(|id| !id.is_empty() && id.len() <= 64));
            let text = data.to_string();
            // Written out again, a number may take more room than it came in.
            assert!(text.len() <= 8 * LARGEST_ITEM && depth(&data) <= 32);
            let again: Value = serde_json::from_str(&text).expect("what was written is read");
            assert!(again == data, "a value changes on its way: {text}");
            row(&["cam", &text]);
        }
    }
}

/// A cursor, and cells of a table: whatever they hold, a reader of RFC 4180 finds the same cells, and no formula.
pub fn history(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = text.parse::<Cursor>();
    row(&text.split('\u{1}').collect::<Vec<_>>());
}

fn row(cells: &[&str]) {
    let line = history_csv::line(cells.iter().copied());
    let read = read_row(&line);
    assert_eq!(read.len(), cells.len(), "{line:?}");
    for (found, cell) in read.iter().zip(cells) {
        assert!(found == cell || *found == format!("'{cell}"), "{cell:?} became {found:?}");
        let is_number = found.parse::<f64>().is_ok_and(f64::is_finite);
        assert!(is_number || !found.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']), "{found:?}");
    }
}

/// One line of RFC 4180.
fn read_row(line: &str) -> Vec<String> {
    let body = line.strip_suffix("\r\n").expect("a line ends");
    let (mut cells, mut rest) = (vec![], body);
    loop {
        let (cell, after) = match rest.strip_prefix('"') {
            Some(mut quoted) => {
                let mut cell = String::new();
                loop {
                    let end = quoted.find('"').expect("a quoted cell ends");
                    cell.push_str(&quoted[..end]);
                    quoted = &quoted[end + 1..];
                    match quoted.strip_prefix('"') {
                        Some(more) => {
                            cell.push('"');
                            quoted = more;
                        }
                        None => break (cell, quoted),
                    }
                }
            }
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                assert!(!rest[..end].contains(['"', '\r', '\n']));
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        cells.push(cell);
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None => {
                assert!(after.is_empty(), "{after:?} follows a cell");
                return cells;
            }
        }
    }
}

fn samples() -> [Value; 2] {
    [
        serde_json::json!({"a": {"b": [{"a": 1}, 2, {"b": "x"}], "c": true}, "b": "x,y", "t": 21.5, "": {"*": 0}}),
        serde_json::json!({"a": [[{"a": 1, "b": 2}], []], "b": {"b": {"b": {"a": "1"}}}}),
    ]
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn is_within(part: &Value, whole: &Value) -> bool {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => {
            part.iter().all(|(name, value)| whole.get(name).is_some_and(|inside| is_within(value, inside)))
        }
        (Value::Array(part), Value::Array(whole)) => {
            part.iter().all(|value| whole.iter().any(|inside| is_within(value, inside)))
        }
        _ => part == whole,
    }
}
