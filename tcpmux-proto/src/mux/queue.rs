//! Queues of bytes that keep large pieces as they are and gather small ones.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Bytes in order, as few pieces as is cheap.
///
/// A piece shorter than [`KEEP_WHOLE`] is copied behind the last one, so that a peer that sends single bytes cannot
/// make each of them cost an allocation, nor pin the large buffer it arrived in.
#[derive(Debug, Default)]
pub(super) struct ByteQueue {
    pieces: VecDeque<Bytes>,
    small: BytesMut,
    len: usize,
}

impl ByteQueue {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a piece of any size without copying it when it is large.
    pub(super) fn push(&mut self, piece: Bytes) {
        if piece.len() < KEEP_WHOLE {
            self.extend(&piece);
        } else {
            self.settle();
            self.len += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// Appends the first `count` bytes of a buffer; copies them only when they are few.
    pub(super) fn push_from(&mut self, buffer: &mut BytesMut, count: usize) {
        if count < KEEP_WHOLE {
            self.extend(&buffer[..count]);
            bytes::Buf::advance(buffer, count);
        } else {
            self.push(buffer.split_to(count).freeze());
        }
    }

    /// Appends a copy.
    pub(super) fn extend(&mut self, bytes: &[u8]) {
        if self.small.len() + bytes.len() > GATHER {
            self.settle();
        }
        if self.small.capacity() == 0 {
            self.small = BytesMut::with_capacity(bytes.len());
        }
        self.small.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Takes the next piece, cut to at most `most` bytes; `None` when empty.
    pub(super) fn pop(&mut self, most: usize) -> Option<Bytes> {
        if self.pieces.is_empty() {
            self.settle();
        }
        let front = self.pieces.front_mut()?;
        let piece = if front.len() > most { front.split_to(most) } else { self.pieces.pop_front()? };
        self.len -= piece.len();
        Some(piece)
    }

    /// Drops everything, memory too.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn settle(&mut self) {
        if !self.small.is_empty() {
            self.pieces.push_back(std::mem::take(&mut self.small).freeze());
        }
    }
}

/// Pieces from this size on are kept as they came.
pub(super) const KEEP_WHOLE: usize = 8 * 1024;
/// Small pieces are gathered up to this size.
const GATHER: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_bytes_are_gathered_and_large_pieces_kept() {
        let mut queue = ByteQueue::default();
        for byte in 0..100_u8 {
            queue.push(Bytes::from(vec![byte]));
        }
        let large = Bytes::from(vec![7; KEEP_WHOLE]);
        let address = large.as_ptr();
        queue.push(large);
        assert_eq!(queue.len(), 100 + KEEP_WHOLE);
        assert_eq!(queue.pop(usize::MAX).unwrap(), (0..100).collect::<Vec<u8>>());
        let out = queue.pop(usize::MAX).unwrap();
        assert_eq!((out.as_ptr(), out.len()), (address, KEEP_WHOLE), "not copied");
        assert!(queue.pop(1).is_none() && queue.is_empty());
    }

    #[test]
    fn order_holds_across_both_ways_in_and_any_cut() {
        let mut queue = ByteQueue::default();
        let mut expected = Vec::new();
        let mut buffer = BytesMut::new();
        for round in 0..40_usize {
            let piece: Vec<u8> = (0..round * 517).map(|i| (i * 31 + round) as u8).collect();
            expected.extend_from_slice(&piece);
            if round % 2 == 0 {
                queue.push(piece.into());
            } else {
                buffer.extend_from_slice(&piece);
                queue.push_from(&mut buffer, piece.len());
                assert!(buffer.is_empty());
            }
        }
        assert_eq!(queue.len(), expected.len());
        let mut out = Vec::new();
        while let Some(piece) = queue.pop(1 + out.len() % 20_000) {
            out.extend_from_slice(&piece);
        }
        assert_eq!(out, expected);
        assert!(queue.is_empty());
    }
}
