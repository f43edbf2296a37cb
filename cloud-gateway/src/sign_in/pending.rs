//! Sign-ins under way: what was sent to a provider, until the browser comes back from it.
//!
//! Anybody may begin one, so they are kept in memory and bounded: a source has some at a time, and beyond that
//! its own oldest make room. A restart ends them all; whoever was at the provider begins again.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use model::Timestamp;
use store::BrowserDigest;

use super::key::BrowserKey;
use crate::attempts::network;

/// One sign-in under way.
#[derive(Debug)]
pub(super) struct Pending {
    /// At which provider, by its name here.
    pub(super) provider: String,
    /// Proves at the token endpoint that it was us who began (RFC 7636).
    pub(super) verifier: BrowserKey,
    /// What the identity token must repeat.
    pub(super) nonce: BrowserKey,
    /// Of the cookie of the browser that began.
    pub(super) browser: BrowserDigest,
    /// Where the browser goes in the end: a path of ours.
    pub(super) back: String,
    pub(super) began: Timestamp,
    pub(super) source: IpAddr,
}

/// All sign-ins under way, by the digest of their state.
#[derive(Debug, Default)]
pub(super) struct PendingSignIns(Mutex<HashMap<BrowserDigest, Pending>>);

impl PendingSignIns {
    /// Keeps one. False if there are too many; then it is not kept.
    pub(super) fn put(&self, state: &BrowserKey, mut pending: Pending) -> bool {
        pending.source = network(pending.source);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = pending.began;
        let of_source = |one: &Pending| one.source == pending.source;
        if all.values().filter(|one| of_source(one)).count() >= OF_A_SOURCE {
            let oldest = all.iter().filter(|(_, one)| of_source(one)).min_by_key(|(_, one)| one.began);
            if let Some(state) = oldest.map(|(state, _)| *state) {
                all.remove(&state);
            }
        }
        if all.len() >= OF_ALL {
            all.retain(|_, one| !one.is_over(now));
        }
        if all.len() >= OF_ALL {
            return false;
        }
        all.insert(state.digest(), pending);
        true
    }

    /// Takes the one of this state: once, whatever becomes of it.
    pub(super) fn take(&self, state: &BrowserKey, now: Timestamp) -> Option<Pending> {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&state.digest());
        taken.filter(|pending| !pending.is_over(now))
    }
}

impl Pending {
    fn is_over(&self, now: Timestamp) -> bool {
        now >= self.began.plus(LIFE)
    }
}

/// How long a person may take at the provider.
pub(super) const LIFE: Duration = Duration::from_secs(600);
const OF_A_SOURCE: usize = 256;
const OF_ALL: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(source: u32, began: i64) -> Pending {
        Pending {
            provider: "idp".into(),
            verifier: BrowserKey::fresh(),
            nonce: BrowserKey::fresh(),
            browser: [0; 32],
            back: "/login".into(),
            began: Timestamp(began),
            source: IpAddr::from(source.to_be_bytes()),
        }
    }

    #[test]
    fn a_state_is_good_once_and_for_ten_minutes() {
        let all = PendingSignIns::default();
        let (used, late) = (BrowserKey::fresh(), BrowserKey::fresh());
        assert!(all.put(&used, pending(1, 0)) && all.put(&late, pending(1, 0)));
        let end = Timestamp(0).plus(LIFE);
        assert!(all.take(&used, Timestamp(end.millis() - 1)).is_some());
        assert!(all.take(&used, Timestamp(1)).is_none(), "a state is not good twice");
        assert!(all.take(&late, end).is_none());
        assert!(all.take(&BrowserKey::fresh(), Timestamp(0)).is_none());
    }

    #[test]
    fn a_source_pays_with_its_own_and_memory_is_bounded() {
        let all = PendingSignIns::default();
        let patient = BrowserKey::fresh();
        assert!(all.put(&patient, pending(1, 0)));
        let first = BrowserKey::fresh();
        assert!(all.put(&first, pending(2, 0)));
        for number in 0..OF_A_SOURCE {
            assert!(all.put(&BrowserKey::fresh(), pending(2, 1 + number as i64)));
        }
        assert!(all.take(&first, Timestamp(300)).is_none(), "the oldest of that source made room");
        for number in 0..2 * OF_ALL as u32 {
            all.put(&BrowserKey::fresh(), pending(1000 + number, 1));
        }
        assert!(all.0.lock().unwrap().len() <= OF_ALL);
        assert!(!all.put(&BrowserKey::fresh(), pending(9, 2)), "full");
        assert!(all.take(&patient, Timestamp(300)).is_some(), "control: another source lost nothing");
        let much_later = LIFE.as_millis() as i64 + 10;
        assert!(all.put(&BrowserKey::fresh(), pending(9, much_later)), "what is over makes room");
    }
}
