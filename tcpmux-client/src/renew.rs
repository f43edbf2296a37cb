//! The next certificate: when to ask for it, and asking.

use std::time::Duration;

use model::Timestamp;
use runtime::Backoff;

use crate::{
    CertificateFacts, EstError, Identity, StateDirectory, StateError, TrustedTime, WayOut,
    enroll::check_issued, est::Verified, state::Right,
};

/// Why a renewal failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenewError {
    #[error("the server sent a certificate that does not fit the request: {0}")]
    Unfit(&'static str),
    #[error(transparent)]
    Est(#[from] EstError),
    #[error(transparent)]
    State(#[from] StateError),
}

impl RenewError {
    /// When the server wants to be asked again, if it said so.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Est(EstError::Refused { retry_after, .. }) => *retry_after,
            _ => None,
        }
    }
}

/// Asks for a successor with a new key and makes it the current identity.
///
/// The current certificate is shown also when it has expired: the server knows how long it forgives that.
pub(crate) async fn renew(
    identity: &Identity,
    state: &StateDirectory,
    way_out: &WayOut,
    time: &TrustedTime,
) -> Result<Identity, RenewError> {
    let _alone = state.lock(Right::Change)?;
    let key = state.pending_key()?;
    let csr = key.certificate_request(identity.device.as_ref());
    let verified =
        Verified::connect(&identity.server, &identity.anchors, Some(identity), way_out, time).await?;
    let certificate = verified.renew(&csr).await?;
    let facts = check_issued(&certificate, &key).map_err(RenewError::Unfit)?;
    if facts.device != identity.device {
        return Err(RenewError::Unfit("it names another device"));
    }
    if let Some(proven) = time.proven() {
        state.remember_time(proven)?;
    }
    Ok(state.install(&identity.server, &key, &certificate, &identity.anchors)?)
}

/// When a certificate is renewed: at two thirds of its life, moved by up to a tenth of the life either
/// way, so that devices enrolled together do not come together. The same certificate always gives the
/// same time, also after a restart.
pub fn renewal_time(certificate: &CertificateFacts) -> Timestamp {
    let life = certificate.not_after.since(certificate.not_before);
    let hash = u32::from_be_bytes([0, 1, 2, 3].map(|at| certificate.fingerprint.0[at]));
    let spread = (f64::from(hash) / f64::from(u32::MAX) - 0.5) * 2.0 * SPREAD;
    certificate.not_before.plus(life.mul_f64(DUE + spread))
}

/// When to ask next.
#[derive(Debug)]
pub(crate) struct Schedule {
    next: Timestamp,
    backoff: Backoff,
}

impl Schedule {
    pub(crate) fn new(certificate: &CertificateFacts) -> Self {
        Self { next: renewal_time(certificate), backoff: Backoff::new(FIRST_RETRY, LAST_RETRY) }
    }

    /// The next moment to ask.
    pub(crate) fn next(&self) -> Timestamp {
        self.next
    }

    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        now >= self.next
    }

    /// It failed now: later again, by the server's word or by back-off.
    pub(crate) fn failed(&mut self, now: Timestamp, asked: Option<Duration>) {
        let own = self.backoff.next_delay();
        self.next = now.plus(asked.map_or(own, |asked| asked.clamp(FIRST_RETRY / 10, LONGEST_ASKED)));
    }
}

const DUE: f64 = 2.0 / 3.0;
const SPREAD: f64 = 0.1;
const FIRST_RETRY: Duration = Duration::from_secs(60);
const LAST_RETRY: Duration = Duration::from_secs(3600);
const LONGEST_ASKED: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use model::Fingerprint;
    use runtime::Clock;

    use super::*;

    const START: Timestamp = Timestamp::from_secs(1_795_303_719);
    const DAY: Duration = Duration::from_secs(86_400);

    fn certificate(days: u32, hash: u8) -> CertificateFacts {
        CertificateFacts {
            fingerprint: Fingerprint([hash; 32]),
            serial: "01".into(),
            not_before: START,
            not_after: START.plus(DAY * days),
            device: None,
            public_key_info: vec![],
        }
    }

    #[test]
    fn renewal_is_at_two_thirds_and_a_tenth_of_the_life_apart_at_most() {
        let times: Vec<_> = (0..=255).map(|hash| renewal_time(&certificate(90, hash))).collect();
        let days = |time: Timestamp| time.since(START).as_secs_f64() / 86_400.0;
        assert!((days(times[0]) - 51.0).abs() < 0.01, "{}", days(times[0]));
        assert!((days(times[255]) - 69.0).abs() < 0.01, "{}", days(times[255]));
        assert!((days(times[128]) - 60.0).abs() < 0.1);
        assert!(times.is_sorted() && times[0] < times[255]);
        assert_eq!(renewal_time(&certificate(90, 7)), renewal_time(&certificate(90, 7)));
    }

    #[test]
    fn a_moved_clock_makes_it_due_and_failures_are_spaced() {
        let (clock, hand) = Clock::manual(START);
        let mut schedule = Schedule::new(&certificate(90, 128));
        hand.advance(DAY * 59);
        assert!(!schedule.is_due(clock.now()));
        hand.advance(DAY * 2);
        assert!(schedule.is_due(clock.now()));
        let mut longest = Duration::ZERO;
        for failure in 0..40 {
            let now = clock.now();
            schedule.failed(now, None);
            let wait = schedule.next().since(now);
            assert!(!schedule.is_due(now));
            let ceiling = FIRST_RETRY.saturating_mul(1 << failure.min(10)).min(LAST_RETRY);
            assert!(wait >= FIRST_RETRY / 10 && wait <= ceiling, "{wait:?} after {failure} failures");
            longest = longest.max(wait);
            hand.advance(wait);
            assert!(schedule.is_due(clock.now()));
        }
        assert!(longest > LAST_RETRY / 2, "the back-off did not grow: {longest:?}");
    }

    #[test]
    fn the_server_can_ask_for_a_delay_within_reason() {
        let mut schedule = Schedule::new(&certificate(90, 0));
        schedule.failed(START, Some(Duration::from_secs(7200)));
        assert_eq!(schedule.next(), START.plus(Duration::from_secs(7200)));
        schedule.failed(START, Some(DAY * 365));
        assert_eq!(schedule.next(), START.plus(DAY));
    }

    #[test]
    fn a_certificate_that_has_expired_is_due() {
        assert!(Schedule::new(&certificate(90, 255)).is_due(START.plus(DAY * 400)));
    }
}
