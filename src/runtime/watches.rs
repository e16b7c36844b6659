//! The watches that fill the operator's caches: whether each cache is filled, and when each watch was last active.
//!
//! A working watch is never silent for long. The API server sends a bookmark every minute and ends the request after
//! about five minutes, and then the client sends it again. The client also repeats a failed request, for as long as it
//! takes. Such a watch counts as alive, because a restart of the process would not help.

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

/// One watch. It counts until this is dropped.
#[derive(Debug)]
pub struct Watch(Arc<WatchState>);

/// Records the activity of one watch.
#[derive(Clone, Debug)]
pub(super) struct WatchActivity(Arc<WatchState>);

#[derive(Debug)]
struct WatchState {
    /// The path of its objects at the API server.
    path: String,
    filled: AtomicBool,
    last_sign: Mutex<Instant>,
}

impl Watches {
    /// Registers a watch of the objects at this path.
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

    /// Returns the recorder of the watch of the objects at this path.
    pub(super) fn activity(&self, path: &str) -> Option<WatchActivity> {
        self.0.lock().iter().filter_map(Weak::upgrade).find(|watch| watch.path == path).map(WatchActivity)
    }

    /// The path of each watch, and the time since its last activity.
    #[must_use]
    pub fn elapsed(&self) -> Vec<(String, Duration)> {
        let silence = |state: Arc<WatchState>| {
            let last = *state.last_sign.lock();
            (state.path.clone(), last.elapsed())
        };
        self.living().into_iter().map(silence).collect()
    }

    /// The paths of the watches whose caches are not filled yet. `None` if there is no watch at all.
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
    /// Marks the cache as filled: it contains all objects that existed when the watch began.
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
        assert_eq!(watches.unfilled(), None, "ready without any watch");
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
