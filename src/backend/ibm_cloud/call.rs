//! One call to the Resource Controller or to IAM: its login, and the words for what went wrong.

use reqwest::{
    Method, StatusCode,
    header::{ACCEPT, HeaderValue},
};
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use tracing::Instrument;
use url::Url;

use super::{
    classify::{IbmCloudCall, advice, class},
    cloud::IbmCloud,
    wire::{self, IbmCloudError, ResourceInstance},
};
use crate::backend::{
    Backend, BackendError, ErrorClass, KeyRequest, MemoryShare,
    bounded::each,
    http::{HttpFailure, Redactor, Request, Response, below, call_span},
    pages::{Endless, Lists, Page, PagedList},
    token::Token,
};

/// In MiB. A hundred keys with their credentials.
const LARGEST_PAGE: usize = 16;
/// The resources of a page that the operator asks for.
const PAGE: &str = "100";
/// More resources than the API puts on a page.
const MOST_PER_PAGE: usize = 1000;

/// A call that is about to be made, or was made.
pub(super) struct Exchange<'a> {
    cloud: &'a IbmCloud,
    call: IbmCloudCall,
    request: Option<&'a KeyRequest>,
    /// The tokens that were sent, and are not to be read in any message.
    sent: Vec<SecretString>,
}

impl<'a> Exchange<'a> {
    /// A call on behalf of no ServiceKey, or of many.
    pub(super) const fn anonymous(cloud: &'a IbmCloud, call: IbmCloudCall) -> Self {
        Self::new(cloud, call, None)
    }

    /// A call on behalf of a ServiceKey.
    pub(super) const fn for_key(cloud: &'a IbmCloud, call: IbmCloudCall, request: &'a KeyRequest) -> Self {
        Self::new(cloud, call, Some(request))
    }

    /// A call on behalf of a ServiceKey, where there is one.
    pub(super) const fn new(
        cloud: &'a IbmCloud,
        call: IbmCloudCall,
        request: Option<&'a KeyRequest>,
    ) -> Self {
        Self { cloud, call, request, sent: Vec::new() }
    }

