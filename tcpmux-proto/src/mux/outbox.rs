//! Frames on their way to the socket.

use std::{collections::VecDeque, io::IoSlice};

use bytes::Bytes;

use crate::frame::{FrameHeader, HEADER_LEN};

/// A queue of encoded frames, fit for vectored writes: no copy of a payload, no allocation a frame.
#[derive(Debug, Default)]
pub struct Outbox {
    frames: VecDeque<OutFrame>,
    /// How much of the first frame has left already.
    written: usize,
    len: usize,
}

#[derive(Debug)]
struct OutFrame {
    header: [u8; HEADER_LEN],
    payload: Bytes,
}

impl Outbox {
    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Fills `slices` with what waits, in order; returns how many are filled.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        let mut skip = self.written;
        let parts = self.frames.iter().flat_map(|frame| [&frame.header[..], &frame.payload[..]]);
        for part in parts {
            let gone = skip.min(part.len());
            skip -= gone;
            let part = &part[gone..];
            if part.is_empty() {
                continue;
            }
            let Some(slot) = slices.get_mut(count) else { break };
            *slot = IoSlice::new(part);
            count += 1;
        }
        count
    }

    /// Drops the first `count` bytes, which the socket took.
    pub fn advance(&mut self, count: usize) {
        debug_assert!(count <= self.len, "the socket took more than there is");
        self.len -= count;
        self.written += count;
        while let Some(front) = self.frames.front() {
            let size = HEADER_LEN + front.payload.len();
            if self.written < size {
                break;
            }
            self.written -= size;
            self.frames.pop_front();
        }
    }

    /// Gives memory back if nothing waits.
    pub fn release(&mut self) {
        if self.frames.is_empty() {
            self.frames = VecDeque::new();
        }
    }

    pub(super) fn push(&mut self, header: FrameHeader, payload: Bytes) {
        self.len += HEADER_LEN + payload.len();
        self.frames.push_back(OutFrame { header: header.encode(), payload });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_order_whatever_the_socket_takes() {
        for step in 1..40 {
            let mut outbox = Outbox::default();
            let mut expected = Vec::new();
            for size in [0, 1, 30, 0, 0, 5, 100] {
                let payload = vec![size as u8; size];
                let header = FrameHeader::data(1, 0, size as u32);
                expected.extend_from_slice(&header.encode());
                expected.extend_from_slice(&payload);
                outbox.push(header, payload.into());
            }
            let mut out = Vec::new();
            while !outbox.is_empty() {
                let mut slices = [IoSlice::new(&[]); 3];
                let count = outbox.slices(&mut slices);
                let all: Vec<u8> = slices[..count].iter().flat_map(|s| s.to_vec()).collect();
                assert!(count > 0 && slices[..count].iter().all(|s| !s.is_empty()));
                let taken = step.min(all.len());
                out.extend_from_slice(&all[..taken]);
                outbox.advance(taken);
            }
            assert_eq!(out, expected, "step {step}");
        }
    }
}
