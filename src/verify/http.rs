//! One GET request. The probe reads only the status of the answer.

use std::pin::pin;

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, StatusCode,
    header::{
        ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING,
        UPGRADE, USER_AGENT,
    },
};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret, SecretString};
use url::{Position, Url};
use zeroize::Zeroizing;

use super::{
    connection::{Connection, Destination},
    failure::Fault,
    tls,
};

/// The most bytes of an answer's status and headers.
const LARGEST_HEAD: usize = 32 << 10;

const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("servicekey-operator/", env!("CARGO_PKG_VERSION")));

/// Headers about the connection or the body, which the client sets itself.
const RESERVED: [HeaderName; 8] =
    [CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

/// A request, and the service to send it to.
pub(super) struct Get {
    pub(super) destination: Destination,
    pub(super) is_encrypted: bool,
    request: Request<String>,
}

impl Get {
    pub(super) fn new(url: &SecretString, headers: &[(String, SecretString)]) -> Result<Self, Fault> {
        let invalid = |problem| Fault::Invalid { field: "url", problem };
        let url = Url::parse(url.expose_secret()).map_err(|_| invalid("is not a URL"))?;
        let is_encrypted = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(invalid("is neither an `https` nor an `http` URL")),
        };
        let (Some(host), Some(port @ 1..)) = (url.host(), url.port_or_known_default()) else {
            return Err(invalid("has no host or no port"));
        };
        let mut request = Request::builder()
            .uri(&url[Position::BeforePath..Position::AfterQuery])
            .body(String::new())
            .map_err(|_| invalid("has a path that can't be requested"))?;
        let host_and_port = &url[Position::BeforeHost..Position::AfterPort];
        let host_and_port =
            HeaderValue::from_str(host_and_port).map_err(|_| invalid("has no usable host"))?;
        *request.headers_mut() = header_map(headers)?;
        let all = request.headers_mut();
        all.insert(HOST, host_and_port);
        all.entry(USER_AGENT).or_insert(AGENT);
        all.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
        if let Some(login) = basic_login(&url) {
            all.entry(AUTHORIZATION).or_insert(login);
        }
        Ok(Self { destination: Destination { host: host.to_owned(), port }, is_encrypted, request })
    }

    /// Sends the request, and reads the status of the answer.
    pub(super) async fn send(self, connection: Connection) -> Result<StatusCode, Fault> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(LARGEST_HEAD);
        let (mut sender, connection) =
            builder.handshake(TokioIo::new(connection)).await.map_err(|error| tls::fault_of(&error))?;
        let mut answer = pin!(sender.send_request(self.request));
        let answer = tokio::select! {
            answer = &mut answer => answer,
            // The connection ends after it has delivered the answer or the reason for its absence.
            _ = connection => answer.await,
        };
        Ok(answer.map_err(|error| tls::fault_of(&error))?.status())
    }
}

/// Compares the status with those that mean that the credentials are accepted.
pub(super) fn check_status(status: StatusCode, accepted: &[u16]) -> Result<(), Fault> {
    let is_accepted =
        if accepted.is_empty() { status.is_success() } else { accepted.contains(&status.as_u16()) };
    let code = format!("HTTP status {}", status.as_u16());
    match status {
        _ if is_accepted => Ok(()),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Fault::Refused(code)),
        _ => Err(Fault::Unexpected(code)),
    }
}

fn header_map(headers: &[(String, SecretString)]) -> Result<HeaderMap, Fault> {
    let invalid = |problem| Fault::Invalid { field: "headers", problem };
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let name = HeaderName::try_from(name).map_err(|_| invalid("has an invalid name"))?;
        if RESERVED.contains(&name) {
            return Err(invalid("has the name of a header that the operator sets itself"));
        }
        let mut value =
            HeaderValue::from_str(value.expose_secret()).map_err(|_| invalid("has an invalid value"))?;
        value.set_sensitive(true);
        map.try_append(name, value).map_err(|_| invalid("has too many entries"))?;
    }
    Ok(map)
}

