//! Makes a process predictable: everything in it that draws random numbers draws those of a seed.

use std::sync::atomic::{AtomicUsize, Ordering};

use ahash::random_state::{RandomSource, set_random_source};

/// The seeds of the hash maps in kube's caches, which are addresses by default.
struct Counter(AtomicUsize);

impl RandomSource for Counter {
    fn gen_hasher_seed(&self) -> usize {
        self.0.fetch_add(1, Ordering::Relaxed)
    }
}

/// Seeds this process, which must not have created a hash map of kube yet: call it first, and once.
pub fn seed(seed: u64) {
    seeded_entropy::seed(seed);
    fastrand::seed(seed);
    // A second call would find the first source, which is as predictable.
    let _ = set_random_source(Counter(AtomicUsize::new(0)));
}
