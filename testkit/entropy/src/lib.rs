//! Replaces `getrandom` of the C library by numbers that follow from a seed, in every program that uses this crate.
//!
//! The standard library seeds its hash maps with `getrandom`, so the order of their entries differs from run to run.
//! In a simulation that order decides which object is reconciled first. With this crate, two runs of one seed are
//! equal.
//!
//! It is a crate of its own because the symbol needs `unsafe`, which the rest of the project forbids. A program that
//! needs unpredictable numbers, for TLS or tokens, must never use it.

use std::{
    slice,
    sync::atomic::{AtomicU64, Ordering},
};

/// The state of a SplitMix64 generator. Numbers that are drawn before [`seed`] are the same in each run.
static STATE: AtomicU64 = AtomicU64::new(0);

/// The increment of SplitMix64: 2^64 divided by the golden ratio.
const INCREMENT: u64 = 0x9e37_79b9_7f4a_7c15;

/// Starts the sequence of numbers that follows from this seed.
pub fn seed(seed: u64) {
    STATE.store(seed, Ordering::SeqCst);
}

fn next() -> u64 {
    let state = STATE.fetch_add(INCREMENT, Ordering::SeqCst).wrapping_add(INCREMENT);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Fills the buffer, as `getrandom(2)` does. Returns the number of bytes written, which is all of them.
///
/// # Safety
/// `buffer` has to be valid for writes of `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    if length > 0 {
        // SAFETY: the caller promises that the buffer is valid for this length, which is not zero.
        let bytes = unsafe { slice::from_raw_parts_mut(buffer, length) };
        for part in bytes.chunks_mut(size_of::<u64>()) {
            part.copy_from_slice(&next().to_le_bytes()[..part.len()]);
        }
    }
    length.cast_signed()
}