/// The header for the user and the password in the URL, if it has any.
fn basic_login(url: &Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut login = Zeroizing::new(Vec::new());
    login.extend(percent_decode_str(url.username()));
    login.push(b':');
    login.extend(percent_decode_str(url.password().unwrap_or_default()));
    let mut value = HeaderValue::from_str(&format!("Basic {}", BASE64_STANDARD.encode(&*login))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use rstest::rstest;
    use rustls::version::TLS13;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use crate::verify::{
        Probe, ProbeFailureClass as Class,
        test_server::{
            Authority, PASSWORD, fails, outcome, replying, replying_over_tls, serve, wait_for_end,
        },
    };

    fn probe(url: String, statuses: &[u16]) -> Probe {
        Probe::Http { url: url.into(), headers: vec![], statuses: statuses.into(), ca_bundle: None }
    }

    fn with_header(url: String, name: &str, value: &str) -> Probe {
        let headers = vec![(name.to_owned(), value.into())];
        Probe::Http { url: url.into(), headers, statuses: vec![], ca_bundle: None }
    }

    #[rstest]
    #[case::success(&["HTTP/1.1 204 confidential\r\n\r\n"], &[], None)]
    #[case::listed(&["HTTP/1.1 404 confidential\r\n\r\n"], &[404], None)]
    #[case::after_hints(&["HTTP/1.1 103 \r\n\r\nHTTP/1.1 200 OK\r\n\r\n"], &[], None)]
    #[case::with_a_body(&["HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nconfidential"], &[], None)]
    #[case::not_listed(&["HTTP/1.1 200 OK\r\n\r\n"], &[204], Some((Class::UnexpectedAnswer, "HTTP status 200")))]
    #[case::unauthorized(
        &["HTTP/1.1 401 No\r\ncontent-length: 12\r\n\r\nconfidential"],
        &[],
        Some((Class::Refused, "does not accept the credentials: HTTP status 401"))
    )]
    #[case::forbidden(&["HTTP/1.1 403 confidential\r\n\r\n"], &[], Some((Class::Refused, "HTTP status 403")))]
    #[case::broken(&["HTTP/1.1 503 confidential\r\n\r\n"], &[], Some((Class::UnexpectedAnswer, "HTTP status 503")))]
    #[tokio::test]
    async fn the_status_decides(
        #[case] replies: &'static [&'static str],
        #[case] statuses: &[u16],
        #[case] expected: Option<(Class, &str)>,
    ) {
        let server = replying(replies).await;
        let probe = probe(server.url("http", "/"), statuses);
        match expected {
            None => assert_eq!(outcome(&probe).await, Ok(())),
            Some((class, words)) => fails(&probe, class, words).await,
        }
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let server =
            replying(&["HTTP/1.1 302 Found\r\nlocation: /confidential\r\ncontent-length: 0\r\n\r\n"; 2])
                .await;
        fails(&probe(server.url("http", "/"), &[]), Class::UnexpectedAnswer, "HTTP status 302").await;
        assert_eq!(server.connections(), 1);
    }

    #[tokio::test]
    async fn endless_headers_are_not_read() {
        let server = serve(|mut stream| async move {
            stream.write_all(b"HTTP/1.1 200 OK\r\n").await?;
            loop {
                stream.write_all(b"x-header: confidential\r\n").await?;
            }
        })
        .await;
        fails(&probe(server.url("http", "/"), &[]), Class::Unreachable, "as an HTTP server").await;
    }

    #[rstest]
    #[case("user:p%40ss", "Basic dXNlcjpwQHNz")]
    #[case("token", "Basic dG9rZW46")]
    #[tokio::test]
    async fn the_request_has_the_login_of_the_url(#[case] login: &str, #[case] expected: &str) {
        let received = Arc::<Mutex<String>>::default();
        let seen = Arc::clone(&received);
        let server = serve(move |mut stream| {
            let seen = Arc::clone(&seen);
            async move {
                let mut request = vec![0; 4096];
                let length = stream.read(&mut request).await?;
                *seen.lock() = String::from_utf8(request[..length].to_vec()).unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                wait_for_end(stream).await
            }
        })
        .await;
        let url = format!("http://{login}@{}/health?all=true#end", server.address());
        assert_eq!(outcome(&with_header(url, "X-Key", PASSWORD)).await, Ok(()));
        let received = received.lock().clone();
        let (host, agent) = (server.address(), concat!("servicekey-operator/", env!("CARGO_PKG_VERSION")));
        assert_eq!(
            received,
            format!(
                "GET /health?all=true HTTP/1.1\r\nx-key: {PASSWORD}\r\nhost: {host}\r\nuser-agent: {agent}\r\n\
                 accept: */*\r\nauthorization: {expected}\r\n\r\n"
            )
        );
    }

    #[rstest]
    #[case("hunter2", "`http.url` is not a URL")]
    #[case("ftp://hunter2/", "`http.url` is neither")]
    #[case("http://127.0.0.1:0/hunter2", "`http.url` has no host or no port")]
    #[tokio::test]
    async fn an_invalid_url_is_not_quoted(#[case] url: &str, #[case] words: &str) {
        fails(&probe(url.to_owned(), &[]), Class::InvalidProbe, words).await;
    }

    #[rstest]
    #[case("x key", "", "has an invalid name")]
    #[case("x-key", "hunter2\r\nx-other: 1", "has an invalid value")]
    #[case("Host", "hunter2", "has the name of a header that the operator sets")]
    #[case("content-length", "5", "has the name of a header that the operator sets")]
    #[tokio::test]
    async fn an_invalid_header_is_not_quoted(#[case] name: &str, #[case] value: &str, #[case] words: &str) {
        let probe = with_header("http://127.0.0.1:1/".to_owned(), name, value);
        fails(&probe, Class::InvalidProbe, words).await;
    }

    #[tokio::test]
    async fn https_checks_the_certificate() {
        let authority = Authority::new();
        let config = authority.issue("127.0.0.1").server_config(None, &[&TLS13]);
        let server = replying_over_tls(config, &["HTTP/1.1 200 OK\r\n\r\n"]).await;
        let probe = |ca_bundle| Probe::Http {
            url: server.url("https", "/").into(),
            headers: vec![],
            statuses: vec![],
            ca_bundle,
        };
        assert_eq!(outcome(&probe(Some(authority.pem()))).await, Ok(()));
        fails(&probe(None), Class::TlsFailed, "no TLS connection to `http.url`: the service's certificate")
            .await;
    }
}
