//! Creates a backend from the provider's spec and the Secrets that it names.

use std::{
    collections::BTreeMap,
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::Api;
use secrecy::SecretString;

use super::store::{Origin, SecretVersion};
use crate::{
    api::{
        BackendSpec, BindResource as BindResourceSpec, BrokerAuth as BrokerAuthSpec,
        CloudFoundryAuth as CloudFoundryAuthSpec, CloudFoundrySpec, IbmCloudAuth as IbmCloudAuthSpec,
        IbmCloudSpec, InstancesById, Limits as LimitsSpec, OpenServiceBrokerSpec, ProviderSpec, Reason,
        TrustedProfile,
    },
    backend::{
        AddressPolicy, ApiVersion, Author, Backend, BackendError, BackendKind, BindResourceObject, Broker,
        BrokerAuth, BrokerConfig, ClientCertificate, ClientCredentials, CloudFoundry, CloudFoundryConfig,
        CloudFoundryLogin, ErrorClass, HttpConfig, IbmCloud, IbmCloudConfig, IbmCloudLogin, LostClusters,
        MemoryShare, Observer, Profile, RemoteShares, RequestLimits, Transport,
    },
    clock::Clock,
    controller::{
        Options,
        error::{Error, bounded},
    },
    lifecycle::Problem,
    runtime::Metrics,
    secret::Digest,
    wipe::HeldSecret,
};

/// The current Secrets that a provider names.
///
/// It does not implement `Debug`, because it contains the values.
pub(super) struct AuthSecrets {
    api: Api<Secret>,
    namespace: String,
    secrets: BTreeMap<String, Option<HeldSecret>>,
}

impl AuthSecrets {
    /// Reads all Secrets that the provider names.
    ///
    /// # Errors
    /// When the Kubernetes API fails. A missing Secret is not an error.
    pub(super) async fn read(api: Api<Secret>, namespace: &str, spec: &ProviderSpec) -> Result<Self, Error> {
        let mut secrets = BTreeMap::new();
        for name in spec.secret_names() {
            let secret = bounded("read a login Secret", api.get_opt(name)).await?;
            secrets.insert(name.to_owned(), secret.map(HeldSecret::from));
        }
        Ok(Self { api, namespace: namespace.to_owned(), secrets })
    }

    pub(super) fn api(&self) -> Api<Secret> {
        self.api.clone()
    }

    /// The names and the metadata of the Secrets that exist.
    pub(super) fn metadata(&self) -> impl Iterator<Item = (&str, &ObjectMeta)> {
        self.secrets.iter().filter_map(|(name, secret)| Some((name.as_str(), &secret.as_ref()?.metadata)))
    }

    pub(super) fn get(&self, name: &str) -> Option<&Secret> {
        self.secrets.get(name)?.as_deref()
    }

    /// Sets a newer version of one of the Secrets; `None` for a Secret that no longer concerns the provider.
    pub(super) fn set(&mut self, name: &str, secret: Option<Secret>) {
        self.secrets.insert(name.to_owned(), secret.map(HeldSecret::from));
    }

    /// The versions of everything that a backend is created from.
    pub(super) fn origin(&self, provider: (String, i64)) -> Origin {
        let version = |secret: &Option<HeldSecret>| SecretVersion::from_metadata(&secret.as_ref()?.metadata);
        let secrets = self.secrets.iter().map(|(name, secret)| (name.clone(), version(secret))).collect();
        Origin { provider, secrets, entries: self.digest() }
    }

    /// Digest of all entries, and of the names of missing Secrets.
    fn digest(&self) -> String {
        let digest = Digest::new("servicekeys.dev/logins/1");
        let digest = self.secrets.iter().fold(digest, |digest, (name, secret)| match secret {
            None => digest.field(name).field("absent"),
            Some(secret) => {
                let entries = secret.data.iter().flatten().map(|(entry, value)| (entry, &value.0));
                digest.field(name).field("there").pairs(entries.collect::<Vec<_>>().into_iter())
            }
        });
        digest.finish()
    }

    /// One entry of one Secret as text, without the line break that editors append.
    fn entry(&self, secret: &str, entry: &str) -> Result<String, Problem> {
        let found = self.get(secret).ok_or_else(|| Problem {
            reason: Reason::LoginSecretMissing,
            message: format!(
                "the Secret `{secret}` does not exist in the namespace `{}`; create it",
                self.namespace
            ),
        })?;
        let incomplete = |what: &str| Problem {
            reason: Reason::LoginSecretIncomplete,
            message: format!(
                "the entry `{entry}` of the Secret `{secret}` in the namespace `{}` {what}; correct it",
                self.namespace
            ),
        };
        let bytes =
            found.data.as_ref().and_then(|data| data.get(entry)).ok_or_else(|| incomplete("is missing"))?;
        let text = std::str::from_utf8(&bytes.0).map_err(|_| incomplete("is not UTF-8 text"))?;
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() { Err(incomplete("is empty")) } else { Ok(text.to_owned()) }
    }

    fn secret_entry(&self, secret: &str, entry: &str) -> Result<SecretString, Problem> {
        self.entry(secret, entry).map(SecretString::from)
    }
}

/// The inputs of every backend, independent of the provider's spec.
pub(super) struct BackendInputs<'a> {
    pub options: &'a Options,
    pub metrics: &'a Metrics,
    pub shares: &'a RemoteShares,
    pub clock: &'a Clock,
    pub transport: Option<&'a Arc<dyn Transport>>,
    /// The memory budgets of its answers, and of the data that it keeps from answers.
    pub held: &'a [MemoryShare; 2],
    /// How much longer the operator must not try the login.
    pub login_pause: Option<Duration>,
}