    /// Sends a request without a body.
    ///
    /// # Errors
    /// Where no status came back, or no token was to be had.
    pub(super) async fn ask(
        &mut self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Response, BackendError> {
        let request = Request::new(method, self.call.route(), self.address(path, query));
        self.send(if self.call == IbmCloudCall::Instances { request.proving(is_page) } else { request }).await
    }

    /// Sends JSON.
    ///
    /// # Errors
    /// As for [`Exchange::ask`].
    pub(super) async fn send_json(
        &mut self,
        method: Method,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<Response, BackendError> {
        let request = Request::new(method, self.call.route(), self.address(path, &[]))
            .json(body)
            .map_err(|_| BackendError::new(ErrorClass::Rejected, "`parameters` can't be sent as JSON"))?;
        self.send(request).await
    }

    fn address(&self, path: &str, query: &[(&str, &str)]) -> Url {
        let session = &self.cloud.session;
        let base = if self.call.is_at_iam() { &session.iam } else { &session.resource_controller };
        let mut url = below(base, path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// Sends the request; once more where only its token was refused, which does nothing.
    async fn send(&mut self, request: Request) -> Result<Response, BackendError> {
        let IbmCloud { http, session, .. } = self.cloud;
        let mut request = request.header(ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(of) = self.request {
            request = request.held_by(of.answers.clone());
        }
        if self.call.is_at_iam() {
            request = request.elsewhere();
        }
        let token = session.tokens.current(http).await?;
        let response = self.send_with(&token, request.clone()).await?;
        if response.status != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        match session.tokens.instead_of(&token, http).await? {
            Some(token) => self.send_with(&token, request).await,
            None => Ok(response),
        }
    }

    async fn send_with(&mut self, token: &Token, request: Request) -> Result<Response, BackendError> {
        self.sent.push(token.secret());
        let span = || call_span(Backend::IBM_CLOUD, &self.call);
        let IbmCloud { http, session, .. } = self.cloud;
        match http.send(token.sign(request.clone())).instrument(span()).await {
            // The host is at an address that is new, where it has to prove first what it is.
            Err(HttpFailure::Unproved(_)) if self.call.is_at_iam() => {
                let token = session.tokens.renewed(http).await?;
                self.sent.push(token.secret());
                http.send(token.sign(request)).instrument(span()).await
            }
            Err(HttpFailure::Unproved(_)) => {
                Box::pin(self.cloud.check()).await?;
                http.send(token.sign(request)).instrument(span()).await
            }
            outcome => outcome,
        }
        .map_err(|failure| self.failed(failure))
    }

    /// A call that brought no answer, or one whose body did not arrive.
    pub(super) fn failed(&self, failure: HttpFailure) -> BackendError {
        let (what, unknown) = (self.call.to_string(), self.call.class_of_unknown());
        match self.call {
            IbmCloudCall::Create | IbmCloudCall::Key => failure.into_error_of_a_key(&what, unknown),
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
        let (call, status) = (self.call, response.status.as_u16());
        // Where the body did not arrive the status still says what happened.
        let body = response.body().unwrap_or_default();
        let error = IbmCloudError::read(body);
        let redactor = self.redactor().await;
        let said =
            if error.message.is_empty() { redactor.quote(body) } else { redactor.sanitize(&error.message) };
        let mut message = format!("{call} failed: {} answers {status}: {said}", call.host());
        let advice = advice(call, status, &error);
        if !advice.is_empty() {
            message.push_str("; ");
            message.push_str(advice);
        }
        BackendError::new(class(call, status), message).retry_after(response.retry_after)
    }

    fn malformed(&self, response: &Response, what: &str) -> BackendError {
        let (call, status) = (self.call, response.status.as_u16());
        let message = format!(
            "{call} failed: {} answers {status}, but the body {what}; check `iamUrl` and `resourceControllerUrl`",
            call.host()
        );
        BackendError::new(class(call, status), message).retry_after(response.retry_after)
    }

    pub(super) fn unexpected(&self, what: &str) -> BackendError {
        let message = format!("{} failed: {what}; check `iamUrl` and `resourceControllerUrl`", self.call);
        BackendError::new(ErrorClass::Unexpected, message)
    }

    async fn redactor(&self) -> Redactor {
        let redactor = self.cloud.session.redactor().and(self.sent.iter().cloned());
        match self.request {
            None => redactor,
            Some(request) => request.hide_in(redactor).await,
        }
    }
}

/// Lists of the Resource Controller.
impl<'a> Lists for Exchange<'a> {
    type Pages<'e>
        = ResourcePages<'e, 'a>
    where
        Self: 'e;

    fn answers(&self) -> MemoryShare {
        self.request.map_or(self.cloud.http.answers(), |request| &request.answers).clone()
    }

    async fn pages<'e>(
        &'e mut self,
        path: &'e str,
        filters: &[(&str, &str)],
    ) -> Result<ResourcePages<'e, 'a>, BackendError> {
        let mut query = filters.to_vec();
        query.push(("limit", PAGE));
        let first = self.address(path, &query);
        Ok(ResourcePages { exchange: self, path, first })
    }
}

/// The resources of a list.
pub(super) struct ResourcePages<'e, 'a> {
    exchange: &'e mut Exchange<'a>,
    path: &'e str,
    /// The first page.
    first: Url,
}

impl PagedList for ResourcePages<'_, '_> {
    const MOST_PER_PAGE: usize = MOST_PER_PAGE;

    async fn request(&mut self, next: Option<&str>) -> Result<Response, BackendError> {
        let url = match next {
            None => self.first.clone(),
            // All filters are in it.
            Some(start) => self.exchange.address(self.path, &[("start", start), ("limit", PAGE)]),
        };
        let request = Request::new(Method::GET, self.exchange.call.route(), url).answered_in(LARGEST_PAGE);
        let response = self.exchange.send(request).await?;
        if response.status == StatusCode::OK {
            Ok(response)
        } else {
            Err(self.exchange.refused(&response).await)
        }
    }

    fn page<'p>(&self, response: &'p Response) -> Result<Page<'p>, BackendError> {
        let body = response.body().map_err(|failure| self.exchange.failed(failure))?;
        let page: wire::ResourcePage<'_> =
            wire::read(body).map_err(|what| self.exchange.malformed(response, what))?;
        let next = page.next_start().map_err(|what| self.exchange.unexpected(what))?;
        Ok(Page { items: page.resources, next })
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

/// Whether this is a page of instances, as nothing but the Resource Controller has them.
fn is_page(response: &Response) -> bool {
    let is_page = |body| {
        let page: Result<wire::ResourcePage<'_>, _> = wire::read(body);
        page.is_ok_and(|page| each(page.resources, MOST_PER_PAGE, |_: ResourceInstance| {}).is_ok())
    };
    response.status == StatusCode::OK && response.body().is_ok_and(is_page)
}
