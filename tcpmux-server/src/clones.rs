//! One certificate used from two places: noticed, told, and damped, never a loop of kicks.
//!
//! A flip is a session that takes the place of a live one of another boot. A device that restarts
//! after a power cut makes one flip; two machines with the same certificate make one at every
//! reconnection. From the sixth within a minute on, the session that stands is kept while it lives:
//! one of the two stays usable, the other is told when to come again.
//!
//! A thief need not stay: one who takes the place and hangs up leaves no session to flip with. But a daemon that
//! was replaced while it lived and comes again under the same boot proves by that alone that two machines hold the
//! key: a boot that has ended never returns. That is told at once; the newest is still served, since nobody can say
//! which of the two is the thief.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use model::DeviceRef;
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
    /// Let it take over, and tell that a clone is suspected.
    AllowAndTell,
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

/// Boots whose live session another boot took, by device.
#[derive(Debug, Default)]
pub(crate) struct Superseded(HashMap<DeviceRef, Boots>);

#[derive(Debug)]
struct Boots {
    /// At most [`BOOTS_KEPT`], the newest last.
    boots: VecDeque<String>,
    newest: Instant,
    told: Option<Instant>,
}

impl Superseded {
    /// Notes that another boot took the place of this one, which lived.
    pub(crate) fn note(&mut self, device: &DeviceRef, boot_id: &str, now: Instant) {
        if !self.0.contains_key(device) && self.0.len() >= DEVICES_KEPT {
            self.0.retain(|_, boots| boots.is_fresh(now));
            if self.0.len() >= DEVICES_KEPT {
                let oldest =
                    self.0.iter().min_by_key(|(_, boots)| boots.newest).map(|(device, _)| device.clone());
                oldest.and_then(|device| self.0.remove(&device));
            }
        }
        let boots = self.0.entry(device.clone());
        let boots = boots.or_insert_with(|| Boots { boots: VecDeque::new(), newest: now, told: None });
        boots.newest = now;
        boots.boots.retain(|known| known != boot_id);
        boots.boots.push_back(boot_id.to_owned());
        if boots.boots.len() > BOOTS_KEPT {
            boots.boots.pop_front();
        }
    }

    /// Whether this boot was superseded and is here again: true once in a while, so that it is told and not shouted.
    pub(crate) fn returns(&mut self, device: &DeviceRef, boot_id: &str, now: Instant) -> bool {
        let Some(boots) = self.0.get_mut(device) else { return false };
        if !boots.is_fresh(now) {
            self.0.remove(device);
            return false;
        }
        let told = boots.told.is_some_and(|at| now.duration_since(at) < DAMPED_FOR);
        let returns = !told && boots.boots.iter().any(|known| known == boot_id);
        if returns {
            boots.told = Some(now);
        }
        returns
    }
}

impl Boots {
    fn is_fresh(&self, now: Instant) -> bool {
        now.duration_since(self.newest) < REMEMBERED
    }
}

/// Boots of a device that are remembered, and for how long.
const BOOTS_KEPT: usize = 4;
const REMEMBERED: Duration = Duration::from_secs(3600);
/// Devices of one shard whose superseded boots are remembered.
const DEVICES_KEPT: usize = 256;
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

    fn camera() -> DeviceRef {
        DeviceRef::new("default".parse().unwrap(), "cam-01".parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_boot_that_returns_after_another_took_its_place_is_told_once_in_a_while() {
        let (mut superseded, start) = (Superseded::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(!superseded.returns(&camera(), "device", at(0)));
        superseded.note(&camera(), "device", at(0));
        assert!(!superseded.returns(&camera(), "thief", at(1)), "a restart has a boot of its own");
        assert!(superseded.returns(&camera(), "device", at(45)));
        superseded.note(&camera(), "device", at(50));
        assert!(!superseded.returns(&camera(), "device", at(90)), "told already");
        superseded.note(&camera(), "device", at(3000));
        assert!(superseded.returns(&camera(), "device", at(3010)));
        assert!(!superseded.returns(&camera(), "device", at(7000)), "forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_of_boots_is_bounded() {
        let (mut superseded, now) = (Superseded::default(), Instant::now());
        for device in 0..DEVICES_KEPT * 3 {
            let id = format!("d{device}").parse().unwrap();
            let device = DeviceRef::new("default".parse().unwrap(), id);
            for boot in 0..20 {
                superseded.note(&device, &format!("boot-{boot}"), now);
            }
        }
        assert_eq!(superseded.0.len(), DEVICES_KEPT);
        assert!(superseded.0.values().all(|boots| boots.boots.len() == BOOTS_KEPT));
    }
}
