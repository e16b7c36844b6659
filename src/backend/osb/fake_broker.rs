//! A small broker for the tests, and the requests that they send to it.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use parking_lot::Mutex;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{ApiVersion, Auth, Broker, BrokerConfig, catalog::Catalog};
use crate::{
    backend::{
        BackendError, InstanceRef, KeyRequest, KeyRole, KnownSecrets, MemoryBudget, Owner, Parameters,
        test_server,
    },
    lifecycle::{Identity, Sequence},
    wipe::SecretValues,
};

pub(super) const SECRET: &str = "hunter2";
pub(super) const PARAMETER: &str = "correct horse";
/// A secret from an earlier call, which messages must not show.
pub(super) const KNOWN: &str = "open sesame";
const UID: Uuid = Uuid::from_u128(0x6ba7_b810_9dad_11d1_80b4_00c0_4fd4_30c8);
pub(super) const KEY: &str =
    r#"{"credentials": {"password": "s3cret"}, "metadata": {"expires_at": "2027-01-01T00:00:00Z"}}"#;

/// A broker with one catalog. It gives the same answer to all other calls, and records the calls.
#[derive(Clone)]
pub(super) struct FakeBroker {
    catalog: (StatusCode, String),
    answer: (StatusCode, String),
    calls: Arc<Mutex<Vec<ReceivedCall>>>,
}

#[derive(Clone)]
pub(super) struct ReceivedCall {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl FakeBroker {
    pub(super) fn answering(status: u16, body: &str) -> Self {
        Self {
            catalog: (StatusCode::OK, catalog().to_string()),
            answer: (StatusCode::from_u16(status).unwrap(), body.to_owned()),
            calls: Arc::default(),
        }
    }

    pub(super) fn with_catalog(self, status: u16, body: &str) -> Self {
        Self { catalog: (StatusCode::from_u16(status).unwrap(), body.to_owned()), ..self }
    }

    /// Starts the broker and returns a client of it.
    pub(super) async fn start(&self) -> Broker {
        connect(test_server::serve(self.router()).await.join("prefix/").unwrap(), Duration::from_secs(20))
    }

    pub(super) fn router(&self) -> Router {
        Router::new().fallback(Self::answer).with_state(self.clone())
    }

    async fn answer(
        State(broker): State<Self>,
        method: Method,
        uri: Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Response {
        let (status, text) =
            if uri.path().ends_with("/v2/catalog") { broker.catalog.clone() } else { broker.answer.clone() };
        broker.calls.lock().push(ReceivedCall { method, uri, headers, body });
        (status, [(RETRY_AFTER, "7")], text).into_response()
    }

    pub(super) fn calls(&self) -> Vec<ReceivedCall> {
        self.calls.lock().clone()
    }

    /// The only call apart from requests for the catalog.
    pub(super) fn call(&self) -> ReceivedCall {
        let mut calls = self.calls();
        calls.retain(|call| !call.uri.path().ends_with("/v2/catalog"));
        assert_eq!(calls.len(), 1);
        calls.remove(0)
    }
}

pub(super) fn catalog() -> Value {
    json!({"services": [{"id": "s-1", "name": "db", "bindable": true, "bindings_retrievable": true, "plans": [
        {"id": "p-1", "name": "small", "binding_rotatable": true, "maximum_polling_duration": 90}, {"id": "p-2", "name": "closed", "bindable": false},
        {"id": "p-4", "name": "archive"},
    ]}, {"id": "s-2", "name": "mail", "bindable": true, "plans": [{"id": "p-3", "name": "once"}]}]})
}

pub(super) fn connect(url: url::Url, timeout: Duration) -> Broker {
    let auth = Some(Auth::Basic { username: "admin".to_owned(), password: SECRET.into() });
    Broker::new(&BrokerConfig { auth, ..config(url, timeout) }).unwrap()
}

/// The configuration of a broker without a login.
pub(super) fn config(url: url::Url, timeout: Duration) -> BrokerConfig {
    BrokerConfig {
        url,
        api_version: ApiVersion::default(),
        bind_resource: None,
        auth: None,
        http: test_server::http_config(timeout),
    }
}

impl Broker {
    /// Gives the client a catalog without a request to the broker.
    pub(crate) async fn knows(&self, catalog: &Value) {
        let catalog = Catalog::read(catalog.to_string().as_bytes()).unwrap();
        self.session.catalog.refresh(|| async { Ok(catalog) }).await.unwrap();
    }
}

pub(super) fn request_for(offering: &str, plan: &str) -> KeyRequest {
    let parameters = json!({"passphrase": PARAMETER, "size": 3}).as_object().unwrap().clone();
    KeyRequest {
        identity: Identity { owner: UID, sequence: Sequence::FIRST },
        restored: None,
        owner: Owner {
            namespace: "training".to_owned(),
            name: "monitoring-creds".to_owned(),
            uid: UID,
            cluster_id: Some("cluster-1".to_owned()),
        },
        instance: InstanceRef {
            id: Some("a/%2e".to_owned()),
            offering: Some(offering.to_owned()),
            plan: Some(plan.to_owned()),
            ..InstanceRef::default()
        },
        parameters: Parameters::new(parameters),
        predecessor: None,
        name: "monitoring-creds".to_owned(),
        role: KeyRole::None,
        place: None,
        access: None,
        former_name: None,
        recorded_id: None,
        plan_ids: None,
        age: None,
        inputs: String::new(),
        cleans_up: false,
        adoption: None,
        known: KnownSecrets::new(|| {
            async { Some(SecretValues::new(vec![json!({"password": KNOWN})])) }.boxed()
        }),
        answers: MemoryBudget::for_answers().share("the provider"),
    }
}

pub(super) fn request() -> KeyRequest {
    request_for("db", "small")
}

pub(super) fn binding_path() -> String {
    format!("/prefix/v2/service_instances/a%2F%252e/service_bindings/{}", request().identity.binding_id())
}

pub(super) fn keeps_its_secrets(error: &BackendError) {
    let shown = format!("{error} {error:?}");
    for secret in [SECRET, PARAMETER, KNOWN, "s3cret", "YWRtaW46aHVudGVyMg"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