/// Creates the backend, without a request to the remote side.
///
/// # Errors
/// The problem that the user has to correct first.
pub(super) fn backend(
    spec: &ProviderSpec,
    author: &Author,
    logins: &AuthSecrets,
    means: &BackendInputs<'_>,
) -> Result<Backend, Problem> {
    let BackendInputs { options, metrics, shares, clock, transport, held, login_pause } = means;
    let addresses = options.addresses.for_author(author.clone());
    let cached = match author {
        Author::Tenant { .. } => HttpConfig::CACHED_FOR_TENANT,
        Author::Administrator => HttpConfig::CACHED_FOR_CLUSTER,
    };
    let observed_as = |kind| {
        let http = http_config(spec, logins, &addresses, metrics.observer(kind), shares, held)?;
        let (clock, transport) = (Clock::clone(clock), transport.map(Arc::clone));
        Ok::<_, Problem>(HttpConfig { cached, login_pause: *login_pause, clock, transport, ..http })
    };
    match spec.backend() {
        Some(BackendSpec::OpenServiceBroker(broker)) => {
            let http = observed_as(BackendKind::OpenServiceBroker)?;
            let url = url("url", &broker.url)?;
            let config = BrokerConfig {
                url,
                api_version: broker.api_version.clone().map(ApiVersion::from).unwrap_or_default(),
                bind_resource: broker.bind_resource.clone().map(bind_resource),
                auth: broker_auth(broker, logins)?,
                http,
            };
            let broker = Broker::new(&config).map_err(|error| problem(&error))?;
            Ok(Backend::OpenServiceBroker(Box::new(broker)))
        }
        Some(BackendSpec::CloudFoundry(spec)) => {
            let http = observed_as(BackendKind::CloudFoundry)?;
            let CloudFoundrySpec {
                api_url,
                uaa_url,
                auth,
                organization,
                space,
                instances_by_id,
                orphans: _,
                adopt_from_clusters,
            } = spec;
            let config = CloudFoundryConfig {
                api_url: url("apiUrl", api_url)?,
                uaa_url: uaa_url.as_deref().map(|uaa_url| url("uaaUrl", uaa_url)).transpose()?,
                auth: cloud_foundry_auth(auth, logins)?,
                organization: organization.clone(),
                space: space.clone(),
                confines_ids: match instances_by_id {
                    InstancesById::InSpace => true,
                    InstancesById::Anywhere => false,
                },
                lost_clusters: LostClusters::new(adopt_from_clusters.clone()),
                http,
            };
            let foundry = CloudFoundry::new(&config).map_err(|error| problem(&error))?;
            Ok(Backend::CloudFoundry(Box::new(foundry)))
        }
        Some(BackendSpec::IbmCloud(spec)) => {
            let http = observed_as(BackendKind::IbmCloud)?;
            let IbmCloudSpec { auth, iam_url, resource_controller_url, orphans: _, adopt_from_clusters } =
                spec;
            let config = IbmCloudConfig {
                iam_url: url("iamUrl", iam_url)?,
                resource_controller_url: url("resourceControllerUrl", resource_controller_url)?,
                auth: ibm_cloud_auth(auth, author, logins, options)?,
                lost_clusters: LostClusters::new(adopt_from_clusters.clone()),
                settling: options.ibm_cloud_settling,
                http,
            };
            let cloud = IbmCloud::new(&config).map_err(|error| problem(&error))?;
            Ok(Backend::IbmCloud(Box::new(cloud)))
        }
        None => Err(invalid("write exactly one of `openServiceBroker`, `cloudFoundry` and `ibmCloud`")),
    }
}

