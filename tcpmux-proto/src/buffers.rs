//! Memory for bytes under way, used again once nobody holds what lay in it.
//!
//! Bulk fills sixteen thousand buffers a GiB. Each taken from the heap and freed with its last piece makes the allocator
//! give pages back to the system and ask for them again, at the price of a fault for every 4 KiB. So whoever has passed a
//! buffer's bytes on leaves an empty handle here, and whoever needs a buffer takes one whose pieces are gone.
//!
//! What waits here is the thread's, not a connection's: one that is quiet holds nothing. With thousands of them it would
//! be freed memory between live one, which no allocator gives back.

use std::{cell::RefCell, collections::VecDeque};

use bytes::BytesMut;

thread_local! {
    /// The youngest last. Of most the pieces are still under way: what lies idle here is less than [`MOST`] buffers.
    static LEFT: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
    /// What the last conversation left.
    static SMALL: RefCell<Option<BytesMut>> = const { RefCell::new(None) };
}

/// An empty buffer for a conversation, of at most [`SMALL_SIZE`], with room for [`SMALL_LEAST`] or more. One serves all
/// conversations of a thread: whoever waits for its reader needs none.
pub(crate) fn take_small() -> BytesMut {
    let left = SMALL.take();
    let free = |buffer: &mut BytesMut| buffer.capacity() >= SMALL_LEAST || buffer.try_reclaim(SMALL_SIZE);
    left.and_then(|mut buffer| free(&mut buffer).then_some(buffer))
        .unwrap_or_else(|| BytesMut::with_capacity(SMALL_SIZE))
}

/// Leaves a buffer that [`take_small`] gave, and that holds nothing.
pub(crate) fn leave_small(buffer: BytesMut) {
    SMALL.set(Some(buffer));
}

/// An empty buffer: one that was left and is free, as a whole or more than half of it; else a new one of [`SIZE`].
pub fn take() -> BytesMut {
    LEFT.with_borrow_mut(|left| {
        // From the youngest: that is the one that still lies in the processor's caches.
        let free = left.iter_mut().rposition(|buffer| buffer.try_reclaim(SIZE) || buffer.capacity() >= LEAST);
        free.map_or_else(|| BytesMut::with_capacity(SIZE), |at| left.remove(at))
    })
}

/// Leaves a buffer that [`take`] gave, what it still holds dropped. Its pieces may still be under way.
pub fn leave(mut buffer: BytesMut) {
    buffer.clear();
    LEFT.with_borrow_mut(|left| {
        if left.len() >= MOST {
            left.remove(0);
        }
        left.push(buffer);
    });
}

/// Gives back what this thread keeps, now that nothing is under way.
pub(crate) fn release() {
    LEFT.take();
    SMALL.take();
}

/// Gives back the room of a queue that it does not need.
///
/// What is in it moves to a block of its own size. Shrunk in place it would stay where a busy session has put it, and
/// freed memory below it could not be given back.
pub(crate) fn fit<T>(queue: &mut VecDeque<T>) {
    let mut moved = VecDeque::with_capacity(queue.len());
    moved.append(queue);
    *queue = moved;
}

/// Bytes of a buffer: four full TLS records as our own peer seals them, so that a read ends where a record does.
pub const SIZE: usize = 4 * (5 + (1 << 14) + 1 + 16);
/// The room of a buffer that is worth another use. With less, each read would be one of many small ones.
pub const LEAST: usize = SIZE / 2;
/// Bytes of a buffer for a conversation.
pub(crate) const SMALL_SIZE: usize = 16 * 1024;
/// The least room in it that a read is worth.
pub(crate) const SMALL_LEAST: usize = 4 * 1024;
/// Buffers that wait for one thread: 2 MiB. As much may be under way on eight streams that are as fast as they can be.
const MOST: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_when_its_last_piece_is_gone_and_not_before() {
        let mut buffer = take();
        buffer.resize(SIZE, 7);
        let address = buffer.as_ptr();
        let (early, late) = (buffer.split_to(100).freeze(), buffer.split().freeze());
        leave(buffer);
        drop(early);
        assert!(take().capacity() >= SIZE && late.iter().all(|byte| *byte == 7));
        drop(late);
        let again = take();
        assert_eq!((again.as_ptr(), again.capacity()), (address, SIZE));
    }

    #[test]
    fn what_is_free_behind_pieces_is_used_where_it_is_more_than_half() {
        for (used, fits) in [(SIZE - LEAST, true), (SIZE - LEAST + 1, false)] {
            release();
            let mut buffer = take();
            buffer.resize(used, 7);
            let piece = buffer.split().freeze();
            leave(buffer);
            let end = piece.as_ptr().wrapping_add(used);
            assert_eq!(take().as_ptr() == end, fits, "{used} bytes used");
        }
    }

    #[test]
    fn a_thread_keeps_no_more_than_its_bound_and_nothing_when_it_is_quiet() {
        let held = || LEFT.with_borrow(Vec::len);
        let buffers: Vec<_> = (0..MOST + 5).map(|_| take()).collect();
        buffers.into_iter().for_each(leave);
        assert_eq!(held(), MOST);
        leave_small(take_small());
        release();
        assert_eq!((LEFT.with_borrow(Vec::capacity), SMALL.with_borrow(Option::is_some)), (0, false));
    }

    #[test]
    fn what_is_left_in_a_queue_moves_to_a_block_of_its_own_size() {
        let mut queue = VecDeque::with_capacity(1000);
        queue.extend([1, 2, 3]);
        let grown = queue.as_slices().0.as_ptr();
        fit(&mut queue);
        assert_eq!((queue.capacity(), &queue), (3, &VecDeque::from([1, 2, 3])));
        assert_ne!(queue.as_slices().0.as_ptr(), grown);
    }
}
