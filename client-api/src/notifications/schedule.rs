//! When a delivery that failed is tried again: soon at first, then ever later, some thirty hours in all. Pure.

use std::time::Duration;

/// How long to wait after this many failed attempts; `None` once it is given up. `jitter` from 0 to 1 spreads what
/// failed together; the receiver may ask for longer.
pub(crate) fn delay(attempts: u32, jitter: f64, asked: Option<Duration>) -> Option<Duration> {
    let index = usize::try_from(attempts).unwrap_or(usize::MAX).checked_sub(1)?;
    let usual = DELAYS.get(index)?.mul_f64(0.8 + 0.4 * jitter.clamp(0.0, 1.0));
    Some(usual.max(asked.unwrap_or_default().min(LONGEST)))
}

/// How long a receiver is left alone after this many failures in a row, whatever waits for it.
pub(crate) fn breather(failures: u32, asked: Option<Duration>) -> Duration {
    let doubled = FIRST_BREATHER.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(LONGEST_BREATHER).max(asked.unwrap_or_default().min(LONGEST))
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Between eight attempts.
const DELAYS: [Duration; 7] = [
    seconds(5),
    seconds(30),
    seconds(2 * 60),
    seconds(15 * 60),
    seconds(60 * 60),
    seconds(5 * 60 * 60),
    seconds(20 * 60 * 60),
];
const LONGEST: Duration = seconds(24 * 60 * 60);
const FIRST_BREATHER: Duration = seconds(2);
const LONGEST_BREATHER: Duration = seconds(5 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_attempts_grow_from_seconds_to_a_day_and_then_it_is_given_up() {
        let all: Vec<u64> = (1..).map_while(|n| delay(n, 0.5, None)).map(|delay| delay.as_secs()).collect();
        assert_eq!(all, [5, 30, 120, 900, 3600, 18_000, 72_000]);
        assert_eq!(delay(8, 0.5, Some(seconds(5))), None);
        assert_eq!(delay(0, 0.5, None), None);
    }

    #[test]
    fn delays_are_spread_by_a_fifth_and_a_receiver_gets_the_time_that_it_asks_for_within_bounds() {
        assert_eq!(delay(2, 0.0, None), Some(seconds(24)));
        assert_eq!(delay(2, 1.0, None), Some(seconds(36)));
        assert_eq!(delay(1, 0.5, Some(seconds(100))), Some(seconds(100)));
        assert_eq!(delay(2, 0.5, Some(seconds(1))), Some(seconds(30)), "never sooner");
        assert_eq!(delay(1, 0.5, Some(seconds(1_000_000))), Some(LONGEST));
    }

    #[test]
    fn a_receiver_that_fails_is_left_alone_ever_longer_up_to_five_minutes() {
        let all: Vec<u64> = (1..12).map(|failures| breather(failures, None).as_secs()).collect();
        assert_eq!(all, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(breather(1, Some(seconds(60))), seconds(60));
        assert_eq!(breather(u32::MAX, None), LONGEST_BREATHER);
    }
}
