//! Counting failures: by source, by passcode and by certificate, never by device name, so that nobody can lock a
//! device out by failing in its name, and never successes, so that a factory is never slowed down.

use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use model::Fingerprint;
use tokio::time::Instant;

use crate::config;

/// So many at once, then one more per refill time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// How many at once.
    pub burst: u32,
    /// How long until one more.
    pub refill: Duration,
}

/// Where a request comes from, as far as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    V4([u8; 4]),
    /// A customer has a /64; its addresses are free.
    V6([u8; 8]),
}

impl Source {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

/// The counters of this process.
#[derive(Debug)]
pub(crate) struct Failures {
    pub(crate) sources: Meter<Source>,
    pub(crate) passcodes: Meter<String>,
    pub(crate) certificates: Meter<Fingerprint>,
    pub(crate) audited: Meter<()>,
}

impl Failures {
    pub(crate) fn new(limits: &config::Limits) -> Self {
        Self {
            sources: Meter::new(limits.failures_of_source),
            passcodes: Meter::new(limits.refusals_of_passcode),
            certificates: Meter::new(limits.refusals_of_certificate),
            audited: Meter::new(limits.audited_failures),
        }
    }
}

/// Counts by key: the generic cell rate algorithm, one moment a key.
#[derive(Debug)]
pub(crate) struct Meter<K> {
    allowance: Allowance,
    table: Mutex<Table<K>>,
}

#[derive(Debug)]
struct Table<K> {
    /// When the key's allowance is whole again. Bounded by [`KEYS_KEPT`].
    whole_at: HashMap<K, Instant>,
    /// When the table was last cleared of whole allowances: a full table is not searched for every failure.
    swept_at: Option<Instant>,
}

impl<K: Eq + Hash> Meter<K> {
    fn new(allowance: Allowance) -> Self {
        Self { allowance, table: Mutex::new(Table { whole_at: HashMap::new(), swept_at: None }) }
    }

    /// How long to wait until one more is allowed; `None` if it is now.
    pub(crate) fn wait(&self, key: &K, now: Instant) -> Option<Duration> {
        let whole_at = *self.lock().whole_at.get(key)?;
        let used = whole_at.saturating_duration_since(now) + self.allowance.refill;
        let over = used.checked_sub(self.allowance.refill * self.allowance.burst)?;
        (over > Duration::ZERO).then_some(over)
    }

    /// Counts one.
    pub(crate) fn count(&self, key: K, now: Instant) {
        let mut table = self.lock();
        if !table.whole_at.contains_key(&key) && !table.has_room(now) {
            // So many fail that some go uncounted; what they may cost is bounded elsewhere.
            return;
        }
        let moment = table.whole_at.entry(key).or_insert(now);
        // Failing on while over the limit does not lengthen the wait without end.
        let most = now + self.allowance.refill * self.allowance.burst;
        *moment = ((*moment).max(now) + self.allowance.refill).min(most);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Table<K>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Table<K> {
    fn has_room(&mut self, now: Instant) -> bool {
        if self.whole_at.len() < KEYS_KEPT {
            return true;
        }
        if self.swept_at.is_some_and(|at| now.saturating_duration_since(at) < SWEEP) {
            return false;
        }
        self.swept_at = Some(now);
        self.whole_at.retain(|_, moment| *moment > now);
        self.whole_at.len() < KEYS_KEPT
    }
}

const KEYS_KEPT: usize = 65_536;
const SWEEP: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn meter() -> Meter<u32> {
        Meter::new(Allowance { burst: 3, refill: Duration::from_secs(10) })
    }

    #[test]
    fn after_the_burst_one_more_is_allowed_per_refill() {
        let (meter, start) = (meter(), Instant::now());
        for _ in 0..3 {
            assert_eq!(meter.wait(&1, start), None);
            meter.count(1, start);
        }
        assert_eq!(meter.wait(&1, start), Some(Duration::from_secs(10)));
        assert_eq!(meter.wait(&2, start), None);
        let later = start + Duration::from_secs(10);
        assert_eq!(meter.wait(&1, later), None);
        meter.count(1, later);
        assert!(meter.wait(&1, later).is_some());
    }

    #[test]
    fn a_million_failures_do_not_lock_out_for_longer_than_a_burst() {
        let (meter, start) = (meter(), Instant::now());
        for _ in 0..1_000_000 {
            meter.count(1, start);
        }
        assert!(meter.wait(&1, start).unwrap() <= Duration::from_secs(30));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_the_innocent_first() {
        let (meter, start) = (meter(), Instant::now());
        for key in 0..100_000 {
            meter.count(key, start);
        }
        assert_eq!(meter.lock().whole_at.len(), KEYS_KEPT);
        meter.count(200_000, start + Duration::from_secs(60));
        assert_eq!(meter.lock().whole_at.len(), 1);
    }

    #[test]
    fn neighbours_in_a_64_are_one_source_and_a_mapped_address_is_its_own() {
        let source = |text: &str| Source::of(text.parse().unwrap());
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
    }
}
