//! Reads lists page by page, with limits: a remote side may send pages without end.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
};

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use super::{
    BackendError,
    bounded::each,
    http::Response,
    memory::{AllocatedMemory, MemoryShare, OutOfMemory, Weight},
};
use crate::lifecycle::MarkedKey;

/// More pages than any list has: a hundred thousand keys of IBM Cloud.
const MOST_PAGES: usize = 1000;
/// The most bytes of all pages together. A hundred keys of IBM Cloud, with their credentials, take some 300 KiB.
const LARGEST: usize = 128 << 20;
/// The most items of a list that are kept.
const MOST_ITEMS: usize = 100_000;
/// The most keys of one identity. More than one is an exception: a create request got no answer.
pub(super) const MOST_OF_ONE: usize = 20;

pub(super) trait PagedList {
    /// The most items that a page may have.
    const MOST_PER_PAGE: usize;

    /// Requests the first page, or the page that the previous one named.
    ///
    /// # Errors
    /// If the answer is not a success.
    fn request(&mut self, next: Option<&str>) -> impl Future<Output = Result<Response, BackendError>> + Send;

    /// Splits a page into its items and its link.
    ///
    /// # Errors
    /// If the answer is not a page.
    fn page<'a>(&self, response: &'a Response) -> Result<Page<'a>, BackendError>;

    /// The error for a page whose items can't be read.
    fn malformed(&self, response: &Response) -> BackendError;

    /// The error for a list that is not read to its end.
    fn endless(&self, endless: Endless) -> BackendError;
}

/// One page, whose items are not parsed yet.
pub(super) struct Page<'a> {
    pub(super) items: &'a RawValue,
    /// The link to the next page.
    pub(super) next: Option<String>,
}

/// A whole list. Its memory counts until it is dropped.
#[derive(Debug)]
pub(crate) struct CompleteList<T> {
    /// The items of the list.
    pub items: Vec<T>,
    /// The memory of the items. Drop it as soon as the items are gone: another share may wait for it.
    pub held: AllocatedMemory,
}

/// The reason why a list is not read to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Endless {
    /// The next attempt would fail in the same way.
    Always(String),
    /// There is not enough memory now.
    Now(String),
}

#[derive(Clone, Copy, Debug)]
enum ReadExtent {
    Whole,
    /// Until this many items are found.
    First(usize),
}

impl Weight for MarkedKey {
    fn weight(&self) -> usize {
        let Self { id, name, owner: _, sequence: _, namespace } = self;
        id.capacity() + name.capacity() + namespace.as_ref().map_or(0, String::capacity)
    }
}

/// A call whose answer is a list.
pub(super) trait Lists: Send {
    type Pages<'a>: PagedList + Send
    where
        Self: 'a;

    /// The memory for its answers.
    fn answers(&self) -> MemoryShare;

    /// The pages of the list at this path, with this query.
    fn pages<'a>(
        &'a mut self,
        path: &'a str,
        query: &[(&str, &str)],
    ) -> impl Future<Output = Result<Self::Pages<'a>, BackendError>> + Send;

    /// Returns the first `most` items of a list that `keep` keeps.
    ///
    /// # Errors
    /// As for [`Lists::list`].
    fn first<T: DeserializeOwned, K: Weight + Send>(
        &mut self,
        most: usize,
        path: &str,
        query: &[(&str, &str)],
        keep: impl Fn(T) -> Option<K> + Send + Sync,
    ) -> impl Future<Output = Result<Vec<K>, BackendError>> + Send {
        async move {
            let share = self.answers();
            let mut pages = self.pages(path, query).await?;
            read(&mut pages, &share, ReadExtent::First(most), keep).await.map(|listed| listed.items)
        }
    }

    /// Returns all items of a list that `keep` keeps.
    ///
    /// # Errors
    /// Those of [`read`].
    fn list<T: DeserializeOwned, K: Weight + Send>(
        &mut self,
        path: &str,
        query: &[(&str, &str)],
        keep: impl Fn(T) -> Option<K> + Send + Sync,
    ) -> impl Future<Output = Result<CompleteList<K>, BackendError>> + Send {
        async move {
            let share = self.answers();
            let mut pages = self.pages(path, query).await?;
            read(&mut pages, &share, ReadExtent::Whole, keep).await
        }
    }
}

