//! One call to the Cloud Controller: its login, and the words for what went wrong.

use std::sync::{Arc, atomic::Ordering};

use reqwest::{
    Method, StatusCode,
    header::{ACCEPT, HeaderValue},
};
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use tracing::Instrument;
use url::Url;

use super::{
    classify::{CloudFoundryCall, advice, class},
    discovery::Links,
    foundry::CloudFoundry,
    session::{Authorization, sign},
    wire::{self, CloudFoundryError},
};
use crate::backend::{
    Backend, BackendError, CompleteList, ErrorClass, KeyRequest, MemoryShare,
    http::{HttpFailure, Redactor, Request, Response, below, call_span},
    memory::Weight,
    pages::{Endless, Lists, Page, PagedList},
    token::Token,
};

/// In MiB. Five thousand keys with their labels and annotations.
const LARGEST_PAGE: usize = 16;

/// The most resources that a page can have.
pub(super) const MOST_PER_PAGE: usize = 5000;
/// As many resources as a page has that is not asked for a size.
const SMALLEST_PAGE: usize = 50;

/// A call that is about to be made, or was made.
pub(super) struct Exchange<'a> {
    foundry: &'a CloudFoundry,
    call: CloudFoundryCall,
    request: Option<&'a KeyRequest>,
    /// The tokens that were sent, and are not to be read in any message.
    sent: Vec<SecretString>,
    /// Whether the API refused a page because of its size.
    found_page_too_large: bool,
}

impl<'a> Exchange<'a> {
    /// A call on behalf of no ServiceKey, or of many.
    pub(super) const fn anonymous(foundry: &'a CloudFoundry, call: CloudFoundryCall) -> Self {
        Self { foundry, call, request: None, sent: Vec::new(), found_page_too_large: false }
    }

    /// A call on behalf of a ServiceKey.
    pub(super) const fn for_key(
        foundry: &'a CloudFoundry,
        call: CloudFoundryCall,
        request: &'a KeyRequest,
    ) -> Self {
        Self { foundry, call, request: Some(request), sent: Vec::new(), found_page_too_large: false }
    }

