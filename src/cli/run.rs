//! `servicekey-operator run`: the operator itself.

use std::{
    collections::BTreeSet,
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::{Args, ValueHint};
use kube::Config;
use url::Url;
use uuid::Uuid;

use crate::{
    api::{Duration, InvalidDuration},
    backend::{AddressRules, ApiServer, IbmCloudConfig, NamedHost, Network},
    clock::Clock,
    controller::{Operator, Options},
    runtime::{
        self, Control, Election, Health, HealthThresholds, HttpServer, LogFilter, LogFormat, LogLevel,
        Metrics,
    },
    secret::{self, Admitted, NamePattern, Restrictions},
};

pub(super) const NO_CLUSTER: &str =
    "can't find a cluster: set KUBECONFIG, or run in a pod with a service account";

/// More frequent checks would burden the remote side.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
/// A shorter lease leaves too little time for renewals.
const SHORTEST_LEASE: Duration = Duration::from_secs(3);

/// Run the operator
///
/// The operator connects to the cluster of the current kubeconfig or, in a pod, to the pod's own cluster. SIGTERM or
/// Ctrl-C stops it. It can be killed at any time: at the next start it resumes unfinished operations.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  servicekey-operator run --cluster-resource-namespace servicekeys-system
  servicekey-operator run --namespaces training,staging
  servicekey-operator run --leader-elect --http-addr 0.0.0.0:8080
  servicekey-operator run --allow-cidr 127.0.0.0/8    # to try a broker on this machine")]
pub(super) struct Run {
    /// Read flags from this YAML file, under their long names
    ///
    /// For example `concurrency: 64` and `namespaces: [training, staging]`. Environment variables override the file,
    /// and the command line overrides both.
    #[arg(long, env = "CONFIG", value_name = "FILE", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,

    /// Namespace of the login Secrets that ClusterKeyProviders reference
    #[arg(
        long,
        env = "CLUSTER_RESOURCE_NAMESPACE",
        value_name = "NAMESPACE",
        default_value = "servicekeys-system"
    )]
    cluster_resource_namespace: String,

    /// Serve only these namespaces, separated by commas
    ///
    /// The operator then needs only Roles in these namespaces, and does not serve ClusterKeyProviders. Default: the
    /// whole cluster.
    #[arg(long, env = "NAMESPACES", value_name = "NAMESPACE", value_delimiter = ',')]
    namespaces: Vec<String>,

    /// Maximum number of ServiceKeys reconciled at the same time; with --namespaces, in each namespace
    ///
    /// ServiceKeys that wait for their remote side do not count. `spec.limits` of their provider limits the requests to
    /// it.
    #[arg(long, env = "CONCURRENCY", value_name = "N", default_value_t = 32,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: u16,

    /// Interval between two checks of each provider, such as `90s` or `10m`; at least 1s
    ///
    /// A check finds out whether the remote side is reachable and accepts the login. If the remote side can list its
    /// keys, the check also finds missing keys, and orphans: keys without a ServiceKey.
    #[arg(long, env = "CHECK_INTERVAL", value_name = "DURATION", default_value = "10m", value_parser = interval)]
    check_interval: Duration,

    /// Elect a leader among several replicas, with the Lease `servicekey-operator`
    ///
    /// Only the leader reconciles. The other replicas stand by with filled caches. A leader that loses the Lease exits,
    /// and stands by after its restart. The Lease is in the namespace of --cluster-resource-namespace.
    #[arg(long, env = "LEADER_ELECT")]
    leader_elect: bool,

    /// Time after which another replica takes over a Lease that is not renewed; whole seconds, at least 3s
    ///
    /// The leader renews the Lease seven times in this time. A leader that fails to renew it for two thirds of this
    /// time exits.
    #[arg(long, env = "LEASE_DURATION", value_name = "DURATION", default_value = "15s", value_parser = lease)]
    lease_duration: Duration,

    /// Serve /metrics, /livez and /readyz over http at this address; by default they are not served
    ///
    /// `/livez` fails if the operator is stuck or a watch is dead. `/readyz` fails until all caches are filled.
    #[arg(long, env = "HTTP_ADDR", value_name = "ADDRESS:PORT")]
    http_addr: Option<SocketAddr>,

    /// Format of log lines
    #[arg(long, env = "LOG_FORMAT", value_name = "FORMAT", value_enum, default_value = "auto")]
    log_format: LogFormat,

    /// Log filter: a level, or levels by module, such as `info,servicekey_operator::backend=debug`
    ///
    /// `servicekey-operator log-level` changes the filter while the operator runs. For every other crate the operator
    /// caps the level, so that its log lines contain no secrets.
    #[arg(long, env = "RUST_LOG", value_name = "FILTER", default_value = LogFilter::DEFAULT)]
    log_level: LogFilter,

    /// Accept `servicekey-operator log-level` at this Unix socket; by default there is no socket
    ///
    /// Only the operator's own user can connect. Choose a directory that no other container of the pod can reach.
    #[arg(long, env = "CONTROL_SOCKET", value_name = "FILE", value_hint = ValueHint::FilePath)]
    control_socket: Option<PathBuf>,

    /// Allow remote sides at these addresses over http and https; may be repeated
    ///
    /// By default the operator refuses plain http, loopback, link-local and multicast addresses, and the metadata
    /// addresses of clouds. Allow a metadata address by its exact address (`169.254.169.254/32`): a network around it
    /// does not allow it.
    ///
    /// `10.0.0.0/8` applies to all providers. `ClusterKeyProviders=10.0.0.0/8`, `KeyProviders=10.0.0.0/8` and
    /// `namespace/billing=10.0.0.0/8` apply only to those. All flags with a CIDR take this syntax.
    #[arg(long = "allow-cidr", env = "ALLOW_CIDR", value_name = "CIDR", value_delimiter = ',')]
    allow_cidr: Vec<Network>,

    /// Allow remote sides at these addresses over https only; may be repeated
    #[arg(long = "allow-https-cidr", env = "ALLOW_HTTPS_CIDR", value_name = "CIDR", value_delimiter = ',')]
    allow_https_cidr: Vec<Network>,

    /// Refuse remote sides at these addresses, even if another flag allows them; may be repeated
    ///
    /// The API server of the operator's own cluster is always refused.
    #[arg(long = "deny-cidr", env = "DENY_CIDR", value_name = "CIDR", value_delimiter = ',')]
    deny_cidr: Vec<Network>,

    /// Verify new credentials of ServiceKeys at services with these addresses; may be repeated
    ///
    /// `spec.rotation.verify` of a ServiceKey connects to the service before the credentials are published. Without this
    /// flag, the operator refuses such ServiceKeys. `namespace/billing=10.0.0.0/8` applies only to the ServiceKeys there.
    #[arg(long = "verify-cidr", env = "VERIFY_CIDR", value_name = "CIDR", value_delimiter = ',')]
    verify_cidr: Vec<Network>,

    /// Refuse private addresses to KeyProviders, except those that --allow-cidr or --allow-https-cidr allow
    #[arg(long, env = "DENY_PRIVATE_FOR_KEY_PROVIDERS")]
    deny_private_for_key_providers: bool,

    /// Show KeyProviders the answers of any server at these private addresses; may be repeated
    ///
    /// By default a KeyProvider shows an answer, or the cause of a failure, only after the address has answered in the
    /// protocol of a remote side. Until then only the operator's log contains the cause.
    #[arg(long = "disclose-cidr", env = "DISCLOSE_CIDR", value_name = "CIDR", value_delimiter = ',')]
    disclose_cidr: Vec<Network>,

    /// Allow trusted profiles of IBM Cloud at this host as well, such as `iam.example.com:8443`; may be repeated
    ///
    /// By default the operator sends its service account token only to IBM Cloud's own hosts.
    #[arg(long = "ibm-cloud-host", env = "IBM_CLOUD_HOST", value_name = "HOST", value_delimiter = ',')]
    ibm_cloud_host: Vec<NamedHost>,

    /// Path of the service account token used to assume IBM Cloud trusted profiles
    ///
    /// A projected volume provides this file. The operator reads it again before each use.
    #[arg(
        long,
        env = "SERVICE_ACCOUNT_TOKEN",
        value_name = "FILE",
        default_value = "/var/run/secrets/tokens/sa-token"
    )]
    service_account_token: PathBuf,

    /// Allowed types of the Secrets of ServiceKeys, separated by commas
    ///
    /// `example.com/*` matches all types that begin with `example.com/`. Default: all types that are not denied.
    #[arg(long, env = "SECRET_TYPES", value_name = "TYPE", value_delimiter = ',')]
    secret_types: Vec<NamePattern>,

    /// Denied types of the Secrets of ServiceKeys, separated by commas
    ///
    /// By default these are types that other controllers act on. `kubernetes.io/service-account-token` and
    /// `bootstrap.kubernetes.io/token` are always denied.
    #[arg(long, env = "DENIED_SECRET_TYPES", value_name = "TYPE", value_delimiter = ',',
          default_values = secret::DENIED_TYPES)]
    denied_secret_types: Vec<NamePattern>,

    /// Labels and annotations that ServiceKeys may set on Secrets, separated by commas
    ///
    /// `example.com/*` matches all keys that begin with `example.com/`. Default: all keys that are not denied.
    #[arg(long, env = "SECRET_METADATA", value_name = "KEY", value_delimiter = ',')]
    secret_metadata: Vec<NamePattern>,

    /// Labels and annotations that ServiceKeys may not set on Secrets, separated by commas
    ///
    /// By default these are keys by which other controllers grant permissions.
    #[arg(long, env = "DENIED_SECRET_METADATA", value_name = "KEY", value_delimiter = ',',
          default_values = secret::DENIED_METADATA)]
    denied_secret_metadata: Vec<NamePattern>,
}

