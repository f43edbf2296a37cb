//! Budgets for what a peer can make us do without any stream of ours wanting it.

use std::time::Duration;

use super::error::ProtocolError;

/// What a peer may still ask for.
#[derive(Debug)]
pub(super) struct Flood {
    pings: Bucket,
    strays: Bucket,
    stray_bytes: u64,
}

impl Flood {
    pub(super) fn new(now: Duration) -> Self {
        Self {
            pings: Bucket::new(PING_BURST, PINGS_PER_SECOND, now),
            strays: Bucket::new(STRAY_BURST, STRAYS_PER_SECOND, now),
            stray_bytes: 0,
        }
    }

    /// The peer sent a ping.
    pub(super) fn ping(&mut self, now: Duration) -> Result<(), ProtocolError> {
        self.pings.take(now).then_some(()).ok_or(ProtocolError::PingFlood)
    }

    /// The peer sent a frame about a closed stream, or a stream that is refused.
    pub(super) fn stray(&mut self, now: Duration) -> Result<(), ProtocolError> {
        self.strays.take(now).then_some(()).ok_or(ProtocolError::StrayFlood)
    }

    /// The peer announced bytes for a closed stream.
    pub(super) fn stray_bytes(&mut self, count: u32) -> Result<(), ProtocolError> {
        self.stray_bytes = self.stray_bytes.checked_sub(count.into()).ok_or(ProtocolError::StrayBytes)?;
        Ok(())
    }

    /// A stream was refused: bytes that follow its SYN may be under way.
    pub(super) fn refused(&mut self, credit: u32) {
        self.stray_bytes = self.stray_bytes.saturating_add(credit.into()).min(STRAY_BYTES_MAX);
    }

    /// A stream was forgotten while the peer could still send `credit` bytes: those and a few frames may be under way.
    pub(super) fn closed(&mut self, credit: u32) {
        self.refused(credit);
        self.strays.give(STRAYS_PER_CLOSE);
    }
}

/// A token bucket in whole tokens.
#[derive(Debug)]
struct Bucket {
    tokens: u32,
    burst: u32,
    per_second: u32,
    filled: Duration,
}

impl Bucket {
    fn new(burst: u32, per_second: u32, now: Duration) -> Self {
        Self { tokens: burst, burst, per_second, filled: now }
    }

    fn take(&mut self, now: Duration) -> bool {
        if self.tokens == 0 {
            self.refill(now);
        }
        let left = self.tokens.checked_sub(1);
        self.tokens = left.unwrap_or(0);
        left.is_some()
    }

    fn give(&mut self, tokens: u32) {
        self.tokens = (self.tokens + tokens).min(self.burst);
    }

    fn refill(&mut self, now: Duration) {
        let millis = now.saturating_sub(self.filled).as_millis();
        let earned = millis * u128::from(self.per_second) / 1000;
        if earned > 0 {
            self.filled = now;
            self.give(u32::try_from(earned).unwrap_or(self.burst).min(self.burst));
        }
    }
}

/// Pings at once: a peer of ours asks once a heartbeat, and every ten seconds while bytes flow.
const PING_BURST: u32 = 64;
const PINGS_PER_SECOND: u32 = 20;
/// Strays at once: resets that cross, window updates and credit for streams that just ended.
const STRAY_BURST: u32 = 4096;
const STRAYS_PER_SECOND: u32 = 256;
const STRAYS_PER_CLOSE: u32 = 8;
/// All credit that can be outstanding on one session, so that the sum cannot grow for ever.
const STRAY_BYTES_MAX: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_then_its_rate() {
        let mut flood = Flood::new(Duration::ZERO);
        for _ in 0..PING_BURST {
            flood.ping(Duration::ZERO).unwrap();
        }
        assert_eq!(flood.ping(Duration::from_millis(40)), Err(ProtocolError::PingFlood));
        flood.ping(Duration::from_millis(51)).unwrap();
        assert_eq!(flood.ping(Duration::from_millis(52)), Err(ProtocolError::PingFlood));
        let later = Duration::from_secs(3600);
        for _ in 0..PING_BURST {
            flood.ping(later).unwrap();
        }
        assert_eq!(flood.ping(later), Err(ProtocolError::PingFlood), "never more than the burst");
    }

    #[test]
    fn stray_bytes_are_bounded_by_the_credit_of_streams_we_cut() {
        let mut flood = Flood::new(Duration::ZERO);
        assert_eq!(flood.stray_bytes(1), Err(ProtocolError::StrayBytes));
        flood.closed(100);
        flood.stray_bytes(60).unwrap();
        flood.stray_bytes(40).unwrap();
        assert_eq!(flood.stray_bytes(1), Err(ProtocolError::StrayBytes));
    }
}