    /// Sends a request without a body to a path below the API v3.
    ///
    /// # Errors
    /// Where no status came back, or no token was to be had.
    pub(super) async fn ask(
        &mut self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Response, BackendError> {
        let links = self.links().await?;
        self.send(Request::new(method, self.call.route(), address(&links, path, query)), &links).await
    }

    /// Sends JSON to a path below the API v3.
    ///
    /// # Errors
    /// As for [`Exchange::ask`].
    pub(super) async fn send_json(
        &mut self,
        method: Method,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<Response, BackendError> {
        let links = self.links().await?;
        let request = Request::new(method, self.call.route(), address(&links, path, &[]))
            .json(body)
            .map_err(|_| BackendError::new(ErrorClass::Rejected, "`parameters` can't be sent as JSON"))?;
        self.send(request, &links).await
    }

    /// Reads a list in pages as large as the API admits.
    ///
    /// # Errors
    /// Those of the list.
    pub(super) async fn list_in_large_pages<T: DeserializeOwned, K: Weight + Send>(
        &mut self,
        path: &str,
        query: &[(&str, &str)],
        keep: impl Fn(T) -> Option<K> + Send + Sync,
    ) -> Result<CompleteList<K>, BackendError> {
        loop {
            let size = self.foundry.page_size.load(Ordering::Relaxed);
            let per_page = size.to_string();
            let query: Vec<_> = query.iter().copied().chain([("per_page", per_page.as_str())]).collect();
            self.found_page_too_large = false;
            match self.list(path, &query, &keep).await {
                Err(_) if self.found_page_too_large && size > SMALLEST_PAGE => {
                    self.foundry.page_size.fetch_min((size / 5).max(SMALLEST_PAGE), Ordering::Relaxed);
                }
                Err(error) if self.found_page_too_large => {
                    // The size is not to blame.
                    self.foundry.page_size.store(MOST_PER_PAGE, Ordering::Relaxed);
                    return Err(error);
                }
                outcome => return outcome,
            }
        }
    }

    fn next_page(&self, links: &Links, href: &str) -> Result<Url, BackendError> {
        links.at_the_api(href).ok_or_else(|| self.unexpected("its next page is not at the API's own host"))
    }

    async fn links(&self) -> Result<Arc<Links>, BackendError> {
        self.foundry.session.links(&self.foundry.http).await
    }

    /// Sends the request; once more where only its token was refused, which does nothing.
    async fn send(&mut self, request: Request, links: &Links) -> Result<Response, BackendError> {
        let CloudFoundry { http, session, .. } = self.foundry;
        let request = request.header(ACCEPT, HeaderValue::from_static("application/json"));
        let tokens = match session.authorize(links, http)? {
            Authorization::Header(header) => return self.send_once(sign(request, &header)).await,
            Authorization::Tokens(tokens) => tokens,
        };
        let token = tokens.current(http).await?;
        let response = self.send_with(&token, request.clone()).await?;
        if response.status != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        match tokens.instead_of(&token, http).await? {
            Some(token) => self.send_with(&token, request).await,
            None => Ok(response),
        }
    }

    async fn send_with(&mut self, token: &Token, request: Request) -> Result<Response, BackendError> {
        self.sent.push(token.secret());
        self.send_once(token.sign(request)).await
    }

    /// Sends the request; once more where the API had to prove first what it is, at an address that is new.
    async fn send_once(&self, request: Request) -> Result<Response, BackendError> {
        let CloudFoundry { http, session, .. } = self.foundry;
        let span = || call_span(Backend::CLOUD_FOUNDRY, &self.call);
        let request = match self.request {
            Some(of) => request.held_by(of.answers.clone()),
            None => request,
        };
        match http.send(request.clone()).instrument(span()).await {
            Err(HttpFailure::Unproved(_)) => {
                session.check(http).await?;
                http.send(request).instrument(span()).await
            }
            outcome => outcome,
        }
        .map_err(|failure| self.failed(failure))
        .and_then(|response| self.answered(response))
    }

    /// The answer, where it is the API's own. A router that knows no way to the API answers 404, as the API does for what
    /// is gone.
    fn answered(&self, response: Response) -> Result<Response, BackendError> {
        let is_unknown = response.status == StatusCode::NOT_FOUND;
        if is_unknown && !response.body().is_ok_and(wire::is_json) {
            return Err(unreachable(self.call, &response, &Redactor::default()));
        }
        Ok(response)
    }

    /// A call that brought no answer, or one whose body did not arrive.
    pub(super) fn failed(&self, failure: HttpFailure) -> BackendError {
        let (what, unknown) = (self.call.to_string(), self.call.class_of_unknown());
        match self.call {
            CloudFoundryCall::Details => failure.into_error_of_a_key(&what, unknown),
            _ => failure.into_error(&what, unknown),
        }
    }

    /// What a success holds.
    ///
    /// # Errors
    /// Where the body did not arrive, or makes no sense.
    pub(super) fn read<T: DeserializeOwned>(&self, response: &Response) -> Result<T, BackendError> {
        let body = response.body().map_err(|failure| self.failed(failure))?;
        wire::read(body).map_err(|what| self.malformed(response, what))
    }

    /// An answer that is not a success of the call.
    pub(super) async fn refused(&self, response: &Response) -> BackendError {
        let error = refused_words(self.call, response, &self.redactor().await);
        if response.status != StatusCode::UNAUTHORIZED {
            return error;
        }
        let message = format!("{}; {}", error.message, self.foundry.session.advice());
        BackendError::new(error.class, message).retry_after(error.retry_after)
    }

    /// A success whose body can't be used: `what` says why.
    pub(super) fn malformed(&self, response: &Response, what: &str) -> BackendError {
        let status = response.status.as_u16();
        let message = format!(
            "{} failed: the API answers {status}, but the body {what}; ask the operator of the Cloud Foundry",
            self.call
        );
        BackendError::new(class(self.call, status, &CloudFoundryError::default()), message)
            .retry_after(response.retry_after)
    }

    pub(super) fn unexpected(&self, what: &str) -> BackendError {
        let message = format!("{} failed: {what}; ask the operator of the Cloud Foundry", self.call);
        BackendError::new(ErrorClass::Unexpected, message)
    }

    /// The API's words, without what is nobody's business.
    pub(super) async fn quote(&self, said: &str) -> String {
        self.redactor().await.sanitize(said)
    }

    async fn redactor(&self) -> Redactor {
        let redactor = self.foundry.session.redactor().and(self.sent.iter().cloned());
        match self.request {
            None => redactor,
            Some(request) => request.hide_in(redactor).await,
        }
    }
}

impl<'a> Lists for Exchange<'a> {
    type Pages<'e>
        = BindingPages<'e, 'a>
    where
        Self: 'e;

    fn answers(&self) -> MemoryShare {
        self.request.map_or(self.foundry.http.answers(), |request| &request.answers).clone()
    }

    async fn pages<'e>(
        &'e mut self,
        path: &'e str,
        query: &[(&str, &str)],
    ) -> Result<BindingPages<'e, 'a>, BackendError> {
        let links = self.links().await?;
        let first = address(&links, path, query);
        Ok(BindingPages { exchange: self, links, first })
    }
}

/// The resources of a list.
pub(super) struct BindingPages<'e, 'a> {
    exchange: &'e mut Exchange<'a>,
    links: Arc<Links>,
    /// The first page.
    first: Url,
}

impl PagedList for BindingPages<'_, '_> {
    /// As long as the API makes them.
    const MOST_PER_PAGE: usize = MOST_PER_PAGE;

