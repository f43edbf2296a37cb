//! The one writer: many requests, one transaction, one `COMMIT`.
//!
//! A durable commit costs a flush of the disk; what waits while one flush runs shares the next. Each
//! request runs inside its own savepoint, so that one's failure does not harm the others, and nobody
//! is answered before the commit is durable.

use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::{Connection, SqliteConnection};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

use crate::{StoreError, events};

/// What a caller wants done on the connection.
pub(crate) type Work<T> =
    Box<dyn for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, StoreError>> + Send>;

/// The callers' end of the queue.
#[derive(Debug, Clone)]
pub(crate) struct Writer(mpsc::Sender<Box<dyn Request>>);

/// Starts with the queue's two ends; [`WriterLoop::run`] is what has to run.
/// `newest_event` hears the number of the newest event whenever one more is durable.
pub(crate) fn writer(connection: SqliteConnection, newest_event: watch::Sender<u64>) -> (Writer, WriterLoop) {
    let (sender, receiver) = mpsc::channel(REQUESTS_QUEUED);
    (Writer(sender), WriterLoop { connection, receiver, newest_event })
}

impl Writer {
    /// Has the work done in the next group, and returns once that is durable.
    pub(crate) async fn submit<T: Send + 'static>(&self, work: Work<T>) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let request = Box::new(Pending { work: Some(work), outcome: None, reply });
        match timeout(QUEUE_WAIT, self.0.send(request)).await {
            Err(_) => return Err(StoreError::Overloaded),
            Ok(Err(_)) => return Err(StoreError::Closed),
            Ok(Ok(())) => {}
        }
        answer.await.unwrap_or(Err(StoreError::Closed))
    }
}

/// The writer's own side: it ends when the last [`Writer`] is gone.
pub(crate) struct WriterLoop {
    connection: SqliteConnection,
    receiver: mpsc::Receiver<Box<dyn Request>>,
    newest_event: watch::Sender<u64>,
}

impl WriterLoop {
    pub(crate) async fn run(mut self) {
        let mut group = Vec::new();
        while self.receiver.recv_many(&mut group, REQUESTS_IN_A_GROUP).await > 0 {
            // A caller who left before the start wants nothing done any more.
            group.retain(|request| request.is_wanted());
            let committed = self.commit(&mut group).await;
            if let Err(error) = &committed {
                tracing::warn!(requests = group.len(), %error, "a group of writes was not committed");
            }
            for request in group.drain(..) {
                request.answer(&committed);
            }
        }
        // Closing writes the log back into the database file.
        if let Err(error) = self.connection.close().await {
            tracing::warn!(%error, "the database did not close cleanly");
        }
    }

    async fn commit(&mut self, group: &mut [Box<dyn Request>]) -> Result<(), StoreError> {
        if group.is_empty() {
            return Ok(());
        }
        let committed = self.transaction(group).await;
        if committed.is_err() {
            // Some failures end the transaction, some leave it open; an error here means the former.
            let _ = sqlx::query("ROLLBACK").execute(&mut self.connection).await;
        }
        committed
    }

    async fn transaction(&mut self, group: &mut [Box<dyn Request>]) -> Result<(), StoreError> {
        let connection = &mut self.connection;
        // Each statement is a trip to SQLite's thread and back, so the ends of one request and the begin of the next
        // are one. COMMIT takes the last savepoint with it.
        sqlx::query("BEGIN IMMEDIATE; SAVEPOINT request").execute(&mut *connection).await?;
        for request in group {
            let go_on = match request.run(connection).await {
                true => "RELEASE request; SAVEPOINT request",
                false => "ROLLBACK TO request",
            };
            sqlx::query(go_on).execute(&mut *connection).await?;
        }
        let newest = events::newest(connection).await?;
        sqlx::query("COMMIT").execute(&mut *connection).await?;
        // Only now may anybody be woken: what they read then is there for good.
        self.newest_event.send_if_modified(|known| std::mem::replace(known, newest) != newest);
        Ok(())
    }
}

/// A request whatever it returns.
trait Request: Send {
    fn is_wanted(&self) -> bool;
    fn run<'c>(&'c mut self, connection: &'c mut SqliteConnection) -> BoxFuture<'c, bool>;
    fn answer(self: Box<Self>, committed: &Result<(), StoreError>);
}

