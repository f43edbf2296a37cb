//! Which stream ids were used, on either side.

/// Which side of the connection we are: the client's stream ids are odd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Opened the connection: the device.
    Client,
    /// Took the connection: the cloud.
    Server,
}

impl Role {
    fn first(self) -> u32 {
        match self {
            Self::Client => 1,
            Self::Server => 2,
        }
    }

    fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// The ids we give.
#[derive(Debug)]
pub(super) struct OwnIds {
    next: u32,
}

impl OwnIds {
    pub(super) fn new(role: Role) -> Self {
        Self { next: role.first() }
    }

    /// The next id; `None` when they have run out.
    pub(super) fn take(&mut self) -> Option<u32> {
        let id = self.next;
        (id <= LAST).then(|| {
            self.next = id + 2;
            id
        })
    }

    pub(super) fn left(&self) -> u32 {
        (LAST + 1).saturating_sub(self.next).div_ceil(2)
    }

    pub(super) fn owns(&self, id: u32) -> bool {
        id % 2 == self.next % 2
    }

    /// Whether this id of ours was ever given.
    pub(super) fn was_given(&self, id: u32) -> bool {
        id < self.next
    }

    #[cfg(test)]
    pub(super) fn skip_to(&mut self, next: u32) {
        self.next = next;
    }
}

/// The ids the peer gives. They may arrive out of order: a peer may number a stream when it is made and announce it
/// when it first writes.
#[derive(Debug)]
pub(super) struct PeerIds {
    /// Wider than an id: after the last one there is none that is still to come.
    next: u64,
    /// First and last id of each stretch that was jumped over, in order.
    skipped: Vec<(u32, u32)>,
}

impl PeerIds {
    pub(super) fn new(own: Role) -> Self {
        Self { next: own.peer().first().into(), skipped: Vec::new() }
    }

    /// Marks an id as used; `false` when it was used before, or is so old that it counts as used.
    pub(super) fn take(&mut self, id: u32) -> bool {
        if u64::from(id) >= self.next {
            if let Ok(next) = u32::try_from(self.next)
                && id > next
            {
                self.skipped.push((next, id - 2));
            }
            self.next = u64::from(id) + 2;
        } else {
            let Some(index) = self.skipped_at(id) else { return false };
            let (first, last) = self.skipped.remove(index);
            if id < last {
                self.skipped.insert(index, (id + 2, last));
            }
            if first < id {
                self.skipped.insert(index, (first, id - 2));
            }
        }
        if self.skipped.len() > MAX_SKIPPED {
            self.skipped.remove(0);
        }
        true
    }

    /// Gives back memory that only a busy session needs; what is left moves, as with [`buffers::fit`](crate::buffers::fit).
    pub(super) fn shrink(&mut self) {
        self.skipped = self.skipped.clone();
    }

    /// Whether the peer announced this id, or skipped it so long ago that it counts as announced.
    pub(super) fn was_taken(&self, id: u32) -> bool {
        u64::from(id) < self.next && self.skipped_at(id).is_none()
    }

    fn skipped_at(&self, id: u32) -> Option<usize> {
        let index = self.skipped.partition_point(|(_, last)| *last < id);
        self.skipped.get(index).filter(|(first, _)| *first <= id).map(|_| index)
    }
}

/// 2³⁰ streams a session for each side.
const LAST: u32 = (1 << 31) - 1;
/// How many stretches of skipped ids are remembered as still usable.
const MAX_SKIPPED: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_ids_run_out_aloud() {
        let mut ids = OwnIds::new(Role::Client);
        assert_eq!(ids.left(), 1 << 30);
        assert_eq!((ids.take(), ids.take()), (Some(1), Some(3)));
        assert_eq!(ids.left(), (1 << 30) - 2);
        ids.skip_to(LAST);
        assert_eq!(ids.left(), 1);
        assert_eq!(ids.take(), Some(LAST));
        assert_eq!((ids.take(), ids.left()), (None, 0));
    }

    #[test]
    fn what_was_skipped_is_known_after_memory_was_given_back() {
        let mut ids = PeerIds::new(Role::Client);
        assert!(ids.take(6) && ids.take(12));
        assert!(ids.skipped.capacity() > ids.skipped.len());
        ids.shrink();
        assert_eq!(ids.skipped.capacity(), ids.skipped.len());
        assert!(ids.take(4) && !ids.take(4) && !ids.was_taken(2) && !ids.was_taken(8));
    }

    #[test]
    fn an_id_of_the_peer_is_used_once_in_whatever_order() {
        let mut ids = PeerIds::new(Role::Client);
        assert!(ids.take(6));
        assert!(!ids.was_taken(2) && !ids.was_taken(8) && ids.was_taken(6));
        assert!(ids.take(2));
        assert!(!ids.take(2) && !ids.take(6));
        assert!(ids.take(4) && !ids.take(4));
    }

    #[test]
    fn jumps_cost_a_bounded_memory() {
        let mut ids = PeerIds::new(Role::Client);
        for jump in 1..=10_000 {
            assert!(ids.take(jump * 1000));
        }
        assert!(ids.skipped.len() <= MAX_SKIPPED);
        assert!(!ids.take(2), "too old to be still on its way");
        assert!(ids.take(9_999_998) && !ids.take(9_999_998));
        assert!(ids.take(9_999_500) && ids.take(9_999_498) && ids.take(9_999_502));
        assert!(ids.take(u32::MAX - 1) && !ids.take(u32::MAX - 1));
    }

    #[test]
    fn the_very_last_id_is_used_once_like_any_other() {
        for (own, last) in [(Role::Client, u32::MAX - 1), (Role::Server, u32::MAX)] {
            let mut ids = PeerIds::new(own);
            assert!(!ids.was_taken(last) && ids.take(last));
            assert!(ids.was_taken(last) && !ids.take(last), "{last}");
            assert!(ids.take(last - 2) && !ids.take(last - 2));
        }
    }

    #[test]
    fn any_order_of_any_ids_agrees_with_a_set() {
        let mut ids = PeerIds::new(Role::Server);
        let mut used = std::collections::HashSet::new();
        let mut seed = 1_u32;
        for _ in 0..2000 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let id = (seed >> 16) % 400 * 2 + 1;
            assert_eq!(ids.was_taken(id), used.contains(&id));
            assert_eq!(ids.take(id), used.insert(id), "id {id}");
        }
    }
}