/// Converts a failure of the remote side to a condition of the provider.
pub(super) fn problem(error: &BackendError) -> Problem {
    let reason = match error.class {
        ErrorClass::Transient | ErrorClass::OrphanPossible | ErrorClass::Unsure => Reason::RemoteUnreachable,
        ErrorClass::Throttled => Reason::RateLimited,
        ErrorClass::Forbidden => Reason::Unauthorized,
        ErrorClass::Untrusted => Reason::TlsFailed,
        ErrorClass::Rejected => Reason::InvalidSpec,
        ErrorClass::Unexpected
        | ErrorClass::Conflict
        | ErrorClass::Taken
        | ErrorClass::Withheld
        | ErrorClass::Redacted
        | ErrorClass::Unusable
        | ErrorClass::Gone => Reason::UnexpectedAnswer,
    };
    Problem { reason, message: error.message.clone() }
}

fn bind_resource(spec: BindResourceSpec) -> BindResourceObject {
    let BindResourceSpec { app_guid, credential_client_id } = spec;
    BindResourceObject { app_guid, credential_client_id }
}

fn broker_auth(broker: &OpenServiceBrokerSpec, logins: &AuthSecrets) -> Result<Option<BrokerAuth>, Problem> {
    let Some(BrokerAuthSpec { basic, bearer, client_credentials }) = &broker.auth else { return Ok(None) };
    if let Some(login) = basic {
        let username = logins.entry(&login.secret_ref.name, "username")?;
        let password = logins.secret_entry(&login.secret_ref.name, "password")?;
        return Ok(Some(BrokerAuth::Basic { username, password }));
    }
    if let Some(login) = bearer {
        let token = logins.secret_entry(&login.secret_ref.name, "token")?;
        return Ok(Some(BrokerAuth::Bearer { token }));
    }
    if let Some(login) = client_credentials {
        return Ok(Some(BrokerAuth::ClientCredentials(ClientCredentials {
            token_url: url("tokenUrl", &login.token_url)?,
            client_id: logins.entry(&login.secret_ref.name, "clientId")?,
            client_secret: logins.secret_entry(&login.secret_ref.name, "clientSecret")?,
            scopes: login.scopes.clone(),
        })));
    }
    Ok(None)
}