impl Run {
    /// The namespaces of `--namespaces`. An empty environment variable means the whole cluster.
    pub(super) fn namespaces(&self) -> Option<BTreeSet<String>> {
        let names = self.namespaces.iter().map(|name| name.trim()).filter(|name| !name.is_empty());
        let names: BTreeSet<_> = names.map(str::to_owned).collect();
        (!names.is_empty()).then_some(names)
    }

    pub(super) fn service_account_token(&self) -> &Path {
        &self.service_account_token
    }

    /// The namespace of the Lease; `None` without an election.
    pub(super) fn elects_in(&self) -> Option<&str> {
        self.leader_elect.then_some(self.cluster_resource_namespace.as_str())
    }

    pub(super) fn run(self) -> anyhow::Result<()> {
        let level =
            runtime::start_logging(self.log_format, &self.log_level).context("can't set up logging")?;
        let threads = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let threads = threads.context("can't start the runtime")?;
        let ended = threads.block_on(self.serve(level));
        #[cfg(feature = "otlp")]
        runtime::finish_traces();
        // A replica that lost the Lease must exit at once, and not wait for a thread that is stuck.
        threads.shutdown_background();
        ended
    }

    async fn serve(self, level: LogLevel) -> anyhow::Result<()> {
        let shutdown = runtime::shutdown_signal().context("can't install the signal handlers")?;
        let control = self.control_socket.as_deref().filter(|path| !path.as_os_str().is_empty());
        let _control = match control {
            Some(path) => {
                let control = Control::start(path, level);
                Some(control.with_context(|| format!("can't listen at `{}`", path.display()))?)
            }
            None => None,
        };
        let metrics = Metrics::default();
        let config = Config::infer().await.context(NO_CLUSTER)?;
        let (namespace, namespaces) = (self.cluster_resource_namespace.clone(), self.namespaces());
        let rules = AddressRules {
            allow: self.allow_cidr,
            allow_https: self.allow_https_cidr,
            deny: self.deny_cidr,
            disclose: self.disclose_cidr,
            deny_private_for_key_providers: self.deny_private_for_key_providers,
            api_server: ApiServer::behind(api_server_urls(&config)).await,
            ibm_cloud_hosts: self.ibm_cloud_host,
        };
        let client = runtime::client(config, &metrics)
            .context("can't create a client from the cluster's configuration")?;
        let options = Options {
            cluster_resource_namespace: namespace.clone(),
            namespaces,
            concurrency: self.concurrency,
            check_interval: self.check_interval.get(),
            addresses: rules.into(),
            service_account_token: self.service_account_token,
            ibm_cloud_settling: IbmCloudConfig::SETTLING,
            secrets: Restrictions {
                types: Admitted::new(self.secret_types, self.denied_secret_types),
                metadata: Admitted::new(self.secret_metadata, self.denied_secret_metadata),
            },
            verify_networks: self.verify_cidr,
        };
        tracing::info!(version = env!("CARGO_PKG_VERSION"), ?options, "starting the operator");
        let clock = Clock::default();
        let operator =
            Operator::new(client.clone(), options).with_clock(clock.clone()).with_metrics(metrics.clone());
        let election = self.leader_elect.then(|| {
            Election::new(client, &namespace, replica(), self.lease_duration.get(), metrics.clone(), clock)
        });
        // Without an election the only replica leads.
        metrics.set_leader(election.is_none());
        let work = async {
            match election {
                Some(election) => {
                    let work = |leadership| operator.with_leadership(leadership).run(shutdown);
                    election.govern(work).await.context("this replica is no longer the leader")
                }
                None => {
                    operator.run(shutdown).await;
                    Ok(())
                }
            }
        };
        match self.http_addr {
            None => work.await?,
            Some(address) => {
                let health = Health::new(&metrics, HealthThresholds::default());
                let server = HttpServer::start(address, metrics, health);
                let mut server = server.with_context(|| format!("can't serve metrics at `{address}`"))?;
                tracing::info!(address = %server.address(), "serving metrics and health");
                tokio::select! {
                    ended = work => ended?,
                    ended = server.ended() => ended.context("the metrics server stopped")?,
                }
            }
        }
        tracing::info!("the operator has stopped");
        Ok(())
    }
}

