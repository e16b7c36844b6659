//! One call to a remote side: its login, the repeat after a refused token, and the message for a failure.
//!
//! All backends share this module. A [`Dialect`] knows the calls of an API and the meaning of its answers. A
//! [`Session`] knows the addresses and the login of one provider.

use std::{borrow::Cow, fmt::Display, sync::Arc};

use futures::future::BoxFuture;
use reqwest::{
    Method, StatusCode,
    header::{ACCEPT, AUTHORIZATION, HeaderName, HeaderValue},
};
use secrecy::SecretString;
use serde::Serialize;
use tracing::Instrument;
use url::Url;
use uuid::Uuid;

use super::{
    BackendError, BackendKind, ErrorClass, KeyRequest, MemoryShare,
    http::{
        HttpClient, HttpFailure, HttpFailureKind, Redactor, Request, Response, below, call_span, has_words,
    },
    pages::Endless,
    token::{Token, Tokens},
};

/// The calls of one API. A value is one call.
pub(super) trait Dialect: Copy + Display + Send + Sync + 'static {
    /// The body of a refusal, as far as the operator reads it.
    type Refusal: Default;

    /// The kind of remote side, as providers name it.
    const KIND: BackendKind;
    /// Ends the message about an answer that does not match the API's documentation.
    const REMEDY: &'static str;

    /// The path of the call, without ids.
    fn route(self) -> &'static str;

    /// The called host, in words.
    fn host(self) -> &'static str;

    /// The class of a call whose effect is unknown.
    fn class_of_unknown(self) -> ErrorClass;

    /// Whether a success shows credentials.
    fn shows_credentials(self) -> bool;

    /// Reads the body of a refusal.
    fn read_refusal(body: &[u8]) -> Self::Refusal;

    /// The remote side's own message, if it is in a field that other APIs don't have.
    fn error_text(refusal: &Self::Refusal) -> Option<&str>;

    /// The class of an answer that is not the success of its call.
    fn class(self, status: u16, refusal: &Self::Refusal) -> ErrorClass;

    /// Advice to the user about such an answer. It is empty if a retry suffices, or if the remote side gives the advice.
    fn advice(self, status: u16, refusal: &Self::Refusal) -> &'static str;

    /// Names the answer in a message.
    fn describe_answer(self, status: u16, _refusal: &Self::Refusal) -> String {
        format!("{} answers {status}", self.host())
    }

    /// Checks whether the answer comes from a server in front of the API.
    ///
    /// # Errors
    /// If it does.
    fn check_answer(self, _response: &Response) -> Result<(), BackendError> {
        Ok(())
    }
}

/// The addresses and the login of one provider.
pub(super) trait Session: Send + Sync + Sized {
    /// The calls that it makes.
    type Dialect: Dialect;

    /// The base URL of the call.
    ///
    /// # Errors
    /// If the remote side does not report the address of its API.
    fn base(
        &self,
        http: &HttpClient,
        call: Self::Dialect,
    ) -> impl Future<Output = Result<Url, BackendError>> + Send;

    /// The login to send.
    ///
    /// # Errors
    /// If the login can't be sent.
    fn authorize(
        &self,
        http: &HttpClient,
    ) -> impl Future<Output = Result<Authorization, BackendError>> + Send;

    /// Adds the headers and parameters of all requests of this call.
    ///
    /// # Errors
    /// If they can't be sent.
    fn prepare(
        &self,
        _call: Self::Dialect,
        _of: Option<&KeyRequest>,
        request: Request,
    ) -> Result<Request, HttpFailure> {
        Ok(request)
    }

    /// The header that identifies a request in the remote side's log.
    fn request_id_header() -> Option<HeaderName> {
        None
    }

    /// Lets the called host, whose address is unverified, prove that it speaks the protocol of the provider. Returns a
    /// token if that is the proof.
    ///
    /// The future is boxed because a proof is itself a call.
    ///
    /// # Errors
    /// If the host gave no proof.
    fn prove<'a>(
        &'a self,
        http: &'a HttpClient,
        call: Self::Dialect,
    ) -> BoxFuture<'a, Result<Option<Arc<Token>>, BackendError>>;

    /// Advice to the user about an answer that is not the success of its call.
    fn advice(
        &self,
        call: Self::Dialect,
        status: u16,
        refusal: &<Self::Dialect as Dialect>::Refusal,
    ) -> Cow<'static, str> {
        call.advice(status, refusal).into()
    }

    /// Hides the login in a message.
    fn redactor(&self) -> Redactor;
}

/// The login, ready to be sent.
#[derive(Clone, Debug)]
pub(super) enum Authorization {
    /// The remote side requires no login, or only mutual TLS.
    None,
    /// The same header for every call.
    Header(HeaderValue),
    Tokens(Arc<Tokens>),
}

/// The API of one provider.
pub(super) struct RemoteApi<'a, S> {
    pub(super) http: &'a HttpClient,
    pub(super) session: &'a S,
}

