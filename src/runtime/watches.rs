//! The watches that the operator lives on: whether their caches are filled, and when each last gave a sign of life.
//!
//! A watch that works is never silent for long: the API server sends a bookmark each minute and ends the request after
//! some five, and then it is made again. One that fails is made again as well, for as long as it takes; that is no
//! death, and ending the process would not help.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// All watches of a process.
#[derive(Clone, Debug, Default)]
pub struct Watches(Arc<Mutex<Vec<Weak<WatchState>>>>);

/// One watch, for as long as it is to live.
#[derive(Debug)]
pub struct Watch(Arc<WatchState>);

/// Notes the signs of life of one watch.
#[derive(Clone, Debug)]
pub(super) struct WatchActivity(Arc<WatchState>);

#[derive(Debug)]
struct WatchState {
    /// Where its objects are at the API server.
    path: String,
    filled: AtomicBool,
    last_sign: Mutex<Instant>,
}

impl Watches {
    /// A watch of the objects at this path begins.
    #[must_use]
    pub fn begin(&self, path: &str) -> Watch {
        let state = Arc::new(WatchState {
            path: path.to_owned(),
            filled: AtomicBool::new(false),
            last_sign: Mutex::new(Instant::now()),
        });
        let mut watches = self.0.lock();
        watches.retain(|watch| watch.strong_count() > 0);
        watches.push(Arc::downgrade(&state));
        Watch(state)
    }

    /// What notes the signs of life of the watch of the objects at this path.
    pub(super) fn activity(&self, path: &str) -> Option<WatchActivity> {
        self.0.lock().iter().filter_map(Weak::upgrade).find(|watch| watch.path == path).map(WatchActivity)
    }

    /// How long each has been silent, with its path.
    #[must_use]
    pub fn elapsed(&self) -> Vec<(String, Duration)> {
        let silence = |state: Arc<WatchState>| {
            let last = *state.last_sign.lock();
            (state.path.clone(), last.elapsed())
        };
        self.living().into_iter().map(silence).collect()
    }

    /// The paths of those whose caches have not been filled yet; `None` where there are no watches at all.
    #[must_use]
    pub fn unfilled(&self) -> Option<Vec<String>> {
        let living = self.living();
        let unfilled = living.iter().filter(|state| !state.filled.load(Ordering::Acquire));
        (!living.is_empty()).then(|| unfilled.map(|state| state.path.clone()).collect())
    }

    fn living(&self) -> Vec<Arc<WatchState>> {
        self.0.lock().iter().filter_map(Weak::upgrade).collect()
    }
}

impl Watch {
    /// Its cache shows all objects that there were when it began.
    pub fn filled(&self) {
        self.0.filled.store(true, Ordering::Release);
    }
}

impl WatchActivity {
    pub(super) fn touch(&self) {
        *self.0.last_sign.lock() = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_counts_while_it_is_to_live() {
        let watches = Watches::default();
        assert_eq!(watches.unfilled(), None, "nothing is ready where nothing has begun");
        let (secrets, keys) = (watches.begin("/secrets"), watches.begin("/servicekeys"));
        secrets.filled();
        assert_eq!(watches.unfilled(), Some(vec!["/servicekeys".to_owned()]));
        keys.filled();
        assert_eq!(watches.unfilled(), Some(vec![]));
        drop(keys);
        assert!(watches.activity("/servicekeys").is_none());
        assert_eq!(watches.elapsed().len(), 1);
    }

    #[test]
    fn a_sign_of_life_ends_a_silence() {
        let watches = Watches::default();
        let _secrets = watches.begin("/secrets");
        let silence = || watches.elapsed().remove(0).1;
        std::thread::sleep(Duration::from_millis(20));
        let before = silence();
        assert!(before >= Duration::from_millis(20));
        watches.activity("/secrets").unwrap().touch();
        assert!(silence() < before);
    }
}
