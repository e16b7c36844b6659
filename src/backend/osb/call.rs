//! One call to a broker: its headers, its tracing, and the words for what went wrong.

use std::{borrow::Cow, time::Duration};

use reqwest::{
    StatusCode,
    header::{ACCEPT, AUTHORIZATION, HeaderName, HeaderValue},
};
use secrecy::SecretString;
use tracing::Instrument;
use uuid::Uuid;

use super::{
    Broker,
    classify::{BrokerCall, advice, class},
    login::BrokerLogin,
    wire::{self, LastOperationState},
};
use crate::backend::{
    Accepted, Backend, BackendError, ErrorClass, IssuedKey, KeyRequest, Progress,
    http::{HttpFailure, Redactor, Request, Response, call_span, has_words, is_web_page},
    token::Token,
};

const API_VERSION: HeaderName = HeaderName::from_static("x-broker-api-version");
const ORIGINATING_IDENTITY: HeaderName = HeaderName::from_static("x-broker-api-originating-identity");
const REQUEST_IDENTITY: HeaderName = HeaderName::from_static("x-broker-api-request-identity");

const TOKEN_REFUSED: &str = "it accepts no token of the token server: check `tokenUrl` and `scopes`";

/// Brokers that work in the background take seconds at least.
const FIRST_LOOK: Duration = Duration::from_millis(500);

/// A call that is about to be made, or was made.
pub(super) struct Exchange<'a> {
    broker: &'a Broker,
    call: BrokerCall,
    request: Option<&'a KeyRequest>,
    /// What was sent with this call alone, and is not to be read in any message: request ids, tokens.
    sent: Vec<SecretString>,
}

impl<'a> Exchange<'a> {
    /// A call on behalf of no ServiceKey.
    pub(super) fn anonymous(broker: &'a Broker, call: BrokerCall) -> Self {
        Self { broker, call, request: None, sent: Vec::new() }
    }

    /// A call on behalf of a ServiceKey.
    pub(super) fn for_key(broker: &'a Broker, call: BrokerCall, request: &'a KeyRequest) -> Self {
        Self { request: Some(request), ..Self::anonymous(broker, call) }
    }