/// The URLs of the API server: the one that this process uses, and the one that every pod of the cluster can use.
fn api_server_urls(config: &Config) -> Vec<Url> {
    let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let in_cluster = variable("KUBERNETES_SERVICE_HOST").map(|host| {
        let port = variable("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".to_owned());
        if host.contains(':') { format!("https://[{host}]:{port}") } else { format!("https://{host}:{port}") }
    });
    let urls = in_cluster.into_iter().chain([config.cluster_url.to_string()]);
    urls.filter_map(|url| url.parse().ok()).collect()
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval: Duration = text.parse().map_err(|error: InvalidDuration| error.to_string())?;
    if interval < SHORTEST_INTERVAL {
        Err(format!("`{text}` is too short; use at least `1s`"))
    } else {
        Ok(interval)
    }
}

/// Parses a lease duration. The Lease stores whole seconds, and a very short one leaves no time for renewals.
fn lease(text: &str) -> Result<Duration, String> {
    let duration: Duration = text.parse().map_err(|error: InvalidDuration| error.to_string())?;
    if duration < SHORTEST_LEASE || duration.get().subsec_nanos() != 0 {
        Err(format!("`{text}` is not a valid lease duration; use whole seconds, at least `{SHORTEST_LEASE}`"))
    } else {
        Ok(duration)
    }
}

/// A unique name for this process. A restarted process in the same pod gets another one.
fn replica() -> String {
    let host = ["POD_NAME", "HOSTNAME"].into_iter().find_map(|name| env::var(name).ok()).unwrap_or_default();
    format!("{host}_{}", Uuid::new_v4())
}