/// Reads a whole list.
///
/// # Errors
/// Those of [`read`].
pub(super) async fn read_whole<T: DeserializeOwned, K: Weight>(
    pages: &mut (impl PagedList + Send),
    share: &MemoryShare,
    keep: impl Fn(T) -> Option<K>,
) -> Result<CompleteList<K>, BackendError> {
    read(pages, share, ReadExtent::Whole, keep).await
}

/// Reads a list. It calls `keep` twice for each item: to count the memory, and to keep the item. It drops each page
/// before it requests the next one. If another share needs the memory, the read ends, at whichever step it waits.
///
/// # Errors
/// If a page does not arrive, and if the list has no end or exceeds a limit.
async fn read<T: DeserializeOwned, K: Weight>(
    pages: &mut (impl PagedList + Send),
    share: &MemoryShare,
    extent: ReadExtent,
    keep: impl Fn(T) -> Option<K>,
) -> Result<CompleteList<K>, BackendError> {
    let given_up = CancellationToken::new();
    let give_up = given_up.clone();
    let list = PartialList::new(share.hold(move || give_up.cancel()), extent);
    let read = tokio::select! {
        biased;
        () = given_up.cancelled() => {
            let what = "the operator ran out of memory for answers and canceled this list; retrying";
            Err(Stop::Endless(Endless::Now(what.to_owned())))
        }
        read = list.read(pages, keep) => read,
    };
    read.map_err(|stop| match stop {
        Stop::Endless(endless) => pages.endless(endless),
        Stop::Failed(error) => error,
    })
}

/// The pages of a list so far. The memory of the kept items counts.
struct PartialList<K> {
    items: Vec<K>,
    extent: ReadExtent,
    pages: usize,
    bytes: usize,
    seen: HashSet<u64>,
    hasher: RandomState,
    holding: AllocatedMemory,
}

/// The reason why reading stops before the end.
enum Stop {
    Endless(Endless),
    Failed(BackendError),
}

impl From<BackendError> for Stop {
    fn from(error: BackendError) -> Self {
        Self::Failed(error)
    }
}

impl From<Endless> for Stop {
    fn from(endless: Endless) -> Self {
        Self::Endless(endless)
    }
}

impl From<OutOfMemory> for Stop {
    fn from(why: OutOfMemory) -> Self {
        Self::Endless(Endless::Now(why.to_string()))
    }
}

impl<K: Weight> PartialList<K> {
    fn new(holding: AllocatedMemory, extent: ReadExtent) -> Self {
        Self {
            items: Vec::new(),
            extent,
            pages: 0,
            bytes: 0,
            seen: HashSet::new(),
            hasher: RandomState::new(),
            holding,
        }
    }

    async fn read<T: DeserializeOwned, P: PagedList + Send>(
        mut self,
        pages: &mut P,
        keep: impl Fn(T) -> Option<K>,
    ) -> Result<CompleteList<K>, Stop> {
        let mut next: Option<String> = None;
        loop {
            let response = pages.request(next.as_deref()).await?;
            let page = pages.page(&response)?;
            self.came(response.body().map_or(0, <[u8]>::len))?;
            let (mut count, mut weight) = (0, 0);
            let weigh = |item: K| {
                count += 1;
                weight += item.weight();
            };
            let wanted = self.wanted();
            each_kept(page.items, P::MOST_PER_PAGE, wanted, &keep, weigh)
                .map_err(|_| pages.malformed(&response))?;
            self.make_room(count, weight).await?;
            each_kept(page.items, P::MOST_PER_PAGE, wanted, &keep, |item| self.items.push(item))
                .map_err(|_| pages.malformed(&response))?;
            next = page.next.filter(|_| self.wanted() > 0);
            drop(response);
            match &next {
                Some(next) => self.goes_on_at(next)?,
                None => return Ok(CompleteList { items: self.items, held: self.holding }),
            }
        }
    }

