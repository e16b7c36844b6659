//! Reads the lists of the Cloud Controller, in the largest pages that the API permits.

use std::sync::{Arc, atomic::Ordering};

use reqwest::{Method, StatusCode};
use serde::de::DeserializeOwned;
use url::Url;

use super::{
    discovery::Links,
    session::{CloudFoundrySession, MOST_PER_PAGE},
    wire::{self, CloudFoundryError},
};
use crate::backend::{
    BackendError, CompleteList, MemoryShare,
    exchange::{Dialect, Exchange, address},
    http::{Request, Response},
    memory::Weight,
    pages::{Endless, Lists, Page, PagedList, read_whole},
};

/// In MiB. Five thousand keys with their labels and annotations.
const LARGEST_PAGE: usize = 16;

/// The API's default page size.
const SMALLEST_PAGE: usize = 50;

impl Exchange<'_, CloudFoundrySession> {
    /// Reads a list in the largest pages that the API permits.
    ///
    /// # Errors
    /// Failures to read the list.
    pub(super) async fn list_in_large_pages<T: DeserializeOwned, K: Weight + Send>(
        &mut self,
        path: &str,
        query: &[(&str, &str)],
        keep: impl Fn(T) -> Option<K> + Send + Sync,
    ) -> Result<CompleteList<K>, BackendError> {
        let page_size = &self.api.session.page_size;
        loop {
            let size = page_size.load(Ordering::Relaxed);
            let per_page = size.to_string();
            let query: Vec<_> = query.iter().copied().chain([("per_page", per_page.as_str())]).collect();
            let share = self.answers();
            let mut pages = self.pages(path, &query).await?;
            match read_whole(&mut pages, &share, &keep).await {
                Err(_) if pages.found_page_too_large && size > SMALLEST_PAGE => {
                    page_size.fetch_min((size / 5).max(SMALLEST_PAGE), Ordering::Relaxed);
                }
                Err(error) if pages.found_page_too_large => {
                    // The page size is not the cause.
                    page_size.store(MOST_PER_PAGE, Ordering::Relaxed);
                    return Err(error);
                }
                outcome => return outcome,
            }
        }
    }
}

impl<'a> Lists for Exchange<'a, CloudFoundrySession> {
    type Pages<'e>
        = BindingPages<'e, 'a>
    where
        Self: 'e;

    fn answers(&self) -> MemoryShare {
        self.answers()
    }

    async fn pages<'e>(
        &'e mut self,
        path: &'e str,
        query: &[(&str, &str)],
    ) -> Result<BindingPages<'e, 'a>, BackendError> {
        let links = self.api.session.links(self.api.http).await?;
        let first = address(&links.api, path, query);
        Ok(BindingPages { exchange: self, links, first, found_page_too_large: false })
    }
}

/// The pages of a list.
pub(super) struct BindingPages<'e, 'a> {
    exchange: &'e mut Exchange<'a, CloudFoundrySession>,
    links: Arc<Links>,
    first: Url,
    /// Whether the API refused a page because of its size.
    found_page_too_large: bool,
}

impl PagedList for BindingPages<'_, '_> {
    const MOST_PER_PAGE: usize = MOST_PER_PAGE;

    async fn request(&mut self, next: Option<&str>) -> Result<Response, BackendError> {
        let url = match next {
            None => self.first.clone(),
            Some(next) => self.links.resolve_link(next).ok_or_else(|| {
                self.exchange.unexpected("the next page of the list is not at the API's own host")
            })?,
        };
        let request = Request::new(Method::GET, self.exchange.call.route(), url).answered_in(LARGEST_PAGE);
        let response = self.exchange.send(request).await?;
        if response.status == StatusCode::OK {
            Ok(response)
        } else {
            // If the API refuses a later page, all pages together are too large.
            self.found_page_too_large = next.is_none()
                && response.status == StatusCode::BAD_REQUEST
                && response.body().is_ok_and(is_about_page_size);
            Err(self.exchange.refused(&response).await)
        }
    }

    fn page<'p>(&self, response: &'p Response) -> Result<Page<'p>, BackendError> {
        let wire::ListPage { pagination, resources } = self.exchange.read(response, wire::read)?;
        Ok(Page { items: resources, next: pagination.next.map(|next| next.href) })
    }

    fn malformed(&self, response: &Response) -> BackendError {
        self.exchange.malformed(response, wire::UNDOCUMENTED)
    }

    fn endless(&self, endless: Endless) -> BackendError {
        self.exchange.endless(endless)
    }
}

fn is_about_page_size(body: &[u8]) -> bool {
    CloudFoundryError::read(body).is_about_page_size()
}
