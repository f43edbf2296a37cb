//! The sockets of a door that have not finished their handshake: bounded per source and in all, and counted.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use crate::listen::{Limits, source_of};

/// What is under way at one door. Clones are of the same door.
#[derive(Debug, Clone)]
pub struct Handshakes(Arc<Shared>);

/// How many there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HandshakeCounts {
    /// Sockets whose handshake is not finished now.
    pub unfinished: usize,
    /// The most that there were at one time.
    pub most: usize,
    /// Sockets that were closed at once, because there were too many of their source or of all.
    pub refused: u64,
}

#[derive(Debug)]
struct Shared {
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    counts: HandshakeCounts,
    by_source: HashMap<IpAddr, usize>,
}

impl Handshakes {
    /// Of a door with these bounds.
    pub fn within(limits: Limits) -> Self {
        Self(Arc::new(Shared { limits, state: Mutex::default() }))
    }

    /// How many there are and have been.
    pub fn counts(&self) -> HandshakeCounts {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).counts
    }

    pub(crate) fn limits(&self) -> Limits {
        self.0.limits
    }

    /// A place for one more socket of this address; `None` if there are too many.
    pub(crate) fn begin(&self, address: IpAddr) -> Option<Unfinished> {
        let source = source_of(address);
        let limits = &self.0.limits;
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { counts, by_source } = &mut *state;
        let of_source = by_source.get(&source).copied().unwrap_or(0);
        if counts.unfinished >= limits.waiting || of_source >= limits.waiting_per_source {
            counts.refused += 1;
            return None;
        }
        counts.unfinished += 1;
        counts.most = counts.most.max(counts.unfinished);
        by_source.insert(source, of_source + 1);
        Some(Unfinished { of: self.clone(), source })
    }
}

/// One socket's place; given back when dropped.
#[derive(Debug)]
pub(crate) struct Unfinished {
    of: Handshakes,
    source: IpAddr,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let mut state = self.of.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.counts.unfinished -= 1;
        if let Some(count) = state.by_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                state.by_source.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_handshakes_are_bounded_per_source_and_in_all_and_counted() {
        let limits = Limits { waiting_per_source: 2, waiting: 3, ..Limits::default() };
        let all = Handshakes::within(limits);
        let (a, b) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let first = all.begin(a).unwrap();
        let second = all.begin(a).unwrap();
        assert!(all.begin(a).is_none());
        let third = all.begin(b).unwrap();
        assert!(all.begin(b).is_none());
        assert_eq!(all.counts(), HandshakeCounts { unfinished: 3, most: 3, refused: 2 });
        drop(first);
        let fourth = all.begin(b).unwrap();
        drop((second, third, fourth));
        assert_eq!(all.counts(), HandshakeCounts { unfinished: 0, most: 3, refused: 2 });
        assert!(all.0.state.lock().unwrap().by_source.is_empty());
    }
}
