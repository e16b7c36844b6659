//! Sends one request, within the budget, the deadlines and the address policy.

use std::{fmt, io::Read, mem, num::NonZeroUsize, sync::Arc, time::Duration};

use bytes::Bytes;
use flate2::read::GzDecoder;
use futures::{FutureExt, future::BoxFuture};
use reqwest::{Method, header::LOCATION};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;
use zeroize::Zeroizing;

use super::{
    AddressPolicy, CallOutcome, HttpConfig, HttpFailure, HttpFailureKind, ObservedCall, Observer,
    RemoteShares, Request, Response, Transport, Undelivered,
    address::ADMIT,
    budget::CallBudget,
    connection_reuse, error_text,
    path::origin,
    provider_clients::{Clients, EndpointClients, ProviderClients},
    response::{self, Body, MIB},
    trace, values,
};
use crate::{
    backend::{
        BackendError,
        memory::{AllocatedMemory, MemoryShare, OutOfMemory},
    },
    clock::Clock,
    lifecycle::first_bytes,
};

const KIB: usize = 1 << 10;

/// The most bytes that are read of an answer other than a success. Only its message matters.
const LARGEST_REFUSAL: usize = 64 * KIB;

/// The most JSON values of an answer that is not parsed into its own types; an object counts as six. Each takes up to
/// 210 bytes of memory in addition to its text, so all of them take at most 4 MB.
const MOST_VALUES: usize = 20_000;

/// Bytes that each call counts for: the buffers for headers and for unread parts of the body, and the start of the
/// body.
const CALL: usize = 256 * KIB;
/// Bytes of the body that `CALL` already includes.
const FIRST_OF_BODY: usize = 64 * KIB;

/// Sends requests to one remote side.
pub(in crate::backend) struct HttpClient {
    ways: ProviderClients,
    addresses: AddressPolicy,
    transport: Option<Arc<dyn Transport>>,
    clock: Clock,
    budget: CallBudget,
    shares: RemoteShares,
    concurrency: NonZeroUsize,
    timeout: Duration,
    observer: Arc<dyn Observer>,
    answers: MemoryShare,
    kept: MemoryShare,
    /// When the operator may try the login again.
    login_pause_ends: Option<Instant>,
}

impl HttpClient {
    /// # Errors
    /// [`ErrorClass::Rejected`](crate::backend::ErrorClass::Rejected) if certificates or the proxy of the environment
    /// can't be used.
    pub(in crate::backend) fn new(config: &HttpConfig) -> Result<Self, BackendError> {
        Self::in_environment(config, |name| std::env::var(name).ok())
    }

