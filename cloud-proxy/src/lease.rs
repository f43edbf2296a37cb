//! Watching a lease while its stream is open.

use std::time::Duration;

use registry::Registry;
use runtime::Clock;

use crate::admit::{Lease, LeaseEnd};

/// Resolves when the lease ends: at its `until` at once, after a change of grants or a sign-out within
/// [`LOOK_EVERY`], on whichever node that was.
///
/// It looks again and again instead of listening, so that nothing can be missed, and so that a request which is
/// over before the first look costs nothing.
pub(crate) async fn ended(lease: &Lease, registry: &Registry, clock: &Clock) -> LeaseEnd {
    // The first look follows at once on an admission that has asked.
    let mut is_later = false;
    loop {
        let now = clock.now();
        if let Some(end) = lease.end(registry.grants(), now) {
            return end;
        }
        if is_later
            && let Some(visit) = lease.visit()
            && visit.is_over().await
        {
            return LeaseEnd::SignedOut;
        }
        is_later = true;
        let left = lease.until().map_or(LOOK_EVERY, |until| until.since(now));
        tokio::time::sleep(left.min(LOOK_EVERY)).await;
    }
}

/// Streams end within ten seconds of a change; this leaves room.
const LOOK_EVERY: Duration = Duration::from_secs(4);