    /// The number of items that are still to be kept.
    fn wanted(&self) -> usize {
        match self.extent {
            ReadExtent::Whole => usize::MAX,
            ReadExtent::First(most) => most - self.items.len(),
        }
    }

    /// Counts the bytes of a page.
    ///
    /// # Errors
    /// If all pages together are too large.
    fn came(&mut self, bytes: usize) -> Result<(), Endless> {
        self.bytes += bytes;
        if self.bytes > LARGEST {
            return Err(Endless::Always(format!("the list is larger than {} MiB", LARGEST >> 20)));
        }
        Ok(())
    }

    /// Reserves memory for further items.
    ///
    /// # Errors
    /// If there are too many, or there is not enough memory.
    async fn make_room(&mut self, items: usize, weight: usize) -> Result<(), Stop> {
        if self.items.len() + items > MOST_ITEMS {
            let what = format!("the list has more than {MOST_ITEMS} items");
            return Err(Endless::Always(what).into());
        }
        // The vector copies its items when it grows.
        self.holding.grow(weight + 2 * items * size_of::<K>()).await?;
        self.items.reserve_exact(items);
        Ok(())
    }

    /// Records the link to the next page.
    ///
    /// # Errors
    /// If there are too many pages, or this link occurred before.
    fn goes_on_at(&mut self, next: &str) -> Result<(), Endless> {
        self.pages += 1;
        if self.pages >= MOST_PAGES {
            return Err(Endless::Always(format!("the list has more than {MOST_PAGES} pages")));
        }
        if !self.seen.insert(self.hasher.hash_one(next)) {
            let what = "pagination loops: the remote side returned the same next page twice";
            return Err(Endless::Always(what.to_owned()));
        }
        Ok(())
    }
}

