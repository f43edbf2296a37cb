//! The audit log: rows are only added, each carries the hash of the one before it.

use aws_lc_rs::digest::{Context, SHA256};
use model::{Actor, Timestamp};
use serde::Serialize;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use crate::{Store, StoreError, column};

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

/// What a check of the whole log found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every row follows from the one before; there are this many.
    Whole(u64),
    /// This is the first row that does not fit.
    BrokenAt(u64),
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
    pub async fn verify_audit(&self) -> Result<Verdict, StoreError> {
        let (mut last, mut hash) = (0, model::hex(&[0; 32]));
        loop {
            let rows = self.audit(last, VERIFY_STEP).await?;
            if rows.is_empty() {
                return Ok(Verdict::Whole(last));
            }
            for row in rows {
                let fits = row.seq == last + 1 && row.prev_hash == hash && row.hash == row_hash(&row);
                if !fits {
                    return Ok(Verdict::BrokenAt(row.seq));
                }
                (last, hash) = (row.seq, row.hash);
            }
        }
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
        None => (0, [0; 32]),
    };
    let seq = column::number("seq", last + 1)?;
    let parts = [&entry.actor, entry.action, &entry.object, entry.outcome, &entry.detail];
    let hash = link(seq, at, parts, &prev_hash);
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

fn row_hash(row: &AuditRow) -> String {
    let parts = [&*row.actor, &row.action, &row.object, &row.outcome, &row.detail];
    let previous = model::unhex(&row.prev_hash).unwrap_or_default();
    model::hex(&link(row.seq, row.at, parts, &previous))
}

/// Every part is preceded by its length, so that no two rows have the same octets.
fn link(seq: u64, at: Timestamp, parts: [&str; 5], previous: &[u8]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(&seq.to_be_bytes());
    context.update(&at.0.to_be_bytes());
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    context.update(previous);
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
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
mod tests {
    use super::*;

    fn entry(detail: &str) -> AuditEntry {
        AuditEntry::done(&Actor::System, "test.act", "nothing", detail)
    }

    async fn three_rows() -> Store {
        let store = Store::in_memory().await.unwrap();
        for number in 0..3 {
            store.append_audit(entry(&number.to_string()), Timestamp(number)).await.unwrap();
        }
        store
    }

    async fn tamper(store: &Store, sql: &'static str) -> Result<(), StoreError> {
        store
            .write(move |c| {
                Box::pin(async move {
                    sqlx::raw_sql(sql).execute(c).await?;
                    Ok(())
                })
            })
            .await
    }

    #[tokio::test]
    async fn rows_form_a_chain_and_are_paged() {
        let store = three_rows().await;
        let rows = store.audit(0, 2).await.unwrap();
        assert_eq!(rows.iter().map(|r| r.seq).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(rows[1].prev_hash, rows[0].hash);
        assert_eq!(store.audit(2, 10).await.unwrap().len(), 1);
        assert_eq!(store.verify_audit().await.unwrap(), Verdict::Whole(3));
    }

    #[tokio::test]
    async fn rows_are_neither_changed_nor_removed() {
        let store = three_rows().await;
        assert!(tamper(&store, "UPDATE audit SET detail = 'x' WHERE seq = 2").await.is_err());
        assert!(tamper(&store, "DELETE FROM audit").await.is_err());
    }

    #[tokio::test]
    async fn a_row_changed_behind_our_back_is_found() {
        for (change, broken) in [
            ("DROP TRIGGER audit_rows_do_not_change; UPDATE audit SET detail = 'x' WHERE seq = 2", 2),
            ("DROP TRIGGER audit_rows_stay; DELETE FROM audit WHERE seq = 1", 2),
        ] {
            let store = three_rows().await;
            tamper(&store, change).await.unwrap();
            assert_eq!(store.verify_audit().await.unwrap(), Verdict::BrokenAt(broken));
        }
    }
}
