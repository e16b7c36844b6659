//! Checks and renders users' templates on separate threads.
//!
//! The cost of a template is limited before it is compiled, and by fuel while it runs. The rest is processor
//! time, which is limited to a few threads. Namespaces take turns on them.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use lru::LruCache;
use parking_lot::Mutex;
use tokio::{task::spawn_blocking, time::timeout};

use crate::{
    backend::Credentials,
    fair::{FairSemaphore, Lane},
    secret::{Entries, Layout, RenderError},
};

/// Secrets whose templates are checked or rendered at the same time.
const THREADS: usize = 2;

/// Time limit for the templates of one Secret. The other limits keep the work within milliseconds; this one
/// covers costs that they miss.
const DEADLINE: Duration = Duration::from_secs(10);

/// Attempts at a slow layout before the operator gives it up. One attempt may be slow because the processor
/// is busy.
const ATTEMPTS: u8 = 3;

/// Layouts of one namespace whose verdict is cached.
const VERDICTS: NonZeroUsize = NonZeroUsize::new(64).unwrap();

/// Namespaces with layouts whose verdict is cached.
const NAMESPACES: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// Whether a layout can be rendered, as far as that is known without credentials.
pub(super) type LayoutVerdict = Result<(), RenderError>;

/// The verdicts of one namespace, by digest of the layout. They are not shared, so that no namespace can
/// evict or discover the verdicts of another.
type Verdicts = LruCache<String, Remembered>;

/// The cached result for a layout.
#[derive(Clone, Debug)]
enum Remembered {
    /// The layout was checked, or given up.
    Verdict(LayoutVerdict),
    /// This many attempts exceeded the time limit.
    Unfinished(u8),
}

/// The threads for templates, and the cached verdicts.
#[derive(Clone)]
pub(crate) struct Templates {
    threads: FairSemaphore,
    verdicts: Arc<Mutex<LruCache<Lane, Verdicts>>>,
    deadline: Duration,
    /// Whether the work runs on the caller's thread.
    is_inline: bool,
}

impl Default for Templates {
    fn default() -> Self {
        Self {
            threads: FairSemaphore::leaving_room(THREADS),
            verdicts: Arc::new(Mutex::new(LruCache::new(NAMESPACES))),
            deadline: DEADLINE,
            is_inline: false,
        }
    }
}

impl Templates {
    /// Runs the work on the thread of the caller, without a time limit.
    pub(crate) fn inline() -> Self {
        Self { is_inline: true, ..Self::default() }
    }

    /// The verdict on a layout if no thread is needed: the layout has no templates, or was checked before.
    pub(crate) fn known(&self, lane: &Lane, layout: &Layout) -> Option<LayoutVerdict> {
        if layout.template.is_empty() { Some(layout.validate()) } else { self.recall(lane, &layout.digest()) }
    }

    /// Checks a layout, once for each digest of it.
    ///
    /// # Errors
    /// The first problem of the layout.
    pub(crate) async fn validate(&self, lane: &Lane, layout: Layout) -> LayoutVerdict {
        if let Some(verdict) = self.known(lane, &layout) {
            return verdict;
        }
        let digest = layout.digest();
        let verdict = self.apart(lane, &digest, move || layout.validate()).await;
        if verdict.as_ref().err().is_none_or(|error| !error.is_transient()) {
            self.remember(lane, digest, Remembered::Verdict(verdict.clone()));
        }
        verdict
    }

    /// Renders the entries of a Secret. A layout that exceeded the time limit several times is not tried
    /// again until it changes.
    ///
    /// # Errors
    /// Those of [`Layout::render`], and [`RenderError::TooSlow`].
    pub(crate) async fn render(
        &self,
        lane: &Lane,
        layout: Layout,
        credentials: Credentials,
    ) -> Result<Entries, RenderError> {
        if layout.template.is_empty() {
            return layout.render(credentials.expose());
        }
        let digest = layout.digest();
        if let Some(Err(RenderError::TooSlow)) = self.recall(lane, &digest) {
            return Err(RenderError::TooSlow);
        }
        self.apart(lane, &digest, move || layout.render(credentials.expose())).await
    }