/// Passes on the first `wanted` items of a page that `keep` keeps.
fn each_kept<T: DeserializeOwned, K>(
    items: &RawValue,
    most: usize,
    wanted: usize,
    keep: impl Fn(T) -> Option<K>,
    mut take: impl FnMut(K),
) -> Result<(), serde_json::Error> {
    let mut left = wanted;
    each(items, most, |item: T| {
        if left > 0
            && let Some(kept) = keep(item)
        {
            left -= 1;
            take(kept);
        }
    })
    .map(drop)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reqwest::StatusCode;
    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::backend::{ErrorClass, MemoryBudget};

    const KIB: usize = 1 << 10;

    fn list(budget: &MemoryBudget) -> PartialList<String> {
        PartialList::new(budget.share("a").hold(|| {}), ReadExtent::Whole)
    }

    fn budget() -> MemoryBudget {
        MemoryBudget::new(MOST_ITEMS, MOST_ITEMS)
    }

    fn words(error: Endless) -> String {
        match error {
            Endless::Always(words) | Endless::Now(words) => words,
        }
    }

    /// Pages of a single item each. After this many, the next one never arrives.
    struct Trickle {
        pages: usize,
        item: String,
        served: usize,
    }

    impl Trickle {
        fn new(pages: usize, bytes: usize) -> Self {
            Self { pages, item: "x".repeat(bytes), served: 0 }
        }
    }

    impl PagedList for Trickle {
        const MOST_PER_PAGE: usize = 2;

        async fn request(&mut self, next: Option<&str>) -> Result<Response, BackendError> {
            assert_eq!(next.is_some(), self.served > 0);
            if self.served == self.pages {
                std::future::pending::<()>().await;
            }
            self.served += 1;
            let body = serde_json::to_vec(&[&self.item]).unwrap();
            Ok(Response::new(StatusCode::OK, body, &MemoryBudget::for_answers().share("bodies")))
        }

        fn page<'a>(&self, response: &'a Response) -> Result<Page<'a>, BackendError> {
            let items = serde_json::from_slice(response.body().unwrap()).unwrap();
            Ok(Page { items, next: Some(self.served.to_string()) })
        }

        fn malformed(&self, _: &Response) -> BackendError {
            BackendError::new(ErrorClass::Unexpected, "malformed")
        }

        fn endless(&self, endless: Endless) -> BackendError {
            BackendError::new(ErrorClass::Transient, words(endless))
        }
    }

    #[test]
    fn pages_that_lead_in_a_circle_have_no_end() {
        let mut list = list(&budget());
        list.goes_on_at("/a").unwrap();
        list.goes_on_at("/b").unwrap();
        assert!(words(list.goes_on_at("/a").unwrap_err()).contains("the same next page twice"));
    }

    #[test]
    fn pages_that_go_on_for_ever_have_no_end() {
        let mut list = list(&budget());
        let error = (0..=MOST_PAGES).find_map(|page| list.goes_on_at(&page.to_string()).err());
        assert!(words(error.unwrap()).contains("more than 1000 pages"));
    }

    #[test]
    fn all_pages_together_have_a_bound() {
        let mut list = list(&budget());
        assert_eq!(list.came(LARGEST - 1), Ok(()));
        assert!(words(list.came(2).unwrap_err()).contains("larger than 128 MiB"));
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_is_kept_counts() {
        let budget = MemoryBudget::new(KIB * KIB, KIB * KIB);
        let mut pages = Trickle::new(20, 100 * KIB);
        let error =
            read(&mut pages, &budget.share("a"), ReadExtent::Whole, Some::<String>).await.unwrap_err();
        assert!(error.message.contains("for answers"), "{}", error.message);
        assert_eq!((pages.served, budget.held()), (11, 0), "ten items of 100 KiB fit");

        let mut pages = Trickle::new(20, 100 * KIB);
        let few = read(&mut pages, &budget.share("a"), ReadExtent::First(3), Some::<String>).await.unwrap();
        assert_eq!((few.items.len(), pages.served), (3, 3));
        assert!((300 * KIB..301 * KIB).contains(&budget.held()));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_kept_needs_no_room() {
        let budget = MemoryBudget::new(KIB, KIB);
        let mut pages = Trickle::new(5, 100 * KIB);
        let share = budget.share("a");
        let none = read(&mut pages, &share, ReadExtent::Whole, |_: String| None::<String>);
        assert!(timeout(Duration::from_secs(600), none).await.is_err(), "the sixth page does not come");
        assert_eq!(pages.served, 5);
    }

    /// Four lists use all of the memory, and wait for a page that never arrives.
    #[tokio::test(start_paused = true)]
    async fn lists_that_trickle_keep_no_other_share_waiting() {
        let budget = MemoryBudget::new(64 * KIB, 16 * KIB);
        let lists: Vec<_> = (0..4)
            .map(|number| {
                let share = budget.share(&number.to_string());
                tokio::spawn(async move {
                    let mut pages = Trickle::new(3, 5 * KIB);
                    read(&mut pages, &share, ReadExtent::Whole, Some::<String>).await.map(drop)
                })
            })
            .collect();
        tokio::task::yield_now().await;
        assert!(budget.held() > 60 * KIB, "{}", budget.held());
        let mut victim = budget.share("victim").hold(|| {});
        let began = Instant::now();
        victim.grow(8 * KIB).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        let (given_up, waiting): (Vec<_>, Vec<_>) = lists.into_iter().partition(|list| list.is_finished());
        assert_eq!((given_up.len(), waiting.len()), (1, 3));
        let error = given_up.into_iter().next().unwrap().await.unwrap().unwrap_err();
        assert!(error.message.contains("canceled this list"), "{}", error.message);
    }
}
