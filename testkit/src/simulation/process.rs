//! One process of the operator, as the rest of the world sees it: it may crash between any two effects, or freeze.

use std::{future, sync::Arc};

use parking_lot::Mutex;
use servicekey_operator::testing::TableSizes;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// A process of the operator. Clones are the same process.
#[derive(Clone, Debug)]
pub struct Process(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    life: Mutex<Life>,
    crashed: Notify,
    tables: TableSizes,
}

#[derive(Debug, Default)]
struct Life {
    has_ended: bool,
    /// The effects until the crash.
    crash_in: Option<u32>,
    /// The end of a pause in which the process does not run.
    frozen_until: Option<Instant>,
}

impl Process {
    /// A process that has just started.
    #[must_use]
    pub fn start(name: impl Into<String>) -> Self {
        let inner = Inner {
            name: name.into(),
            life: Mutex::default(),
            crashed: Notify::new(),
            tables: TableSizes::default(),
        };
        Self(Arc::new(inner))
    }

    /// The name in the journal.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The tables that the process keeps in memory.
    #[must_use]
    pub fn tables(&self) -> &TableSizes {
        &self.0.tables
    }

    /// Lets the process crash right after this many more effects; 0: now.
    pub fn crash_after(&self, effects: u32) {
        if effects == 0 {
            self.end();
        } else {
            self.0.life.lock().crash_in = Some(effects);
        }
    }

    /// Lets no crash happen that is due after further effects.
    pub fn survive(&self) {
        self.0.life.lock().crash_in = None;
    }

    /// Ends the process. Nothing that it does afterwards has an effect, and no answer reaches it.
    pub fn end(&self) {
        self.0.life.lock().has_ended = true;
        self.0.crashed.notify_one();
    }

    /// Lets the process stand still until this instant.
    pub fn freeze(&self, until: Instant) {
        self.0.life.lock().frozen_until = Some(until);
    }

    /// Waits until the process has crashed.
    pub async fn crashed(&self) {
        self.0.crashed.notified().await;
    }

    /// Waits until the process runs. It never returns in a process that has ended.
    pub async fn runs(&self) {
        loop {
            let (has_ended, frozen_until) = {
                let life = self.0.life.lock();
                (life.has_ended, life.frozen_until.filter(|until| *until > Instant::now()))
            };
            match frozen_until {
                _ if has_ended => future::pending().await,
                Some(until) => sleep_until(until).await,
                None => return,
            }
        }
    }

    /// Counts an effect of this process. The crash that was due after it happens now.
    pub fn has_effect(&self) {
        let mut life = self.0.life.lock();
        if let Some(left) = &mut life.crash_in {
            *left -= 1;
            if *left == 0 {
                life.crash_in = None;
                drop(life);
                self.end();
            }
        }
    }
}
