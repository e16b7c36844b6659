//! What the operator serves by http: its metrics.

use std::io;

use axum::{Router, extract::State, http::header::CONTENT_TYPE, response::IntoResponse, routing::get};
use tokio::net::TcpListener;

use super::Metrics;

/// The media type of the text format, as Prometheus asks for it.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves metrics at `/metrics`, for ever.
///
/// # Errors
/// Where that is not possible any more.
pub async fn serve(listener: TcpListener, metrics: Metrics) -> io::Result<()> {
    let router = Router::new().route("/metrics", get(text)).with_state(metrics);
    axum::serve(listener, router).await
}

async fn text(State(metrics): State<Metrics>) -> impl IntoResponse {
    ([(CONTENT_TYPE, OPEN_METRICS)], metrics.text())
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;

    #[tokio::test]
    async fn metrics_are_served_in_their_format() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Metrics::default();
        let server = tokio::spawn(serve(listener, metrics.clone()));
        metrics.orphan_mitigated("OpenServiceBroker");

        let mut connection = TcpStream::connect(address).await.unwrap();
        connection
            .write_all(b"GET /metrics HTTP/1.1\r\nhost: operator\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains(&format!("content-type: {OPEN_METRICS}\r\n")), "{answer}");
        assert!(answer.ends_with(&metrics.text()), "{answer}");
        server.abort();
    }
}