impl<S> Clone for RemoteApi<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for RemoteApi<'_, S> {}

impl<'a, S: Session> RemoteApi<'a, S> {
    /// A call for no ServiceKey, or for many.
    pub(super) const fn for_no_key(self, call: S::Dialect) -> Exchange<'a, S> {
        self.exchange(call, None)
    }

    /// A call for a ServiceKey.
    pub(super) const fn for_key(self, call: S::Dialect, request: &'a KeyRequest) -> Exchange<'a, S> {
        self.exchange(call, Some(request))
    }

    /// A call for a ServiceKey, if there is one.
    pub(super) const fn exchange(self, call: S::Dialect, request: Option<&'a KeyRequest>) -> Exchange<'a, S> {
        Exchange { api: self, call, request, sent: Vec::new() }
    }
}

/// A call that is about to be sent, or was sent.
pub(super) struct Exchange<'a, S: Session> {
    pub(super) api: RemoteApi<'a, S>,
    pub(super) call: S::Dialect,
    request: Option<&'a KeyRequest>,
    /// Tokens and request ids that were sent. No message shows them.
    sent: Vec<SecretString>,
}

impl<S: Session> Exchange<'_, S> {
    /// Sends a request without a body to a path of the API.
    ///
    /// # Errors
    /// If the remote side sends no status, or the login server no token.
    pub(super) async fn ask(
        &mut self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Response, BackendError> {
        let request = self.request(method, path, query).await?;
        self.send(request).await
    }

    /// Sends JSON to a path of the API.
    ///
    /// # Errors
    /// As for [`Exchange::ask`].
    pub(super) async fn send_json(
        &mut self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Response, BackendError> {
        let request = with_json(self.request(method, path, &[]).await?, body)?;
        self.send(request).await
    }

    /// Creates a request to a path of the API.
    ///
    /// # Errors
    /// If the remote side does not report the address of its API.
    pub(super) async fn request(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Request, BackendError> {
        let base = self.api.session.base(self.api.http, self.call).await?;
        Ok(Request::new(method, self.call.route(), address(&base, path, query)))
    }

    /// Sends the request, and repeats it if the remote side refused only its token: a refused request had no effect.
    ///
    /// # Errors
    /// If the remote side sends no status, or the login server no token.
    pub(super) async fn send(&mut self, request: Request) -> Result<Response, BackendError> {
        let RemoteApi { http, session } = self.api;
        let request = request.header(ACCEPT, HeaderValue::from_static("application/json"));
        let prepared = session.prepare(self.call, self.request, request);
        let mut request = prepared.map_err(|failure| self.failed(failure))?;
        if let Some(of) = self.request {
            request = request.held_by(of.answers.clone());
        }
        let tokens = match session.authorize(http).await? {
            Authorization::None => return self.send_proved(request).await,
            Authorization::Header(header) => {
                return self.send_proved(request.header(AUTHORIZATION, header)).await;
            }
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
        let request = self.sign(token, request);
        self.send_proved(request).await
    }

    fn sign(&mut self, token: &Token, request: Request) -> Request {
        self.sent.push(token.secret());
        token.sign(request)
    }

    /// Sends the request, and repeats it if its host first had to prove that it speaks the protocol.
    async fn send_proved(&mut self, request: Request) -> Result<Response, BackendError> {
        let outcome = match self.send_as_it_is(request.clone()).await {
            Err(failure) if failure.kind == HttpFailureKind::Unproved => {
                let request = match self.api.session.prove(self.api.http, self.call).await? {
                    Some(token) => self.sign(&token, request),
                    None => request,
                };
                self.send_as_it_is(request).await
            }
            outcome => outcome,
        };
        let response = outcome.map_err(|failure| self.failed(failure))?;
        self.call.check_answer(&response).map(|()| response)
    }

    async fn send_as_it_is(&mut self, mut request: Request) -> Result<Response, HttpFailure> {
        let span = call_span(S::Dialect::KIND.as_str(), &self.call);
        if let Some(name) = S::request_id_header() {
            let id = Uuid::new_v4().to_string();
            let header = HeaderValue::from_str(&id).map_err(|_| unsendable(self.call))?;
            request = request.header(name, header);
            span.record("request_id", &id);
            self.sent.push(id.into());
        }
        self.api.http.send(request).instrument(span).await
    }

    /// The error for a call without a complete answer.
    pub(super) fn failed(&self, failure: HttpFailure) -> BackendError {
        let (what, unknown) = (self.call.to_string(), self.call.class_of_unknown());
        if self.call.shows_credentials() {
            failure.into_error_of_a_key(&what, unknown)
        } else {
            failure.into_error(&what, unknown)
        }
    }

    /// The body of an answer.
    ///
    /// # Errors
    /// If the body did not arrive.
    pub(super) fn body<'r>(&self, response: &'r Response) -> Result<&'r [u8], BackendError> {
        response.body().map_err(|failure| self.failed(failure))
    }

    /// Reads the body of a success.
    ///
    /// # Errors
    /// If the body did not arrive, or can't be parsed.
    pub(super) fn read<'r, T>(
        &self,
        response: &'r Response,
        read: impl FnOnce(&'r [u8]) -> Result<T, &'static str>,
    ) -> Result<T, BackendError> {
        read(self.body(response)?).map_err(|what| self.malformed(response, what))
    }

    /// The error for an answer that is not a success of the call.
    pub(super) async fn refused(&self, response: &Response) -> BackendError {
        let body = response.body().unwrap_or_default();
        let refusal = S::Dialect::read_refusal(body);
        let redactor = if S::Dialect::error_text(&refusal).is_some() {
            self.full_redactor().await
        } else {
            self.redactor(body).await
        };
        let advice = self.api.session.advice(self.call, response.status.as_u16(), &refusal);
        describe_refusal(self.call, response, &refusal, &redactor, &advice)
    }

    /// The error for a success whose body can't be used. `what` describes the problem.
    pub(super) fn malformed(&self, response: &Response, what: &str) -> BackendError {
        let (call, status) = (self.call, response.status.as_u16());
        let message = format!(
            "{call} failed: {} answers {status}, but the body {what}; {}",
            call.host(),
            S::Dialect::REMEDY
        );
        let class = call.class(status, &<S::Dialect as Dialect>::Refusal::default());
        BackendError::new(class, message).retry_after(response.retry_after)
    }

    /// The error for an answer that contradicts the API's documentation.
    pub(super) fn unexpected(&self, what: &str) -> BackendError {
        let message = format!("{} failed: {what}; {}", self.call, S::Dialect::REMEDY);
        BackendError::new(ErrorClass::Unexpected, message)
    }

    /// The error for a list that was not read to its end.
    pub(super) fn endless(&self, endless: Endless) -> BackendError {
        match endless {
            Endless::Always(what) => self.unexpected(&what),
            Endless::Now(why) => {
                BackendError::new(ErrorClass::Transient, format!("{} failed: {why}", self.call))
            }
        }
    }

    /// The memory that the answers count against.
    pub(super) fn answers(&self) -> MemoryShare {
        self.request.map_or(self.api.http.answers(), |request| &request.answers).clone()
    }

    /// Hides all secrets of the call in messages of this body. Reading the ServiceKey's secrets costs a request, so
    /// this reads them only if the body contains a message.
    pub(super) async fn redactor(&self, body: &[u8]) -> Redactor {
        if has_words(body) { self.full_redactor().await } else { self.login_redactor() }
    }

    /// Hides all secrets of the call.
    pub(super) async fn full_redactor(&self) -> Redactor {
        match self.request {
            None => self.login_redactor(),
            Some(request) => request.hide_in(self.login_redactor()).await,
        }
    }

    fn login_redactor(&self) -> Redactor {
        self.api.session.redactor().and(self.sent.iter().cloned())
    }
}

/// The error for an answer that is not a success. It hides the secrets of this redactor.
pub(super) fn refusal<D: Dialect>(call: D, response: &Response, redactor: &Redactor) -> BackendError {
    let refusal = D::read_refusal(response.body().unwrap_or_default());
    let advice = call.advice(response.status.as_u16(), &refusal);
    describe_refusal(call, response, &refusal, redactor, advice)
}

fn describe_refusal<D: Dialect>(
    call: D,
    response: &Response,
    refusal: &D::Refusal,
    redactor: &Redactor,
    advice: &str,
) -> BackendError {
    let status = response.status.as_u16();
    let said = match D::error_text(refusal) {
        Some(text) => redactor.sanitize(text),
        // Without the body, the status still describes the refusal.
        None => redactor.quote(response.body().unwrap_or_default()),
    };
    let mut message = format!("{call} failed: {}: {said}", call.describe_answer(status, refusal));
    if !advice.is_empty() {
        message.push_str("; ");
        message.push_str(advice);
    }
    BackendError::new(call.class(status, refusal), message).retry_after(response.retry_after)
}

/// Adds this body to the request.
///
/// # Errors
/// [`ErrorClass::Rejected`] if the parameters in it can't be sent.
pub(super) fn with_json(request: Request, body: &impl Serialize) -> Result<Request, BackendError> {
    request
        .json(body)
        .map_err(|_| BackendError::new(ErrorClass::Rejected, "`parameters` can't be sent as JSON"))
}

/// A URL below a base, with this query after the base's own.
pub(super) fn address(base: &Url, path: &str, query: &[(&str, &str)]) -> Url {
    let mut url = below(base, path);
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    url
}

/// The failure of a request whose headers can't be encoded.
pub(super) fn unsendable(call: impl Display) -> HttpFailure {
    HttpFailure::new(HttpFailureKind::Refused, format!("{call} can't be sent in a header"))
}
