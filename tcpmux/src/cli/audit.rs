//! `tcpmux audit`: the log of acts, listed, written out, and checked by a reader that takes nobody's word for it:
//! every hash is computed here, from what the rows say.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use http::Method;
use model::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use store::{AuditChain, AuditRow};

use super::{AdminArgs, AuditCommand, Output, admin::AdminClient, output};
use crate::exit::{Exit, Failure};

pub(super) async fn audit(command: AuditCommand) -> Result<(), Failure> {
    match command {
        AuditCommand::Ls { admin, output, limit } => list(&admin, output, limit).await,
        AuditCommand::Export { admin } => export(&admin).await,
        AuditCommand::Verify { admin, output, file, expect } => verify(&admin, output, file, expect).await,
    }
}

/// A row that somebody wrote down earlier: `NUMBER:HASH`, as `audit verify` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    seq: u64,
    hash: String,
}

impl std::str::FromStr for Anchor {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "write NUMBER:HASH, as `tcpmux audit verify` printed it";
        let (seq, hash) = text.split_once(':').ok_or(wrong)?;
        let is_hash = model::unhex(hash).is_some_and(|octets| octets.len() == 32);
        match seq.parse() {
            Ok(seq) if is_hash => Ok(Self { seq, hash: hash.to_ascii_lowercase() }),
            _ => Err(wrong),
        }
    }
}

