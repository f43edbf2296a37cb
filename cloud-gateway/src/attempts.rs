//! Counting failed proofs per source.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Failed attempts of the last minute by source. Bounded: past [`SOURCES`] sources it forgets the finished
/// minutes, then everything.
#[derive(Debug, Default)]
pub(crate) struct Attempts(Mutex<HashMap<IpAddr, Minute>>);

#[derive(Debug, Clone, Copy)]
struct Minute {
    began: Instant,
    failures: u32,
}

impl Attempts {
    /// Counts a failure. False once there are too many.
    pub(crate) fn fail(&self, source: IpAddr) -> bool {
        let now = Instant::now();
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() >= SOURCES {
            sources.retain(|_, minute| minute.began + MINUTE > now);
        }
        if sources.len() >= SOURCES {
            sources.clear();
        }
        let minute = sources.entry(network(source)).or_insert(Minute { began: now, failures: 0 });
        if minute.began + MINUTE <= now {
            *minute = Minute { began: now, failures: 0 };
        }
        minute.failures = minute.failures.saturating_add(1);
        minute.failures <= FAILURES
    }
}

/// One IPv6 host commands a whole /64.
pub(crate) fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let mut segments = address.segments();
            segments[4..].fill(0);
            IpAddr::from(segments)
        }
    }
}

const SOURCES: usize = 10_000;
const FAILURES: u32 = 20;
const MINUTE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_has_its_failures_per_minute_and_no_other_pays() {
        let attempts = Attempts::default();
        for _ in 0..FAILURES {
            assert!(attempts.fail(source("10.0.0.1")));
        }
        assert!(!attempts.fail(source("10.0.0.1")));
        assert!(!attempts.fail(source("::ffff:10.0.0.1")), "the same address in another form");
        assert!(attempts.fail(source("10.0.0.2")));
        tokio::time::advance(MINUTE).await;
        assert!(attempts.fail(source("10.0.0.1")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_whole_ipv6_network_is_one_source_and_memory_is_bounded() {
        let attempts = Attempts::default();
        for host in 0..FAILURES {
            assert!(attempts.fail(source(&format!("2001:db8::{host:x}"))));
        }
        assert!(!attempts.fail(source("2001:db8::ffff")));
        for number in 0..30_000_u32 {
            attempts.fail(IpAddr::from(number.to_be_bytes()));
        }
        assert!(attempts.0.lock().unwrap().len() <= SOURCES);
    }
}
