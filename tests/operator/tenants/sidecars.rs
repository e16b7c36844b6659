//! Connections to the operator's HTTP port change nothing, and block no other client.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::{Instant, sleep, timeout},
};

use super::abuse::{Abuse, Actor};
use crate::support::{process::Process, stage::Stage};

pub const ABUSES: &[Abuse] = &[
    abuse!(
        a_sidecar_can_not_change_the_log_level,
        Actor::Sidecar,
        "sends `PUT /log-level` over the loopback interface of the pod",
        "there is no such path; only the operator's own container reaches its control socket",
    ),
    abuse!(
        silent_connections_do_not_starve_the_kubelet,
        Actor::Sidecar,
        "opens 400 connections from twenty loopback addresses to the operator's HTTP port and sends nothing",
        "sixteen of them stay open; the oldest is closed for each newer one, such as the kubelet's probes, which are \
         answered",
    ),
    abuse!(
        slow_clients_are_cut_off,
        Actor::Sidecar,
        "sends the head of a request byte by byte, and reads an answer slowly",
        "it is cut off after 5 seconds without a whole head, and after 20 seconds at the latest",
    ),
    abuse!(
        a_head_without_end_is_refused,
        Actor::Sidecar,
        "sends an endless head of a request",
        "it is refused, and cut off",
    ),
];

/// Sends this to the HTTP server, and returns the answer.
async fn ask(connection: &mut TcpStream, request: &str) -> String {
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

async fn connect_from(number: u8, address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, number], 0).into()).unwrap();
    socket.connect(address).await.unwrap()
}

/// Sends a probe like the kubelet, and fails unless it succeeds.
async fn probe(address: SocketAddr) {
    let answer = timeout(Duration::from_secs(5), async {
        let mut connection = connect_from(99, address).await;
        ask(&mut connection, "GET /livez HTTP/1.1\r\nhost: operator\r\n\r\n").await
    });
    let answer = answer.await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_can_not_change_the_log_level() {
    let operator = Process::start(&Stage::set().await).await;
    let mut connection = TcpStream::connect(operator.http_address().await).await.unwrap();
    let request = "PUT /log-level HTTP/1.1\r\nhost: operator\r\ncontent-length: 5\r\n\r\ntrace";
    let answer = ask(&mut connection, request).await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    let level = operator.log_level("").await;
    assert_eq!(String::from_utf8(level.stdout).unwrap(), "info,kube_runtime=warn\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_do_not_starve_the_kubelet() {
    let operator = Process::start(&Stage::set().await).await;
    let address = operator.http_address().await;
    let mut open = Vec::new();
    for number in (1..=20).cycle().take(400) {
        open.push(connect_from(number, address).await);
    }
    probe(address).await;
    let mut waiting = 0;
    for connection in &mut open {
        let closed = timeout(Duration::from_millis(20), connection.read_u8()).await;
        waiting += usize::from(closed.is_err());
    }
    assert!(waiting <= 16, "{waiting} connections of loopback addresses are open");
    probe(address).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_cut_off() {
    let operator = Process::start(&Stage::set().await).await;
    let address = operator.http_address().await;
    let mut connection = TcpStream::connect(address).await.unwrap();
    let began = Instant::now();
    connection.write_all(b"GET /metrics HTTP/1.1\r\n").await.unwrap();
    let (mut from, mut to) = connection.split();
    let cut_off = async {
        let mut rest = Vec::new();
        // The server may also reset the connection.
        let _ = from.read_to_end(&mut rest).await;
    };
    let drip = async {
        while to.write_all(b"a: b\r\n").await.is_ok() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        () = cut_off => {}
        () = drip => {}
        () = sleep(Duration::from_secs(30)) => panic!("the connection is still open"),
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(4), "the connection was closed too early");
    assert!(
        took < Duration::from_secs(15),
        "the connection was closed only by the deadline of the whole request"
    );
    probe(address).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_without_end_is_refused() {
    let operator = Process::start(&Stage::set().await).await;
    let address = operator.http_address().await;
    let mut connection = TcpStream::connect(address).await.unwrap();
    let mut sent = 0;
    connection.write_all(b"GET /livez HTTP/1.1\r\na: ").await.unwrap();
    while sent < 64 << 20 && connection.write_all(&[b'x'; 1024]).await.is_ok() {
        sent += 1024;
    }
    assert!(sent < 64 << 20, "the server accepted {sent} bytes of a head");
    probe(address).await;
}
