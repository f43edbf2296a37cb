//! `tcpmux-client run`: the daemon, until a signal.

use std::time::Duration;

use runtime::{Clock, Tasks};
use tcpmux_client::{Daemon, DaemonConfig, systemd};

use crate::outcome::{FAILED, Failure};

pub(crate) async fn run(config: DaemonConfig) -> Result<u8, Failure> {
    let tasks = Tasks::new();
    make_room_for_ready(&tasks);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), state = %config.state.path().display(),
        services = config.services.iter().count(), "starting"
    );
    let daemon = Daemon::start(config, Clock::system(), tasks.clone()).await?;
    systemd::ready(&tasks);
    let cannot_wait = |error| Failure::new(FAILED, format!("cannot wait for signals: {error}"));
    let signal = runtime::termination().await.map_err(cannot_wait)?;
    tracing::info!(signal, "ending; live streams have {} s", GRACE.as_secs());
    systemd::stopping();
    tokio::select! {
        finished = daemon.stop(GRACE) => tracing::info!(finished, "ended"),
        again = runtime::termination() => tracing::warn!(signal = ?again.ok(), "ended at once"),
    }
    Ok(0)
}

/// The runtime's queue of tasks that are ready grows and never shrinks. It grows here, while the heap is small: grown under
/// load it would lie above what load alone needs, and the allocator could give none of that back.
fn make_room_for_ready(tasks: &Tasks) {
    for _ in 0..READY_AT_ONCE {
        tasks.spawn(async {});
    }
}

/// One more than 256, so that there is room for 512.
const READY_AT_ONCE: usize = 257;
const GRACE: Duration = Duration::from_secs(10);
