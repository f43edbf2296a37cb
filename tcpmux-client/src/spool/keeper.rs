//! The queue for async code: many programs share one flush, and nobody waits for the disk on a thread that others
//! need.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use model::{Moment, Timestamp};
use runtime::Tasks;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, mpsc, oneshot};

use super::{BatchLimits, NewRecord, Record, Spool, SpoolError};

/// What `tcpmux-client status` shows of the queue.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SpoolStatus {
    /// Items that wait for the cloud.
    pub waiting: u64,
    /// Bytes on disk.
    pub bytes: u64,
    /// When the oldest of them was taken in, RFC 3339.
    pub oldest: Option<String>,
    /// Items refused since the start, for want of room.
    pub refused: u64,
    /// Items that the cloud has since the start.
    pub uploaded: u64,
    /// Items that the cloud will never take, dropped since the start.
    pub dropped: u64,
    /// Why the last upload failed, while none has succeeded since.
    pub last_error: Option<String>,
}

/// Takes items in and hands them out. Cloning shares it.
#[derive(Debug, Clone)]
pub(crate) struct SpoolKeeper {
    intake: mpsc::Sender<Intake>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Locked on threads for blocking work alone.
    spool: Mutex<Spool>,
    status: Mutex<SpoolStatus>,
    news: Notify,
}

#[derive(Debug)]
struct Intake {
    records: Vec<NewRecord>,
    at: Timestamp,
    reply: oneshot::Sender<Result<(), SpoolError>>,
}

impl SpoolKeeper {
    /// Opens the queue in this directory; it works in `tasks` from now on.
    pub(crate) async fn open(directory: PathBuf, most_bytes: u64, tasks: &Tasks) -> std::io::Result<Self> {
        let spool = blocking(move || Spool::open(&directory, most_bytes)).await?;
        let (intake, queue) = mpsc::channel(INTAKES_QUEUED);
        let status = Mutex::default();
        let shared = Arc::new(Shared { spool: Mutex::new(spool), status, news: Notify::new() });
        shared.note(&shared.locked(), |_| {});
        tasks.spawn(take_in(queue, Arc::clone(&shared)));
        Ok(Self { intake, shared })
    }

    /// Returns once all of these survive a power cut, or none was taken in.
    pub(crate) async fn store(&self, records: Vec<NewRecord>, at: Timestamp) -> Result<(), SpoolError> {
        let (reply, outcome) = oneshot::channel();
        let ending = || SpoolError::Disk("this daemon is ending".into());
        self.intake.send(Intake { records, at, reply }).await.map_err(|_| ending())?;
        outcome.await.unwrap_or_else(|_| Err(ending()))
    }

    /// The oldest items; none if nothing waits.
    pub(crate) async fn peek(&self, limits: BatchLimits) -> std::io::Result<Vec<Record>> {
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let mut spool = shared.locked();
            let batch = spool.peek(limits);
            shared.note(&spool, |_| {});
            batch
        })
        .await
    }

    /// The cloud has these, but for those that it will never take.
    pub(crate) async fn acknowledge(&self, batch: Vec<Record>, dropped: u64) -> std::io::Result<()> {
        let shared = Arc::clone(&self.shared);
        blocking(move || {
            let mut spool = shared.locked();
            let acknowledged = spool.acknowledge(&batch);
            shared.note(&spool, |status| {
                status.uploaded += (batch.len() as u64).saturating_sub(dropped);
                status.dropped += dropped;
            });
            acknowledged
        })
        .await
    }

    /// Waits until something may have come in since the last call.
    pub(crate) async fn news(&self) {
        self.shared.news.notified().await;
    }

    /// How the last upload went.
    pub(crate) fn uploaded(&self, outcome: Result<(), String>) {
        self.shared.status().last_error = outcome.err();
    }

    /// What to show.
    pub(crate) fn status(&self) -> SpoolStatus {
        self.shared.status().clone()
    }
}

