use std::path::Path;

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, sqlite::SqliteConnectOptions};

use super::*;
use crate::{AuditBreak, AuditChain};

fn entry(detail: &str) -> AuditEntry {
    AuditEntry::done(&Actor::System, "test.act", "nothing", detail)
}

async fn add_rows(store: &Store, count: i64) {
    for number in 0..count {
        store.append_audit(entry(&number.to_string()), Timestamp(number)).await.unwrap();
    }
}

async fn check(store: &Store) -> Result<AuditChain, AuditBreak> {
    store.verify_audit().await.unwrap()
}

/// Changes the closed database file behind the program's back, then checks the log.
async fn after_tampering(sql: &str) -> (Result<AuditChain, AuditBreak>, AuditChain) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tcpmux.db");
    let store = Store::open(&path).await.unwrap();
    add_rows(&store, 5).await;
    let before = check(&store).await.unwrap();
    store.close().await;
    tamper(&path, sql).await;
    let store = Store::open(&path).await.unwrap();
    let checked = check(&store).await;
    store.close().await;
    (checked, before)
}

async fn tamper(path: &Path, sql: &str) {
    let mut connection = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    let sql = format!("DROP TRIGGER audit_rows_do_not_change; DROP TRIGGER audit_rows_stay; {sql}");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

#[tokio::test]
async fn rows_form_a_chain_and_are_paged_from_either_end() {
    let store = Store::in_memory().await.unwrap();
    add_rows(&store, 3).await;
    let rows = store.audit(0, 2).await.unwrap();
    assert_eq!(rows.iter().map(|r| r.seq).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(rows[1].prev_hash, rows[0].hash);
    assert_eq!(store.audit(2, 10).await.unwrap().len(), 1);
    let newest = store.latest_audit(None, 2).await.unwrap();
    assert_eq!(newest.iter().map(|r| r.seq).collect::<Vec<_>>(), [3, 2]);
    assert_eq!(store.latest_audit(Some(2), 2).await.unwrap(), store.audit(0, 1).await.unwrap());
    let chain = check(&store).await.unwrap();
    assert_eq!((chain.rows(), chain.head()), (3, &*newest[0].hash));
}

#[tokio::test]
async fn rows_are_neither_changed_nor_removed() {
    let store = Store::in_memory().await.unwrap();
    add_rows(&store, 3).await;
    for sql in ["UPDATE audit SET detail = 'x' WHERE seq = 2", "DELETE FROM audit"] {
        let tried = store.write(move |c| {
            Box::pin(async move {
                sqlx::query(sql).execute(c).await?;
                Ok(())
            })
        });
        assert!(tried.await.is_err(), "{sql}");
    }
    assert_eq!(check(&store).await.unwrap().rows(), 3);
}

#[tokio::test]
async fn any_change_of_any_column_of_any_row_is_found_at_that_row() {
    for row in 1..=5_u64 {
        for change in [
            "at = at + 1",
            "actor = actor || ' '",
            "action = 'Test.act'",
            "object = ''",
            "outcome = 'refused'",
            "detail = detail || x'00'",
            // Between two columns: the same letters in the same order.
            "action = action || 'n', object = 'othing'",
        ] {
            let (checked, _) = after_tampering(&format!("UPDATE audit SET {change} WHERE seq = {row}")).await;
            assert_eq!(checked, Err(AuditBreak::Content(row)), "{change}");
        }
        for (change, found) in [
            ("hash = CAST(x'ff' || substr(hash, 2) AS BLOB)", AuditBreak::Content(row)),
            ("prev_hash = CAST(x'ff' || substr(prev_hash, 2) AS BLOB)", AuditBreak::Previous(row)),
        ] {
            let (checked, _) = after_tampering(&format!("UPDATE audit SET {change} WHERE seq = {row}")).await;
            assert_eq!(checked, Err(found), "{change}");
        }
    }
}

#[tokio::test]
async fn rows_that_are_taken_out_put_in_or_exchanged_are_found() {
    let copy = |from: u64, to: u64| {
        format!(
            "INSERT INTO audit SELECT {to}, at, actor, action, object, outcome, detail, prev_hash, hash
             FROM audit WHERE seq = {from};"
        )
    };
    let (checked, _) = after_tampering("DELETE FROM audit WHERE seq = 3").await;
    assert_eq!(checked, Err(AuditBreak::Missing { expected: 3, found: 4 }));
    let (checked, _) = after_tampering("DELETE FROM audit WHERE seq = 1").await;
    assert_eq!(checked, Err(AuditBreak::Missing { expected: 1, found: 2 }));
    let push = "UPDATE audit SET seq = -seq WHERE seq > 2; UPDATE audit SET seq = 1 - seq WHERE seq < 0;";
    let (checked, _) = after_tampering(&format!("{push} {}", copy(2, 3))).await;
    assert_eq!(checked, Err(AuditBreak::Previous(3)), "one was put in");
    let (checked, _) = after_tampering(&copy(5, 6)).await;
    assert_eq!(checked, Err(AuditBreak::Previous(6)), "one was put behind");
    let swap = "UPDATE audit SET seq = 9 WHERE seq = 2; UPDATE audit SET seq = 2 WHERE seq = 3;
                UPDATE audit SET seq = 3 WHERE seq = 9;";
    let (checked, _) = after_tampering(swap).await;
    assert_eq!(checked, Err(AuditBreak::Previous(2)));
}

#[tokio::test]
async fn rows_cut_off_at_the_end_are_seen_by_who_kept_the_head() {
    let (checked, before) = after_tampering("DELETE FROM audit WHERE seq > 3").await;
    let cut = checked.expect("what is left is a whole chain: alone it cannot tell");
    assert_eq!((cut.rows(), before.rows()), (3, 5));
    assert_ne!(cut.head(), before.head());
    let (checked, before) = after_tampering("SELECT 1").await;
    assert_eq!(checked.unwrap(), before, "and nothing is found where nothing was done");
}
