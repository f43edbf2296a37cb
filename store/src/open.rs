//! Opening and closing, and the two ways in: one writer, several readers.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use sqlx::{
    ConnectOptions, SqliteConnection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
};

use crate::{
    OpenError, StoreError, events, migrations,
    writer::{Writer, writer},
};

/// The rows of one deployment. Cloning shares them.
///
/// Writes go through one task that commits them in groups: each request has its own savepoint, one
/// flush makes all of them durable, and only then is anybody answered. Reads have connections of
/// their own and see everything that was answered before they began.
#[derive(Debug, Clone)]
pub struct Store(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    writer: Mutex<Option<Writer>>,
    /// Told when the writer has closed the file.
    ended: Mutex<Option<oneshot::Receiver<()>>>,
    /// None for a store in memory, whose one connection also reads.
    readers: Option<SqlitePool>,
    newest_event: watch::Receiver<u64>,
}

impl Store {
    /// Opens the database file, makes it (mode 0600) where there is none, and migrates it.
    pub async fn open(path: &Path) -> Result<Self, OpenError> {
        make_private(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            .pragma("journal_size_limit", JOURNAL_BYTES);
        let mut connection = options.connect().await?;
        migrations::migrate(&mut connection, path).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(BUSY_TIMEOUT)
            // Nobody hangs up on a file: to ask first whether the connection stands would cost as much as a read.
            .test_before_acquire(false)
            .connect_with(options.read_only(true))
            .await?;
        let newest = events::newest(&mut connection).await?;
        Self::start(connection, Some(readers), newest)
    }

    /// A store that ends with the process: for tests and for trying things out.
    pub async fn in_memory() -> Result<Self, OpenError> {
        let mut connection = SqliteConnectOptions::new().in_memory(true).foreign_keys(true).connect().await?;
        migrations::migrate(&mut connection, Path::new(":memory:")).await?;
        let newest = events::newest(&mut connection).await?;
        Self::start(connection, None, newest)
    }

    /// Ends the writer after what is queued, and closes the file. Later calls are refused.
    pub async fn close(&self) {
        drop(self.0.writer.lock().unwrap_or_else(PoisonError::into_inner).take());
        let ended = self.0.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ended) = ended
            && ended.await.is_err()
        {
            tracing::error!("the database writer ended badly");
        }
        if let Some(readers) = &self.0.readers {
            readers.close().await;
        }
    }

    /// The number of the newest event of the log (0 before the first), told anew once more are durable.
    pub fn newest_event(&self) -> watch::Receiver<u64> {
        self.0.newest_event.clone()
    }

    /// Does the work in the next group of writes; returns once it is durable.
    pub(crate) async fn write<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, StoreError>> + Send + 'static,
    {
        let writer = self.0.writer.lock().unwrap_or_else(PoisonError::into_inner).clone();
        writer.ok_or(StoreError::Closed)?.submit(Box::new(work)).await
    }

    /// Does work that changes nothing, beside the writer.
    pub(crate) async fn read<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, StoreError>> + Send + 'static,
    {
        match &self.0.readers {
            None => self.write(work).await,
            Some(readers) => {
                let mut connection = readers.acquire().await?;
                work(&mut connection).await
            }
        }
    }

    /// The writer has a thread of its own: it speaks with SQLite's thread many times for each group, and as a task it
    /// would wait each time behind whatever else is ready to run. It ends with the last [`Store`].
    fn start(
        connection: SqliteConnection,
        readers: Option<SqlitePool>,
        newest: u64,
    ) -> Result<Self, OpenError> {
        let (tell, newest_event) = watch::channel(newest);
        let (writer, writing) = writer(connection, tell);
        let (has_ended, ended) = oneshot::channel();
        let runtime = Handle::current();
        let thread = std::thread::Builder::new().name("store writer".into());
        let writing = move || {
            runtime.block_on(writing.run());
            // Nobody may be waiting for it.
            let _ = has_ended.send(());
        };
        thread.spawn(writing).map_err(sqlx::Error::Io)?;
        Ok(Self(Arc::new(Inner {
            writer: Mutex::new(Some(writer)),
            ended: Mutex::new(Some(ended)),
            readers,
            newest_event,
        })))
    }
}

/// Makes the file before SQLite does, so that nobody else can ever read it: its journals get the same mode.
fn make_private(path: &Path) -> Result<(), OpenError> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let file_error = |source| OpenError::File { path: path.to_owned(), source };
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .and_then(|file| file.set_permissions(std::fs::Permissions::from_mode(0o600)))
        .map_err(file_error)
}

const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
const READERS: u32 = 4;
/// What the log may keep on disk after it was written back, whatever a burst made it.
const JOURNAL_BYTES: &str = "67108864";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn what_was_written_is_there_after_a_restart_and_others_cannot_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tcpmux.db");
        let store = Store::open(&path).await.unwrap();
        assert_eq!(store.next_epoch().await.unwrap(), 1);
        for name in ["tcpmux.db", "tcpmux.db-wal"] {
            let mode = std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        store.close().await;
        let store = Store::open(&path).await.unwrap();
        assert_eq!(store.next_epoch().await.unwrap(), 2);
    }

    #[tokio::test]
    async fn every_commit_is_flushed_and_foreign_keys_hold() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("tcpmux.db")).await.unwrap();
        let pragmas = store
            .write(|c| {
                Box::pin(async move {
                    let synchronous: i64 =
                        sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut *c).await?;
                    let foreign: i64 = sqlx::query_scalar("PRAGMA foreign_keys").fetch_one(&mut *c).await?;
                    let journal: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(c).await?;
                    Ok((synchronous, foreign, journal))
                })
            })
            .await
            .unwrap();
        assert_eq!(pragmas, (2, 1, "wal".into()));
    }

    #[tokio::test]
    async fn readers_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("tcpmux.db")).await.unwrap();
        let refused = store
            .read::<(), _>(|c| {
                Box::pin(async move {
                    sqlx::query("DELETE FROM tenants").execute(c).await?;
                    Ok(())
                })
            })
            .await;
        assert!(refused.is_err());
    }
}