impl Shared {
    fn locked(&self) -> MutexGuard<'_, Spool> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn status(&self) -> MutexGuard<'_, SpoolStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, spool: &Spool, change: impl FnOnce(&mut SpoolStatus)) {
        let mut status = self.status();
        status.waiting = spool.waiting();
        status.bytes = spool.bytes();
        status.oldest = spool.oldest().map(|at| Moment(at).to_string());
        change(&mut status);
    }
}

async fn take_in(mut queue: mpsc::Receiver<Intake>, shared: Arc<Shared>) {
    let mut waiting = vec![];
    while queue.recv_many(&mut waiting, INTAKES_IN_A_FLUSH).await > 0 {
        let mut replies = vec![];
        let (mut groups, mut latest) = (vec![], Timestamp(i64::MIN));
        for Intake { records, at, reply } in waiting.drain(..) {
            latest = latest.max(at);
            replies.push((reply, records.len() as u64));
            groups.push(records);
        }
        let working = Arc::clone(&shared);
        let outcomes = blocking(move || {
            let mut spool = working.locked();
            let outcomes = spool.append(groups, latest);
            working.note(&spool, |_| {});
            Ok(outcomes)
        });
        let outcomes = outcomes.await.unwrap_or_default();
        let mut outcomes = outcomes.into_iter();
        for (reply, items) in replies {
            let outcome =
                outcomes.next().unwrap_or_else(|| Err(SpoolError::Disk("it did not answer".into())));
            if let Err(error) = &outcome {
                shared.status().refused += items;
                tracing::warn!(%error, items, "what a local program reported was not taken in");
            }
            // Whoever left does not need the answer.
            let _ = reply.send(outcome);
        }
        shared.news.notify_one();
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

const INTAKES_QUEUED: usize = 16;
const INTAKES_IN_A_FLUSH: usize = 4;

#[cfg(test)]
mod tests {
    use model::ReportKind;

    use super::*;

    fn item(text: String) -> NewRecord {
        NewRecord { kind: ReportKind::Telemetry, json: text.into_bytes() }
    }

    #[tokio::test]
    async fn what_many_programs_bring_at_once_is_all_there_and_the_status_counts_it() {
        let (folder, tasks) = (tempfile::tempdir().unwrap(), Tasks::new());
        let keeper = SpoolKeeper::open(folder.path().to_owned(), 1 << 20, &tasks).await.unwrap();
        let storing = (0..100).map(|number| keeper.store(vec![item(format!("{number}"))], Timestamp(number)));
        for outcome in futures_util::future::join_all(storing).await {
            outcome.unwrap();
        }
        keeper.news().await;
        assert_eq!(keeper.status().waiting, 100);
        assert!(keeper.status().oldest.is_some());
        let limits = BatchLimits { items: 60, bytes: 1 << 20 };
        let first = keeper.peek(limits).await.unwrap();
        keeper.acknowledge(first, 1).await.unwrap();
        let second = keeper.peek(limits).await.unwrap();
        assert_eq!(second.len(), 40);
        let status = keeper.status();
        assert_eq!((status.waiting, status.uploaded, status.dropped), (40, 59, 1));
        keeper.acknowledge(second, 0).await.unwrap();
        assert_eq!((keeper.status().waiting, keeper.status().oldest), (0, None));
        tasks.end();
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_counts_it_and_takes_again_when_there_is_room() {
        let (folder, tasks) = (tempfile::tempdir().unwrap(), Tasks::new());
        let keeper = SpoolKeeper::open(folder.path().to_owned(), 100_000, &tasks).await.unwrap();
        let large = || vec![item("x".repeat(30_000))];
        for _ in 0..3 {
            keeper.store(large(), Timestamp(1)).await.unwrap();
        }
        assert!(matches!(keeper.store(large(), Timestamp(1)).await, Err(SpoolError::Full(100_000))));
        assert_eq!((keeper.status().refused, keeper.status().waiting), (1, 3));
        let batch = keeper.peek(BatchLimits { items: 3, bytes: 1 << 20 }).await.unwrap();
        keeper.acknowledge(batch, 0).await.unwrap();
        keeper.store(large(), Timestamp(1)).await.unwrap();
        tasks.end();
    }
}