    /// Runs the work on a separate thread, in this namespace's turn. Work that exceeds the time limit is
    /// given up; its thread keeps the slot until the work ends.
    async fn apart<T: Send + 'static>(
        &self,
        lane: &Lane,
        digest: &str,
        work: impl FnOnce() -> Result<T, RenderError> + Send + 'static,
    ) -> Result<T, RenderError> {
        if self.is_inline {
            return work();
        }
        let permit = self.threads.acquire(lane).await;
        let work = spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
        match timeout(self.deadline, work).await {
            Ok(done) => done.unwrap_or(Err(RenderError::NoThread)),
            Err(_) => Err(self.unfinished(lane, digest)),
        }
    }

    /// Counts an attempt that exceeded the time limit.
    fn unfinished(&self, lane: &Lane, digest: &str) -> RenderError {
        let attempts = match self.look_up(lane, digest) {
            Some(Remembered::Unfinished(attempts)) => attempts + 1,
            Some(Remembered::Verdict(_)) | None => 1,
        };
        let (remembered, error) = if attempts < ATTEMPTS {
            (Remembered::Unfinished(attempts), RenderError::Unfinished)
        } else {
            (Remembered::Verdict(Err(RenderError::TooSlow)), RenderError::TooSlow)
        };
        self.remember(lane, digest.to_owned(), remembered);
        error
    }

    fn recall(&self, lane: &Lane, digest: &str) -> Option<LayoutVerdict> {
        match self.look_up(lane, digest)? {
            Remembered::Verdict(verdict) => Some(verdict),
            Remembered::Unfinished(_) => None,
        }
    }

    fn look_up(&self, lane: &Lane, digest: &str) -> Option<Remembered> {
        let mut verdicts = self.verdicts.lock();
        verdicts.get_mut(lane)?.get(digest).cloned()
    }

    fn remember(&self, lane: &Lane, digest: String, remembered: Remembered) {
        let mut verdicts = self.verdicts.lock();
        verdicts.get_or_insert_mut(lane.clone(), || LruCache::new(VERDICTS)).put(digest, remembered);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::{
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
    };

    use futures::{FutureExt, future::join_all};

    use super::*;

    fn lane(name: &str) -> Lane {
        Lane::of_namespace(name)
    }

    fn layout(source: &str) -> Layout {
        Layout { template: BTreeMap::from([("it".to_owned(), source.to_owned())]), ..Layout::default() }
    }

    /// The runtime has one thread. If a template used it, nothing else could run.
    #[tokio::test(flavor = "current_thread")]
    async fn the_runtime_goes_on_while_a_template_is_at_work() {
        let templates = Templates::default();
        let (release, released) = mpsc::channel();
        let hostile = lane("hostile");
        let slow = templates.apart(&hostile, "slow", move || {
            released.recv().unwrap();
            Ok(())
        });
        let beats = async {
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            release.send(()).unwrap();
        };
        let (done, ()) = tokio::join!(slow, beats);
        assert_eq!(done, Ok(()));
    }

    #[tokio::test]
    async fn a_namespace_takes_no_thread_from_another() {
        let templates = Templates::default();
        let (release, released) = mpsc::channel::<()>();
        let released = Arc::new(Mutex::new(released));
        let slow: Vec<_> = (0..60)
            .map(|_| {
                let released = Arc::clone(&released);
                let templates = templates.clone();
                tokio::spawn(async move {
                    let work = move || {
                        let _ = released.lock().recv();
                        Ok(())
                    };
                    templates.apart(&lane("hostile"), "slow", work).await
                })
            })
            .collect();
        while templates.threads.try_acquire(&lane("hostile")).is_ok() {
            tokio::task::yield_now().await;
        }
        assert_eq!(templates.validate(&lane("innocent"), layout("{{ password }}")).await, Ok(()));
        drop(release);
        assert!(join_all(slow).await.into_iter().all(|done| done.unwrap() == Ok(())));
    }

    #[tokio::test]
    async fn a_layout_that_takes_too_long_is_given_up_after_three_attempts() {
        let templates = Templates { deadline: Duration::ZERO, ..Templates::default() };
        // As long as possible: the check must not end before the operator notices the deadline, which has
        // passed already.
        let (lane, layout) = (lane("hostile"), layout(&"{{ password }}".repeat(1000)));
        for attempt in 1..=ATTEMPTS {
            let verdict = templates.validate(&lane, layout.clone()).await;
            let expected = if attempt < ATTEMPTS { RenderError::Unfinished } else { RenderError::TooSlow };
            assert_eq!(verdict, Err(expected));
        }
        let patient = Templates { deadline: DEADLINE, ..templates };
        let again = patient.validate(&lane, layout.clone()).now_or_never();
        assert_eq!(again, Some(Err(RenderError::TooSlow)), "no thread was asked");
        let credentials = Credentials::new(serde_json::Map::new());
        let rendered = patient.render(&lane, layout, credentials).now_or_never();
        assert_eq!(rendered.unwrap().unwrap_err(), RenderError::TooSlow);
    }

    #[tokio::test]
    async fn one_slow_moment_condemns_no_layout() {
        let busy = Templates { deadline: Duration::ZERO, ..Templates::default() };
        let (lane, layout) = (lane("honest"), layout(&"{{ password }}".repeat(1000)));
        assert_eq!(busy.validate(&lane, layout.clone()).await, Err(RenderError::Unfinished));
        let idle = Templates { deadline: DEADLINE, ..busy };
        assert_eq!(idle.validate(&lane, layout).await, Ok(()));
    }

    #[tokio::test]
    async fn each_namespace_remembers_its_own_verdicts() {
        let templates = Templates::default();
        let count = AtomicUsize::new(0);
        let validate = async |namespace: &str, source: &str| {
            let known = templates.known(&lane(namespace), &layout(source));
            count.fetch_add(usize::from(known.is_none()), Ordering::Relaxed);
            templates.validate(&lane(namespace), layout(source)).await
        };
        for _ in 0..3 {
            assert_eq!(validate("a", "{{ password }}").await, Ok(()));
            assert!(validate("a", "{{ password").await.is_err());
        }
        assert_eq!(count.load(Ordering::Relaxed), 2, "each layout was checked once");
        assert_eq!(validate("b", "{{ password }}").await, Ok(()));
        assert_eq!(count.load(Ordering::Relaxed), 3);
        for number in 0..VERDICTS.get() {
            assert_eq!(validate("b", &number.to_string()).await, Ok(()));
        }
        assert!(
            templates.known(&lane("b"), &layout("{{ password }}")).is_none(),
            "it was the oldest of many"
        );
        assert!(templates.known(&lane("a"), &layout("{{ password }}")).is_some());
    }
}
