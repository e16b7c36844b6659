//! The environment of a test: its own two instances on the server that all tests share, and a platform that requests
//! keys.

use axum::Router;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Client as Http, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use testkit::postgres::Postgres;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_postgres::{Client, Config, Error, NoTls, error::SqlState};
use uuid::Uuid;

use crate::broker::{Broker, Names, Settings};

const SECRET: &str = "for-tests: 0123456789abcdef0123456789abcdef";
pub const PASSWORD: &str = "broker-password";

pub struct Stage {
    http: Http,
    url: String,
    serving: JoinHandle<()>,
    /// The login of the superuser.
    pub server: Config,
    /// The databases of the instances `one` and `two`.
    pub databases: [String; 2],
}

impl Stage {
    pub async fn set() -> Self {
        Self::set_for(&format!("app-{}", Uuid::new_v4().simple())).await
    }

    /// A stage whose databases have names with this prefix.
    pub async fn set_for(name: &str) -> Self {
        // Only the first call in a process can install the provider.
        rustls::crypto::ring::default_provider().install_default().ok();
        let server = Postgres::shared().await.unwrap().superuser().parse().unwrap();
        let databases = [format!("{name}-1"), format!("{name}-2")];
        let (url, serving) = serve(&server, &databases, SECRET).await;
        Self { http: Http::new(), url, serving, server, databases }
    }

    /// Restarts the broker with the same settings, and with another secret if one is given.
    pub async fn restart(&mut self, secret: Option<&str>) {
        self.serving.abort();
        (self.url, self.serving) = serve(&self.server, &self.databases, secret.unwrap_or(SECRET)).await;
    }

    /// A request with the login and the version header.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.bare_request(method, path)
            .basic_auth("operator", Some(PASSWORD))
            .header("X-Broker-API-Version", "2.17")
    }

    pub fn bare_request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    pub async fn bind(&self, instance: &str, binding: &str, parameters: Value) -> (StatusCode, Value) {
        let [service, plan] = self.plan().await;
        let body = json!({ "service_id": service, "plan_id": plan, "parameters": parameters });
        answer(self.request(Method::PUT, &path(instance, binding)).json(&body)).await
    }

    pub async fn fetch(&self, instance: &str, binding: &str) -> (StatusCode, Value) {
        answer(self.request(Method::GET, &path(instance, binding))).await
    }

    pub async fn unbind(&self, instance: &str, binding: &str) -> (StatusCode, Value) {
        let [service, plan] = self.plan().await;
        let query = [("service_id", service), ("plan_id", plan)];
        answer(self.request(Method::DELETE, &path(instance, binding)).query(&query)).await
    }

    /// Binds the instance `one`, and returns the login.
    pub async fn login(&self, binding: &str, parameters: Value) -> Config {
        let (status, body) = self.bind("one", binding, parameters).await;
        assert_eq!(status, StatusCode::CREATED, "{body}");
        body["credentials"]["uri"].as_str().unwrap().parse().unwrap()
    }

    /// The ids of the only offering and its only plan.
    pub async fn plan(&self) -> [String; 2] {
        let (_, catalog) = answer(self.request(Method::GET, "/v2/catalog")).await;
        ["/services/0/id", "/services/0/plans/0/id"]
            .map(|id| catalog.pointer(id).unwrap().as_str().unwrap().to_owned())
    }

    /// Logs in as the superuser, to one of the databases.
    pub async fn superuser(&self, database: usize) -> Client {
        let mut login = self.server.clone();
        log_in(login.dbname(&self.databases[database])).await.unwrap()
    }

    /// The number of roles in the groups of the two instances.
    pub async fn roles(&self) -> i64 {
        let query = "SELECT count(*) FROM pg_auth_members WHERE roleid::regrole::text = ANY(
            SELECT quote_ident(part || '-' || name) FROM unnest($1::text[]) name, unnest('{owner,reader}'::text[]) part)";
        self.superuser(0).await.query_one(query, &[&self.databases.as_slice()]).await.unwrap().get(0)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(server: &Config, databases: &[String; 2], secret: &str) -> (String, JoinHandle<()>) {
    let [one, two] = databases.each_ref().map(|database| Names::of(database).unwrap());
    let settings = Settings {
        server: server.clone(),
        hostname: None,
        instances: [("one".to_owned(), one), ("two".to_owned(), two)].into(),
        username: "operator".into(),
        password: PASSWORD.into(),
        secret: secret.into(),
    };
    let router: Router = Broker::start(settings).await.unwrap().router();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (url, tokio::spawn(async { axum::serve(listener, router).await.unwrap() }))
}

fn path(instance: &str, binding: &str) -> String {
    let [instance, binding] = [instance, binding].map(|id| utf8_percent_encode(id, NON_ALPHANUMERIC));
    format!("/v2/service_instances/{instance}/service_bindings/{binding}")
}

pub async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    (response.status(), response.json().await.unwrap())
}

pub async fn log_in(login: &Config) -> Result<Client, Error> {
    let (client, connection) = login.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The reason for which PostgreSQL refused a statement or a login.
#[track_caller]
pub fn why<T>(refused: Result<T, Error>) -> SqlState {
    let Err(error) = refused else { panic!("PostgreSQL did not refuse") };
    error.code().unwrap_or_else(|| panic!("{error}")).clone()
}
