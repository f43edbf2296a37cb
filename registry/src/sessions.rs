//! Which session of a device stands: the newest generation, and only that one may remove itself.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use model::{ClaimDigest, DeviceRef, Fingerprint, Generation, NodeId, ServiceName, SessionId, Timestamp};
use serde::{Deserialize, Serialize};

/// A device's session, as others may know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Whose.
    pub device: DeviceRef,
    /// Its name.
    pub session: SessionId,
    /// Its fencing number; whatever is given to [`crate::Registry::connect`] is replaced.
    pub generation: Generation,
    /// The node that holds it.
    pub node: NodeId,
    /// The certificate that it stands on.
    pub certificate: Fingerprint,
    /// The device's start, as it says itself; tells a restart from a clone.
    pub boot_id: String,
    /// The services that the device exposes.
    pub services: Vec<ServiceName>,
    /// Those of them on which the device lets viewers open WebSockets.
    pub viewer_websockets: Vec<ServiceName>,
    /// The claim code that the device showed when it connected.
    pub claim_digest: Option<ClaimDigest>,
    /// Since when.
    pub since: Timestamp,
    /// When an echo last went through.
    pub verified_at: Timestamp,
}

/// What became of a [`crate::Registry::connect`].
#[derive(Debug, Clone)]
pub struct Connected {
    /// The generation that the session has now.
    pub generation: Generation,
    /// The session whose place it took.
    pub replaced: Option<SessionRecord>,
}

#[derive(Debug)]
pub(crate) struct Sessions {
    next: AtomicU64,
    /// Sharded by device, so that storms of devices do not meet at one lock. Bounded by the number
    /// of live tunnels, which the server bounds.
    shards: Vec<Mutex<HashMap<DeviceRef, SessionRecord>>>,
}

impl Sessions {
    pub(crate) fn starting_at(first: Generation) -> Self {
        Self { next: AtomicU64::new(first.0 + 1), shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    pub(crate) fn connect(&self, mut record: SessionRecord) -> Connected {
        let mut shard = self.shard(&record.device);
        // Drawn under the shard's lock: within a device, the order of rows is the order of generations.
        let generation = Generation(self.next.fetch_add(1, Ordering::Relaxed));
        record.generation = generation;
        let replaced = shard.insert(record.device.clone(), record);
        Connected { generation, replaced }
    }

    /// A number that no session had, to be proposed to the other nodes.
    pub(crate) fn draw(&self) -> Generation {
        Generation(self.next.fetch_add(1, Ordering::Relaxed))
    }

    /// Draws nothing up to and including this generation any more.
    pub(crate) fn raise(&self, seen: Generation) {
        self.next.fetch_max(seen.0.saturating_add(1), Ordering::Relaxed);
    }

    /// The highest generation that was drawn or seen.
    pub(crate) fn highest(&self) -> Generation {
        Generation(self.next.load(Ordering::Relaxed) - 1)
    }

    /// Puts a session with the generation that all nodes agreed on in its place, unless a newer one stands.
    pub(crate) fn place(&self, mut record: SessionRecord, generation: Generation) -> Connected {
        self.raise(generation);
        record.generation = generation;
        let mut shard = self.shard(&record.device);
        let is_newest = shard.get(&record.device).is_none_or(|standing| standing.generation < generation);
        let replaced = if is_newest { shard.insert(record.device.clone(), record) } else { None };
        Connected { generation, replaced }
    }

    /// Takes out a device's session if it is older than one that stands elsewhere.
    pub(crate) fn give_way(&self, device: &DeviceRef, newer: Generation) -> bool {
        let mut shard = self.shard(device);
        let is_older = shard.get(device).is_some_and(|record| record.generation < newer);
        if is_older {
            shard.remove(device);
        }
        is_older
    }

    /// The sessions of one of [`SHARDS`] parts.
    pub(crate) fn part(&self, part: usize) -> Vec<SessionRecord> {
        let shard = self.shards[part % SHARDS].lock().unwrap_or_else(PoisonError::into_inner);
        shard.values().cloned().collect()
    }

    pub(crate) fn disconnect(&self, device: &DeviceRef, generation: Generation) -> bool {
        let mut shard = self.shard(device);
        let is_this = shard.get(device).is_some_and(|record| record.generation == generation);
        if is_this {
            shard.remove(device);
        }
        is_this
    }

    pub(crate) fn lookup(&self, device: &DeviceRef) -> Option<SessionRecord> {
        self.shard(device).get(device).cloned()
    }

    pub(crate) fn verified(&self, device: &DeviceRef, generation: Generation, at: Timestamp) {
        if let Some(record) = self.shard(device).get_mut(device)
            && record.generation == generation
        {
            record.verified_at = record.verified_at.max(at);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    fn shard(&self, device: &DeviceRef) -> MutexGuard<'_, HashMap<DeviceRef, SessionRecord>> {
        use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(device);
        let index = usize::try_from(hash % SHARDS as u64).unwrap_or(0);
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) const SHARDS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn record(boot: &str) -> SessionRecord {
        SessionRecord {
            device: DeviceRef::new(model::TenantName::default(), "cam-01".parse().unwrap()),
            session: SessionId::from_random([1; 16]),
            generation: Generation(0),
            node: NodeId::from_random([2; 16]),
            certificate: Fingerprint([3; 32]),
            boot_id: boot.into(),
            services: vec![],
            viewer_websockets: vec![],
            claim_digest: None,
            since: Timestamp(0),
            verified_at: Timestamp(0),
        }
    }

    #[test]
    fn the_newest_generation_stands_and_a_late_goodbye_of_the_old_one_changes_nothing() {
        let sessions = Sessions::starting_at(Generation(7));
        let first = sessions.connect(record("a"));
        let second = sessions.connect(record("b"));
        assert!(second.generation > first.generation && first.generation > Generation(7));
        assert_eq!(second.replaced.unwrap().boot_id, "a");
        let device = record("a").device;
        assert!(!sessions.disconnect(&device, first.generation));
        sessions.verified(&device, first.generation, Timestamp(99));
        let standing = sessions.lookup(&device).unwrap();
        assert_eq!((standing.boot_id.as_str(), standing.verified_at), ("b", Timestamp(0)));
        assert!(sessions.disconnect(&device, second.generation));
        assert_eq!(sessions.len(), 0);
    }
}
