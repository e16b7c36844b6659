//! Sends one request, within the budget, the deadlines and the address policy.

use std::{
    fmt,
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use reqwest::header::LOCATION;
use url::Url;

use super::{
    AddressPolicy, CallOutcome, Failure, HttpConfig, ObservedCall, Observer, RemoteShares, Request, Response,
    address::ADMIT,
    budget::Budget,
    request::origin,
    response, trace,
    ways::{Way, Ways},
    words,
};
use crate::backend::BackendError;

/// The most bytes of an answer that are read, unless the request says more.
pub(super) const LARGEST_BODY: usize = MIB;

pub(super) const MIB: usize = 1 << 20;

/// The way to one remote side.
pub(in crate::backend) struct HttpClient {
    ways: Ways,
    addresses: AddressPolicy,
    budget: Budget,
    shares: RemoteShares,
    concurrency: NonZeroUsize,
    timeout: Duration,
    observer: Arc<dyn Observer>,
}

impl HttpClient {
    /// # Errors
    /// [`ErrorClass::Rejected`], where certificates or the proxy of the environment can't be used.
    pub(in crate::backend) fn new(config: &HttpConfig) -> Result<Self, BackendError> {
        Self::in_environment(config, |name| std::env::var(name).ok())
    }

    /// As [`HttpClient::new`], with these environment variables.
    pub(super) fn in_environment(
        config: &HttpConfig,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, BackendError> {
        Ok(Self {
            ways: Ways::new(config, variable)?,
            addresses: config.addresses.clone(),
            budget: Budget::new(&config.limits),
            shares: config.shares.clone(),
            concurrency: config.limits.concurrency,
            timeout: config.limits.timeout,
            observer: Arc::clone(&config.observer),
        })
    }

    /// Whether a URL may be called at all, as far as that can be told without resolving its name.
    ///
    /// # Errors
    /// [`Failure::Refused`], with what to do about it.
    pub(in crate::backend) fn check(&self, url: &Url) -> Result<(), Failure> {
        self.addresses.check(url)
    }

    /// How much longer the remote side wants to be left alone.
    pub(in crate::backend) fn paused(&self) -> Option<Duration> {
        self.budget.paused()
    }

    /// Requests that may be under way at the same time.
    pub(in crate::backend) const fn concurrency(&self) -> NonZeroUsize {
        self.concurrency
    }

    /// The longest that a request may take.
    pub(in crate::backend) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Sends the request once, and reads the answer.
    ///
    /// # Errors
    /// A [`Failure`] where no status came back, or that of a redirect, which is never followed: it would carry
    /// login and parameters to where nobody meant them to go. [`Failure::Unproved`], where nothing was sent because the
    /// place has not [proved](Request::proving) yet what it is; and [`Failure::Withheld`], where this request did not
    /// prove it.
    pub(in crate::backend) async fn send(&self, request: Request) -> Result<Response, Failure> {
        self.check(&request.url)?;
        let unusable = |error: BackendError| Failure::Refused(error.message);
        let way = self.ways.to(&request.url).map_err(unusable)?;
        if self.ways.may_be_disclosed(&request.url, &way) {
            // Without a proof of its own it is not sent again.
            let again = request.proof.as_ref().map(|_| request.clone());
            let (hidden, to_the_remote_side) = (self.withheld(&request.url), request.to_the_remote_side);
            match (self.send_by(&way.disclosed, &way, request).await, again) {
                (Err(Failure::Unproved(_)), Some(request)) => return self.prove(&way, request).await,
                (Err(Failure::Unproved(_)), None) => return Err(Failure::Unproved(hidden)),
                (Err(Failure::Unresolved(_)), _) if self.addresses.guards_answers() => {
                    return Err(Failure::Withheld(hidden));
                }
                (outcome, _) => {
                    outcome.iter().for_each(|response| self.heed(response, to_the_remote_side));
                    return outcome;
                }
            }
        }
        self.prove(&way, request).await
    }

    /// Sends a request to a place of which nothing is known: what it answers comes out only where it is a proof.
    async fn prove(&self, way: &Way, request: Request) -> Result<Response, Failure> {
        let (url, Some(proof)) = (request.url.clone(), request.proof.clone()) else {
            return Err(Failure::Unproved(self.withheld(&request.url)));
        };
        let admitted = self.ways.admitted(&url, way).map_err(|error| Failure::Refused(error.message))?;
        let outcome = self.send_by(admitted, way, request).await;
        if let Ok(response) = &outcome
            && proof(response)
        {
            way.prove(response.from);
            return outcome;
        }
        // What was not answered is logged already.
        if let Ok(response) = &outcome {
            tracing::info!(
                origin = origin(&url),
                status = response.status.as_u16(),
                "the answer is not one of the provider's protocol and is withheld from its author"
            );
        }
        Err(Failure::Withheld(self.withheld(&url)))
    }

    /// Leaves the remote side alone where it wants to be. The wish of a server of which nothing is known is not heeded:
    /// its provider would show that there is one.
    fn heed(&self, response: &Response, to_the_remote_side: bool) {
        if to_the_remote_side && let Some(wait) = response.asks_for_peace() {
            self.budget.pause(wait);
            self.observer.paused();
        }
    }

    /// What is said in place of all that a tenant may not know. It is the same whatever happened.
    fn withheld(&self, url: &Url) -> String {
        let refused = if self.addresses.refuses_private() {
            format!("; private addresses are refused to KeyProviders here: {ADMIT}")
        } else {
            String::new()
        };
        format!(
            "no valid answer from `{}`; a KeyProvider shows why only for public addresses, or after the first valid \
             answer: check name, address, port, TLS and login, or ask the administrator for the operator's log{refused}",
            origin(url)
        )
    }

    /// Sends the request once by this client, within the budget, and tells those who count and log.
    async fn send_by(
        &self,
        client: &reqwest::Client,
        way: &Way,
        request: Request,
    ) -> Result<Response, Failure> {
        let queued = Instant::now();
        let _place = self.budget.take().await;
        let _share = self.shares.request().await;
        self.observer.waited(queued.elapsed());
        let (method, url, route) = (request.method.clone(), request.url.clone(), request.route);
        let began = Instant::now();
        let outcome = self.exchange(client, way, request).await;
        if let Err(Failure::Unproved(_)) = &outcome {
            // Nothing was connected to.
            return outcome;
        }
        let took = began.elapsed();
        let call = ObservedCall { route, method: &method, outcome: CallOutcome::of(&outcome), took };
        self.observer.called(&call);
        trace::note(&outcome);
        match &outcome {
            Ok(response) => {
                tracing::debug!(%method, origin = origin(&url), status = response.status.as_u16(), ?took, "answered");
            }
            Err(failure) => tracing::info!(%method, origin = origin(&url), %failure, ?took, "not answered"),
        }
        outcome
    }

    async fn exchange(
        &self,
        client: &reqwest::Client,
        way: &Way,
        request: Request,
    ) -> Result<Response, Failure> {
        let deadline = tokio::time::Instant::now() + self.timeout;
        let (url, largest_answer) = (request.url.clone(), request.largest_answer);
        let late = || {
            Failure::MaybeSent(format!(
                "no complete answer from `{}` within {:?}",
                origin(&url),
                self.timeout
            ))
        };
        let answer = match tokio::time::timeout_at(deadline, start(client, request)).await {
            Ok(answer) => answer.map_err(|error| explain(words::failure(&error, &url), way))?,
            Err(_) => return Err(late()),
        };
        if answer.status().is_redirection() {
            return Err(redirected(&answer, &url));
        }
        let (status, from) = (answer.status(), answer.remote_addr());
        let retry_after = response::retry_after(status, answer.headers(), Timestamp::now());
        let location =
            answer.headers().get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let remote_request_id = trace::remote_request_id(answer.headers());
        let body = tokio::time::timeout_at(deadline, read(answer, &url, largest_answer))
            .await
            .unwrap_or_else(|_| Err(late()));
        Ok(Response { status, retry_after, location, remote_request_id, from, body })
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient")
            .field("addresses", &self.addresses)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// Who looks for a lost connection should know that there is a proxy on the way.
fn explain(failure: Failure, way: &Way) -> Failure {
    match failure {
        Failure::NotSent(message) if way.proxied => {
            Failure::NotSent(format!("{message} (`HTTPS_PROXY` is set)"))
        }
        Failure::Untrusted(message) if way.proxied => {
            Failure::Untrusted(format!("{message} (`HTTPS_PROXY` is set)"))
        }
        failure => failure,
    }
}

async fn start(client: &reqwest::Client, request: Request) -> Result<reqwest::Response, reqwest::Error> {
    let mut sending = client.request(request.method, request.url).headers(request.headers);
    if let Some(body) = request.body {
        sending = sending.body(body);
    }
    sending.send().await
}

/// Reads the body by pieces, and stops as soon as it is larger than what is kept.
async fn read(mut answer: reqwest::Response, url: &Url, largest: usize) -> Result<Vec<u8>, Failure> {
    let too_large = || {
        let message = format!("the answer from `{}` is larger than {} MiB", origin(url), largest / MIB);
        Failure::Unusable(message)
    };
    if answer.content_length().is_some_and(|length| length > largest as u64) {
        return Err(too_large());
    }
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(|error| words::failure(&error, url))? {
        if body.len() + piece.len() > largest {
            return Err(too_large());
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}

/// Names where the redirect points, by scheme, host and port only: the rest may hold a session.
fn redirected(answer: &reqwest::Response, url: &Url) -> Failure {
    let target = answer
        .headers()
        .get(LOCATION)
        .and_then(|location| url.join(location.to_str().ok()?).ok())
        .filter(Url::has_host)
        .map(|location| format!(" to `{}`", origin(&location)))
        .unwrap_or_default();
    let status = answer.status().as_u16();
    Failure::Redirected(format!(
        "`{}` redirects{target} (status {status}), which is not followed; name the final address",
        origin(url)
    ))
}
