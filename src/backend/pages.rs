//! The pages of a list, which a remote side may go on sending for ever.

use std::{
    collections::HashSet,
    hash::{BuildHasher, RandomState},
};

use tokio_util::sync::CancellationToken;

use super::memory::{Holding, MemoryShare};

/// More pages than any list has: a hundred thousand keys of IBM Cloud.
const MOST_PAGES: usize = 1000;
/// The most bytes of all pages together. A hundred keys of IBM Cloud, with their credentials, take some 300 KiB.
const LARGEST: usize = 128 << 20;
/// The most items that are kept of a list.
const MOST_ITEMS: usize = 100_000;

/// What an item takes in memory besides its words, and with all of its words.
const ITEM: usize = 256;
const LARGEST_ITEM: usize = 8 << 10;

/// A list as far as its pages have come. What is kept of them counts.
pub(super) struct Pages<T> {
    items: Vec<T>,
    pages: usize,
    bytes: usize,
    seen: HashSet<u64>,
    hasher: RandomState,
    holding: Holding,
    given_up: CancellationToken,
}

/// A whole list. It counts as long as it is there.
#[derive(Debug)]
pub struct Listed<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// The room that it takes.
    pub held: Holding,
}

/// Why a list is not read to its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Endless {
    /// Asked for again, it would go on as long.
    Always(String),
    /// There is no room for it now.
    Now(String),
}

impl<T> Pages<T> {
    pub(super) fn held_by(share: &MemoryShare) -> Self {
        let given_up = CancellationToken::new();
        let give_up = given_up.clone();
        Self {
            items: Vec::new(),
            pages: 0,
            bytes: 0,
            seen: HashSet::new(),
            hasher: RandomState::new(),
            holding: share.hold(move || give_up.cancel()),
            given_up,
        }
    }

    /// Takes in what is to be kept of a page of so many bytes.
    ///
    /// # Errors
    /// Where the list is too long.
    pub(super) async fn add(&mut self, page: Vec<T>, bytes: usize) -> Result<(), Endless> {
        self.bytes += bytes;
        if self.bytes > LARGEST {
            return Err(Endless::Always(format!("its pages hold more than {} MiB", LARGEST >> 20)));
        }
        if self.items.len() + page.len() > MOST_ITEMS {
            return Err(Endless::Always(format!("it has more than {MOST_ITEMS} items")));
        }
        let kept = page.len() * ITEM + bytes.min(page.len() * LARGEST_ITEM);
        self.holding.grow(kept).await.map_err(|why| Endless::Now(why.to_string()))?;
        if self.given_up.is_cancelled() {
            return Err(Endless::Now(
                "others needed its part of the operator's memory for answers".to_owned(),
            ));
        }
        self.items.extend(page);
        Ok(())
    }

    /// Notes where the next page is.
    ///
    /// # Errors
    /// Where there are too many, or this one has come already.
    pub(super) fn goes_on_at(&mut self, next: &str) -> Result<(), Endless> {
        self.pages += 1;
        if self.pages >= MOST_PAGES {
            return Err(Endless::Always(format!("its pages have no end: there are more than {MOST_PAGES}")));
        }
        if !self.seen.insert(self.hasher.hash_one(next)) {
            return Err(Endless::Always(
                "its pages have no end: one of them leads back to another".to_owned(),
            ));
        }
        Ok(())
    }

    pub(super) fn end(self) -> Listed<T> {
        Listed { items: self.items, held: self.holding }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::MemoryBudget;

    fn pages() -> Pages<u32> {
        Pages::held_by(&MemoryBudget::new(1 << 20, 1 << 20).share("a"))
    }

    fn words(error: Endless) -> String {
        match error {
            Endless::Always(words) | Endless::Now(words) => words,
        }
    }

    #[test]
    fn pages_that_lead_in_a_circle_have_no_end() {
        let mut pages = pages();
        pages.goes_on_at("/a").unwrap();
        pages.goes_on_at("/b").unwrap();
        assert!(words(pages.goes_on_at("/a").unwrap_err()).contains("leads back"));
    }

    #[test]
    fn pages_that_go_on_for_ever_have_no_end() {
        let mut pages = pages();
        let error = (0..=MOST_PAGES).find_map(|page| pages.goes_on_at(&page.to_string()).err());
        assert!(words(error.unwrap()).contains("more than 1000"));
    }

    #[tokio::test]
    async fn all_pages_together_have_a_bound() {
        let mut pages = pages();
        assert_eq!(pages.add(vec![1], LARGEST - 1).await, Ok(()));
        assert!(words(pages.add(vec![1], 2).await.unwrap_err()).contains("more than 128 MiB"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_kept_of_all_pages_needs_room() {
        let mut pages = pages();
        assert_eq!(pages.add(vec![1; 100], 4 << 20).await, Ok(()));
        let error = pages.add(vec![1; 100], 4 << 20).await.unwrap_err();
        assert!(words(error).contains("memory for answers"));
        assert_eq!(pages.add(Vec::new(), 4 << 20).await, Ok(()), "what is not kept needs none");
    }
}
