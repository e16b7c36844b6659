//! Pages of lists, and the tokens that request the next ones.

use std::collections::BTreeMap;

use super::super::{answer::Refusal, record::Rule, route::Route};
use crate::remote::{Environment, reading::Parameters};

const MOST: usize = 100;

/// The position that each issued token stands for.
pub(super) struct Pages {
    environment: Environment,
    by_token: BTreeMap<String, Place>,
}

/// A position in a list.
#[derive(Clone)]
struct Place {
    list: String,
    asked: Asked,
}

/// The requested page of a list.
#[derive(Clone)]
pub(super) struct Asked {
    pub filters: Parameters,
    pub limit: usize,
    /// The number of the last object on the previous page.
    pub after: u64,
}

/// The names of the query parameters for pages.
pub(super) struct Words {
    pub limit: &'static str,
    pub token: &'static str,
    /// The size of a page if the query names none.
    pub usual: usize,
}

/// One page, and the token of the next one.
pub(super) struct Page<T> {
    pub things: Vec<T>,
    pub limit: usize,
    pub next: Option<String>,
}

impl Pages {
    pub(super) const fn none(environment: Environment) -> Self {
        Self { environment, by_token: BTreeMap::new() }
    }

    /// The page that a query requests. By the documentation, a query with a token ignores all other parameters.
    pub(super) fn read(
        &self,
        route: Route,
        list: &str,
        query: &Parameters,
        words: &Words,
    ) -> Result<Asked, Refusal> {
        if let Some(token) = query.get(words.token) {
            let place = self.by_token.get(token).filter(|place| place.list == list);
            return place.map(|place| place.asked.clone()).ok_or_else(|| {
                let detail = format!("`{}` is no token of a page of this list", words.token);
                Refusal::bad_request(route, Rule::Page, detail)
            });
        }
        let limit = match query.get(words.limit) {
            None => words.usual,
            Some(limit) => {
                limit.parse().ok().filter(|limit| (1..=MOST).contains(limit)).ok_or_else(|| {
                    let detail = format!("`{}` is a number from 1 to {MOST}", words.limit);
                    Refusal::bad_request(route, Rule::Page, detail)
                })?
            }
        };
        let mut filters = query.clone();
        filters.remove(words.limit);
        Ok(Asked { filters, limit, after: 0 })
    }

    /// The requested page of objects, which are in ascending order of their numbers.
    pub(super) fn turn<T>(
        &mut self,
        list: &str,
        asked: Asked,
        things: impl Iterator<Item = (u64, T)>,
    ) -> Page<T> {
        let limit = asked.limit;
        let mut left: Vec<(u64, T)> = things.skip_while(|(number, _)| *number <= asked.after).collect();
        let rest = left.split_off(limit.min(left.len()));
        let next = left.last().filter(|_| !rest.is_empty()).map(|(last, _)| {
            let token = self.environment.secret();
            let asked = Asked { after: *last, ..asked };
            self.by_token.insert(token.clone(), Place { list: list.to_owned(), asked });
            token
        });
        Page { things: left.into_iter().map(|(_, thing)| thing).collect(), limit, next }
    }
}

impl Asked {
    /// Whether this value matches the filter of this name, if there is one.
    pub(super) fn admits(&self, filter: &str, value: &str) -> bool {
        self.filters.get(filter).is_none_or(|wanted| wanted == value)
    }
}
