//! A real database: the example broker as its own process, in front of a PostgreSQL that all tests share, and clients
//! that try to log in.

use std::{collections::BTreeMap, fs, path::Path, process::Stdio, time::Duration};

use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};
use servicekey_operator::api::KeyProvider;
use tempfile::NamedTempFile;
use testkit::postgres::Postgres;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};
use tokio_postgres::{Client, Config, Error, NoTls, error::SqlState};
use uuid::Uuid;

use crate::support::{
    role_switch::RoleSwitch,
    stage::{Stage, entries},
};

/// Longest start of the broker on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// The instance that ServiceKeys name.
const INSTANCE: &str = "training-app-db";

/// A database of its own, and its broker. The broker ends with the test, even if the test fails.
pub struct Database {
    pub name: String,
    url: String,
    broker: Child,
    log: NamedTempFile,
}

impl Database {
    /// Creates a database with this name prefix, and the KeyProvider `database` for it in the stage's namespace.
    pub async fn behind_a_provider(name: &str, stage: &Stage) -> Self {
        let database = Self::start(name).await;
        create_provider(&database.url, stage).await;
        database
    }

    /// The same, with a switch between the provider and the broker.
    pub async fn behind_a_switch(name: &str, stage: &Stage) -> (Self, RoleSwitch) {
        let database = Self::start(name).await;
        let switch = RoleSwitch::in_front_of(&database.url).await;
        create_provider(&switch.url, stage).await;
        (database, switch)
    }

    async fn start(name: &str) -> Self {
        let name = format!("{name}-{}", Uuid::new_v4().simple());
        let log = NamedTempFile::new().unwrap();
        let (broker, url) = start_broker(&name, &log).await;
        Self { name, url, broker, log }
    }

    /// A ServiceKey for the database.
    pub fn key_manifest(&self, name: &str, stage: &Stage) -> Value {
        let mut manifest = stage.key_manifest(name);
        manifest["spec"]["providerRef"] = json!({"name": "database"});
        manifest["spec"]["instance"] = json!({"id": INSTANCE, "offering": "postgresql", "plan": "small"});
        manifest
    }

    /// The roles of all existing keys of the database.
    pub async fn roles(&self) -> Vec<String> {
        let query = "SELECT member.rolname::text
            FROM pg_auth_members
            JOIN pg_roles member ON member.oid = pg_auth_members.member
            JOIN pg_roles granted ON granted.oid = roleid
            WHERE granted.rolname IN ('owner-' || $1, 'reader-' || $1)
            ORDER BY member.rolname";
        let rows = superuser().await.query(query, &[&self.name]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.log.path()).unwrap_or_default();
            println!("the log of the broker at {}, process {:?}:\n{log}", self.url, self.broker.id());
        }
    }
}

async fn create_provider(broker: &str, stage: &Stage) {
    let mut provider = stage.provider_manifest("database");
    provider["spec"]["openServiceBroker"]["url"] = json!(broker);
    stage.create::<KeyProvider>(provider).await;
}

/// Cargo provides no path for examples; they are next to the binaries. `cargo test` builds them, unless it builds only
/// named tests.
async fn start_broker(database: &str, log: &NamedTempFile) -> (Child, String) {
    let binary = Path::new(env!("CARGO_BIN_EXE_servicekey-operator"));
    let program = binary.with_file_name("examples").join("postgres-broker");
    assert!(program.exists(), "build the broker with `cargo build --example postgres-broker`");
    let server = Postgres::shared().await.unwrap().superuser();
    let mut broker = Command::new(program)
        .args(["--listen", "127.0.0.1:0", "--instance", &format!("{INSTANCE}={database}")])
        .env("POSTGRES_BROKER_SERVER", server)
        .env("POSTGRES_BROKER_PASSWORD", "broker-password")
        .env("POSTGRES_BROKER_SECRET", "for-tests: 0123456789abcdef0123456789abcdef")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log.reopen().unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(broker.stdout.take().unwrap()).lines();
    let line =
        timeout(PATIENCE, lines.next_line()).await.expect("the broker prints its address in time").unwrap();
    let line = line.unwrap_or_else(|| panic!("{}", fs::read_to_string(log.path()).unwrap()));
    let url = line.split_whitespace().next().unwrap().to_owned();
    (broker, url)
}

/// The login in the entries of a Secret.
pub fn login(secret: &Secret) -> Config {
    let entries: BTreeMap<_, _> = entries(secret);
    let mut login = Config::new();
    login
        .host(&entries["hostname"])
        .port(entries["port"].parse().unwrap())
        .user(&entries["username"])
        .password(&entries["password"])
        .dbname(&entries["database"]);
    login
}

/// Logs in. The session ends when the client is dropped.
pub async fn log_in(login: &Config) -> Result<Client, Error> {
    let (session, connection) = login.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(session)
}

/// Logs in as the superuser of the server.
pub async fn superuser() -> Client {
    let login = Postgres::shared().await.unwrap().superuser().parse().unwrap();
    log_in(&login).await.unwrap()
}

/// Logs in, and returns the user and the database.
pub async fn who_and_where(login: &Config) -> [String; 2] {
    let session = log_in(login).await.unwrap();
    let row = session.query_one("SELECT session_user::text, current_database()::text", &[]).await.unwrap();
    [row.get(0), row.get(1)]
}

/// Fails unless the database refuses the login because of its credentials.
pub async fn assert_refused(login: &Config) {
    let Err(refused) = log_in(login).await else { panic!("the login still works") };
    assert_eq!(refused.code(), Some(&SqlState::INVALID_PASSWORD), "{refused}");
}
