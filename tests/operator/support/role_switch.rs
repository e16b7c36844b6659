//! A switch between the operator and the broker of a real database. While it holds new roles back, they refuse their
//! passwords, like those of a standby that lags.

use std::{net::Ipv4Addr, sync::Arc};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{Method, StatusCode, header::HOST},
    response::Response,
};
use kube::{Client, Config};
use serde_json::Value;
use tokio::{net::TcpListener, sync::Mutex, task::JoinSet};

use crate::support::database::superuser;

/// Larger than any request and any answer of the broker.
const MAX_BYTES: usize = 1 << 20;

/// A proxy that ends with the test.
pub struct RoleSwitch {
    pub url: String,
    held: Held,
    _proxy: JoinSet<()>,
}

/// The roles that the switch holds back; `None` while it holds no new roles back.
type Held = Arc<Mutex<Option<Vec<Role>>>>;

/// A role and the verifier of its password.
struct Role {
    name: String,
    verifier: String,
}

impl RoleSwitch {
    pub async fn in_front_of(broker: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let held = Held::default();
        let broker = Client::try_from(Config::new(broker.parse().unwrap())).unwrap();
        let router = Router::new().fallback(forward).with_state((broker, Arc::clone(&held)));
        let mut proxy = JoinSet::new();
        proxy.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, held, _proxy: proxy }
    }

    /// Lets new roles refuse their passwords.
    pub async fn hold(&self) {
        self.held.lock().await.get_or_insert_default();
    }

    /// Lets the held roles that still exist accept their passwords, and also new roles.
    pub async fn release(&self) {
        let mut held = self.held.lock().await;
        for Role { name, verifier } in held.take().unwrap_or_default() {
            if find_verifier(&name).await.is_some() {
                set_password(&name, &verifier).await;
            }
        }
    }
}

/// Forwards a call to the broker. A role that the call created is held back before the operator gets the answer.
async fn forward(State((broker, held)): State<(Client, Held)>, request: Request) -> Response {
    let is_bind = request.method() == Method::PUT;
    let (mut head, body) = request.into_parts();
    head.headers.remove(HOST);
    let body = to_bytes(body, MAX_BYTES).await.unwrap();
    let answer = broker.send(Request::from_parts(head, body.into())).await.unwrap();
    let (head, body) = answer.into_parts();
    let body = to_bytes(Body::new(body), MAX_BYTES).await.unwrap();
    if is_bind && head.status == StatusCode::CREATED {
        let binding: Value = serde_json::from_slice(&body).unwrap();
        if let Some(held) = held.lock().await.as_mut() {
            held.push(hold_back(binding["credentials"]["username"].as_str().unwrap()).await);
        }
    }
    Response::from_parts(head, body.into())
}

async fn hold_back(role: &str) -> Role {
    let verifier = find_verifier(role).await.unwrap();
    set_password(role, "held back").await;
    Role { name: role.to_owned(), verifier }
}

async fn find_verifier(role: &str) -> Option<String> {
    let query = "SELECT rolpassword FROM pg_authid WHERE rolname = $1";
    superuser().await.query_opt(query, &[&role]).await.unwrap().map(|row| row.get(0))
}

/// Sets a password, or the verifier of one. The names of roles and the verifiers contain no quotes.
async fn set_password(role: &str, password: &str) {
    let statement = format!("ALTER ROLE \"{role}\" PASSWORD '{password}'");
    superuser().await.batch_execute(&statement).await.unwrap();
}