    /// Like [`HttpClient::new`], with these environment variables.
    pub(super) fn in_environment(
        config: &HttpConfig,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, BackendError> {
        Ok(Self {
            ways: ProviderClients::new(config, variable)?,
            addresses: config.addresses.clone(),
            transport: config.transport.clone(),
            clock: config.clock.clone(),
            budget: CallBudget::new(&config.limits),
            shares: config.shares.clone(),
            concurrency: config.limits.concurrency,
            timeout: config.limits.timeout,
            observer: Arc::clone(&config.observer),
            answers: config.answers.clone(),
            kept: config.kept.clone(),
            login_pause_ends: config.login_pause.and_then(|pause| Instant::now().checked_add(pause)),
        })
    }

    /// Checks whether a URL may be called, without resolving its name.
    ///
    /// # Errors
    /// [`HttpFailureKind::Refused`], with the next step for the user.
    pub(in crate::backend) fn check(&self, url: &Url) -> Result<(), HttpFailure> {
        self.addresses.check(url)
    }

    /// The rest of the pause that the remote side requested by rate limiting.
    pub(in crate::backend) fn paused(&self) -> Option<Duration> {
        self.budget.paused()
    }

    /// How much longer the operator must not try the login.
    pub(in crate::backend) fn login_pause(&self) -> Option<Duration> {
        let left = self.login_pause_ends?.saturating_duration_since(Instant::now());
        Some(left).filter(|left| !left.is_zero())
    }

    /// The most requests at the same time.
    pub(in crate::backend) const fn concurrency(&self) -> NonZeroUsize {
        self.concurrency
    }

    /// The longest time for one request.
    pub(in crate::backend) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The memory for answers that no ServiceKey requested.
    pub(in crate::backend) const fn answers(&self) -> &MemoryShare {
        &self.answers
    }

    /// The memory for the parts of answers that the operator keeps.
    pub(in crate::backend) const fn kept(&self) -> &MemoryShare {
        &self.kept
    }

    /// Sends the request and reads the answer. It sends a GET, PUT or DELETE a second time, on a new connection, if the
    /// remote side closed the reused connection that carried it.
    ///
    /// # Errors
    /// An [`HttpFailure`] if no status arrived, or if it is that of a redirect. The client does not follow redirects:
    /// it would send login and parameters to a host that the provider does not name. The failure is
    /// [`HttpFailureKind::Unproved`] if the client sent nothing because the host has not yet [proved](Request::proving)
    /// that it speaks the protocol. It is [`HttpFailureKind::Withheld`] if this request did not prove it.
    pub(in crate::backend) async fn send(&self, request: Request) -> Result<Response, HttpFailure> {
        self.check(&request.url)?;
        let way = self.ways.to(&request.url).map_err(refused)?;
        if self.ways.may_be_disclosed(&request.url, &way) {
            // Only a request with a proof of its own is sent again.
            let again = request.proof.as_ref().map(|_| request.clone());
            let (hidden, to_the_remote_side) = (self.withheld(&request.url), request.to_the_remote_side);
            match (self.send_by(&way.disclosed, &way, request).await, again) {
                (Err(failure), again) if failure.kind == HttpFailureKind::Unproved => {
                    return match again {
                        Some(request) => self.prove(&way, request).await,
                        None => Err(HttpFailure::new(HttpFailureKind::Unproved, hidden)),
                    };
                }
                (Err(failure), _)
                    if failure.kind == HttpFailureKind::Unresolved && self.addresses.guards_answers() =>
                {
                    return Err(HttpFailure::new(HttpFailureKind::Withheld, hidden));
                }
                (outcome, _) => {
                    outcome.iter().for_each(|response| self.apply_pause(response, to_the_remote_side));
                    return outcome;
                }
            }
        }
        self.prove(&way, request).await
    }

    /// Sends a request to an unverified host, and returns the answer only if it proves that the host speaks the
    /// protocol.
    async fn prove(&self, way: &EndpointClients, request: Request) -> Result<Response, HttpFailure> {
        let (url, Some(proof)) = (request.url.clone(), request.proof.clone()) else {
            return Err(HttpFailure::new(HttpFailureKind::Unproved, self.withheld(&request.url)));
        };
        let admitted = self.ways.admitted(&url, way).map_err(refused)?;
        let outcome = self.send_by(admitted, way, request).await;
        if let Ok(response) = &outcome
            && proof(response)
        {
            way.prove(response.from);
            return outcome;
        }
        // A missing answer is logged already.
        if let Ok(response) = &outcome {
            tracing::info!(
                origin = origin(&url),
                status = response.status.as_u16(),
                "withheld an answer from the provider's author: it does not follow the provider's protocol"
            );
        }
        Err(HttpFailure::new(HttpFailureKind::Withheld, self.withheld(&url)))
    }

    /// Pauses the provider's requests if the remote side requires it. An unverified server can't cause a pause: the
    /// pause would disclose that it exists.
    fn apply_pause(&self, response: &Response, to_the_remote_side: bool) {
        if to_the_remote_side && let Some(wait) = response.required_pause() {
            self.budget.pause(wait);
            self.observer.paused();
        }
    }

    /// The message for every failure whose cause the tenant may not learn. It is the same for all causes.
    fn withheld(&self, url: &Url) -> String {
        let refused = if self.addresses.refuses_private() {
            format!("; KeyProviders may not use private addresses here: {ADMIT}")
        } else {
            String::new()
        };
        format!(
            "no valid answer from `{}`; a KeyProvider shows the cause only for public addresses, or after the first \
             valid answer: check name, address, port, TLS and login, or ask the administrator for the operator's \
             log{refused}",
            origin(url)
        )
    }

    /// Sends the request with these clients. It sends an idempotent one again, on a new connection, if the remote side
    /// closed the reused connection.
    async fn send_by(
        &self,
        clients: &Clients,
        way: &EndpointClients,
        request: Request,
    ) -> Result<Response, HttpFailure> {
        let again = is_idempotent(&request.method).then(|| request.clone());
        let (request, lost) = match (self.send_once(&clients.keeping, way, request).await, again) {
            (Err(Unanswered::Severed(lost)), Some(request)) => (request, lost),
            (outcome, _) => return outcome.map_err(HttpFailure::from),
        };
        let Ok(client) = self.ways.opening(&request.url, clients) else { return Err(lost) };
        let (creates, to_the_remote_side) = (request.method == Method::PUT, request.to_the_remote_side);
        let outcome = self.send_once(client, way, request).await.map_err(HttpFailure::from);
        match outcome {
            // The first request may have created the object even though the second one failed.
            Ok(response) if creates && !response.status.is_success() => {
                self.apply_pause(&response, to_the_remote_side);
                Err(lost)
            }
            Err(_) if creates => Err(lost),
            outcome => outcome.map(|response| Response { is_repeated: true, ..response }),
        }
    }

    /// Sends the request once with this client, within the budget, then counts and logs it.
    async fn send_once(
        &self,
        client: &reqwest::Client,
        way: &EndpointClients,
        request: Request,
    ) -> Result<Response, Unanswered> {
        let queued = Instant::now();
        let _place = self.budget.take().await;
        let _share = self.shares.request().await;
        self.observer.waited(queued.elapsed());
        let (method, url, route) = (request.method.clone(), request.url.clone(), request.route);
        let began = Instant::now();
        let (outcome, is_severed) = match self.send_within_memory(client, way, request).await {
            Ok(response) => (Ok(response), false),
            Err(Unanswered::Severed(failure)) => (Err(failure), true),
            Err(Unanswered::Other(failure)) => (Err(failure), false),
        };
        if outcome.as_ref().is_err_and(|failure| failure.kind == HttpFailureKind::Unproved) {
            // The client did not connect.
            return outcome.map_err(Unanswered::Other);
        }
        let took = began.elapsed();
        let call = ObservedCall { route, method: &method, outcome: CallOutcome::new(&outcome), took };
        self.observer.called(&call);
        trace::note(&outcome);
        match &outcome {
            Ok(response) => {
                tracing::debug!(%method, origin = origin(&url), status = response.status.as_u16(), ?took, "answered");
            }
            Err(failure) => {
                tracing::info!(%method, origin = origin(&url), %failure, ?took, "not answered");
                if let Some(cause) = &failure.source {
                    let causes = error_text::describe_causes(&**cause);
                    tracing::debug!(%method, origin = origin(&url), causes, "cause of the failure");
                }
            }
        }
        outcome.map_err(|failure| if is_severed { Unanswered::Severed(failure) } else { failure.into() })
    }

    /// Reserves memory for the call and its answer. A call whose memory is needed by others is canceled.
    async fn send_within_memory(
        &self,
        client: &reqwest::Client,
        way: &EndpointClients,
        request: Request,
    ) -> Result<Response, Unanswered> {
        let url = request.url.clone();
        let given_up = CancellationToken::new();
        let give_up = given_up.clone();
        let share = request.share.as_ref().unwrap_or(&self.answers);
        let mut holding = share.hold(move || give_up.cancel());
        let no_room = |why: OutOfMemory| {
            HttpFailure::new(HttpFailureKind::NotSent, format!("no request to `{}`: {why}", origin(&url)))
        };
        // A waiting call occupies a slot of the remote side. Waiting is acceptable for a provider of one namespace,
        // where it delays no other namespace.
        let patience = if share.is(&self.answers) { self.timeout } else { Duration::ZERO };
        holding.grow_within(patience, CALL).await.map_err(no_room)?;
        tokio::select! {
            biased;
            () = given_up.cancelled() => {
                let what = "the operator ran out of memory for answers and canceled this request; retrying";
                Err(HttpFailure::new(HttpFailureKind::MaybeSent, format!("no complete answer from `{}`: {what}", origin(&url))).into())
            }
            // On the heap: the future is large, and nested deeply in a reconcile.
            outcome = Box::pin(self.exchange(client, way, request, holding)) => outcome,
        }
    }

    async fn exchange(
        &self,
        client: &reqwest::Client,
        way: &EndpointClients,
        request: Request,
        holding: AllocatedMemory,
    ) -> Result<Response, Unanswered> {
        let deadline = Instant::now() + self.timeout;
        let url = request.url.clone();
        let (largest_answer, is_typed) = (request.largest_answer, request.is_typed);
        let late = || {
            HttpFailure::new(
                HttpFailureKind::MaybeSent,
                format!(
                    "no complete answer from `{}` within {:?}, the provider's `limits.timeout`: raise it if the remote side \
                 needs longer",
                    origin(&url),
                    self.timeout
                ),
            )
        };
        let sending: BoxFuture<'_, _> = match &self.transport {
            None => start(client, way, request).boxed(),
            Some(transport) => deliver(&**transport, request).boxed(),
        };
        let answer = match tokio::time::timeout_at(deadline, sending).await {
            Ok(answer) => answer?,
            Err(_) => return Err(late().into()),
        };
        if answer.status().is_redirection() {
            return Err(redirected(&answer, &url).into());
        }
        let (status, from) = (answer.status(), answer.remote_addr());
        let retry_after = response::retry_after(status, answer.headers(), self.clock.now());
        let location =
            answer.headers().get(LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let remote_request_id = trace::remote_request_id(answer.headers());
        let largest = if status.is_success() { largest_answer } else { largest_answer.min(LARGEST_REFUSAL) };
        let body = tokio::time::timeout_at(deadline, Box::pin(read(answer, &url, largest, holding)))
            .await
            .unwrap_or_else(|_| Err(late()));
        let body = body.and_then(|body| {
            if is_typed || values::at_most(MOST_VALUES, &body.bytes) {
                return Ok(body);
            }
            let message =
                format!("the answer from `{}` contains more than {MOST_VALUES} values", origin(&url));
            Err(HttpFailure::new(HttpFailureKind::Excessive, message))
        });
        Ok(Response { status, retry_after, location, is_repeated: false, remote_request_id, from, body })
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

/// The failure of a request that can't be sent with the settings of the provider or the environment.
fn refused(error: BackendError) -> HttpFailure {
    HttpFailure { source: error.source, ..HttpFailure::new(HttpFailureKind::Refused, error.message) }
}

enum Unanswered {
    /// The remote side closed the reused connection before the answer began. The effect of the request is unknown.
    Severed(HttpFailure),
    Other(HttpFailure),
}

impl From<HttpFailure> for Unanswered {
    fn from(failure: HttpFailure) -> Self {
        Self::Other(failure)
    }
}

impl From<Unanswered> for HttpFailure {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Severed(failure) | Unanswered::Other(failure) => failure,
        }
    }
}

/// Whether a request may be sent twice. A PUT names the object that it creates.
fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::PUT, Method::DELETE].contains(method)
}

