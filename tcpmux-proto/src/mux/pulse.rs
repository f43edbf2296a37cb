//! Whether the peer is alive, and how far away it is.

use std::time::Duration;

/// Pings, round trips and silence.
#[derive(Debug)]
pub(super) struct Pulse {
    heartbeat: Duration,
    silence: Duration,
    heard: Duration,
    asked: Option<(u32, Duration)>,
    next: u32,
    /// The smallest round trip of this stretch and of the one before it.
    smallest: Option<Duration>,
    smallest_before: Option<Duration>,
    stretch: Duration,
    measured: Option<Duration>,
    /// Round trips measured, counted up to [`FIRST_SAMPLES`].
    samples: u8,
}

impl Pulse {
    pub(super) fn new(heartbeat: Duration, silence: Duration, now: Duration) -> Self {
        Self {
            heartbeat,
            silence,
            heard: now,
            asked: None,
            next: 1,
            smallest: None,
            smallest_before: None,
            stretch: now,
            measured: None,
            samples: 0,
        }
    }

    pub(super) fn set_times(&mut self, heartbeat: Duration, silence: Duration) {
        (self.heartbeat, self.silence) = (heartbeat, silence);
    }

    /// Bytes arrived.
    pub(super) fn hear(&mut self, now: Duration) {
        self.heard = now;
    }

    /// Nothing was heard for too long.
    pub(super) fn is_silent(&self, now: Duration) -> bool {
        now.saturating_sub(self.heard) >= self.silence
    }

    /// When something must be done if nothing is heard until then.
    pub(super) fn deadline(&self) -> Duration {
        self.heard + if self.asked.is_some() { self.silence } else { self.heartbeat.min(self.silence) }
    }

    /// The opaque value of a ping to send because it has been quiet.
    pub(super) fn beat(&mut self, now: Duration) -> Option<u32> {
        if now.saturating_sub(self.heard) >= self.heartbeat { self.ask(now) } else { None }
    }

    /// The opaque value of a ping to send because bytes flow and the round trip is not known, or was long ago.
    pub(super) fn probe(&mut self, now: Duration) -> Option<u32> {
        // The first is taken while the connection is being made, and says more of that than of the path.
        let fresh = self.measured.is_some_and(|at| now.saturating_sub(at) < PROBE_EVERY);
        if fresh && self.samples >= FIRST_SAMPLES { None } else { self.ask(now) }
    }

    /// The peer answered a ping; answers that nobody asked for change nothing.
    pub(super) fn answered(&mut self, opaque: u32, now: Duration) {
        let Some((_, at)) = self.asked.filter(|(asked, _)| *asked == opaque) else { return };
        self.asked = None;
        self.measured = Some(now);
        self.samples = self.samples.saturating_add(1).min(FIRST_SAMPLES);
        if now.saturating_sub(self.stretch) >= STRETCH {
            self.smallest_before = self.smallest.take();
            self.stretch = now;
        }
        let sample = now.saturating_sub(at);
        self.smallest = Some(self.smallest.map_or(sample, |smallest| smallest.min(sample)));
    }

    /// The smallest round trip of the last one or two stretches: queues make round trips longer, never shorter.
    pub(super) fn round_trip(&self) -> Option<Duration> {
        match (self.smallest, self.smallest_before) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    fn ask(&mut self, now: Duration) -> Option<u32> {
        if self.asked.is_some() {
            return None;
        }
        let opaque = self.next;
        self.next = self.next.wrapping_add(1);
        self.asked = Some((opaque, now));
        Some(opaque)
    }
}

/// How old a round trip may be while bytes flow.
const PROBE_EVERY: Duration = Duration::from_secs(10);
/// Round trips that are measured one after the other as soon as bytes flow.
const FIRST_SAMPLES: u8 = 4;
/// How long a smallest round trip is believed: paths change.
const STRETCH: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_quiet_peer_is_asked_once_then_given_up() {
        let mut pulse = Pulse::new(seconds(20), seconds(28), seconds(0));
        assert_eq!(pulse.deadline(), seconds(20));
        assert_eq!(pulse.beat(seconds(19)), None);
        assert_eq!(pulse.beat(seconds(20)), Some(1));
        assert_eq!(pulse.beat(seconds(21)), None);
        assert_eq!(pulse.deadline(), seconds(28));
        assert!(!pulse.is_silent(seconds(27)) && pulse.is_silent(seconds(28)));
        pulse.hear(seconds(27));
        assert!(!pulse.is_silent(seconds(54)), "any byte is life");
    }

    #[test]
    fn the_smallest_round_trip_counts_until_it_is_old() {
        let mut pulse = Pulse::new(seconds(20), seconds(28), seconds(0));
        let mut measure = |at: u64, millis: u64| {
            let opaque = pulse.probe(seconds(at)).unwrap();
            assert_eq!(pulse.probe(seconds(at)), None, "one at a time");
            pulse.answered(opaque.wrapping_add(9), seconds(at));
            pulse.answered(opaque, seconds(at) + Duration::from_millis(millis));
            pulse.round_trip().unwrap().as_millis()
        };
        assert_eq!(measure(1, 50), 50);
        assert_eq!(measure(12, 300), 50);
        assert_eq!(measure(62, 400), 50);
        assert_eq!(measure(130, 400), 400);
    }

    #[test]
    fn the_first_round_trips_follow_each_other_and_a_fresh_one_is_not_measured_again() {
        let mut pulse = Pulse::new(seconds(20), seconds(28), seconds(0));
        for _ in 0..FIRST_SAMPLES {
            let opaque = pulse.probe(seconds(1)).unwrap();
            pulse.answered(opaque, seconds(2));
        }
        assert_eq!(pulse.probe(seconds(11)), None);
        assert!(pulse.probe(seconds(12)).is_some());
    }
}
