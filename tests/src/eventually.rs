//! Waiting for a condition, and telling what was seen last when it never came.

use std::{fmt::Debug, future::Future, time::Duration};

use tokio::time::Instant;

/// Waits up to 15 seconds until `look` gives `Ok`; then its value.
///
/// # Panics
/// With the last `Err`, which should say what was seen.
pub async fn eventually<T, E: Debug, F: Future<Output = Result<T, E>>>(
    what: &str,
    look: impl FnMut() -> F,
) -> T {
    eventually_within(Duration::from_secs(15), what, look).await
}

/// The same with another bound on the wait.
///
/// # Panics
/// With the last `Err`.
pub async fn eventually_within<T, E: Debug, F: Future<Output = Result<T, E>>>(
    time: Duration,
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let began = Instant::now();
    loop {
        let last = match look().await {
            Ok(value) => return value,
            Err(last) => last,
        };
        assert!(began.elapsed() < time, "{what}: not within {time:?}; last seen: {last:?}");
        tokio::time::sleep(PAUSE).await;
    }
}

const PAUSE: Duration = Duration::from_millis(10);
