//! What a quiet daemon does so that its allocator gives back what only load needed.

use std::{array, hint::black_box};

/// Moves the small freed blocks that glibc keeps for the next request to the low end of the heap.
///
/// For each small size the allocator keeps seven freed blocks (its `tcache`), the youngest, wherever they lie. It never
/// joins them with the free memory around, and the heap ends above the highest one: after load, a megabyte of freed memory stays
/// under some kilobytes of them. So of each size more are taken than are kept, and the lowest are freed first: those are kept,
/// the others join what is free around them. Each round finds lower ones. A last large block has the allocator give back what
/// is free at the end. No other allocator needs it; to one it is some thousand requests more.
pub(crate) fn settle() {
    for _ in 0..ROUNDS {
        for size in (LEAST..=MOST).step_by(STEP) {
            let mut blocks: [Vec<u8>; TAKEN] = array::from_fn(|_| black_box(Vec::with_capacity(size)));
            blocks.sort_unstable_by_key(|block| block.as_ptr().addr());
        }
        drop(black_box(Vec::<u8>::with_capacity(LARGE)));
    }
}

const ROUNDS: usize = 3;
/// Blocks of one size at a time: seven, and enough that there are low ones among them.
const TAKEN: usize = 32;
/// The sizes of which freed blocks are kept: with eight bytes of the allocator's own, each multiple of sixteen.
const LEAST: usize = 24;
const MOST: usize = 1032;
const STEP: usize = 16;
/// Freed blocks from 64 KiB on have the end of the heap looked at; from 128 KiB on they lie outside of it.
const LARGE: usize = 100_000;

#[cfg(test)]
#[cfg(target_env = "gnu")]
mod tests {
    use super::*;

    /// The highest of the blocks of this size that the allocator keeps for the next request.
    fn highest_kept(size: usize) -> usize {
        let kept: [Vec<u8>; 7] = array::from_fn(|_| black_box(Vec::with_capacity(size)));
        kept.iter().map(|block| block.as_ptr().addr()).max().unwrap()
    }

    #[test]
    fn what_the_allocator_keeps_lies_low_afterwards() {
        // A busy time: small blocks among large ones, the small ones freed last.
        let busy: Vec<[Vec<u8>; 2]> = (0..200).map(|_| [vec![1; 16 * 1024], vec![1; 488]]).collect();
        let top = busy.iter().map(|[_, small]| small.as_ptr().addr()).max().unwrap();
        let (large, mut small): (Vec<_>, Vec<_>) = busy.into_iter().map(<(_, _)>::from).unzip();
        drop(large);
        small.sort_unstable_by_key(|block| std::cmp::Reverse(block.as_ptr().addr()));
        drop(small);
        let before = highest_kept(488);
        assert!(top - before < 1 << 20, "they were kept high");
        settle();
        let after = highest_kept(488);
        assert!(after + (1 << 20) < before, "{after:x}, {before:x} before");
    }
}
