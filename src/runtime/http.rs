//! The operator's HTTP server: `/metrics`, and `/livez` and `/readyz` for the kubelet.
//!
//! The server has its own thread and runtime, so that it can report that the operator's runtime is stuck. It is
//! read-only, because other containers of the pod can reach it through the loopback interface. It closes connections of
//! slow clients. It never refuses a new connection: if there are too many, it closes the oldest one of the busiest
//! peer. So the kubelet, which sends its request immediately, always gets an answer.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    sync::Arc,
    thread,
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{
        HeaderMap, StatusCode,
        header::{ACCEPT, CONTENT_TYPE},
    },
    response::IntoResponse,
    routing::get,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use parking_lot::Mutex;
use prometheus_client::encoding::prometheus_text;
use tokio::{net::TcpStream, runtime, sync::oneshot, time};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Health, Metrics};

/// The time limit for the head of a request.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);
/// The time limit of one request, until the client has read the answer.
const DEADLINE: Duration = Duration::from_secs(20);
/// The buffer for the head of a request.
const HEAD_BYTES: usize = 16 << 10;
/// The maximum number of open connections.
const CONNECTIONS: usize = 256;
/// The maximum number of open connections of one peer.
const CONNECTIONS_OF_A_PEER: usize = 16;
/// The wait after a failed accept, for example because the process has too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The media type of the text format that Prometheus requests.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves until this is dropped.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    ended: oneshot::Receiver<io::Result<()>>,
    _stop: DropGuard,
}

#[derive(Clone)]
struct ServedSources {
    metrics: Metrics,
    health: Health,
}

impl HttpServer {
    /// Serves at this address, on a thread of its own.
    ///
    /// # Errors
    /// If the address can't be bound, or the thread can't be started.
    pub fn start(address: SocketAddr, metrics: Metrics, health: Health) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let router = router(ServedSources { metrics, health });
        let stop = CancellationToken::new();
        let (ending, ended) = oneshot::channel();
        let until = stop.clone();
        thread::Builder::new().name("http".to_owned()).spawn(move || {
            let served = runtime.block_on(until.run_until_cancelled_owned(serve(listener, router)));
            // When the operator ends, the receiver may be gone already.
            let _ = ending.send(served.unwrap_or(Ok(())));
        })?;
        Ok(Self { address, ended, _stop: stop.drop_guard() })
    }

    /// The address at which the server listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the server stops.
    ///
    /// # Errors
    /// If it stops because of an error.
    pub async fn ended(&mut self) -> io::Result<()> {
        (&mut self.ended).await.unwrap_or_else(|_| Err(io::Error::other("its thread panicked")))
    }
}

async fn serve(listener: TcpListener, router: Router) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let connections = Connections::default();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                tokio::spawn(answer(stream, router.clone(), connections.enter(peer.ip())));
            }
            Err(error) => {
                tracing::debug!(%error, "can't accept a connection to the metrics server");
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers one request.
async fn answer(stream: TcpStream, router: Router, place: ConnectionSlot) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // Slow clients and invalid requests are not worth a log line.
    let _ = place.closed.run_until_cancelled(time::timeout(DEADLINE, connection)).await;
}

/// The open connections.
#[derive(Clone, Debug, Default)]
struct Connections(Arc<Mutex<OpenConnections>>);

#[derive(Debug, Default)]
struct OpenConnections {
    /// The number of the next connection.
    next: u64,
    /// The peer of each connection and the token that closes it, by number: the oldest first.
    connections: BTreeMap<u64, (IpAddr, CancellationToken)>,
}

/// A slot for one connection. It is free again when this is dropped.
#[derive(Debug)]
struct ConnectionSlot {
    number: u64,
    /// Cancelled when a newer connection takes the slot.
    closed: CancellationToken,
    connections: Connections,
}