fn cloud_foundry_auth(
    auth: &CloudFoundryAuthSpec,
    logins: &AuthSecrets,
) -> Result<CloudFoundryLogin, Problem> {
    let CloudFoundryAuthSpec { password, client_credentials, bearer } = auth;
    if let Some(login) = password {
        return Ok(CloudFoundryLogin::Password {
            username: logins.entry(&login.secret_ref.name, "username")?,
            password: logins.secret_entry(&login.secret_ref.name, "password")?,
            origin: login.origin.clone(),
        });
    }
    if let Some(login) = client_credentials {
        return Ok(CloudFoundryLogin::ClientCredentials {
            client_id: logins.entry(&login.secret_ref.name, "clientId")?,
            client_secret: logins.secret_entry(&login.secret_ref.name, "clientSecret")?,
        });
    }
    if let Some(login) = bearer {
        return Ok(CloudFoundryLogin::Bearer {
            token: logins.secret_entry(&login.secret_ref.name, "token")?,
        });
    }
    Err(invalid(
        "write exactly one of `password`, `clientCredentials` and `bearer` under `cloudFoundry.auth`",
    ))
}

fn ibm_cloud_auth(
    auth: &IbmCloudAuthSpec,
    author: &Author,
    logins: &AuthSecrets,
    options: &Options,
) -> Result<IbmCloudLogin, Problem> {
    let IbmCloudAuthSpec { api_key, trusted_profile } = auth;
    if let Some(login) = api_key {
        return Ok(IbmCloudLogin::ApiKey { api_key: logins.secret_entry(&login.secret_ref.name, "apikey")? });
    }
    let profile = match trusted_profile {
        Some(TrustedProfile { name: Some(name), .. }) => Profile::Name(name.clone()),
        Some(TrustedProfile { id: Some(id), .. }) => Profile::Id(id.clone()),
        Some(_) => return Err(invalid("name the trusted profile by exactly one of `name` and `id`")),
        None => {
            return Err(invalid("write exactly one of `apiKey` and `trustedProfile` under `ibmCloud.auth`"));
        }
    };
    // The API server refuses this combination now, but an older release accepted it, and such objects may
    // still exist.
    if let Author::Tenant { .. } = author {
        return Err(invalid(
            "`ibmCloud.auth.trustedProfile` is the operator's own identity, which a KeyProvider may not use; log in by \
             `apiKey`, or ask the administrator for a ClusterKeyProvider",
        ));
    }
    Ok(IbmCloudLogin::TrustedProfile { profile, token_file: options.service_account_token.clone() })
}

fn http_config(
    spec: &ProviderSpec,
    logins: &AuthSecrets,
    addresses: &AddressPolicy,
    observer: Arc<dyn Observer>,
    shares: &RemoteShares,
    [answers, kept]: &[MemoryShare; 2],
) -> Result<HttpConfig, Problem> {
    let tls = spec.tls.clone().unwrap_or_default();
    let client_certificate = match &tls.client_certificate {
        Some(login) => Some(ClientCertificate {
            cert_pem: logins.entry(&login.secret_ref.name, "tls.crt")?,
            key_pem: logins.secret_entry(&login.secret_ref.name, "tls.key")?,
        }),
        None => None,
    };
    let LimitsSpec { requests_per_second, concurrency, timeout } = &spec.limits;
    let limits = RequestLimits {
        requests_per_second: NonZeroU32::new(*requests_per_second)
            .ok_or_else(|| invalid("`limits.requestsPerSecond` is 0; write at least 1"))?,
        concurrency: usize::try_from(*concurrency)
            .ok()
            .and_then(NonZeroUsize::new)
            .ok_or_else(|| invalid("`limits.concurrency` is 0; write at least 1"))?,
        timeout: timeout.get(),
    };
    Ok(HttpConfig {
        ca_bundle: tls.ca_bundle,
        client_certificate,
        limits,
        addresses: addresses.clone(),
        observer,
        shares: shares.clone(),
        answers: answers.clone(),
        kept: kept.clone(),
        ..HttpConfig::default()
    })
}

fn url(field: &str, text: &str) -> Result<url::Url, Problem> {
    text.parse().map_err(|error| invalid(format!("`{field}` is not a valid URL: {error}; correct it")))
}

fn invalid(message: impl Into<String>) -> Problem {
    Problem { reason: Reason::InvalidSpec, message: message.into() }
}
