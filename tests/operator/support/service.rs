//! A service at which the operator verifies new credentials. It knows the passwords that the test lets in.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, header::AUTHORIZATION},
    routing::get,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::watch, task::JoinSet, time::timeout};

use crate::support::stage::PATIENCE;

/// An HTTP server that ends with the test.
pub struct Service {
    address: SocketAddr,
    state: Arc<Logins>,
    _server: JoinSet<()>,
}

#[derive(Default)]
struct Logins {
    accepted: Mutex<BTreeSet<String>>,
    /// The passwords of all attempts, in their order.
    attempts: watch::Sender<Vec<String>>,
}

impl Service {
    /// Starts a service that refuses every password.
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Logins>::default();
        let router = Router::new().route("/", get(log_in)).with_state(Arc::clone(&state));
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, state, _server: server }
    }

    /// The value of `spec.rotation.verify` for this service.
    pub fn probe(&self) -> Value {
        let headers = json!({"Authorization": "Bearer {{ password }}"});
        json!({"every": "1s", "http": {"url": format!("http://{}/", self.address), "headers": headers}})
    }

    pub fn accept(&self, password: &str) {
        self.state.accepted.lock().unwrap().insert(password.to_owned());
    }

    /// Waits until the operator has tried this often, and returns the passwords of all attempts.
    pub async fn wait_for_attempts(&self, count: usize) -> Vec<String> {
        let mut attempts = self.state.attempts.subscribe();
        let enough = timeout(PATIENCE, attempts.wait_for(|attempts| attempts.len() >= count)).await;
        enough.unwrap_or_else(|_| panic!("fewer than {count} attempts")).unwrap().clone()
    }
}

async fn log_in(State(state): State<Arc<Logins>>, headers: HeaderMap) -> StatusCode {
    let sent = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let password = sent.unwrap_or_default().to_owned();
    let is_accepted = state.accepted.lock().unwrap().contains(&password);
    state.attempts.send_modify(|attempts| attempts.push(password));
    if is_accepted { StatusCode::OK } else { StatusCode::UNAUTHORIZED }
}
