//! What a command prints: text for people, JSON for scripts, always on standard output.

use std::io::Write;

use serde_json::Value;

/// The form of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Output {
    /// Columns.
    #[default]
    Text,
    /// JSON, as the admin door gives it.
    Json,
}

/// Prints a line. A reader that went away is no error: `tcpmux device ls | head -1` ends well.
pub(super) fn line(text: impl AsRef<str>) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{}", text.as_ref());
}

/// Prints JSON over several lines.
pub(super) fn json(value: &Value) {
    line(serde_json::to_string_pretty(value).unwrap_or_default());
}

/// Prints columns: the keys as headings, one row an item, missing values as `-`.
pub(super) fn table(items: &[Value], columns: &[(&str, &str)]) {
    let rows: Vec<Vec<String>> =
        items.iter().map(|item| columns.iter().map(|(_, key)| cell(item, key)).collect()).collect();
    let width = |index: usize| {
        let heading = columns[index].0.len();
        rows.iter().map(|row| row[index].chars().count()).max().unwrap_or(0).max(heading)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let print = |cells: Vec<&str>| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        line(padded.join("  ").trim_end());
    };
    print(columns.iter().map(|(heading, _)| *heading).collect());
    for row in &rows {
        print(row.iter().map(String::as_str).collect());
    }
}

/// Prints one thing, a line a key.
pub(super) fn record(item: &Value, keys: &[(&str, &str)]) {
    let width = keys.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
    for (label, key) in keys {
        line(format!("{label:<width$}  {}", cell(item, key)));
    }
}

/// The text of `a.b` in an object.
fn cell(item: &Value, path: &str) -> String {
    let value = path.split('.').try_fold(item, |value, key| value.get(key));
    match value {
        None | Some(Value::Null) => "-".into(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(true)) => "yes".into(),
        Some(Value::Bool(false)) => "no".into(),
        Some(Value::Array(items)) => {
            let texts: Vec<String> =
                items.iter().map(|item| item.as_str().map_or_else(|| item.to_string(), Into::into)).collect();
            if texts.is_empty() { "-".into() } else { texts.join(",") }
        }
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_of_every_kind() {
        let item =
            serde_json::json!({"a": {"b": "x"}, "n": 3, "l": ["p", "q"], "e": [], "t": true, "z": null});
        let got: Vec<String> = ["a.b", "n", "l", "e", "t", "z", "missing"].map(|key| cell(&item, key)).into();
        assert_eq!(got, ["x", "3", "p,q", "-", "yes", "-", "-"]);
    }
}
