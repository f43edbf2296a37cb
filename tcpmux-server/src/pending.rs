//! Streams that wait for the device's answer, counted by service.
//!
//! A local service that hangs must not eat all streams of its device.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
};

use tcpmux_proto::Destination;

/// The count of one session. Holds no more services than it has pending streams.
#[derive(Debug, Default)]
pub(crate) struct Pending(Mutex<HashMap<Destination, usize>>);

/// One pending stream; dropped when the device has answered or the stream has ended.
#[derive(Debug)]
pub(crate) struct Waiting {
    pending: Arc<Pending>,
    service: Destination,
}

impl Pending {
    /// Counts one more stream for a service, unless that many wait already.
    pub(crate) fn wait(self: &Arc<Self>, service: &Destination, most: usize) -> Option<Waiting> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.get(service).copied().unwrap_or(0);
        if count >= most {
            return None;
        }
        counts.insert(service.clone(), count + 1);
        Some(Waiting { pending: Arc::clone(self), service: service.clone() })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut counts = self.pending.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = counts.entry(self.service.clone()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_service_has_its_own_count_and_nothing_remains_of_the_answered() {
        let pending = Arc::new(Pending::default());
        let (web, shell): (Destination, Destination) = ("web".parse().unwrap(), "shell".parse().unwrap());
        let first = pending.wait(&web, 2).unwrap();
        let second = pending.wait(&web, 2).unwrap();
        assert!(pending.wait(&web, 2).is_none());
        let other = pending.wait(&shell, 2).unwrap();
        drop(first);
        let third = pending.wait(&web, 2).unwrap();
        drop((second, third, other));
        assert!(pending.0.lock().unwrap().is_empty());
    }
}
