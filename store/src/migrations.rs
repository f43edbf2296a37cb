//! Bringing a database file to the schema that this program knows. Files are numbered, run in
//! order, each in one transaction, and are never edited; `user_version` tells how far a file is.

use std::path::Path;

use sqlx::SqliteConnection;

use crate::OpenError;

/// Every migration in order; the n-th leads to schema n and ends by setting `user_version` to n.
const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_first.sql"),
    include_str!("../migrations/0002_events.sql"),
    include_str!("../migrations/0003_tenants.sql"),
    include_str!("../migrations/0004_api.sql"),
    include_str!("../migrations/0005_sign_in.sql"),
    include_str!("../migrations/0006_notifications.sql"),
    include_str!("../migrations/0007_claims.sql"),
    include_str!("../migrations/0008_event_bytes.sql"),
    include_str!("../migrations/0009_floor_times.sql"),
];

/// `tcmx`, in the header of every database of ours.
const APPLICATION: i64 = 0x7463_6d78;

pub(crate) async fn migrate(connection: &mut SqliteConnection, path: &Path) -> Result<(), OpenError> {
    let found: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *connection).await?;
    let application: i64 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut *connection).await?;
    let tables: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut *connection).await?;
    if application != APPLICATION && tables > 0 {
        return Err(OpenError::Foreign { path: path.to_owned() });
    }
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(OpenError::NewerSchema { found, known });
    }
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(usize::try_from(found).unwrap_or(0)) {
        sqlx::query("BEGIN EXCLUSIVE").execute(&mut *connection).await?;
        sqlx::raw_sql(*migration).execute(&mut *connection).await?;
        sqlx::query("COMMIT").execute(&mut *connection).await?;
        tracing::info!(schema = index + 1, "database migrated");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};

    use super::*;
    use crate::Store;

    async fn scratch(path: &Path, sql: &'static str) {
        let mut connection =
            SqliteConnectOptions::new().filename(path).create_if_missing(true).connect().await.unwrap();
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        sqlx::Connection::close(connection).await.unwrap();
    }

    #[tokio::test]
    async fn an_older_program_refuses_a_newer_schema_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tcpmux.db");
        Store::open(&path).await.unwrap().close().await;
        scratch(&path, "PRAGMA user_version = 99").await;
        let error = Store::open(&path).await.unwrap_err();
        let known = i64::try_from(MIGRATIONS.len()).unwrap();
        assert!(
            matches!(error, OpenError::NewerSchema { found: 99, known: told } if told == known),
            "{error}"
        );
        assert!(error.to_string().contains("newer program"));
    }

    #[tokio::test]
    async fn another_programs_database_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("photos.db");
        scratch(&path, "CREATE TABLE photos (id INTEGER)").await;
        assert!(matches!(Store::open(&path).await.unwrap_err(), OpenError::Foreign { .. }));
    }

    #[tokio::test]
    async fn every_table_is_strict() {
        let store = Store::in_memory().await.unwrap();
        let loose: Vec<String> = store
            .read(|c| {
                Box::pin(async move {
                    Ok(sqlx::query_scalar(
                        "SELECT name FROM pragma_table_list
                         WHERE type = 'table' AND strict = 0 AND name NOT LIKE 'sqlite_%'",
                    )
                    .fetch_all(c)
                    .await?)
                })
            })
            .await
            .unwrap();
        assert_eq!(loose, Vec::<String>::new());
    }
}
