//! Who is connected here: device → live session, the newest generation alone.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use model::{DeviceRef, DisconnectCause, Generation};
use registry::{NotAdmitted, Presented};
use tcpmux_proto::SessionHandle;
use tokio::{sync::oneshot, time::Instant};

use crate::{
    clones::{Flips, Superseded, Verdict},
    pending::Pending,
};

/// A session that is served.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) generation: Generation,
    pub(crate) presented: Presented,
    pub(crate) handle: SessionHandle,
    pub(crate) pending: Arc<Pending>,
    /// Tells the session's conversation to end. Whoever takes a session out of the table has it.
    pub(crate) order: oneshot::Sender<Order>,
    pub(crate) flips: Option<Box<Flips>>,
    /// When the registry was last told of a sign of life.
    pub(crate) told: Instant,
}

/// How a session is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// A session of this generation took its place.
    Replaced(Generation),
    /// For another reason.
    End(DisconnectCause),
}

/// Why a session did not get its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotEntered {
    /// One of this generation, which is newer, stands already.
    Newer(Generation),
    /// The certificate lost its admission since the handshake.
    NotAdmitted(NotAdmitted),
}

/// The table. Sharded by device, so that storms of devices do not meet at one lock; bounded by the
/// server's seats.
#[derive(Debug)]
pub(crate) struct Sessions {
    hasher: RandomState,
    shards: Vec<Mutex<Shard>>,
}

#[derive(Debug, Default)]
struct Shard {
    live: HashMap<DeviceRef, Live>,
    superseded: Superseded,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { hasher: RandomState::new(), shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl Sessions {
    /// Puts a session in its place and tells the older one that it lost it.
    ///
    /// `admit` is asked under the lock that [`Sessions::take_if`] needs: a revocation is either seen by
    /// it, or finds the session here.
    pub(crate) fn enter(
        &self,
        mut live: Live,
        now: Instant,
        admit: impl FnOnce(&Presented) -> Result<(), NotAdmitted>,
    ) -> Result<(), NotEntered> {
        let mut shard = self.shard(&live.presented.device);
        if let Err(no) = admit(&live.presented) {
            return Err(NotEntered::NotAdmitted(no));
        }
        let Shard { live: sessions, superseded } = &mut *shard;
        match sessions.entry(live.presented.device.clone()) {
            Entry::Vacant(place) => {
                place.insert(live);
            }
            Entry::Occupied(place) if place.get().generation > live.generation => {
                return Err(NotEntered::Newer(place.get().generation));
            }
            Entry::Occupied(mut place) => {
                live.flips = place.get_mut().flips.take();
                if is_flip(place.get(), &live.handle.hello().boot_id) {
                    superseded.note(place.key(), &place.get().handle.hello().boot_id, now);
                    live.flips.get_or_insert_default().note(now);
                }
                let order = Order::Replaced(live.generation);
                // The older one may be ending by itself already.
                let _ = place.insert(live).order.send(order);
            }
        }
        Ok(())
    }

    /// Judges whether a device that says this boot id may take the place of the session that stands.
    pub(crate) fn judge(&self, device: &DeviceRef, boot_id: &str, now: Instant) -> Verdict {
        let mut shard = self.shard(device);
        let verdict = match shard.live.get_mut(device) {
            Some(standing) if is_flip(standing, boot_id) => {
                standing.flips.as_mut().map_or(Verdict::Allow, |flips| flips.judge(now))
            }
            _ => Verdict::Allow,
        };
        match verdict {
            Verdict::Allow if shard.superseded.returns(device, boot_id, now) => Verdict::AllowAndTell,
            verdict => verdict,
        }
    }

    /// Takes a device's session out of the table if it is this generation. A late goodbye of an older
    /// one changes nothing.
    pub(crate) fn leave(&self, device: &DeviceRef, generation: Generation) {
        self.take_if(device, |live| live.generation == generation);
    }

    /// Takes a device's session out of the table if the condition holds: from then on nobody opens a
    /// stream on it.
    pub(crate) fn take_if(&self, device: &DeviceRef, condition: impl FnOnce(&Live) -> bool) -> Option<Live> {
        match self.shard(device).live.entry(device.clone()) {
            Entry::Occupied(place) if condition(place.get()) => Some(place.remove()),
            _ => None,
        }
    }

    /// What is needed to open a stream to a device.
    pub(crate) fn reach(&self, device: &DeviceRef) -> Option<(SessionHandle, Arc<Pending>)> {
        self.shard(device).live.get(device).map(|live| (live.handle.clone(), Arc::clone(&live.pending)))
    }

    /// Takes out every session for which the condition holds.
    pub(crate) fn take_all_if(&self, condition: impl Fn(&Live) -> bool) -> Vec<Live> {
        let mut taken = Vec::new();
        for shard in &self.shards {
            taken.extend(lock(shard).live.extract_if(|_, live| condition(live)).map(|(_, live)| live));
        }
        taken
    }

    /// Visits the sessions of every `parts`th shard, beginning with `part`, so that work on all of them
    /// can be spread over time.
    pub(crate) fn visit_part(&self, part: usize, parts: usize, mut visit: impl FnMut(&mut Live)) {
        for shard in self.shards.iter().skip(part).step_by(parts.max(1)) {
            lock(shard).live.values_mut().for_each(&mut visit);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).live.len()).sum()
    }

    pub(crate) fn stream_count(&self) -> usize {
        self.sum(SessionHandle::stream_count)
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.sum(SessionHandle::held_bytes)
    }

    fn sum(&self, of: impl Fn(&SessionHandle) -> usize) -> usize {
        let of_shard = |shard| lock(shard).live.values().map(|live| of(&live.handle)).sum::<usize>();
        self.shards.iter().map(of_shard).sum()
    }

    fn shard(&self, device: &DeviceRef) -> MutexGuard<'_, Shard> {
        let index = self.hasher.hash_one(device) % SHARDS as u64;
        lock(&self.shards[usize::try_from(index).unwrap_or(0)])
    }
}

fn is_flip(standing: &Live, boot_id: &str) -> bool {
    standing.handle.hello().boot_id != boot_id
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many parts the table has; [`Sessions::visit_part`] takes at most so many turns.
pub(crate) const SHARDS: usize = 64;
