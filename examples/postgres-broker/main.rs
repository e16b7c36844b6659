//! `cargo run --example postgres-broker`: a small Open Service Broker, to try the operator with and to copy from.

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

/// Hand out logins to PostgreSQL databases, as an Open Service Broker
///
/// Every key (binding) is a role of its own in PostgreSQL. It may do everything in the database of its instance, or
/// with the parameter `access: read-only` just read; and when it is deleted its sessions end, what it made stays, and
/// nobody can log in with it any more. The broker keeps nothing: passwords follow from --secret.
///
/// The catalog has the offering `postgresql` with the plan `small`. Instances are the databases that --instance names;
/// each is made where it is missing.
#[derive(Debug, Parser)]
#[command(
    name = "postgres-broker",
    bin_name = "cargo run --example postgres-broker --",
    after_help = "Example:
  export POSTGRES_BROKER_SERVER=postgresql://postgres:change-me@127.0.0.1:5432/postgres
  export POSTGRES_BROKER_PASSWORD=change-me POSTGRES_BROKER_SECRET=$(openssl rand -hex 32)
  cargo run --example postgres-broker -- --instance training-app-db=app

  curl -u operator:change-me -H 'X-Broker-API-Version: 2.17' http://127.0.0.1:8080/v2/catalog

It speaks plain http: let a proxy in front of it speak TLS, or keep it on this machine. An operator
that is to ask it over plain http has to be started with --allow-cidr."
)]
struct Cli {
    /// Where to listen; port 0 takes a free one
    #[arg(long, env = "POSTGRES_BROKER_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,

    /// The login of a superuser of PostgreSQL, as a connection string
    #[arg(long, env = "POSTGRES_BROKER_SERVER", value_name = "URL", hide_env_values = true)]
    server: SecretString,

    /// The name by which consumers reach PostgreSQL [default: the one in --server]
    #[arg(long, env = "POSTGRES_BROKER_HOSTNAME", value_name = "NAME")]
    hostname: Option<String>,

    /// An instance: the id by which platforms know it, and its database [default: of the same name]; may be repeated
    #[arg(long = "instance", value_name = "ID[=DATABASE]", required = true, value_parser = instance)]
    instances: Vec<(String, Names)>,

    /// The name in the login of platforms
    #[arg(long, env = "POSTGRES_BROKER_USERNAME", value_name = "NAME", default_value = "operator")]
    username: String,

    /// The password in the login of platforms
    #[arg(long, env = "POSTGRES_BROKER_PASSWORD", value_name = "TEXT", hide_env_values = true)]
    password: SecretString,

    /// What the passwords of keys follow from: random, and the same for as long as there are keys
    #[arg(long, env = "POSTGRES_BROKER_SECRET", value_name = "TEXT", hide_env_values = true)]
    secret: SecretString,
}

/// The fewest bytes of a secret. A key shows what its password is; with less, the secret could be guessed from that.
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
            // Where even this can't be written, the exit code still tells.
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<()> {
    let Cli { listen, server, hostname, instances, username, password, secret } = cli;
    ensure!(
        secret.expose_secret().len() >= SHORTEST_SECRET,
        "`--secret` has less than {SHORTEST_SECRET} characters: take what `openssl rand -hex 32` prints"
    );
    let server = server.expose_secret().parse().context("`--server` is no connection string")?;
    let number = instances.len();
    let instances: BTreeMap<_, _> = instances.into_iter().collect();
    ensure!(instances.len() == number, "`--instance` names an id more than once");
    let served = instances.keys().map(|id| format!("`{id}`")).collect::<Vec<_>>().join(", ");
    let broker = Broker::start(Settings { server, hostname, instances, username, password, secret }).await?;
    let listener = TcpListener::bind(listen).await.with_context(|| format!("can't listen on `{listen}`"))?;
    // Where nobody reads it, the broker serves all the same.
    let _ = writeln!(io::stdout(), "http://{} serves {served}", listener.local_addr()?);
    let ctrl_c = async { drop(tokio::signal::ctrl_c().await) };
    axum::serve(listener, broker.router())
        .with_graceful_shutdown(ctrl_c)
        .await
        .context("can't serve any more")
}