    async fn request(&mut self, next: Option<&str>) -> Result<Response, BackendError> {
        let url = match next {
            None => self.first.clone(),
            Some(next) => self.exchange.next_page(&self.links, next)?,
        };
        let request = Request::new(Method::GET, self.exchange.call.route(), url).answered_in(LARGEST_PAGE);
        let response = self.exchange.send(request, &self.links).await?;
        if response.status == StatusCode::OK {
            Ok(response)
        } else {
            // A later page is refused where all of them together are too many.
            self.exchange.found_page_too_large = next.is_none()
                && response.status == StatusCode::BAD_REQUEST
                && response.body().is_ok_and(is_about_page_size);
            Err(self.exchange.refused(&response).await)
        }
    }

    fn page<'p>(&self, response: &'p Response) -> Result<Page<'p>, BackendError> {
        let body = response.body().map_err(|failure| self.exchange.failed(failure))?;
        let wire::ListPage { pagination, resources } =
            wire::read(body).map_err(|what| self.exchange.malformed(response, what))?;
        Ok(Page { items: resources, next: pagination.next.map(|next| next.href) })
    }

    fn malformed(&self, response: &Response) -> BackendError {
        self.exchange.malformed(response, wire::UNDOCUMENTED)
    }

    fn endless(&self, endless: Endless) -> BackendError {
        match endless {
            Endless::Always(what) => self.exchange.unexpected(&what),
            Endless::Now(why) => {
                BackendError::new(ErrorClass::Transient, format!("{} failed: {why}", self.exchange.call))
            }
        }
    }
}

fn is_about_page_size(body: &[u8]) -> bool {
    CloudFoundryError::read(body).is_about_page_size()
}

/// An answer of the router in front of the API, which did not get the request.
pub(super) fn unreachable(call: CloudFoundryCall, response: &Response, redactor: &Redactor) -> BackendError {
    let said = if response.is_of_a_router() {
        "it knows no such route".to_owned()
    } else {
        redactor.quote(response.body().unwrap_or_default())
    };
    let message = format!(
        "{call} failed: Cloud Foundry is not reachable behind its router, which answers {}: {said}",
        response.status.as_u16()
    );
    BackendError::new(ErrorClass::Transient, message).retry_after(response.retry_after)
}

/// An answer that is not a success, in words.
pub(super) fn refused_words(
    call: CloudFoundryCall,
    response: &Response,
    redactor: &Redactor,
) -> BackendError {
    let status = response.status.as_u16();
    // Where the body did not arrive the status still says what happened.
    let body = response.body().unwrap_or_default();
    let error = CloudFoundryError::read(body);
    let said =
        if error.detail.trim().is_empty() { redactor.quote(body) } else { redactor.sanitize(&error.detail) };
    let mut message = format!("{call} failed: the API answers {status}: {said}");
    let advice = advice(call, status, &error);
    if !advice.is_empty() {
        message.push_str("; ");
        message.push_str(advice);
    }
    BackendError::new(class(call, status, &error), message).retry_after(response.retry_after)
}

fn address(links: &Links, path: &str, query: &[(&str, &str)]) -> Url {
    let mut url = below(&links.api, path);
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    url
}
