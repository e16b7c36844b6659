//! All chance of a simulation, drawn from one seed.

use std::{ops::Range, sync::Arc, time::Duration};

use parking_lot::Mutex;

/// A source of random choices. Clones share it.
#[derive(Clone, Debug)]
pub struct Chance(Arc<Mutex<fastrand::Rng>>);

impl Chance {
    /// The source of this seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))))
    }

    /// A source of its own for one part of the simulation. What that part draws does not change what others draw.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::of(self.number())
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        draw(&mut self.0.lock())
    }

    /// Any number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.draw(|random| random.u64(..))
    }

    /// Whether something happens that happens in this many of 100 cases.
    #[must_use]
    pub fn percent(&self, percent: u32) -> bool {
        self.below(100) < percent
    }

    /// A number from zero to `end`, which is excluded and must not be zero.
    #[must_use]
    pub fn below(&self, end: u32) -> u32 {
        self.draw(|random| random.u32(..end))
    }

    /// A number of this range.
    #[must_use]
    pub fn within(&self, range: Range<u32>) -> u32 {
        self.draw(|random| random.u32(range))
    }

    /// A time of this range of milliseconds.
    #[must_use]
    pub fn millis(&self, range: Range<u32>) -> Duration {
        Duration::from_millis(self.within(range).into())
    }

    /// A time of this range of seconds, with milliseconds.
    #[must_use]
    pub fn seconds(&self, range: Range<u32>) -> Duration {
        self.millis(range.start * 1000..range.end * 1000)
    }

    /// One of the choices, of which there must be at least one.
    #[must_use]
    pub fn pick<'a, T>(&self, choices: &'a [T]) -> &'a T {
        &choices[self.draw(|random| random.usize(..choices.len()))]
    }
}
