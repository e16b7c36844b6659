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
    controller::{Operator, Options},
    runtime::{
        self, Control, Election, Health, HealthThresholds, HttpServer, LogFilter, LogFormat, LogLevel,
        Metrics,
    },
    secret::{self, Admitted, NamePattern, Restrictions},
};

/// What to say where no API server is named.
pub(super) const NO_CLUSTER: &str =
    "can't find a cluster: set KUBECONFIG, or run in a pod with a service account";

/// More often than this nobody should have to answer.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);
/// In less the API server could hardly be asked often enough.
const SHORTEST_LEASE: Duration = Duration::from_secs(3);

/// Run the operator
///
/// It talks to the cluster of the current kubeconfig, or, in a pod, to the one that the pod runs in. It ends with
/// SIGTERM or Ctrl-C, and can be killed at any time: whatever was under way is taken up at the next start.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  servicekey-operator run --cluster-resource-namespace servicekeys-system
  servicekey-operator run --namespaces training,staging
  servicekey-operator run --leader-elect --http-addr 0.0.0.0:8080
  servicekey-operator run --allow-cidr 127.0.0.0/8    # a broker on this machine, for a try")]
pub(super) struct Run {
    /// Read flags from this YAML file, by their long names
    ///
    /// For example `concurrency: 64` and `namespaces: [training, staging]`. The environment comes before the file, and
    /// the command line before both.
    #[arg(long, env = "CONFIG", value_name = "FILE", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,

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

    /// Work only while holding the Lease `servicekey-operator` of the operator's namespace, for several replicas
    ///
    /// The others stand by with full caches. The one that works ends when it loses the Lease; started again, it stands
    /// by. The namespace is the one of --cluster-resource-namespace.
    #[arg(long, env = "LEADER_ELECT")]
    leader_elect: bool,

    /// For how long the others respect a Lease that is not renewed, in full seconds
    ///
    /// It is renewed seven times in that time. Who could not renew it for two thirds of it ends.
    #[arg(long, env = "LEASE_DURATION", value_name = "DURATION", default_value = "15s", value_parser = lease)]
    lease_duration: Duration,

    /// Serve metrics at /metrics, and health at /livez and /readyz, here; nowhere unless given
    ///
    /// `/livez` fails when the operator is stuck or a watch is dead, `/readyz` until all caches are filled.
    #[arg(long, env = "HTTP_ADDR", value_name = "ADDRESS:PORT")]
    http_addr: Option<SocketAddr>,

    /// How to write log lines
    #[arg(long, env = "LOG_FORMAT", value_name = "FORMAT", value_enum, default_value = "auto")]
    log_format: LogFormat,

    /// What to log: a level, or levels by part, such as `info,servicekey_operator::backend=debug`
    ///
    /// `servicekey-operator log-level` changes it while the operator runs. Other crates never log more than they are
    /// known to log without secrets, whatever is written here.
    #[arg(long, env = "RUST_LOG", value_name = "FILTER", default_value = LogFilter::DEFAULT)]
    log_level: LogFilter,

    /// Listen for `servicekey-operator log-level` at this Unix socket; nowhere unless given
    ///
    /// Only the operator's own user may connect. Put it where no other container of the pod can reach it.
    #[arg(long, env = "CONTROL_SOCKET", value_name = "FILE", value_hint = ValueHint::FilePath)]
    control_socket: Option<PathBuf>,

    /// Admit remote sides at these addresses, and plain http to them; may be repeated
    ///
    /// Refused otherwise: loopback, link-local and multicast addresses, the metadata addresses of clouds, and http. A
    /// metadata address is admitted only by itself (`169.254.169.254/32`), not by a network around it.
    /// `10.0.0.0/8` counts for all providers, `ClusterKeyProviders=10.0.0.0/8`, `KeyProviders=10.0.0.0/8` and
    /// `namespace/billing=10.0.0.0/8` for those alone. The other flags with a CIDR are written alike.
    #[arg(long = "allow-cidr", env = "ALLOW_CIDR", value_name = "CIDR", value_delimiter = ',')]
    allow_cidr: Vec<Network>,

    /// Admit remote sides at these addresses over https; may be repeated
    #[arg(long = "allow-https-cidr", env = "ALLOW_HTTPS_CIDR", value_name = "CIDR", value_delimiter = ',')]
    allow_https_cidr: Vec<Network>,

    /// Refuse remote sides at these addresses, whatever admits them; may be repeated
    ///
    /// The API server of the operator's own cluster is always refused.
    #[arg(long = "deny-cidr", env = "DENY_CIDR", value_name = "CIDR", value_delimiter = ',')]
    deny_cidr: Vec<Network>,

    /// Refuse private addresses to KeyProviders, except those that --allow-cidr or --allow-https-cidr admits
    #[arg(long, env = "DENY_PRIVATE_FOR_KEY_PROVIDERS")]
    deny_private_for_key_providers: bool,

    /// Show KeyProviders what remote sides at these private addresses answer, whatever they are; may be repeated
    ///
    /// Otherwise a private address has to answer as a remote side first, and the log alone tells the cause of a failure.
    #[arg(long = "disclose-cidr", env = "DISCLOSE_CIDR", value_name = "CIDR", value_delimiter = ',')]
    disclose_cidr: Vec<Network>,