/// Mentions the proxy in connection failures, because it may be their cause.
fn mention_proxy(failure: HttpFailure, way: &EndpointClients) -> HttpFailure {
    let is_of_the_way = [HttpFailureKind::NotSent, HttpFailureKind::Untrusted].contains(&failure.kind);
    if !(way.proxied && is_of_the_way) {
        return failure;
    }
    HttpFailure { message: format!("{} (`HTTPS_PROXY` is set)", failure.message), ..failure }
}

async fn start(
    client: &reqwest::Client,
    way: &EndpointClients,
    request: Request,
) -> Result<reqwest::Response, Unanswered> {
    let url = request.url.clone();
    let mut sending = client.request(request.method, request.url).headers(request.headers);
    if let Some(body) = request.body {
        // Dropping the body overwrites it: after the connection has sent it, or when the connection fails.
        sending = sending.body(Bytes::from_owner(body));
    }
    let (answer, was_kept) = connection_reuse::watch(sending.send()).await;
    answer.map_err(|error| {
        let is_severed = was_kept && error_text::is_cut(&error);
        let failure = mention_proxy(error_text::describe_error(error, &url), way);
        if is_severed { Unanswered::Severed(failure) } else { failure.into() }
    })
}

/// Sends a request by the transport of a simulation.
async fn deliver(transport: &dyn Transport, request: Request) -> Result<reqwest::Response, Unanswered> {
    let target = origin(&request.url);
    let body = request.body.map(Bytes::from_owner).unwrap_or_default();
    let mut sent = http::Request::new(body);
    *sent.method_mut() = request.method;
    *sent.headers_mut() = request.headers;
    *sent.uri_mut() = request.url.as_str().parse().map_err(|_| {
        HttpFailure::new(HttpFailureKind::Refused, format!("the request to `{target}` can't be built"))
    })?;
    let unanswered = || {
        let message = format!("no complete answer from `{target}`: the connection was closed");
        HttpFailure::new(HttpFailureKind::MaybeSent, message)
    };
    transport.send(sent).await.map(reqwest::Response::from).map_err(|why| match why {
        Undelivered::NotConnected => {
            HttpFailure::new(HttpFailureKind::NotSent, format!("no connection to `{target}`")).into()
        }
        Undelivered::Cut => unanswered().into(),
        Undelivered::Severed => Unanswered::Severed(unanswered()),
    })
}

