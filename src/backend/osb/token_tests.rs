//! Tests with a broker that requires tokens, and with the server that issues them.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, Method, StatusCode, header::AUTHORIZATION},
    response::{IntoResponse, Response},
    routing::post,
};
use futures::future::join_all;
use parking_lot::Mutex;
use rstest::rstest;
use serde_json::json;
use tokio::sync::Barrier;
use url::Url;

use super::{
    Auth, Broker, BrokerConfig,
    fake_broker::{KEY, catalog, config, keeps_its_secrets, request},
};
use crate::backend::{
    ClientCredentials,
    ErrorClass::{self, Forbidden, Throttled, Transient, Unexpected},
    HttpConfig, RequestLimits, test_server,
};

const SECRET: &str = "hunter2";
const MANY: usize = 50;

/// Both servers in one.
#[derive(Clone, Default)]
struct BrokerAndTokenServer(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    /// How many tokens the server has issued.
    tokens: usize,
    /// The answer of the token endpoint instead of a token.
    trouble: Option<(StatusCode, &'static str)>,
    /// The broker refuses tokens with a smaller number.
    oldest_valid: usize,
    /// Refused binds wait at this barrier for each other.
    together: Option<Arc<Barrier>>,
    calls: Vec<AuthorizedCall>,
}

/// A call to the broker.
#[derive(Clone, Debug, PartialEq)]
struct AuthorizedCall {
    method: Method,
    token: usize,
    request_id: String,
}

impl BrokerAndTokenServer {
    async fn start(&self) -> Url {
        let router = Router::new()
            .route("/oauth/token", post(Self::hand_out))
            .fallback(Self::answer)
            .with_state(self.clone());
        test_server::serve(router).await
    }

    async fn connect(&self) -> Broker {
        self.connect_with(RequestLimits { timeout: Duration::from_secs(20), ..RequestLimits::default() })
            .await
    }

    async fn connect_with(&self, limits: RequestLimits) -> Broker {
        let url = self.start().await;
        let auth = Some(Auth::ClientCredentials(ClientCredentials {
            token_url: url.join("oauth/token").unwrap(),
            client_id: "operator".to_owned(),
            client_secret: SECRET.into(),
            scopes: Vec::new(),
        }));
        let http = HttpConfig { limits, ..test_server::http_config(limits.timeout) };
        Broker::new(&BrokerConfig { auth, http, ..config(url, Duration::ZERO) }).unwrap()
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        change(&mut self.0.lock());
    }

    fn tokens(&self) -> usize {
        self.0.lock().tokens
    }

    fn calls(&self) -> Vec<AuthorizedCall> {
        self.0.lock().calls.clone()
    }

    async fn hand_out(State(remote): State<Self>) -> Response {
        let mut inner = remote.0.lock();
        if let Some(trouble) = inner.trouble {
            return trouble.into_response();
        }
        inner.tokens += 1;
        let token = format!("t0k3n-{}", inner.tokens);
        Json(json!({"access_token": token, "token_type": "Bearer", "expires_in": 3600})).into_response()
    }

    async fn answer(State(remote): State<Self>, method: Method, headers: HeaderMap) -> Response {
        let header = |name| headers[name].to_str().unwrap().to_owned();
        let login = header(AUTHORIZATION.as_str());
        let token = login.strip_prefix("Bearer t0k3n-").unwrap().parse().unwrap();
        let request_id = header("x-broker-api-request-identity");
        let is_bind = method == Method::PUT;
        let (refused, together) = {
            let mut inner = remote.0.lock();
            inner.calls.push(AuthorizedCall { method, token, request_id });
            (token < inner.oldest_valid, inner.together.clone())
        };
        if refused {
            if let Some(barrier) = together.filter(|_| is_bind) {
                barrier.wait().await;
            }
            let words = format!("not with {login} or {SECRET}");
            return (StatusCode::UNAUTHORIZED, Json(json!({"description": words}))).into_response();
        }
        if is_bind { (StatusCode::CREATED, KEY).into_response() } else { Json(catalog()).into_response() }
    }
}

#[tokio::test]
async fn one_token_serves_all_calls() {
    let remote = BrokerAndTokenServer::default();
    let broker = remote.connect().await;
    let request = request();
    let outcomes = join_all((0..MANY).map(|_| broker.bind(&request))).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!((remote.tokens(), remote.calls().len()), (1, MANY + 1));
    assert!(remote.calls().iter().all(|call| call.token == 1));
}

#[tokio::test]
async fn a_call_whose_token_is_refused_is_made_once_more_with_another() {
    let remote = BrokerAndTokenServer::default();
    let broker = remote.connect().await;
    broker.check().await.unwrap();
    remote.change(|inner| inner.oldest_valid = 2);
    broker.bind(&request()).await.unwrap();
    let calls = remote.calls();
    let seen: Vec<_> = calls.iter().map(|call| (call.method.as_str(), call.token)).collect();
    assert_eq!(seen, [("GET", 1), ("PUT", 1), ("PUT", 2)]);
    assert_ne!(calls[1].request_id, calls[2].request_id, "each request has its own identity");
    assert_eq!(remote.tokens(), 2);
}

#[tokio::test]
async fn one_token_is_asked_for_however_many_calls_are_refused_at_once() {
    let remote = BrokerAndTokenServer::default();
    let limits = RequestLimits {
        requests_per_second: NonZeroU32::new(1000).unwrap(),
        concurrency: NonZeroUsize::new(MANY).unwrap(),
        timeout: Duration::from_secs(20),
    };
    let broker = remote.connect_with(limits).await;
    broker.check().await.unwrap();
    remote.change(|inner| {
        inner.oldest_valid = 2;
        inner.together = Some(Arc::new(Barrier::new(MANY)));
    });
    let request = request();
    let outcomes = join_all((0..MANY).map(|_| broker.bind(&request))).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let with = |token| remote.calls().iter().filter(|call| call.token == token).count();
    assert_eq!((remote.tokens(), with(1), with(2)), (2, 1 + MANY, MANY));
}

#[tokio::test]
async fn a_second_refusal_is_told() {
    let remote = BrokerAndTokenServer::default();
    let broker = remote.connect().await;
    broker.knows(&catalog()).await;
    remote.change(|inner| inner.oldest_valid = 3);
    let error = broker.bind(&request()).await.unwrap_err();
    assert_eq!(error.class, Forbidden);
    assert_eq!(
        error.message,
        "bind failed: the broker answers 401: not with Bearer [redacted] or [redacted]; the broker \
         refuses the tokens of the token server; check `tokenUrl` and `scopes`"
    );
    keeps_its_secrets(&error);
    assert_eq!((remote.tokens(), remote.calls().len()), (2, 2));

    // A server that refuses two tokens in a row does not get a third one at once. The failure stays the same.
    let again = broker.bind(&request()).await.unwrap_err();
    assert_eq!((again.class, again.message), (error.class, error.message));
    assert_eq!((remote.tokens(), remote.calls().len()), (2, 3));
}

#[rstest]
#[case(StatusCode::BAD_REQUEST, r#"{"error": "invalid_client"}"#, Forbidden)]
#[case(StatusCode::UNAUTHORIZED, "", Forbidden)]
#[case(StatusCode::TOO_MANY_REQUESTS, "", Throttled)]
#[case(StatusCode::INTERNAL_SERVER_ERROR, "", Transient)]
#[case(StatusCode::OK, "<html>", Unexpected)]
#[tokio::test]
async fn a_bind_without_a_token_was_never_sent(
    #[case] status: StatusCode,
    #[case] body: &'static str,
    #[case] class: ErrorClass,
) {
    let remote = BrokerAndTokenServer::default();
    remote.change(|inner| inner.trouble = Some((status, body)));
    let broker = remote.connect().await;
    broker.knows(&catalog()).await;
    let bind = broker.bind(&request()).await.unwrap_err();
    let unbind = broker.unbind(&request()).await.unwrap_err();
    for error in [bind, unbind] {
        assert_eq!(error.class, class, "{error}");
        assert!(error.message.starts_with("token request to `http://127.0.0.1:"), "{error}");
    }
    assert_eq!(remote.calls(), []);
}

#[tokio::test]
async fn a_bind_that_was_refused_and_gets_no_other_token_left_nothing() {
    let remote = BrokerAndTokenServer::default();
    let broker = remote.connect().await;
    broker.check().await.unwrap();
    remote.change(|inner| {
        inner.oldest_valid = 2;
        inner.trouble = Some((StatusCode::BAD_GATEWAY, "<html>"));
    });
    let error = broker.bind(&request()).await.unwrap_err();
    assert_eq!(error.class, Transient);
    assert!(error.message.contains("failed: the server answers 502: an HTML page"), "{error}");
}

#[tokio::test]
async fn the_only_place_is_enough_for_token_catalog_and_bind() {
    let remote = BrokerAndTokenServer::default();
    let limits = RequestLimits {
        requests_per_second: NonZeroU32::new(1000).unwrap(),
        concurrency: NonZeroUsize::MIN,
        timeout: Duration::from_secs(20),
    };
    let broker = remote.connect_with(limits).await;
    let request = request();
    let outcomes = join_all((0..MANY).map(|_| broker.bind(&request))).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    assert_eq!(remote.tokens(), 1);
}
