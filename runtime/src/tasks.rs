//! Every task of a process, so that its end can wait for all of them.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::task::JoinHandle;
use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFutureOwned},
    task::TaskTracker,
};

/// Spawns tasks and ends them in two steps: first [`Tasks::begin_drain`] (take nothing new, finish
/// what is live), then [`Tasks::end`] (stop now). Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    draining: CancellationToken,
    ended: CancellationToken,
    /// The same as `ended`, without a lock.
    is_ended: Arc<AtomicBool>,
}

pin_project! {
    /// A task's future, to be dropped when everything ends.
    ///
    /// It lies here once: an async block that awaits it would hold what it captured and what it awaits, and a tunnel's
    /// task is kilobytes. And its end is waited for once: a task has the same waker at every poll, and to look at the
    /// token each time would take two locks that all tasks of the process share.
    struct UntilEnded<F> {
        #[pin]
        future: F,
        #[pin]
        ended: WaitForCancellationFutureOwned,
        is_ended: Arc<AtomicBool>,
        waits: bool,
    }
}

impl<F: Future> Future for UntilEnded<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.is_ended.load(Ordering::Acquire) {
            return Poll::Ready(None);
        }
        if !std::mem::replace(this.waits, true) && this.ended.poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        this.future.poll(cx).map(Some)
    }
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs a future as a task of its own. It is dropped at [`Tasks::end`] if it has not finished.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
    pub fn spawn<F>(&self, future: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let ended = self.ended.clone().cancelled_owned();
        let is_ended = Arc::clone(&self.is_ended);
        tokio::spawn(self.tracker.track_future(UntilEnded { future, ended, is_ended, waits: false }))
    }

    /// Is cancelled when draining begins.
    pub fn draining(&self) -> CancellationToken {
        self.draining.clone()
    }

    /// Is cancelled when everything has to stop.
    pub fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// Asks everybody to take nothing new.
    pub fn begin_drain(&self) {
        self.draining.cancel();
    }

    /// Stops everything.
    pub fn end(&self) {
        self.is_ended.store(true, Ordering::Release);
        self.draining.cancel();
        self.ended.cancel();
    }

    /// Waits until no task is left, at most this long. False if some still run.
    pub async fn wait(&self, limit: Duration) -> bool {
        self.tracker.close();
        let all_gone = tokio::time::timeout(limit, self.tracker.wait()).await.is_ok();
        self.tracker.reopen();
        all_gone
    }

    /// How many tasks run.
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Whether none runs.
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_end_stops_what_draining_only_asks() {
        let tasks = Tasks::new();
        let draining = tasks.draining();
        tasks.spawn(async move { draining.cancelled().await });
        tasks.spawn(std::future::pending::<()>());
        tasks.begin_drain();
        assert!(!tasks.wait(Duration::from_secs(1)).await);
        assert_eq!(tasks.len(), 1);
        tasks.end();
        assert!(tasks.wait(Duration::from_secs(1)).await);
    }

    #[test]
    fn a_task_holds_its_future_once() {
        let (held, tasks) = ([0_u8; 4096], Tasks::new());
        let future = async move {
            std::future::pending::<()>().await;
            held.len()
        };
        let (size, ended) = (size_of_val(&future), tasks.ended.clone().cancelled_owned());
        let task = UntilEnded { future, ended, is_ended: Arc::clone(&tasks.is_ended), waits: false };
        assert!(size_of_val(&task) <= size + 160, "{} bytes for {size}", size_of_val(&task));
    }

    #[tokio::test]
    async fn a_task_gives_its_value() {
        assert_eq!(Tasks::new().spawn(async { 7 }).await.unwrap(), Some(7));
    }
}
