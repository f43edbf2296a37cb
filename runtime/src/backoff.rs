//! How long to wait before the next attempt.

use std::time::Duration;

/// Exponential back-off with full jitter: each delay is uniform between zero and a ceiling that
/// doubles with every failure, never below `floor`.
#[derive(Debug, Clone)]
pub struct Backoff {
    floor: Duration,
    first: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// Ceilings go from `first` to `most`. No delay is shorter than a tenth of `first`, so that
    /// full jitter never becomes a busy loop.
    pub fn new(first: Duration, most: Duration) -> Self {
        Self { floor: first / 10, first, most, failures: 0 }
    }

    /// The delay before the next attempt; the ceiling grows for the one after.
    pub fn next_delay(&mut self) -> Duration {
        let ceiling = self.ceiling();
        self.failures = self.failures.saturating_add(1);
        Duration::from_secs_f64(fastrand::f64() * ceiling.as_secs_f64()).max(self.floor)
    }

    /// The longest that the next delay can be.
    pub fn ceiling(&self) -> Duration {
        self.first.saturating_mul(1_u32.checked_shl(self.failures.min(31)).unwrap_or(u32::MAX)).min(self.most)
    }

    /// An attempt succeeded: begin again with the shortest ceiling.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceilings_double_up_to_the_most_and_begin_again() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let mut ceilings = vec![];
        for _ in 0..40 {
            ceilings.push(backoff.ceiling().as_secs());
            let ceiling = backoff.ceiling();
            assert!(backoff.next_delay() <= ceiling);
        }
        assert_eq!(ceilings[..8], [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(ceilings[39], 60);
        backoff.reset();
        assert_eq!(backoff.ceiling(), Duration::from_secs(1));
    }

    #[test]
    fn delays_are_spread_and_never_nothing() {
        let mut delays: Vec<_> = (0..200)
            .map(|_| Backoff::new(Duration::from_secs(10), Duration::from_secs(60)).next_delay())
            .collect();
        delays.sort();
        assert!(delays[0] >= Duration::from_secs(1));
        assert!(delays[199] - delays[0] > Duration::from_secs(4), "no jitter: {:?}", delays);
    }
}