/// Reads the body in chunks, and stops as soon as it exceeds the limit.
async fn read(
    mut answer: reqwest::Response,
    url: &Url,
    largest: usize,
    held: AllocatedMemory,
) -> Result<Body, HttpFailure> {
    let mut body = Piecewise { url, largest, bytes: Zeroizing::new(Vec::new()), held };
    if answer.content_length().is_some_and(|length| length > largest as u64) {
        return Err(body.too_large());
    }
    while let Some(piece) = answer.chunk().await.map_err(|error| error_text::describe_error(error, url))? {
        body.push(&piece).await?;
    }
    let body = body.decompressed().await?.in_utf8().await?;
    Ok(Body { bytes: body.bytes, _held: body.held })
}

/// The first bytes of all data compressed with gzip. JSON never starts with them.
const GZIP: &[u8] = &[0x1f, 0x8b];
/// The byte order mark of UTF-8. Some servers send it, although JSON must not start with it.
const BYTE_ORDER_MARK: &[u8] = &[0xef, 0xbb, 0xbf];
/// Bytes that are decoded at once.
const PIECE: usize = 4 * KIB;

/// A body that grows in chunks, within its limit and within the memory budget.
struct Piecewise<'a> {
    url: &'a Url,
    largest: usize,
    bytes: Zeroizing<Vec<u8>>,
    held: AllocatedMemory,
}

