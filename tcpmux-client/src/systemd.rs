//! What the service manager wants to know.

use std::time::Duration;

use runtime::Tasks;
use sd_notify::NotifyState;

/// The daemon is ready to dial. Not "connected": a device boots also where there is no network.
pub fn ready(tasks: &Tasks) {
    tell(NotifyState::Ready);
    if let Some(limit) = sd_notify::watchdog_enabled() {
        tasks.spawn(keep_watchdog(limit / 3));
    }
}

/// The daemon was asked to end.
pub fn stopping() {
    tell(NotifyState::Stopping);
}

/// Runs on the one thread that does everything else too: if that hangs, this is silent.
async fn keep_watchdog(every: Duration) {
    let mut ticks = tokio::time::interval(every.max(Duration::from_millis(100)));
    loop {
        ticks.tick().await;
        tell(NotifyState::Watchdog);
    }
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager could not be told");
    }
}
