//! What the operator serves by http: `/metrics`; `/livez` and `/readyz` for the kubelet; and `/log-level`, which can be
//! changed by those who may forward a port to the pod.
//!
//! It has a thread and a runtime of its own: it must be able to say that the other one is stuck.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    thread,
};

use axum::{
    Router,
    extract::{ConnectInfo, State},
    http::{
        HeaderMap, StatusCode,
        header::{ACCEPT, CONTENT_TYPE},
    },
    response::IntoResponse,
    routing::get,
};
use prometheus_client::encoding::prometheus_text;
use tokio::{runtime, sync::oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Health, LogLevel, Metrics};

/// The media type of the text format that Prometheus asks for.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves until this is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    ended: oneshot::Receiver<io::Result<()>>,
    _stop: DropGuard,
}

#[derive(Clone)]
struct Told {
    metrics: Metrics,
    health: Health,
    level: Option<LogLevel>,
}

impl Server {
    /// Serves at this address, on a thread of its own. `level`: of the process's logs, if it keeps any.
    ///
    /// # Errors
    /// Where the address can't be had, or no thread.
    pub fn start(
        address: SocketAddr,
        metrics: Metrics,
        health: Health,
        level: Option<LogLevel>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let router = router(Told { metrics, health, level });
        let stop = CancellationToken::new();
        let (ending, ended) = oneshot::channel();
        let until = stop.clone();
        thread::Builder::new().name("http".to_owned()).spawn(move || {
            let served = runtime.block_on(until.run_until_cancelled_owned(serve(listener, router)));
            // Nobody waits for it any more where the operator ends.
            let _ = ending.send(served.unwrap_or(Ok(())));
        })?;
        Ok(Self { address, ended, _stop: stop.drop_guard() })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it can't serve any more.
    ///
    /// # Errors
    /// What keeps it from it.
    pub async fn ended(&mut self) -> io::Result<()> {
        (&mut self.ended).await.unwrap_or_else(|_| Err(io::Error::other("its thread panicked")))
    }
}

async fn serve(listener: TcpListener, router: Router) -> io::Result<()> {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(tokio::net::TcpListener::from_std(listener)?, service).await
}

fn router(told: Told) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(async |State(told): State<Told>| verdict(&told.health.ailments())))
        .route("/readyz", get(async |State(told): State<Told>| verdict(&told.health.obstacles())))
        .route("/log-level", get(log_level).put(set_log_level))
        .with_state(told)
}

async fn metrics(State(told): State<Told>, headers: HeaderMap) -> impl IntoResponse {
    let accepted = headers.get(ACCEPT).and_then(|accepted| accepted.to_str().ok()).unwrap_or_default();
    if accepted.contains("application/openmetrics-text") {
        ([(CONTENT_TYPE, OPEN_METRICS)], told.metrics.text())
    } else {
        ([(CONTENT_TYPE, prometheus_text::CONTENT_TYPE)], told.metrics.plain_text())
    }
}

async fn log_level(State(told): State<Told>) -> Result<String, StatusCode> {
    told.level.map(|level| format!("{}\n", level.get())).ok_or(StatusCode::NOT_FOUND)
}

/// Changes what is logged, for who is in the pod, or forwards a port to it.
async fn set_log_level(
    State(told): State<Told>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    filter: String,
) -> Result<String, (StatusCode, String)> {
    if !peer.ip().to_canonical().is_loopback() {
        let advice = "only from within the pod: use `kubectl port-forward`\n";
        return Err((StatusCode::FORBIDDEN, advice.to_owned()));
    }
    let level = told.level.ok_or((StatusCode::NOT_FOUND, String::new()))?;
    level.set(&filter).map_err(|error| (StatusCode::BAD_REQUEST, format!("{error}\n")))?;
    tracing::info!(filter = %level.get(), "what is logged was changed");
    Ok(format!("{}\n", level.get()))
}

