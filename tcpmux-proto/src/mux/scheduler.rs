//! Whose turn it is to send.

use std::{collections::VecDeque, time::Duration};

use crate::buffers::fit;

/// Streams with something to send, each at most once, in two classes.
#[derive(Debug, Default)]
pub(super) struct Scheduler {
    interactive: VecDeque<u32>,
    bulk: VecDeque<u32>,
    /// Turns the interactive class had while bulk waited.
    ahead: u32,
    /// The stream of bulk that went last, and how many frames in a row.
    row: (u32, u32),
}

/// How a stream has behaved lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Interactive,
    Bulk,
}

/// How much a stream sent in its present burst.
#[derive(Debug, Default)]
pub(super) struct Burst {
    since: Duration,
    bytes: usize,
}

impl Scheduler {
    pub(super) fn push(&mut self, stream: u32, class: Class) {
        match class {
            Class::Interactive => self.interactive.push_back(stream),
            // What it has to say comes out of one buffer, leaves with one write and wakes one reader.
            Class::Bulk if self.row.0 == stream && self.row.1 < ROW => self.bulk.push_front(stream),
            Class::Bulk => self.bulk.push_back(stream),
        }
    }

    /// The next in turn: round robin in each class, bulk by some frames each, and a weighted choice between them.
    pub(super) fn pop(&mut self) -> Option<u32> {
        let bulk_is_due = self.ahead >= WEIGHT && !self.bulk.is_empty();
        let next = if bulk_is_due { None } else { self.interactive.pop_front() };
        self.ahead = if next.is_some() && !self.bulk.is_empty() { self.ahead + 1 } else { 0 };
        next.or_else(|| self.pop_bulk())
    }

    fn pop_bulk(&mut self) -> Option<u32> {
        let next = self.bulk.pop_front()?;
        let before = if self.row.0 == next { self.row.1 % ROW } else { 0 };
        self.row = (next, before + 1);
        Some(next)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.interactive.is_empty() && self.bulk.is_empty()
    }

    /// Entries, those of streams that are gone included.
    pub(super) fn len(&self) -> usize {
        self.interactive.len() + self.bulk.len()
    }

    pub(super) fn retain(&mut self, alive: impl Fn(u32) -> bool) {
        self.interactive.retain(|stream| alive(*stream));
        self.bulk.retain(|stream| alive(*stream));
    }

    pub(super) fn shrink(&mut self) {
        fit(&mut self.interactive);
        fit(&mut self.bulk);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

impl Burst {
    pub(super) fn send(&mut self, bytes: usize, now: Duration) {
        if now.saturating_sub(self.since) > PAUSE {
            (self.since, self.bytes) = (now, 0);
        }
        self.bytes = self.bytes.saturating_add(bytes);
    }

    pub(super) fn class(&self, now: Duration) -> Class {
        let paused = now.saturating_sub(self.since) > PAUSE;
        if paused || self.bytes < INTERACTIVE_BYTES { Class::Interactive } else { Class::Bulk }
    }
}

/// Interactive turns for one of bulk when both wait.
const WEIGHT: u32 = 4;
/// Frames of one bulk stream in a row: what the outbox takes at once.
const ROW: u32 = 4;
/// A burst is measured over this long.
const PAUSE: Duration = Duration::from_millis(500);
/// A stream that sends more in a burst is bulk.
const INTERACTIVE_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interactive_streams_go_first_but_never_starve_bulk() {
        let mut scheduler = Scheduler::default();
        for stream in 0..10 {
            scheduler.push(stream, Class::Interactive);
        }
        scheduler.push(100, Class::Bulk);
        scheduler.push(101, Class::Bulk);
        let order: Vec<u32> = std::iter::from_fn(|| scheduler.pop()).collect();
        assert_eq!(order, [0, 1, 2, 3, 100, 4, 5, 6, 7, 101, 8, 9]);
    }

    #[test]
    fn bulk_streams_send_some_frames_in_a_row_and_then_it_is_the_next_ones_turn() {
        let mut scheduler = Scheduler::default();
        for stream in [1, 3] {
            scheduler.push(stream, Class::Bulk);
        }
        let mut order = Vec::new();
        for turn in 0..14 {
            if turn == 5 {
                scheduler.push(7, Class::Interactive);
            }
            let stream = scheduler.pop().unwrap();
            order.push(stream);
            if stream != 7 {
                scheduler.push(stream, Class::Bulk);
            }
        }
        assert_eq!(order, [1, 1, 1, 1, 3, 7, 3, 3, 3, 1, 1, 1, 1, 3]);
    }

    #[test]
    fn a_stream_is_bulk_while_its_burst_is_large() {
        let mut burst = Burst::default();
        let at = Duration::from_millis;
        burst.send(INTERACTIVE_BYTES - 1, at(0));
        assert_eq!(burst.class(at(1)), Class::Interactive);
        burst.send(1, at(2));
        assert_eq!(burst.class(at(3)), Class::Bulk);
        assert_eq!(burst.class(at(600)), Class::Interactive);
        burst.send(10, at(600));
        assert_eq!(burst.class(at(601)), Class::Interactive);
    }
}