impl Piecewise<'_> {
    fn too_large(&self) -> HttpFailure {
        let Self { url, largest, .. } = self;
        let limit =
            if *largest < MIB { format!("{} KiB", largest / KIB) } else { format!("{} MiB", largest / MIB) };
        HttpFailure::new(
            HttpFailureKind::Excessive,
            format!("the answer from `{}` is larger than {limit}", origin(url)),
        )
    }

    async fn push(&mut self, piece: &[u8]) -> Result<(), HttpFailure> {
        let length = self.bytes.len() + piece.len();
        if length > self.largest {
            return Err(self.too_large());
        }
        if length > self.bytes.capacity() {
            let capacity = length.max(2 * self.bytes.capacity()).min(self.largest);
            let counted = |capacity: usize| capacity.saturating_sub(FIRST_OF_BODY);
            let url = self.url;
            let no_room = |why| {
                HttpFailure::new(
                    HttpFailureKind::MaybeSent,
                    format!("no complete answer from `{}`: {why}", origin(url)),
                )
            };
            let more = counted(capacity) - counted(self.bytes.capacity());
            self.held.grow(more).await.map_err(no_room)?;
            // Copied by hand: a growing vector leaves its old bytes in memory.
            let mut larger = Zeroizing::new(Vec::with_capacity(capacity));
            larger.extend_from_slice(&self.bytes);
            self.bytes = larger;
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    /// Decompresses the body if the server compressed it although the request did not allow that. Both forms count
    /// until the end of the call.
    async fn decompressed(mut self) -> Result<Self, HttpFailure> {
        if !self.bytes.starts_with(GZIP) {
            return Ok(self);
        }
        let compressed = mem::take(&mut self.bytes);
        let mut decoder = GzDecoder::new(compressed.as_slice());
        let mut piece = Zeroizing::new(vec![0; PIECE]);
        loop {
            let count = decoder.read(&mut piece).map_err(|_| {
                let target = origin(self.url);
                HttpFailure::new(
                    HttpFailureKind::Unusable,
                    format!("the answer from `{target}` is compressed and can't be decompressed"),
                )
            })?;
            if count == 0 {
                return Ok(self);
            }
            self.push(&piece[..count]).await?;
        }
    }

    /// Converts the body to UTF-8 and removes a byte order mark. A body that is not UTF-8 is read as Latin-1.
    async fn in_utf8(mut self) -> Result<Self, HttpFailure> {
        if self.bytes.starts_with(BYTE_ORDER_MARK) {
            self.bytes.drain(..BYTE_ORDER_MARK.len());
        }
        if str::from_utf8(&self.bytes).is_ok() {
            return Ok(self);
        }
        let latin = mem::take(&mut self.bytes);
        for part in latin.chunks(PIECE) {
            // With its full capacity: a growing string leaves its old bytes in memory.
            let mut text = Zeroizing::new(String::with_capacity(2 * part.len()));
            text.extend(part.iter().copied().map(char::from));
            self.push(text.as_bytes()).await?;
        }
        Ok(self)
    }
}

/// The most bytes that a message shows of the origin in a redirect. No host name is longer.
const LONGEST_ORIGIN: usize = 300;

/// Describes a redirect by its target's scheme, host and port only: the remainder may contain a session.
fn redirected(answer: &reqwest::Response, url: &Url) -> HttpFailure {
    let target = answer
        .headers()
        .get(LOCATION)
        .and_then(|location| url.join(location.to_str().ok()?).ok())
        .filter(Url::has_host)
        .map(|location| format!(" to `{}`", first_bytes(&origin(&location), LONGEST_ORIGIN)))
        .unwrap_or_default();
    let status = answer.status().as_u16();
    HttpFailure::new(
        HttpFailureKind::Redirected,
        format!(
            "`{}` redirects{target} (status {status}), which is not followed; set the final address",
            origin(url)
        ),
    )
}
