//! Counting wrong claim codes: by user, by source and for everybody together.
//!
//! What is limited is being wrong. 82 random bits keep a code from being guessed; the limits keep the noise down and
//! let operators know of it. A right code is never refused for the wrong ones of anybody, so nobody can be locked out.

use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use model::{Code, Refusal, UserActor, UserId};
use tokio::time::Instant;

/// The wrong codes of the present windows. Bounded: past [`MOST_TRACKED`] users or sources, new ones are counted
/// with everybody alone.
#[derive(Debug, Default)]
pub(crate) struct WrongCodes(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    users: Windows<UserId>,
    sources: Windows<IpAddr>,
    fleet: Option<Window>,
}

#[derive(Debug)]
struct Windows<K> {
    of: HashMap<K, Window>,
    /// When those that ended were last let go of.
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    wrong: u32,
}

impl WrongCodes {
    /// Notes one and says what to answer: the same for every wrong code until a limit is passed.
    pub(crate) fn refuse(&self, user: &UserActor, source: Option<IpAddr>) -> Refusal {
        match self.note(user.user(), source) {
            None => Refusal::new(
                Code::NotFound,
                "there is no such code: it was mistyped, replaced or used; read it off the device again",
            ),
            Some(wait) => {
                let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
                Refusal::new(
                    Code::TooMany,
                    "too many wrong codes; read the right one off the device, then try",
                )
                .retry_after(seconds)
            }
        }
    }

    /// How long until a limit that is passed is looked at anew.
    fn note(&self, user: &UserId, source: Option<IpAddr>) -> Option<Duration> {
        let now = Instant::now();
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_user = counts.users.count(user.clone(), OF_A_USER, now);
        let of_source = source.and_then(|source| counts.sources.count(network(source), OF_A_SOURCE, now));
        let fleet = counts.fleet.get_or_insert(Window { began: now, wrong: 0 });
        let of_fleet = fleet.add(OF_THE_FLEET, now);
        if fleet.wrong == OF_THE_FLEET + 1 {
            tracing::warn!(
                an_hour = OF_THE_FLEET,
                "many wrong claim codes: somebody may be guessing; the log of requests names users and sources"
            );
        }
        of_user.max(of_source).max(of_fleet)
    }
}

impl<K> Default for Windows<K> {
    fn default() -> Self {
        Self { of: HashMap::new(), swept: None }
    }
}

impl<K: Eq + Hash> Windows<K> {
    fn count(&mut self, key: K, limit: u32, now: Instant) -> Option<Duration> {
        if self.of.len() >= MOST_TRACKED && !self.of.contains_key(&key) {
            // Not with every code: it is those who say many that fill the table.
            if self.swept.is_none_or(|swept| swept + SWEEP_EVERY <= now) {
                self.swept = Some(now);
                self.of.retain(|_, window| window.began + WINDOW > now);
            }
            if self.of.len() >= MOST_TRACKED {
                return None;
            }
        }
        self.of.entry(key).or_insert(Window { began: now, wrong: 0 }).add(limit, now)
    }
}

impl Window {
    fn add(&mut self, limit: u32, now: Instant) -> Option<Duration> {
        if self.began + WINDOW <= now {
            *self = Self { began: now, wrong: 0 };
        }
        self.wrong = self.wrong.saturating_add(1);
        (self.wrong > limit).then(|| (self.began + WINDOW).saturating_duration_since(now))
    }
}

/// One customer has a whole IPv6 network.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 => v4,
    }
}

const WINDOW: Duration = Duration::from_secs(3600);
const OF_A_USER: u32 = 10;
const OF_A_SOURCE: u32 = 100;
const OF_THE_FLEET: u32 = 1000;
const SWEEP_EVERY: Duration = Duration::from_secs(60);
const MOST_TRACKED: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn user(number: u32) -> UserId {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        UserId::from_random(bytes)
    }

    fn source(number: u32) -> Option<IpAddr> {
        Some(IpAddr::from(number.to_be_bytes()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_a_source_and_everybody_have_their_wrong_codes_an_hour() {
        let codes = WrongCodes::default();
        for number in 0..OF_A_USER {
            assert_eq!(codes.note(&user(0), source(number)), None);
        }
        assert_eq!(codes.note(&user(0), source(99)), Some(WINDOW));
        assert_eq!(codes.note(&user(1), source(99)), None, "another user's are another user's");
        for number in 2..OF_A_SOURCE {
            assert_eq!(codes.note(&user(number), source(99)), None);
        }
        assert_eq!(codes.note(&user(5000), source(99)), Some(WINDOW));
        let wrong = OF_A_USER + OF_A_SOURCE + 1;
        for number in wrong..OF_THE_FLEET {
            assert_eq!(codes.note(&user(10_000 + number), source(10_000 + number)), None, "{number}");
        }
        assert_eq!(codes.note(&user(6001), source(6001)), Some(WINDOW));
        tokio::time::advance(WINDOW).await;
        assert_eq!(codes.note(&user(0), source(99)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_a_whole_ipv6_network_is_one_source() {
        let codes = WrongCodes::default();
        for number in 0..u32::try_from(MOST_TRACKED).unwrap() * 2 {
            codes.note(&user(number), source(number));
        }
        let (users, sources) = {
            let counts = codes.0.lock().unwrap();
            (counts.users.of.len(), counts.sources.of.len())
        };
        assert_eq!((users, sources), (MOST_TRACKED, MOST_TRACKED));
        tokio::time::advance(WINDOW).await;
        codes.note(&user(0), "2001:db8::1".parse().ok());
        codes.note(&user(0), "2001:db8::ffff:2".parse().ok());
        assert_eq!(codes.0.lock().unwrap().sources.of[&"2001:db8::".parse::<IpAddr>().unwrap()].wrong, 2);
    }
}
