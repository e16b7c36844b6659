//! Small servers on 127.0.0.1 for the tests of the backends. Some misbehave in ways that no library allows.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    http::{Method, StatusCode, Uri, header::CONNECTION},
};
use parking_lot::Mutex;
use rustls::{ServerConfig, pki_types::PrivateKeyDer, server::WebPkiClientVerifier};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use url::Url;

use super::{AddressPolicy, HttpConfig, RequestLimits};

/// A client that may connect to 127.0.0.0/8, with this timeout.
pub(super) fn http_config(timeout: Duration) -> HttpConfig {
    HttpConfig {
        addresses: AddressPolicy::admitting(["127.0.0.0/8".parse().unwrap()]),
        limits: RequestLimits { timeout, ..RequestLimits::default() },
        ..HttpConfig::default()
    }
}

/// A well-behaved server.
pub(super) async fn serve(router: Router) -> Url {
    let (listener, url) = listen("http").await;
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// A server that answers each request by its method, path and query with the result of `answer`. It keeps no connection
/// open.
pub(super) async fn answering(
    answer: impl Fn(&Method, &str) -> (u16, Value) + Clone + Send + Sync + 'static,
) -> Url {
    answering_at("127.0.0.1:0", answer).await
}

/// The same at this address.
pub(super) async fn answering_at(
    address: &str,
    answer: impl Fn(&Method, &str) -> (u16, Value) + Clone + Send + Sync + 'static,
) -> Url {
    let listener = TcpListener::bind(address).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let router = Router::new().fallback(async move |method: Method, uri: Uri| {
        let (status, body) = answer(&method, &uri.to_string());
        (StatusCode::from_u16(status).unwrap(), [(CONNECTION, "close")], body.to_string())
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// The action of a server after it has sent its answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Then {
    /// Closes the connection.
    Close,
    /// Keeps the connection open and sends nothing more.
    Hang,
    /// Continues to send chunks without end.
    Endless,
}

/// A server that reads a request, then sends these bytes regardless of its content.
pub(super) async fn raw(answer: impl Into<Vec<u8>>, then: Then) -> Url {
    let (listener, url) = listen("http").await;
    let answer = Arc::new(answer.into());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer_raw(stream, Arc::clone(&answer), then));
        }
    });
    url
}

/// The action of a server on a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Does {
    /// Answers with this status and body, and keeps the connection open.
    Answers(u16, &'static str),
    /// Closes the connection as soon as it has read the request.
    Cuts,
}

/// A server that handles the requests by this script, in the order of their arrival. Afterwards it answers `200 {}`. It
/// counts the requests of each connection.
pub(super) async fn scripted(script: &[Does]) -> (Url, Arc<Mutex<Vec<usize>>>) {
    let (listener, url) = listen("http").await;
    let script = Arc::new(Mutex::new(script.iter().copied().collect::<VecDeque<_>>()));
    let counts = Arc::<Mutex<Vec<usize>>>::default();
    let counted = Arc::clone(&counts);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (script, counts) = (Arc::clone(&script), Arc::clone(&counted));
            let connection = counts.lock().len();
            counts.lock().push(0);
            tokio::spawn(async move {
                while read_request(&mut stream).await {
                    counts.lock()[connection] += 1;
                    let next = script.lock().pop_front();
                    let Does::Answers(status, body) = next.unwrap_or(Does::Answers(200, "{}")) else {
                        return;
                    };
                    let length = body.len();
                    let answer = format!("HTTP/1.1 {status} So\r\ncontent-length: {length}\r\n\r\n{body}");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    (url, counts)
}

/// Reads a request to the end of its body. Returns whether there was one.
async fn read_request(stream: &mut TcpStream) -> bool {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return true;
            }
        }
        if !stream.read_buf(&mut request).await.is_ok_and(|length| length > 0) {
            return false;
        }
    }
}

/// Lets other tasks of this runtime run: those that keep a connection open, and the servers.
pub(super) async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

/// A server that accepts connections, but neither reads nor sends.
pub(super) async fn silent() -> Url {
    let (listener, url) = listen("http").await;
    tokio::spawn(async move {
        let mut connections = Vec::new();
        while let Ok(connection) = listener.accept().await {
            connections.push(connection);
        }
    });
    url
}

/// An address that refuses connections. The socket stays bound until the process ends, so that no other process can
/// listen there.
pub(super) fn refusing_address() -> Url {
    let socket = Box::leak(Box::new(TcpSocket::new_v4().unwrap()));
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    format!("http://{}", socket.local_addr().unwrap()).parse().unwrap()
}

/// A server that speaks TLS with this certificate and answers `200 {}`. With `clients` it requires a client certificate
/// that `clients` signed.
pub(super) async fn tls(certificate: &Certificate, clients: Option<&Certificate>) -> Url {
    let (listener, url) = listen("https").await;
    let crypto = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&crypto))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(authority.cert.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crypto);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let key = PrivateKeyDer::try_from(certificate.key.serialize_der()).unwrap();
    let config = builder.with_single_cert(vec![certificate.cert.der().clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                match acceptor.accept(stream).into_fallible().await {
                    Ok(stream) => {
                        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec();
                        answer_raw(stream, Arc::new(answer), Then::Close).await;
                    }
                    // Otherwise the reset of the connection could arrive before the alert with the reason.
                    Err((_, mut stream)) => drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await),
                }
            });
        }
    });
    url
}

/// A self-signed certificate, which is its own authority.
pub(super) struct Certificate {
    cert: rcgen::Certificate,
    key: rcgen::KeyPair,
}

impl Certificate {
    pub(super) fn valid_for(name: &str) -> Self {
        Self::with_params(rcgen::CertificateParams::new([name.to_owned()]).unwrap())
    }

    /// May sign other certificates (`CA:TRUE`).
    pub(super) fn of_an_authority(name: &str) -> Self {
        let mut params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self::with_params(params)
    }

    pub(super) fn expired(name: &str) -> Self {
        let mut params = rcgen::CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
        Self::with_params(params)
    }

    fn with_params(params: rcgen::CertificateParams) -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        Self { cert: params.self_signed(&key).unwrap(), key }
    }

    pub(super) fn pem(&self) -> String {
        self.cert.pem()
    }

    pub(super) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }
}

async fn listen(scheme: &str) -> (TcpListener, Url) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("{scheme}://{}", listener.local_addr().unwrap()).parse().unwrap();
    (listener, url)
}

async fn answer_raw(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: Arc<Vec<u8>>, then: Then) {
    let mut request = [0; 16 * 1024];
    let _ = stream.read(&mut request).await;
    let _ = stream.write_all(&answer).await;
    match then {
        Then::Close => drop(stream.shutdown().await),
        Then::Hang => std::future::pending().await,
        Then::Endless => {
            let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
            while stream.write_all(chunk.as_bytes()).await.is_ok() {}
        }
    }
}
