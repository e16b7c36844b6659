//! `cargo run --example postgres-broker`: a small Open Service Broker. Try the operator with it, or copy from it.

mod broker;

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Write},
    net::SocketAddr,
    process::ExitCode,
};

use anyhow::{Context, ensure};
use broker::{Broker, Names, Settings};
use clap::Parser;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;

/// Create logins for PostgreSQL databases, as an Open Service Broker
///
/// Each key (binding) is a separate role in PostgreSQL. It has all rights in the database of its instance, or, with the
/// parameter `access: read-only`, may only read. When a key is deleted, its sessions end and its login no longer works,
/// but the data that it created stays. The broker stores nothing: it derives passwords from --secret.
///
/// The catalog has the offering `postgresql` with the plan `small`. The instances are the databases in --instance; the
/// broker creates missing ones.
#[derive(Debug, Parser)]
#[command(
    name = "postgres-broker",
    bin_name = "cargo run --example postgres-broker --",
    after_help = "Example:
  export POSTGRES_BROKER_SERVER=postgresql://postgres:change-me@127.0.0.1:5432/postgres
  export POSTGRES_BROKER_PASSWORD=change-me POSTGRES_BROKER_SECRET=$(openssl rand -hex 32)
  cargo run --example postgres-broker -- --instance training-app-db=app

  curl -u operator:change-me -H 'X-Broker-API-Version: 2.17' http://127.0.0.1:8080/v2/catalog

The broker serves plain http: put a TLS proxy in front of it, or use it on this machine only. For plain
http, start the operator with --allow-cidr."
)]
struct Cli {
    /// Address and port to listen on; port 0 chooses a free port
    #[arg(long, env = "POSTGRES_BROKER_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,

    /// Connection string with the login of a PostgreSQL superuser
    #[arg(long, env = "POSTGRES_BROKER_SERVER", value_name = "URL", hide_env_values = true)]
    server: SecretString,

    /// Host name by which consumers reach PostgreSQL [default: the one in --server]
    #[arg(long, env = "POSTGRES_BROKER_HOSTNAME", value_name = "NAME")]
    hostname: Option<String>,

    /// An instance: its id, and its database [default: the id]; may be repeated
    #[arg(long = "instance", value_name = "ID[=DATABASE]", required = true, value_parser = instance)]
    instances: Vec<(String, Names)>,

    /// User name of the login that platforms use
    #[arg(long, env = "POSTGRES_BROKER_USERNAME", value_name = "NAME", default_value = "operator")]
    username: String,

    /// Password of the login that platforms use
    #[arg(long, env = "POSTGRES_BROKER_PASSWORD", value_name = "TEXT", hide_env_values = true)]
    password: SecretString,

    /// Random secret from which the broker derives the passwords of keys; keep it as long as there are keys
    #[arg(long, env = "POSTGRES_BROKER_SECRET", value_name = "TEXT", hide_env_values = true)]
    secret: SecretString,
}

/// The minimum length of the secret. A consumer could guess a shorter secret from the password of one key.
const SHORTEST_SECRET: usize = 32;

fn instance(argument: &str) -> Result<(String, Names), String> {
    let (id, database) = argument.split_once('=').unwrap_or((argument, argument));
    let names = Names::of(database).map_err(|why| format!("`{database}` can't be a database here: {why}"))?;
    Ok((id.to_owned(), names))
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(io::stderr().is_terminal()).init();
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If this fails, only the exit code reports the error.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let Cli { listen, server, hostname, instances, username, password, secret } = cli;
    ensure!(
        secret.expose_secret().len() >= SHORTEST_SECRET,
        "`--secret` has fewer than {SHORTEST_SECRET} characters; use the output of `openssl rand -hex 32`"
    );
    let server = server.expose_secret().parse().context("`--server` is not a connection string")?;
    let number = instances.len();
    let instances: BTreeMap<_, _> = instances.into_iter().collect();
    ensure!(instances.len() == number, "`--instance` contains an id more than once");
    let served = instances.keys().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ");
    let broker = Broker::start(Settings { server, hostname, instances, username, password, secret }).await?;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("can't listen on `{listen}`"))?;
    // A closed standard output does not stop the broker.
    let _ = writeln!(io::stdout(), "http://{} serves {served}", listener.local_addr()?);
    let ctrl_c = async { drop(tokio::signal::ctrl_c().await) };
    axum::serve(listener, broker.router()).with_graceful_shutdown(ctrl_c).await.context("the server stopped")
}