    /// Use trusted profiles of IBM Cloud at this host too, such as `iam.example.com:8443`; may be repeated
    ///
    /// The token of the operator's service account goes to IBM Cloud's own hosts otherwise, and nowhere else.
    #[arg(long = "ibm-cloud-host", env = "IBM_CLOUD_HOST", value_name = "HOST", value_delimiter = ',')]
    ibm_cloud_host: Vec<NamedHost>,

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

    /// Types of Secrets that ServiceKeys may have, separated by commas
    ///
    /// `example.com/*` names all types that begin with `example.com/`. Default: all but the denied ones.
    #[arg(long, env = "SECRET_TYPES", value_name = "TYPE", value_delimiter = ',')]
    secret_types: Vec<NamePattern>,

    /// Types of Secrets that ServiceKeys may not have, separated by commas
    ///
    /// The default names types that other controllers act on. `kubernetes.io/service-account-token` and
    /// `bootstrap.kubernetes.io/token` are always denied.
    #[arg(long, env = "DENIED_SECRET_TYPES", value_name = "TYPE", value_delimiter = ',',
          default_values = secret::DENIED_TYPES)]
    denied_secret_types: Vec<NamePattern>,

    /// Labels and annotations that ServiceKeys may set on Secrets, separated by commas
    ///
    /// `example.com/*` names all keys that begin with `example.com/`. Default: all but the denied ones.
    #[arg(long, env = "SECRET_METADATA", value_name = "KEY", value_delimiter = ',')]
    secret_metadata: Vec<NamePattern>,

    /// Labels and annotations that ServiceKeys may not set on Secrets, separated by commas
    ///
    /// The default names keys by which other controllers grant rights.
    #[arg(long, env = "DENIED_SECRET_METADATA", value_name = "KEY", value_delimiter = ',',
          default_values = secret::DENIED_METADATA)]
    denied_secret_metadata: Vec<NamePattern>,
}

impl Run {
    /// The namespaces to serve alone. An empty variable in the environment names none.
    pub(super) fn namespaces(&self) -> Option<BTreeSet<String>> {
        let names = self.namespaces.iter().map(|name| name.trim()).filter(|name| !name.is_empty());
        let names: BTreeSet<_> = names.map(str::to_owned).collect();
        (!names.is_empty()).then_some(names)
    }

    /// The file with the token for trusted profiles.
    pub(super) fn service_account_token(&self) -> &Path {
        &self.service_account_token
    }

    /// The namespace of the Lease, where there is an election.
    pub(super) fn elects_in(&self) -> Option<&str> {
        self.leader_elect.then_some(self.cluster_resource_namespace.as_str())
    }

    pub(super) fn run(self) -> anyhow::Result<()> {
        let level = runtime::start_logging(self.log_format, &self.log_level).context("can't start to log")?;
        let threads = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let threads = threads.context("can't start the runtime")?;
        let ended = threads.block_on(self.serve(level));
        #[cfg(feature = "otlp")]
        runtime::finish_traces();
        // Whoever ends because it lost the lead must not wait for what is stuck.
        threads.shutdown_background();
        ended
    }

    async fn serve(self, level: LogLevel) -> anyhow::Result<()> {
        let shutdown = runtime::shutdown_signal().context("can't wait for signals")?;
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
        let client = runtime::client(config, &metrics).context("can't use the cluster's configuration")?;
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
        };
        tracing::info!(version = env!("CARGO_PKG_VERSION"), ?options, "the operator starts");
        let operator = Operator::new(client.clone(), options).with_metrics(metrics.clone());
        let election = self.leader_elect.then(|| {
            Election::new(client, &namespace, replica(), self.lease_duration.get(), metrics.clone())
        });
        // Who is alone leads.
        metrics.set_leader(election.is_none());
        let work = async {
            match election {
                Some(election) => {
                    let work = |leadership| operator.with_leadership(leadership).run(shutdown);
                    election.govern(work).await.context("this replica does not lead any more")
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
                tracing::info!(address = %server.address(), "metrics and health are served");
                tokio::select! {
                    ended = work => ended?,
                    ended = server.ended() => ended.context("can't serve metrics any more")?,
                }
            }
        }
        tracing::info!("the operator ends");
        Ok(())
    }
}

/// Where the API server is: as this process reaches it, and as every pod of the cluster does.
fn api_server_urls(config: &Config) -> Vec<Url> {
    let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let in_cluster = variable("KUBERNETES_SERVICE_HOST").map(|host| {
        let port = variable("KUBERNETES_SERVICE_PORT").unwrap_or_else(|| "443".to_owned());
        if host.contains(':') { format!("https://[{host}]:{port}") } else { format!("https://{host}:{port}") }
    });
    let urls = in_cluster.into_iter().chain([config.cluster_url.to_string()]);
    urls.filter_map(|url| url.parse().ok()).collect()
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

/// A lead that can be written down, and leaves time for some tries to renew it.
fn lease(text: &str) -> Result<Duration, String> {
    let duration: Duration = text.parse().map_err(|error: InvalidDuration| error.to_string())?;
    if duration < SHORTEST_LEASE || duration.get().subsec_nanos() != 0 {
        Err(format!("`{text}` is no time for a Lease; write full seconds, at least `{SHORTEST_LEASE}`"))
    } else {
        Ok(duration)
    }
}

/// A name for this replica that no other has, and no other process in the same pod.
fn replica() -> String {
    let host = ["POD_NAME", "HOSTNAME"].into_iter().find_map(|name| env::var(name).ok()).unwrap_or_default();
    format!("{host}_{}", Uuid::new_v4())
}