async fn list(admin: &AdminArgs, form: Output, limit: u32) -> Result<(), Failure> {
    let client = AdminClient::new(admin)?;
    let path = format!("/admin/api/audit?order=newest&limit={limit}");
    let mut page = client.call(Method::GET, &path, None).await?;
    let mut rows = page["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
    rows.reverse();
    match form {
        Output::Json => output::json(&Value::Array(rows)),
        Output::Text => output::table(&rows, COLUMNS),
    }
    Ok(())
}

async fn export(admin: &AdminArgs) -> Result<(), Failure> {
    let mut pages = Pages::new(admin)?;
    while let Some(rows) = pages.next().await? {
        for row in rows {
            output::line(row.to_string());
        }
    }
    Ok(())
}

async fn verify(
    admin: &AdminArgs,
    form: Output,
    file: Option<PathBuf>,
    expect: Option<Anchor>,
) -> Result<(), Failure> {
    let mut check = Check { chain: AuditChain::default(), expect, met: false };
    let outcome = match file {
        Some(file) => check.file(&file),
        None => check.door(admin).await,
    };
    let outcome = outcome.and_then(|()| check.end());
    let head = format!("{}:{}", check.chain.rows(), check.chain.head());
    if form == Output::Json {
        let said = outcome.as_ref().err().map(ToString::to_string);
        let report =
            json!({"whole": outcome.is_ok(), "rows": check.chain.rows(), "head": head, "problem": said});
        output::json(&report);
    } else if outcome.is_ok() {
        output::line(format!("whole: {} rows, each follows from the one before", check.chain.rows()));
        output::line(format!("head   {head}"));
        output::line(
            "Keep the head elsewhere: with --expect it shows later that nothing before it was cut off.",
        );
    }
    outcome
}

/// A check under way.
struct Check {
    chain: AuditChain,
    expect: Option<Anchor>,
    met: bool,
}

impl Check {
    async fn door(&mut self, admin: &AdminArgs) -> Result<(), Failure> {
        let mut pages = Pages::new(admin)?;
        while let Some(rows) = pages.next().await? {
            for row in rows {
                self.take(row)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path) -> Result<(), Failure> {
        let wrong = |error: std::io::Error| Failure::new(Exit::Usage, format!("{}: {error}", path.display()));
        for line in BufReader::new(std::fs::File::open(path).map_err(wrong)?).lines() {
            let line = line.map_err(wrong)?;
            if line.is_empty() {
                continue;
            }
            let after = self.chain.rows();
            let row = serde_json::from_str(&line)
                .map_err(|error| broken(format!("what follows row {after} is no row: {error}")))?;
            self.take(row)?;
        }
        Ok(())
    }

    fn take(&mut self, row: Value) -> Result<(), Failure> {
        let after = self.chain.rows();
        let row: ExportedRow = serde_json::from_value(row)
            .map_err(|error| broken(format!("what follows row {after} is no row: {error}")))?;
        let row = AuditRow::from(row);
        self.chain.follow(&row).map_err(|found| broken(found.to_string()))?;
        if let Some(expected) = self.expect.as_ref().filter(|expected| expected.seq == row.seq) {
            if expected.hash != row.hash {
                let said =
                    format!("row {} has another hash than was expected: the log was rewritten", row.seq);
                return Err(broken(said));
            }
            self.met = true;
        }
        Ok(())
    }

    /// A log that ends before the expected row was cut off.
    fn end(&self) -> Result<(), Failure> {
        match &self.expect {
            Some(expected) if !self.met && expected.seq > 0 => {
                let (rows, expected) = (self.chain.rows(), expected.seq);
                Err(broken(format!(
                    "the log ends with row {rows}; row {expected} was there: its end was cut off"
                )))
            }
            _ => Ok(()),
        }
    }
}

/// The log through the admin door, page by page, from the first row on.
struct Pages {
    client: AdminClient,
    cursor: Option<u64>,
    ended: bool,
}

impl Pages {
    fn new(admin: &AdminArgs) -> Result<Self, Failure> {
        Ok(Self { client: AdminClient::new(admin)?, cursor: None, ended: false })
    }

    async fn next(&mut self) -> Result<Option<Vec<Value>>, Failure> {
        if self.ended {
            return Ok(None);
        }
        let cursor = self.cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let path = format!("/admin/api/audit?limit={PAGE}{cursor}");
        let mut page = self.client.call(Method::GET, &path, None).await?;
        let next = page["next_cursor"].as_str().and_then(|cursor| cursor.parse().ok());
        // A cursor that does not go on would have us read for ever.
        self.ended = next.is_none() || next <= self.cursor;
        self.cursor = next;
        match page["items"].take() {
            Value::Array(rows) => Ok(Some(rows)),
            _ => Err(broken("the door's answer is no page of an audit log".into())),
        }
    }
}

/// A row as the door and an exported file show it. The text of the moment is for people; the hash is over `at_ms`.
#[derive(Debug, Deserialize)]
struct ExportedRow {
    seq: u64,
    at_ms: i64,
    actor: String,
    action: String,
    object: String,
    outcome: String,
    detail: String,
    prev_hash: String,
    hash: String,
}

impl From<ExportedRow> for AuditRow {
    fn from(row: ExportedRow) -> Self {
        let ExportedRow { seq, at_ms, actor, action, object, outcome, detail, prev_hash, hash } = row;
        Self { seq, at: Timestamp(at_ms), actor, action, object, outcome, detail, prev_hash, hash }
    }
}

fn broken(said: String) -> Failure {
    Failure::new(Exit::Failed, said)
}

const PAGE: u32 = 500;
const COLUMNS: &[(&str, &str)] = &[
    ("ROW", "seq"),
    ("AT", "at"),
    ("ACTOR", "actor"),
    ("ACTION", "action"),
    ("OBJECT", "object"),
    ("OUTCOME", "outcome"),
    ("DETAIL", "detail"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchor_is_a_number_and_a_hash() {
        let hash = "0f".repeat(32);
        let anchor: Anchor = format!("12:{}", hash.to_uppercase()).parse().unwrap();
        assert_eq!(anchor, Anchor { seq: 12, hash });
        for wrong in ["", "12", "12:", "12:0f", "x:0f", &format!("-1:{}", "0f".repeat(32))] {
            assert!(wrong.parse::<Anchor>().is_err(), "{wrong}");
        }
    }
}
