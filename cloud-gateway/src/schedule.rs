//! When which device is due, one moment each.

use std::collections::{BTreeMap, HashMap};

use model::{DeviceRef, Generation};
use tokio::time::Instant;

/// A session that something is due for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) device: DeviceRef,
    pub(crate) generation: Generation,
    /// How often it failed in a row.
    pub(crate) failures: u32,
}

/// Who is due next. Bounded by the devices that are connected: each has one place at most.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    by_time: BTreeMap<(Instant, u64), Due>,
    by_device: HashMap<DeviceRef, (Instant, u64)>,
    next: u64,
}

impl Schedule {
    /// Puts a session in its device's place, unless a newer one is there.
    pub(crate) fn put(&mut self, at: Instant, due: Due) {
        if let Some(place) = self.by_device.get(&due.device) {
            if self.by_time.get(place).is_some_and(|held| held.generation > due.generation) {
                return;
            }
            self.by_time.remove(place);
        }
        let place = (at, self.next);
        self.next += 1;
        self.by_device.insert(due.device.clone(), place);
        self.by_time.insert(place, due);
    }

    /// The session is over; a newer one keeps its place.
    pub(crate) fn remove(&mut self, device: &DeviceRef, generation: Generation) {
        if let Some(place) = self.by_device.get(device)
            && self.by_time.get(place).is_some_and(|held| held.generation <= generation)
        {
            self.by_time.remove(place);
            self.by_device.remove(device);
        }
    }

    /// When the next one is due.
    pub(crate) fn next_at(&self) -> Option<Instant> {
        self.by_time.keys().next().map(|(at, _)| *at)
    }

    /// Takes out who is due by now.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Due> {
        if self.next_at()? > now {
            return None;
        }
        let (_, due) = self.by_time.pop_first()?;
        self.by_device.remove(&due.device);
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::TenantName;

    use super::*;

    fn due(name: &str, generation: u64) -> Due {
        let device = DeviceRef::new(TenantName::default(), name.parse().unwrap());
        Due { device, generation: Generation(generation), failures: 0 }
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_has_one_place_and_its_newest_session_has_it() {
        let (mut schedule, now) = (Schedule::default(), Instant::now());
        let later = |seconds| now + Duration::from_secs(seconds);
        schedule.put(later(3), due("a", 1));
        schedule.put(later(2), due("b", 1));
        schedule.put(later(9), due("a", 2));
        schedule.put(later(1), due("a", 1));
        assert_eq!(schedule.next_at(), Some(later(2)), "an older session takes no place");
        assert_eq!(schedule.pop(later(1)), None);
        assert_eq!(schedule.pop(later(2)), Some(due("b", 1)));
        schedule.remove(&due("a", 1).device, Generation(1));
        assert_eq!(schedule.next_at(), Some(later(9)), "the end of an older session changes nothing");
        schedule.remove(&due("a", 2).device, Generation(2));
        assert_eq!((schedule.next_at(), schedule.by_device.len()), (None, 0));
    }
}
