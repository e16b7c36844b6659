//! Reads the lists of the Resource Controller.

use reqwest::{Method, StatusCode};
use url::Url;

use super::{
    session::IbmCloudSession,
    wire::{self, MOST_PER_PAGE},
};
use crate::backend::{
    BackendError, MemoryShare,
    exchange::{Dialect, Exchange},
    http::{Request, Response},
    pages::{Endless, Lists, Page, PagedList},
};

/// In MiB. A hundred keys with their credentials.
const LARGEST_PAGE: usize = 16;
/// The page size that the operator requests.
const PAGE: &str = "100";

impl<'a> Lists for Exchange<'a, IbmCloudSession> {
    type Pages<'e>
        = ResourcePages<'e, 'a>
    where
        Self: 'e;

    fn answers(&self) -> MemoryShare {
        self.answers()
    }

    async fn pages<'e>(
        &'e mut self,
        path: &'e str,
        filters: &[(&str, &str)],
    ) -> Result<ResourcePages<'e, 'a>, BackendError> {
        let mut query = filters.to_vec();
        query.push(("limit", PAGE));
        let first = self.api.session.address(self.call, path, &query);
        Ok(ResourcePages { exchange: self, path, first })
    }
}

/// The pages of a list.
pub(super) struct ResourcePages<'e, 'a> {
    exchange: &'e mut Exchange<'a, IbmCloudSession>,
    path: &'e str,
    first: Url,
}

impl PagedList for ResourcePages<'_, '_> {
    const MOST_PER_PAGE: usize = MOST_PER_PAGE;

    async fn request(&mut self, next: Option<&str>) -> Result<Response, BackendError> {
        let call = self.exchange.call;
        let url = match next {
            None => self.first.clone(),
            // The position includes all filters.
            Some(start) => {
                let query = [("start", start), ("limit", PAGE)];
                self.exchange.api.session.address(call, self.path, &query)
            }
        };
        let request = Request::new(Method::GET, call.route(), url).answered_in(LARGEST_PAGE);
        let response = self.exchange.send(request).await?;
        if response.status == StatusCode::OK {
            Ok(response)
        } else {
            Err(self.exchange.refused(&response).await)
        }
    }

    fn page<'p>(&self, response: &'p Response) -> Result<Page<'p>, BackendError> {
        let page: wire::ResourcePage<'_> = self.exchange.read(response, wire::read)?;
        let next = page.next_start().map_err(|what| self.exchange.unexpected(what))?;
        Ok(Page { items: page.resources, next })
    }

    fn malformed(&self, response: &Response) -> BackendError {
        self.exchange.malformed(response, wire::UNDOCUMENTED)
    }

    fn endless(&self, endless: Endless) -> BackendError {
        self.exchange.endless(endless)
    }
}
