//! Every task of a process, so that its end can wait for all of them.

use std::{future::Future, time::Duration};

use tokio::task::JoinHandle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Spawns tasks and ends them in two steps: first [`Tasks::begin_drain`] (take nothing new, finish
/// what is live), then [`Tasks::end`] (stop now). Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    draining: CancellationToken,
    ended: CancellationToken,
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
        let ended = self.ended.clone();
        tokio::spawn(self.tracker.track_future(async move { ended.run_until_cancelled(future).await }))
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

    #[tokio::test]
    async fn a_task_gives_its_value() {
        assert_eq!(Tasks::new().spawn(async { 7 }).await.unwrap(), Some(7));
    }
}
