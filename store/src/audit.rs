//! The audit log: rows are only added, each carries the hash of the one before it.

use model::{Actor, Timestamp};
use serde::Serialize;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{
    AuditBreak, AuditChain, Store, StoreError,
    audit_chain::{self, BEFORE_THE_FIRST},
    column,
};

/// What is to be remembered of an act. No secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Who did it, as in `admin@127.0.0.1:5000`, `device:default/cam-01`, `passcode:pc_…`, `system`.
    pub actor: String,
    /// What, as in `grant.put`.
    pub action: &'static str,
    /// To what, as in `device:default/cam-01`.
    pub object: String,
    /// What came of it: `ok`, or a word for the refusal.
    pub outcome: &'static str,
    /// Anything else worth knowing.
    pub detail: String,
}

impl AuditEntry {
    /// An act that succeeded.
    pub fn done(
        by: &Actor,
        action: &'static str,
        object: impl Into<String>,
        detail: impl Into<String>,
    ) -> Self {
        Self { actor: by.audit_name(), action, object: object.into(), outcome: "ok", detail: detail.into() }
    }
}

/// A row of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AuditRow {
    /// 1, 2, 3, … without gaps.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// What.
    pub action: String,
    /// To what.
    pub object: String,
    /// What came of it.
    pub outcome: String,
    /// Anything else.
    pub detail: String,
    /// The hash of the row before, 64 hex digits; zeros before the first.
    pub prev_hash: String,
    /// This row's hash over all of the above.
    pub hash: String,
}

impl Store {
    /// Adds a row for an act that changes no other row (a refusal, a token minted). Returns its number.
    pub async fn append_audit(&self, entry: AuditEntry, at: Timestamp) -> Result<u64, StoreError> {
        self.write(move |c| Box::pin(async move { append(c, &entry, at).await })).await
    }

    /// Rows after a number, oldest first, at most `limit`.
    pub async fn audit(&self, after: u64, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        self.read(move |c| {
            Box::pin(async move {
                let rows = sqlx::query("SELECT * FROM audit WHERE seq > ? ORDER BY seq LIMIT ?")
                    .bind(after)
                    .bind(limit)
                    .fetch_all(c)
                    .await?;
                rows.iter().map(audit_row).collect()
            })
        })
        .await
    }

    /// Reads the whole log and checks that each row follows from the one before.
    pub async fn verify_audit(&self) -> Result<Result<AuditChain, AuditBreak>, StoreError> {
        let mut chain = AuditChain::default();
        loop {
            let page = self.audit(chain.rows(), VERIFY_STEP).await?;
            if page.is_empty() {
                return Ok(Ok(chain));
            }
            for row in page {
                if let Err(found) = chain.follow(&row) {
                    return Ok(Err(found));
                }
            }
        }
    }

    /// The newest rows before a number, newest first, at most `limit`; `None` begins at the newest of all.
    pub async fn latest_audit(&self, before: Option<u64>, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        let before = before.map_or(i64::MAX, |before| i64::try_from(before).unwrap_or(i64::MAX));
        self.read(move |c| {
            Box::pin(async move {
                let rows = sqlx::query("SELECT * FROM audit WHERE seq < ? ORDER BY seq DESC LIMIT ?")
                    .bind(before)
                    .bind(limit)
                    .fetch_all(c)
                    .await?;
                rows.iter().map(audit_row).collect()
            })
        })
        .await
    }
}

/// Adds a row inside the transaction of the act.
pub(crate) async fn append(
    c: &mut SqliteConnection,
    entry: &AuditEntry,
    at: Timestamp,
) -> Result<u64, StoreError> {
    let last = sqlx::query("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1");
    let (last, prev_hash) = match last.fetch_optional(&mut *c).await? {
        Some(row) => (row.try_get::<i64, _>("seq")?, column::octets::<32>(&row, "hash")?),
        None => (0, BEFORE_THE_FIRST),
    };
    let seq = column::number("seq", last + 1)?;
    let parts = [&entry.actor, entry.action, &entry.object, entry.outcome, &entry.detail];
    let hash = audit_chain::hash(seq, at, parts, &prev_hash);
    sqlx::query(
        "INSERT INTO audit (seq, at, actor, action, object, outcome, detail, prev_hash, hash)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(last + 1)
    .bind(at.0)
    .bind(&entry.actor)
    .bind(entry.action)
    .bind(&entry.object)
    .bind(entry.outcome)
    .bind(&entry.detail)
    .bind(&prev_hash[..])
    .bind(&hash[..])
    .execute(c)
    .await?;
    Ok(seq)
}

fn audit_row(row: &SqliteRow) -> Result<AuditRow, StoreError> {
    Ok(AuditRow {
        seq: column::number("seq", row.try_get("seq")?)?,
        at: column::time(row, "at")?,
        actor: row.try_get("actor")?,
        action: row.try_get("action")?,
        object: row.try_get("object")?,
        outcome: row.try_get("outcome")?,
        detail: row.try_get("detail")?,
        prev_hash: model::hex(&column::octets::<32>(row, "prev_hash")?),
        hash: model::hex(&column::octets::<32>(row, "hash")?),
    })
}

const VERIFY_STEP: u32 = 1000;

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
