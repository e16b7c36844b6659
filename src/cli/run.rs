//! `servicekey-operator run`: the operator itself.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf};

use anyhow::Context;
use clap::Args;
use ipnet::IpNet;
use kube::Client;
use tokio::net::TcpListener;

use crate::{
    api::{Duration, InvalidDuration},
    backend::AddressPolicy,
    controller::{Operator, Options},
    runtime::{self, Metrics},
};

/// More often than this nobody should have to answer.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

/// Run the operator
///
/// It talks to the cluster of the current kubeconfig, or, in a pod, to the one that the pod runs in. It ends with
/// SIGTERM or Ctrl-C, and can be killed at any time: whatever was under way is taken up at the next start.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  servicekey-operator run --cluster-resource-namespace servicekeys-system
  servicekey-operator run --namespaces training,staging
  servicekey-operator run --http-addr 0.0.0.0:8080           # metrics for Prometheus
  servicekey-operator run --allow-cidr 127.0.0.0/8    # a broker on this machine, for a try")]
pub(super) struct Run {
    /// The namespace of the Secrets that ClusterKeyProviders name
    #[arg(
        long,
        env = "CLUSTER_RESOURCE_NAMESPACE",
        value_name = "NAMESPACE",
        default_value = "servicekeys-system"
    )]
    cluster_resource_namespace: String,

    /// Serve these namespaces only, separated by commas
    ///
    /// Roles in these namespaces suffice then; ClusterKeyProviders are not served. Default: the whole cluster.
    #[arg(long, env = "NAMESPACES", value_name = "NAMESPACE", value_delimiter = ',')]
    namespaces: Vec<String>,

    /// ServiceKeys to work on at the same time; with --namespaces, in each of them
    ///
    /// Those that wait for their remote side do not count: how many may ask it is in their provider's `spec.limits`.
    #[arg(long, env = "CONCURRENCY", value_name = "N", default_value_t = 32,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: u16,

    /// How often to ask each provider whether it can be reached, and which keys it has
    ///
    /// Keys that went away there are noticed by it, and keys that nobody has, where the remote side lists its keys.
    #[arg(long, env = "CHECK_INTERVAL", value_name = "DURATION", default_value = "10m", value_parser = interval)]
    check_interval: Duration,

    /// Serve metrics here, at /metrics; nowhere unless given
    #[arg(long, env = "HTTP_ADDR", value_name = "ADDRESS:PORT")]
    http_addr: Option<SocketAddr>,

    /// Admit remote sides at these addresses, and plain http to them; may be repeated
    ///
    /// Refused otherwise: loopback, link-local and multicast addresses, the metadata addresses of clouds, and http.
    #[arg(long = "allow-cidr", env = "ALLOW_CIDR", value_name = "CIDR", value_delimiter = ',')]
    allow_cidr: Vec<IpNet>,

    /// The token of the pod's service account that trusted profiles of IBM Cloud are taken on with
    ///
    /// A projected volume puts it there; it is read again whenever it is shown to IBM Cloud.
    #[arg(
        long,
        env = "SERVICE_ACCOUNT_TOKEN",
        value_name = "FILE",
        default_value = "/var/run/secrets/tokens/sa-token"
    )]
    service_account_token: PathBuf,
}

impl Run {
    pub(super) fn run(self) -> anyhow::Result<()> {
        runtime::start_logging();
        let threads = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        threads.context("can't start the runtime")?.block_on(self.serve())
    }

    async fn serve(self) -> anyhow::Result<()> {
        let shutdown = runtime::shutdown_signal().context("can't wait for signals")?;
        let client = Client::try_default()
            .await
            .context("can't find a cluster: set KUBECONFIG, or run in a pod with a service account")?;
        let options = Options {
            cluster_resource_namespace: self.cluster_resource_namespace,
            namespaces: named(self.namespaces),
            concurrency: self.concurrency,
            check_interval: self.check_interval.get(),
            addresses: AddressPolicy::admitting(self.allow_cidr),
            service_account_token: self.service_account_token,
        };
        tracing::info!(version = env!("CARGO_PKG_VERSION"), ?options, "the operator starts");
        let metrics = Metrics::default();
        let operator = Operator::new(client, options).with_metrics(metrics.clone()).run(shutdown);
        match self.http_addr {
            None => operator.await,
            Some(address) => {
                let listener = TcpListener::bind(address).await;
                let listener = listener.with_context(|| format!("can't serve metrics at `{address}`"))?;
                tokio::select! {
                    () = operator => {}
                    ended = runtime::serve(listener, metrics) => ended.context("can't serve metrics any more")?,
                }
            }
        }
        tracing::info!("the operator ends");
        Ok(())
    }
}

/// A time that is worth waiting for.
fn interval(text: &str) -> Result<Duration, String> {
    let interval: Duration = text.parse().map_err(|error: InvalidDuration| error.to_string())?;
    if interval < SHORTEST_INTERVAL {
        Err(format!("`{text}` is too often; write at least `1s`"))
    } else {
        Ok(interval)
    }
}

/// The namespaces to serve alone. An empty variable in the environment names none.
fn named(namespaces: Vec<String>) -> Option<BTreeSet<String>> {
    let names: BTreeSet<_> =
        namespaces.into_iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect();
    (!names.is_empty()).then_some(names)
}