impl Connections {
    /// Takes a slot for a connection from this address. If no slot is free, it closes the oldest connection: of this
    /// peer if that has too many, else of the peer with the most connections.
    fn enter(&self, address: IpAddr) -> ConnectionSlot {
        let (peer, closed) = (peer_at(address), CancellationToken::new());
        let mut open = self.0.lock();
        let counts = open.counts();
        if counts.get(&peer).is_some_and(|count| *count >= CONNECTIONS_OF_A_PEER) {
            open.close_oldest_of(peer);
        } else if open.connections.len() >= CONNECTIONS {
            // `max_by_key` returns the last peer with the largest count, which is the one with the oldest connection.
            let peers = open.connections.values().rev().map(|(peer, _)| *peer);
            let busiest = peers.max_by_key(|peer| counts.get(peer).copied());
            busiest.into_iter().for_each(|busiest| open.close_oldest_of(busiest));
        }
        let number = open.next;
        open.next += 1;
        open.connections.insert(number, (peer, closed.clone()));
        drop(open);
        ConnectionSlot { number, closed, connections: self.clone() }
    }
}

impl OpenConnections {
    /// The number of connections of each peer.
    fn counts(&self) -> HashMap<IpAddr, usize> {
        let mut counts = HashMap::new();
        for (peer, _) in self.connections.values() {
            *counts.entry(*peer).or_default() += 1;
        }
        counts
    }

    fn close_oldest_of(&mut self, peer: IpAddr) {
        let oldest = self.connections.iter().find(|(_, (of, _))| *of == peer).map(|(number, _)| *number);
        if let Some((_, closed)) = oldest.and_then(|number| self.connections.remove(&number)) {
            closed.cancel();
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.connections.0.lock().connections.remove(&self.number);
    }
}

/// The peer at an address. All loopback addresses are one peer, because a container of the pod can use each of them.
const fn peer_at(address: IpAddr) -> IpAddr {
    let address = address.to_canonical();
    if address.is_loopback() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { address }
}

fn router(told: ServedSources) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route(
            "/livez",
            get(async |State(told): State<ServedSources>| verdict(&told.health.liveness_failures())),
        )
        .route(
            "/readyz",
            get(async |State(told): State<ServedSources>| verdict(&told.health.unready_reasons())),
        )
        .with_state(told)
}

async fn metrics(State(told): State<ServedSources>, headers: HeaderMap) -> impl IntoResponse {
    let accepted = headers.get(ACCEPT).and_then(|accepted| accepted.to_str().ok()).unwrap_or_default();
    if accepted.contains("application/openmetrics-text") {
        ([(CONTENT_TYPE, OPEN_METRICS)], told.metrics.text())
    } else {
        ([(CONTENT_TYPE, prometheus_text::CONTENT_TYPE)], told.metrics.plain_text())
    }
}

