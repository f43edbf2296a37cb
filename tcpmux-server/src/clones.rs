//! One certificate used from two places: noticed, told, and damped, never a loop of kicks.
//!
//! A flip is a session that takes the place of a live one of another boot. A device that restarts
//! after a power cut makes one flip; two machines with the same certificate make one at every
//! reconnection. From the sixth within a minute on, the session that stands is kept while it lives:
//! one of the two stays usable, the other is told when to come again.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// The flips of one device. It goes from each session to the one that takes its place, and ends with
/// the last: a device that nobody contests costs nothing.
#[derive(Debug, Default)]
pub(crate) struct Flips {
    /// At most [`FLIPS_ALLOWED`].
    recent: VecDeque<Instant>,
    damped_until: Option<Instant>,
}

/// What to do with a session that would be a flip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Let it take over.
    Allow,
    /// Refuse it; nothing new to tell.
    Damp,
    /// Refuse it, and tell that a clone is suspected.
    DampAndTell,
}

impl Flips {
    /// Judges a flip that would happen now.
    pub(crate) fn judge(&mut self, now: Instant) -> Verdict {
        if self.damped_until.is_some_and(|until| now < until) {
            return Verdict::Damp;
        }
        while self.recent.front().is_some_and(|flip| now.duration_since(*flip) >= WINDOW) {
            self.recent.pop_front();
        }
        if self.recent.len() < FLIPS_ALLOWED {
            return Verdict::Allow;
        }
        self.recent.clear();
        self.damped_until = Some(now + DAMPED_FOR);
        Verdict::DampAndTell
    }

    /// Notes a flip that happened.
    pub(crate) fn note(&mut self, now: Instant) {
        if self.recent.len() == FLIPS_ALLOWED {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
    }
}

/// Flips a minute that a device may have for reasons of its own.
const FLIPS_ALLOWED: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);
/// How long the standing session is then safe from others.
const DAMPED_FOR: Duration = Duration::from_secs(300);
/// When a damped machine may come again.
pub(crate) const RETRY_WHEN_DAMPED: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn flip(flips: &mut Flips, now: Instant) -> Verdict {
        let verdict = flips.judge(now);
        if verdict == Verdict::Allow {
            flips.note(now);
        }
        verdict
    }

    #[tokio::test(start_paused = true)]
    async fn the_sixth_flip_within_a_minute_is_told_once_and_damped_for_a_while() {
        let mut flips = Flips::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for second in 0..5 {
            assert_eq!(flip(&mut flips, at(second)), Verdict::Allow);
        }
        assert_eq!(flip(&mut flips, at(6)), Verdict::DampAndTell);
        assert_eq!(flip(&mut flips, at(7)), Verdict::Damp);
        assert_eq!(flip(&mut flips, at(305)), Verdict::Damp);
        assert_eq!(flip(&mut flips, at(306)), Verdict::Allow, "the damping ends");
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_that_restarts_every_quarter_of_a_minute_is_no_clone() {
        let mut flips = Flips::default();
        let start = Instant::now();
        for round in 0..100 {
            assert_eq!(flip(&mut flips, start + Duration::from_secs(round * 15)), Verdict::Allow);
        }
    }
}