struct Pending<T> {
    work: Option<Work<T>>,
    outcome: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T: Send> Request for Pending<T> {
    fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    fn run<'c>(&'c mut self, connection: &'c mut SqliteConnection) -> BoxFuture<'c, bool> {
        Box::pin(async move {
            let Some(work) = self.work.take() else { return false };
            let outcome = work(connection).await;
            let succeeded = outcome.is_ok();
            self.outcome = Some(outcome);
            succeeded
        })
    }

    fn answer(self: Box<Self>, committed: &Result<(), StoreError>) {
        let outcome = match (committed, self.outcome) {
            // Its own refusal stands whatever became of the group.
            (_, Some(Err(error))) => Err(error),
            (Err(error), _) => Err(error.clone()),
            (Ok(()), Some(done)) => done,
            (Ok(()), None) => Err(StoreError::Closed),
        };
        // Whoever left does not need the answer.
        let _ = self.reply.send(outcome);
    }
}

const REQUESTS_QUEUED: usize = 2048;
const REQUESTS_IN_A_GROUP: usize = 256;
const QUEUE_WAIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use crate::{Store, StoreError};

    async fn insert(store: &Store, name: &'static str) -> Result<(), StoreError> {
        store
            .write(move |c| {
                Box::pin(async move {
                    sqlx::query("INSERT INTO counters (name, value) VALUES ('test ' || ?, 1)")
                        .bind(name)
                        .execute(c)
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    async fn count(store: &Store) -> i64 {
        store
            .read(|c| {
                Box::pin(async move {
                    Ok(sqlx::query_scalar("SELECT count(*) FROM counters WHERE name LIKE 'test %'")
                        .fetch_one(c)
                        .await?)
                })
            })
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn one_request_that_fails_does_not_harm_those_beside_it() {
        let store = Store::in_memory().await.unwrap();
        insert(&store, "taken").await.unwrap();
        let outcomes = join_all(["a", "taken", "b", "taken", "c"].map(|name| insert(&store, name))).await;
        let succeeded: Vec<_> = outcomes.iter().map(Result::is_ok).collect();
        assert_eq!(succeeded, [true, false, true, false, true]);
        assert_eq!(count(&store).await, 4);
    }

    #[tokio::test]
    async fn a_commit_that_fails_is_told_to_everyone_in_the_group_and_leaves_nothing() {
        let store = Store::in_memory().await.unwrap();
        let poison = store.write::<(), _>(|c| {
            Box::pin(async move {
                sqlx::query("PRAGMA defer_foreign_keys = ON").execute(&mut *c).await?;
                sqlx::query("INSERT INTO devices (tenant, id, created_at) VALUES ('nobody', 'x', 0)")
                    .execute(c)
                    .await?;
                Ok(())
            })
        });
        let (poisoned, beside) = tokio::join!(poison, insert(&store, "beside"));
        assert!(matches!(poisoned, Err(StoreError::Unavailable(_))), "{poisoned:?}");
        assert!(matches!(beside, Err(StoreError::Unavailable(_))), "{beside:?}");
        assert_eq!(count(&store).await, 0);
        insert(&store, "beside").await.unwrap();
        assert_eq!(count(&store).await, 1);
    }

    #[tokio::test]
    async fn a_full_database_says_so_and_works_again_when_there_is_space() {
        let store = Store::in_memory().await.unwrap();
        let fill = |pages: &'static str| {
            store.write::<(), _>(move |c| {
                Box::pin(async move {
                    sqlx::query(pages).execute(&mut *c).await?;
                    sqlx::query("INSERT INTO meta (key, value) VALUES ('big', hex(zeroblob(1000000)))")
                        .execute(c)
                        .await?;
                    Ok(())
                })
            })
        };
        let (full, beside) = tokio::join!(fill("PRAGMA max_page_count = 1"), insert(&store, "beside"));
        assert!(matches!(full, Err(StoreError::Full)), "{full:?}");
        assert!(beside.is_ok() || matches!(beside, Err(StoreError::Full | StoreError::Unavailable(_))));
        fill("PRAGMA max_page_count = 100000").await.unwrap();
    }

    #[tokio::test]
    async fn a_closed_store_refuses() {
        let store = Store::in_memory().await.unwrap();
        let other = store.clone();
        store.close().await;
        assert!(matches!(insert(&other, "late").await, Err(StoreError::Closed)));
    }
}