/// Nothing against it is `ok`.
fn verdict(against: &[String]) -> (StatusCode, String) {
    if against.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, against.iter().map(|line| format!("{line}\n")).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpStream,
        time::Duration,
    };

    use super::*;
    use crate::runtime::{LogFilter, Patience, logs::tests::detached};

    fn ask(address: SocketAddr, path: &str, accept: &str) -> String {
        send(address, &format!("GET {path} HTTP/1.1\r\naccept: {accept}\r\n"), "")
    }

    fn send(address: SocketAddr, head: &str, body: &str) -> String {
        let mut connection = TcpStream::connect(address).unwrap();
        let length = body.len();
        let request =
            format!("{head}host: operator\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }

    fn start(metrics: &Metrics, patience: Patience) -> Server {
        let health = Health::of(metrics, patience);
        Server::start(([127, 0, 0, 1], 0).into(), metrics.clone(), health, None).unwrap()
    }

    #[test]
    fn metrics_are_served_in_the_format_that_is_asked_for() {
        let metrics = Metrics::default();
        metrics.orphan_mitigated("OpenServiceBroker");
        let server = start(&metrics, Patience::default());
        let counted = "servicekeys_orphan_mitigations_total{backend=\"OpenServiceBroker\"} 1\n";
        for (accept, media_type, end) in [
            ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", OPEN_METRICS, "\n# EOF\n"),
            ("*/*", prometheus_text::CONTENT_TYPE, "\n"),
        ] {
            let answer = ask(server.address(), "/metrics", accept);
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(answer.contains(&format!("content-type: {media_type}\r\n")), "{answer}");
            assert!(answer.contains(counted) && answer.ends_with(end), "{answer}");
        }
    }

    /// The runtime of the test has one thread, which is blocked for as long as the test does not wait.
    #[tokio::test]
    async fn a_stuck_executor_is_told_by_who_is_not_stuck() {
        let metrics = Metrics::default();
        let patience = Patience { heart: Duration::from_millis(50), ..Patience::default() };
        let server = start(&metrics, patience);
        let beats = metrics.heart().beats();
        thread::sleep(2 * patience.heart);
        let answer = ask(server.address(), "/livez", "*/*");
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("the operator's loop has stood still for 0 s"), "{answer}");
        drop(beats);
        let answer = ask(server.address(), "/livez", "*/*");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok\n"), "{answer}");
    }

    #[test]
    fn who_is_not_ready_says_why() {
        let metrics = Metrics::default();
        let server = start(&metrics, Patience::default());
        let watch = metrics.watches().begin("/api/v1/secrets");
        let answer = ask(server.address(), "/readyz", "*/*");
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("`/api/v1/secrets`"), "{answer}");
        watch.filled();
        let answer = ask(server.address(), "/readyz", "*/*");
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_an_error() {
        let (metrics, taken) = (Metrics::default(), TcpListener::bind("127.0.0.1:0").unwrap());
        let health = Health::of(&metrics, Patience::default());
        let refused = Server::start(taken.local_addr().unwrap(), metrics, health, None);
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn what_is_logged_can_be_changed() {
        let metrics = Metrics::default();
        let (_layer, level) = detached();
        let health = Health::of(&metrics, Patience::default());
        let server = Server::start(([127, 0, 0, 1], 0).into(), metrics, health, Some(level.clone())).unwrap();
        let put = |filter: &str| send(server.address(), "PUT /log-level HTTP/1.1\r\n", filter);
        let answer = put("debug");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\ndebug\n"), "{answer}");
        assert_eq!(level.get().to_string(), "debug");
        let answer = put("loud=louder");
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.contains("`loud=louder` is no filter"),
            "{answer}"
        );
        assert!(ask(server.address(), "/log-level", "*/*").ends_with("\r\n\r\ndebug\n"));
    }

    #[tokio::test]
    async fn but_not_by_other_machines() {
        let (metrics, (_layer, level)) = (Metrics::default(), detached());
        let health = Health::of(&metrics, Patience::default());
        let told = Told { metrics, health, level: Some(level.clone()) };
        let peer = ConnectInfo(SocketAddr::from(([10, 0, 0, 1], 4711)));
        let (status, said) = set_log_level(State(told), peer, "trace".to_owned()).await.unwrap_err();
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert!(said.contains("kubectl port-forward"), "{said}");
        assert_eq!(level.get().to_string(), LogFilter::DEFAULT);
    }
}
