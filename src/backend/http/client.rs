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
    budget::Budget, proxy, request::origin, resolver::PolicedResolver, response, tls, trace, words,
};
use crate::backend::{BackendError, ErrorClass};

/// The most bytes of an answer that are read, unless the request says more.
pub(super) const LARGEST_BODY: usize = MIB;

pub(super) const MIB: usize = 1 << 20;

/// How long an unused connection is kept. Load balancers drop theirs after 60 s or more; letting go before they do
/// keeps a request from being lost on its way into a connection that is just being closed.
const IDLE_CONNECTION: Duration = Duration::from_secs(30);

const USER_AGENT: &str = concat!("servicekey-operator/", env!("CARGO_PKG_VERSION"));

/// The way to one remote side.
pub(in crate::backend) struct HttpClient {
    https: reqwest::Client,
    /// Plain http; its resolver knows only the addresses that `--allow-cidr` admits.
    plain: reqwest::Client,
    /// Whether the environment names a proxy for https.
    proxied: bool,
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
        let tls = tls::client_config(config)?;
        let proxy = proxy::from_environment(variable, &config.addresses)?;
        let proxied = proxy.is_some();
        let mut https = builder(config, &tls, false).https_only(true);
        if let Some(proxy) = proxy {
            https = https.proxy(proxy);
        }
        Ok(Self {
            proxied,
            https: build(https)?,
            plain: build(builder(config, &tls, true))?,
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
    /// login and parameters to where nobody meant them to go.
    pub(in crate::backend) async fn send(&self, request: Request) -> Result<Response, Failure> {
        self.check(&request.url)?;
        let queued = Instant::now();
        let _place = self.budget.take().await;
        let _share = self.shares.request().await;
        self.observer.waited(queued.elapsed());
        let (method, url, route) = (request.method.clone(), request.url.clone(), request.route);
        let to_the_remote_side = request.to_the_remote_side;
        let began = Instant::now();
        let outcome = self.exchange(request).await;
        if to_the_remote_side && let Some(wait) = outcome.as_ref().ok().and_then(Response::asks_for_peace) {
            self.budget.pause(wait);
            self.observer.paused();
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

    async fn exchange(&self, request: Request) -> Result<Response, Failure> {
        let deadline = tokio::time::Instant::now() + self.timeout;
        let (url, largest_answer) = (request.url.clone(), request.largest_answer);
        let late = || {
            Failure::MaybeSent(format!(
                "no complete answer from `{}` within {:?}",
                origin(&url),
                self.timeout
            ))
        };
        let answer = match tokio::time::timeout_at(deadline, self.start(request)).await {
            Ok(answer) => answer.map_err(|error| self.explain(words::failure(&error, &url), &url))?,
            Err(_) => return Err(late()),
        };
        if answer.status().is_redirection() {
            return Err(redirected(&answer, &url));
        }
        let status = answer.status();
        let retry_after = response::retry_after(status, answer.headers(), Timestamp::now());
        let location =
            answer.headers().get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let remote_request_id = trace::remote_request_id(answer.headers());
        let body = tokio::time::timeout_at(deadline, read(answer, &url, largest_answer))
            .await
            .unwrap_or_else(|_| Err(late()));
        Ok(Response { status, retry_after, location, remote_request_id, body })
    }

    /// Who looks for a lost connection should know that there is a proxy on the way.
    fn explain(&self, failure: Failure, url: &Url) -> Failure {
        if !self.proxied || url.scheme() != "https" {
            return failure;
        }
        match failure {
            Failure::NotSent(message) => Failure::NotSent(format!("{message} (`HTTPS_PROXY` is set)")),
            Failure::Untrusted(message) => Failure::Untrusted(format!("{message} (`HTTPS_PROXY` is set)")),
            failure => failure,
        }
    }

    async fn start(&self, request: Request) -> Result<reqwest::Response, reqwest::Error> {
        let client = if request.url.scheme() == "https" { &self.https } else { &self.plain };
        let mut sending = client.request(request.method, request.url).headers(request.headers);
        if let Some(body) = request.body {
            sending = sending.body(body);
        }
        sending.send().await
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

fn builder(config: &HttpConfig, tls: &rustls::ClientConfig, plain_http: bool) -> reqwest::ClientBuilder {
    let resolver =
        PolicedResolver { policy: config.addresses.clone(), plain_http, shares: config.shares.clone() };
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .dns_resolver(Arc::new(resolver))
        // Of the environment's proxies only the one that `proxy` reads is taken.
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(config.limits.connect_timeout())
        .pool_idle_timeout(IDLE_CONNECTION)
        .user_agent(USER_AGENT)
}

fn build(builder: reqwest::ClientBuilder) -> Result<reqwest::Client, BackendError> {
    builder.build().map_err(|_| BackendError::new(ErrorClass::Rejected, "the HTTP client can't be set up"))
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