/// Answers `ok`, or 503 with the reasons against it.
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
        net::TcpStream as StdTcpStream,
    };

    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::runtime::HealthThresholds;

    fn ask(address: SocketAddr, path: &str, accept: &str) -> String {
        send(address, &format!("GET {path} HTTP/1.1\r\naccept: {accept}\r\n"), "")
    }

    fn send(address: SocketAddr, head: &str, body: &str) -> String {
        let mut connection = StdTcpStream::connect(address).unwrap();
        let length = body.len();
        let request =
            format!("{head}host: operator\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}");
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }

    fn start(metrics: &Metrics, patience: HealthThresholds) -> HttpServer {
        let health = Health::new(metrics, patience);
        HttpServer::start(([127, 0, 0, 1], 0).into(), metrics.clone(), health).unwrap()
    }

    #[test]
    fn metrics_are_served_in_the_format_that_is_asked_for() {
        let metrics = Metrics::default();
        metrics.count_mitigated_orphan(crate::backend::BackendKind::OpenServiceBroker);
        let server = start(&metrics, HealthThresholds::default());
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

    /// The runtime of the test has one thread. The test blocks it until its next `await`.
    #[tokio::test]
    async fn a_stuck_executor_is_told_by_who_is_not_stuck() {
        let metrics = Metrics::default();
        let patience =
            HealthThresholds { heartbeat: Duration::from_millis(50), ..HealthThresholds::default() };
        let server = start(&metrics, patience);
        let beats = metrics.heartbeat().ticks();
        thread::sleep(2 * patience.heartbeat);
        let answer = ask(server.address(), "/livez", "*/*");
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("the operator's main loop has been stuck for 0 s"), "{answer}");
        drop(beats);
        let answer = ask(server.address(), "/livez", "*/*");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok\n"), "{answer}");
    }

    #[test]
    fn who_is_not_ready_says_why() {
        let metrics = Metrics::default();
        let server = start(&metrics, HealthThresholds::default());
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
        let health = Health::new(&metrics, HealthThresholds::default());
        let refused = HttpServer::start(taken.local_addr().unwrap(), metrics, health);
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    fn peer(number: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, number])
    }

    fn closed(places: &[ConnectionSlot]) -> Vec<usize> {
        let closed = places.iter().enumerate().filter(|(_, place)| place.closed.is_cancelled());
        closed.map(|(number, _)| number).collect()
    }

    #[test]
    fn the_oldest_connection_of_a_peer_makes_room() {
        let connections = Connections::default();
        let other = connections.enter(peer(1));
        let places: Vec<_> = (0..CONNECTIONS_OF_A_PEER + 2).map(|_| connections.enter(peer(0))).collect();
        assert_eq!(closed(&places), [0, 1]);
        assert!(!other.closed.is_cancelled());
        drop((places, other));
        assert!(connections.0.lock().connections.is_empty());
    }

    #[test]
    fn the_busiest_peer_makes_room_for_others() {
        let connections = Connections::default();
        let single = connections.enter(peer(200));
        let many: Vec<_> = (0..CONNECTIONS_OF_A_PEER).map(|_| connections.enter(peer(201))).collect();
        let rest = CONNECTIONS - 1 - CONNECTIONS_OF_A_PEER;
        let others: Vec<_> =
            (0..rest).map(|number| connections.enter(peer(u8::try_from(number / 2).unwrap()))).collect();
        let newcomers = [202, 203].map(|number| connections.enter(peer(number)));
        assert_eq!(closed(&many), [0, 1]);
        assert_eq!((closed(&others), closed(&newcomers)), (vec![], vec![]));
        assert!(!single.closed.is_cancelled());
        assert_eq!(connections.0.lock().connections.len(), CONNECTIONS);
    }

    #[test]
    fn all_loopback_addresses_are_one_peer() {
        let connections = Connections::default();
        let addresses = (1..=17_u8).map(|number| IpAddr::from([127, 0, 0, number]));
        let mapped: IpAddr = "::ffff:127.0.0.99".parse().unwrap();
        let addresses = addresses.chain([mapped, "::1".parse().unwrap()]);
        let places: Vec<_> = addresses.map(|address| connections.enter(address)).collect();
        assert_eq!(closed(&places), [0, 1, 2]);
    }

    /// A client that sends one header after the other gets no further than the deadline of the head.
    #[tokio::test(start_paused = true)]
    async fn a_slow_client_is_cut_off() {
        let metrics = Metrics::default();
        let health = Health::new(&metrics, HealthThresholds::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let (connections, began) = (Connections::default(), time::Instant::now());
        let served = answer(stream, router(ServedSources { metrics, health }), connections.enter(peer.ip()));
        let trickle = async {
            client.write_all(b"GET /livez HTTP/1.1\r\n").await.unwrap();
            loop {
                time::sleep(HEAD_DEADLINE / 5).await;
                client.write_all(b"a: b\r\n").await.unwrap();
            }
        };
        tokio::select! {
            () = served => {}
            () = trickle => {}
        }
        let took = began.elapsed();
        assert!(took >= HEAD_DEADLINE && took < 2 * HEAD_DEADLINE, "cut off after {took:?}");
    }

    #[test]
    fn the_server_changes_nothing() {
        let server = start(&Metrics::default(), HealthThresholds::default());
        for request in ["PUT /log-level", "GET /log-level", "POST /metrics", "DELETE /livez"] {
            let answer = send(server.address(), &format!("{request} HTTP/1.1\r\n"), "trace");
            assert!(answer.starts_with("HTTP/1.1 40"), "{answer}");
        }
    }
}
