//! The example broker in this process, and its PostgreSQL.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use anyhow::Context;
use axum::{
    extract::{Request, State},
    http::Method,
    middleware::{self, Next},
    response::Response,
};
use testkit::{broker::Route, postgres::Postgres};
use tokio::net::TcpListener;
use tokio_postgres::Config;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::{HeldKey, INSTANCE};
use crate::{
    login,
    output::{self, Steps},
    postgres_broker::{Broker, Names, Settings},
    progress::Waiting,
};

/// The database of the instance. The template in the manifests contains its name.
const DATABASE: &str = "app";

// Rust drops the fields in this order, which is the right order to stop them.
pub struct PostgresBroker {
    url: String,
    calls: Calls,
    _serving: AbortOnDropHandle<()>,
    database: Database,
}

impl PostgresBroker {
    pub async fn start(username: String, password: String, steps: &mut Steps) -> anyhow::Result<Self> {
        steps.begin("start PostgreSQL, and an Open Service Broker that creates logins for it");
        let database = Database::start().await?;
        let settings = Settings {
            server: database.superuser.clone(),
            hostname: None,
            instances: [(INSTANCE.to_owned(), Names::of(DATABASE)?)].into(),
            username,
            password: password.into(),
            secret: Uuid::new_v4().to_string().into(),
        };
        let calls = Calls::default();
        let router = Broker::start(settings).await?.router();
        let router = router.layer(middleware::from_fn_with_state(calls.clone(), note));
        let listener = TcpListener::bind("127.0.0.1:0").await.context("can't listen")?;
        let url = format!("http://{}", listener.local_addr()?);
        let serving = tokio::spawn(async { drop(axum::serve(listener, router).await) });
        output::detail(format_args!("{url} serves the instance `{INSTANCE}`, the database `{DATABASE}`"));
        Ok(Self { url, calls, _serving: AbortOnDropHandle::new(serving), database })
    }

    pub fn url(&self) -> String {
        self.url.clone()
    }

    pub fn calls(&self, route: Route) -> usize {
        self.calls.count(route)
    }

    pub const fn database(&self) -> &Database {
        &self.database
    }
}

/// The server, and its superuser's login.
pub struct Database {
    superuser: Config,
    _server: Postgres,
}

impl Database {
    async fn start() -> anyhow::Result<Self> {
        let began = Instant::now();
        let waiting = Waiting::begin("starting PostgreSQL");
        let started = Postgres::start().await;
        waiting.end();
        let server = started?;
        let superuser: Config = server.superuser().parse()?;
        let session = login::begin(&superuser).await?;
        let version: String = session.query_one("SHOW server_version", &[]).await?.get(0);
        output::detail(format_args!(
            "PostgreSQL {version} is ready at 127.0.0.1:{} after {}",
            server.port(),
            output::time(began.elapsed())
        ));
        Ok(Self { superuser, _server: server })
    }

    /// The keys, read from PostgreSQL's own list of roles.
    pub async fn keys(&self) -> anyhow::Result<Vec<HeldKey>> {
        let query = "SELECT row_number() OVER (ORDER BY oid), substr(rolname, 5)
            FROM pg_roles WHERE rolname LIKE 'key-%' ORDER BY oid";
        let rows = login::begin(&self.superuser).await?.query(query, &[]).await?;
        let held = rows.iter().map(|row| {
            let number: i64 = row.get(0);
            HeldKey { number: number.unsigned_abs(), binding: row.get(1), instance: INSTANCE.to_owned() }
        });
        Ok(held.collect())
    }
}

/// The routes of all requests to the broker.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Vec<Route>>>);

impl Calls {
    fn count(&self, wanted: Route) -> usize {
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls.iter().filter(|route| **route == wanted).count()
    }
}

async fn note(State(Calls(calls)): State<Calls>, request: Request, next: Next) -> Response {
    let route = match *request.method() {
        _ if !request.uri().path().contains("/service_bindings/") => Route::Unknown,
        Method::PUT => Route::Bind,
        Method::GET => Route::Fetch,
        Method::DELETE => Route::Unbind,
        _ => Route::Unknown,
    };
    calls.lock().unwrap_or_else(PoisonError::into_inner).push(route);
    next.run(request).await
}