    /// Adds the headers and sends the request; once more where only its token was refused, which does nothing.
    ///
    /// # Errors
    /// Where no status came back, or no token was to be had.
    pub(super) async fn send(&mut self, request: Request) -> Result<Response, BackendError> {
        let mut request = request
            .header(ACCEPT, HeaderValue::from_static("application/json"))
            .header(API_VERSION, self.broker.api_version.1.clone());
        if let Some(KeyRequest { owner, cleans_up: false, .. }) = self.request {
            let identity = HeaderValue::from_str(&wire::originating_identity(owner));
            let identity = identity.map_err(|_| self.failed(unsendable(self.call)))?;
            request = request.header(ORIGINATING_IDENTITY, identity);
        }
        let Broker { http, login, .. } = self.broker;
        let tokens = match login {
            BrokerLogin::None => return self.send_once(request).await,
            BrokerLogin::Header(header) => {
                return self.send_once(request.header(AUTHORIZATION, header.clone())).await;
            }
            BrokerLogin::Tokens(tokens) => tokens,
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

    /// Sends the request; once more where the broker had to prove first that it is one, at an address that is new.
    async fn send_once(&mut self, request: Request) -> Result<Response, BackendError> {
        match self.send_as_it_is(request.clone()).await {
            Err(HttpFailure::Unproved(_)) => {
                Box::pin(self.broker.check()).await?;
                self.send_as_it_is(request).await
            }
            outcome => outcome,
        }
        .map_err(|failure| self.failed(failure))
    }

    async fn send_as_it_is(&mut self, request: Request) -> Result<Response, HttpFailure> {
        // Tells this request from all others, in the broker's log and in ours.
        let request_id = Uuid::new_v4().to_string();
        let header = HeaderValue::from_str(&request_id).map_err(|_| unsendable(self.call))?;
        let request = request.header(REQUEST_IDENTITY, header);
        let span = call_span(Backend::OPEN_SERVICE_BROKER, &self.call);
        span.record("request_id", &request_id);
        self.sent.push(request_id.into());
        let request = match self.request {
            Some(of) => request.held_by(of.answers.clone()),
            None => request,
        };
        self.broker.http.send(request).instrument(span).await
    }

    /// A call that brought no answer, or one whose body did not arrive.
    pub(super) fn failed(&self, failure: HttpFailure) -> BackendError {
        let (what, unknown) = (self.call.to_string(), self.call.class_of_unknown());
        match self.call {
            BrokerCall::Bind | BrokerCall::Fetch => failure.into_error_of_a_key(&what, unknown),
            BrokerCall::Catalog | BrokerCall::Instance | BrokerCall::Unbind | BrokerCall::LastOperation => {
                failure.into_error(&what, unknown)
            }
        }
    }

    /// An answer that is not a success of the call.
    pub(super) async fn refused(&self, response: &Response) -> BackendError {
        let status = response.status.as_u16();
        // Where the body did not arrive the status still says what happened.
        let body = response.body().unwrap_or_default();
        let code = wire::error_code(body);
        let said = self.redactor(body).await.quote(body);
        if status == 404 && self.call != BrokerCall::Catalog && !wire::is_object(body) {
            let message = format!(
                "{} failed: the answer 404 has not the form of a broker's: {said}; check `url`, and the gateway in \
                 front of the broker",
                self.call
            );
            return BackendError::new(ErrorClass::Unexpected, message).retry_after(response.retry_after);
        }
        let mut message = format!("{} failed: the broker answers {status}: {said}", self.call);
        let advice = match &self.broker.login {
            BrokerLogin::Tokens(_) if status == 401 => Cow::Borrowed(TOKEN_REFUSED),
            _ if status == 412 => Cow::Owned(format!(
                "it does not speak version {} of the Open Service Broker API; set `openServiceBroker.apiVersion` of the \
                 provider to one that it supports",
                self.broker.api_version.0
            )),
            _ => Cow::Borrowed(advice(self.call, status, code.as_deref())),
        };
        if !advice.is_empty() {
            message.push_str("; ");
            message.push_str(&advice);
        }
        BackendError::new(class(self.call, status, code.as_deref()), message)
            .retry_after(response.retry_after)
    }

    /// A success whose body can't be used: `what` says why.
    pub(super) fn malformed(&self, response: &Response, what: &str) -> BackendError {
        let status = response.status.as_u16();
        let message = format!(
            "{} failed: the broker answers {status}, but the body {what}; ask the broker's operator",
            self.call
        );
        BackendError::new(class(self.call, status, None), message).retry_after(response.retry_after)
    }

    /// The key in a success.
    ///
    /// # Errors
    /// Where the body did not arrive, or holds no key.
    pub(super) fn issued_key(
        &self,
        response: &Response,
        binding_id: Uuid,
    ) -> Result<IssuedKey, BackendError> {
        let body = response.body().map_err(|failure| self.failed(failure))?;
        wire::issued_key(body, binding_id).map_err(|what| {
            let error = self.malformed(response, what);
            // It was made before, and its credentials were shown then: asking again would not bring them back.
            let class = match self.call {
                BrokerCall::Bind
                    if response.status == StatusCode::OK && wire::withholds_credentials(body) =>
                {
                    ErrorClass::Withheld
                }
                // A gateway answers 200 with a web page; a broker answers 201 to a request that creates a key.
                BrokerCall::Bind if response.status == StatusCode::OK && is_web_page(body) => error.class,
                // The next answer would be like this one.
                BrokerCall::Bind => ErrorClass::Unusable,
                _ => error.class,
            };
            BackendError { class, ..error }
        })
    }

    /// The work that the broker took on.
    ///
    /// # Errors
    /// Where the body did not arrive, or makes no sense.
    pub(super) fn accepted(
        &self,
        response: &Response,
        longest: Option<Duration>,
    ) -> Result<Accepted, BackendError> {
        let body = response.body().map_err(|failure| self.failed(failure))?;
        let token = wire::operation_token(body).map_err(|what| self.malformed(response, what))?;
        Ok(Accepted { token, retry_after: response.retry_after, longest, first_look: FIRST_LOOK })
    }

    /// How far the broker says to be.
    ///
    /// # Errors
    /// Where the body did not arrive, or makes no sense.
    pub(super) async fn progress(&self, response: &Response) -> Result<Progress, BackendError> {
        let body = response.body().map_err(|failure| self.failed(failure))?;
        let said = self.redactor(body).await.description(body);
        Ok(match wire::operation_state(body).map_err(|what| self.malformed(response, what))? {
            LastOperationState::InProgress => Progress::Running { said, retry_after: response.retry_after },
            LastOperationState::Succeeded => Progress::Succeeded,
            LastOperationState::Failed => {
                let said = said.unwrap_or_else(|| "no description".to_owned());
                Progress::Failed { said, leaves_orphan: true }
            }
        })
    }

    /// What hides in the words of this body whatever is nobody's business.
    async fn redactor(&self, body: &[u8]) -> Redactor {
        let redactor = self.broker.redactor.clone().and(self.sent.iter().cloned());
        match self.request {
            Some(request) if has_words(body) => request.hide_in(redactor).await,
            _ => redactor,
        }
    }
}

fn unsendable(call: BrokerCall) -> HttpFailure {
    HttpFailure::Refused(format!("{call} can't be sent in a header"))
}
