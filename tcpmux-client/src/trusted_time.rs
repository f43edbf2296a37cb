//! What time it is for certificates, on devices whose clock may start in 1970.
//!
//! The latest of: the system clock, the last time that the cloud proved, the time of the build.
//! Nothing unauthenticated moves it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use model::Timestamp;
use runtime::Clock;
use rustls::time_provider::TimeProvider;
use rustls_pki_types::UnixTime;
use tokio::time::Instant;

/// The time to check certificates at. Cloning shares what was proven.
#[derive(Debug, Clone)]
pub struct TrustedTime {
    clock: Clock,
    floor: Timestamp,
    proven: Arc<Mutex<Option<Proof>>>,
}

/// A time that was true at a moment of this run; since then a monotonic clock counts.
#[derive(Debug, Clone, Copy)]
struct Proof {
    time: Timestamp,
    at: Instant,
}

impl TrustedTime {
    /// `floor` is what is known to be past: usually [`build_time`].
    pub fn new(clock: Clock, floor: Timestamp) -> Self {
        Self { clock, floor, proven: Arc::default() }
    }

    /// The best knowledge of now.
    pub fn now(&self) -> Timestamp {
        self.clock.now().max(self.known())
    }

    /// Whether the system clock can be right: it is not behind what is known.
    pub fn clock_is_plausible(&self) -> bool {
        // A clock that is a little slow is no broken clock.
        self.clock.now().plus(CLOCK_TOLERANCE) >= self.known()
    }

    /// Takes a time from the cloud, over a connection whose certificate was verified or out of a
    /// certificate that the pinned CA signed. Tells whether it is news.
    pub fn prove(&self, time: Timestamp) -> bool {
        let mut proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        let news = proven.is_none_or(|proof| time > proof.now());
        if news {
            *proven = Some(Proof { time, at: Instant::now() });
        }
        news
    }

    /// The latest time proven, moved on by the time since.
    pub fn proven(&self) -> Option<Timestamp> {
        self.proven.lock().unwrap_or_else(PoisonError::into_inner).map(|proof| proof.now())
    }

    fn known(&self) -> Timestamp {
        self.proven().map_or(self.floor, |proven| proven.max(self.floor))
    }
}

impl Proof {
    fn now(&self) -> Timestamp {
        self.time.plus(self.at.elapsed())
    }
}

impl TimeProvider for TrustedTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(self.now()))
    }
}

pub(crate) fn unix_time(time: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(time.secs()).unwrap_or(0)))
}

/// When this program was built.
pub fn build_time() -> Timestamp {
    Timestamp::from_secs(env!("TCPMUX_BUILD_TIME").parse().unwrap_or(0))
}

const CLOCK_TOLERANCE: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    const BUILT: Timestamp = Timestamp::from_secs(1_795_000_000);

    #[tokio::test(start_paused = true)]
    async fn the_latest_of_clock_proof_and_build_wins() {
        let (clock, hand) = Clock::manual(Timestamp(0));
        let time = TrustedTime::new(clock, BUILT);
        assert_eq!((time.now(), time.clock_is_plausible()), (BUILT, false));
        let proof = BUILT.plus(Duration::from_secs(1000));
        assert!(time.prove(proof));
        assert_eq!(time.now(), proof);
        tokio::time::advance(Duration::from_secs(10)).await;
        assert_eq!(time.now(), proof.plus(Duration::from_secs(10)));
        assert!(!time.prove(proof), "an older time is no news");
        hand.set(proof.plus(Duration::from_secs(3600)));
        assert_eq!(time.now(), proof.plus(Duration::from_secs(3600)));
        assert!(time.clock_is_plausible());
    }

    #[test]
    fn the_build_was_not_in_1970() {
        assert!(build_time() > Timestamp::from_secs(1_700_000_000));
    }
}
