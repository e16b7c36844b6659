//! What a provider says about how to talk to its remote side.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
    time::Duration,
};

use secrecy::SecretString;

use super::{AddressPolicy, Observer, RemoteShares, observer::Nobody};
use crate::backend::memory::{MemoryBudget, MemoryShare};

/// How to talk to one remote side.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// PEM certificates trusted in addition to the system's roots.
    pub ca_bundle: Option<String>,
    /// What the operator shows to a remote side that asks for a certificate (mutual TLS).
    pub client_certificate: Option<ClientCertificate>,
    /// How much may be asked of the remote side, shared by all its keys.
    pub limits: RequestLimits,
    /// Which addresses may be connected to.
    pub addresses: AddressPolicy,
    /// Who is told of the calls.
    pub observer: Arc<dyn Observer>,
    /// What its calls share with those to all other remote sides.
    pub shares: RemoteShares,
    /// Where answers are held that no ServiceKey asked for.
    pub answers: MemoryShare,
    /// Where what is kept of them is held.
    pub kept: MemoryShare,
    /// Bytes of instances that are cached, and as many of roles.
    pub cached: usize,
    /// How much longer a login must not be tried, because an earlier process was refused with it.
    pub login_pause: Option<Duration>,
}

impl HttpConfig {
    /// Bytes of instances that are cached for a KeyProvider, of which a tenant may have many: some 300 of them.
    pub const CACHED_FOR_TENANT: usize = 256 << 10;
    /// Bytes of instances that are cached for a ClusterKeyProvider: some 5,000 of them.
    pub const CACHED_FOR_CLUSTER: usize = 4 << 20;
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            ca_bundle: None,
            client_certificate: None,
            limits: RequestLimits::default(),
            addresses: AddressPolicy::default(),
            observer: Arc::new(Nobody),
            shares: RemoteShares::default(),
            answers: MemoryBudget::for_answers().share("the provider"),
            kept: MemoryBudget::for_what_is_kept().share("the provider"),
            cached: Self::CACHED_FOR_CLUSTER,
            login_pause: None,
        }
    }
}

/// A certificate and its key, to be shown to a remote side.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// The certificate, followed by its intermediates, in PEM.
    pub cert_pem: String,
    /// The private key in PEM: PKCS#8, PKCS#1 or SEC1.
    pub key_pem: SecretString,
}

/// How much may be asked of one remote side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Requests that may begin within a second, spread over it.
    pub requests_per_second: NonZeroU32,
    /// Requests that may be under way at the same time.
    pub concurrency: NonZeroUsize,
    /// How long one request may take, from connecting to the last byte of the answer. Waiting for a place within
    /// these limits does not count.
    pub timeout: Duration,
}

impl RequestLimits {
    /// Requests per second, where the provider names no number.
    pub const DEFAULT_REQUESTS_PER_SECOND: NonZeroU32 = NonZeroU32::new(50).unwrap();
    /// Requests at the same time, where the provider names no number.
    pub const DEFAULT_CONCURRENCY: NonZeroUsize = NonZeroUsize::new(16).unwrap();
    /// The deadline of a request, where the provider names none: what the Open Service Broker API recommends.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

    /// The deadline for name resolution, TCP and TLS together: at most 10 s, and always sooner than the deadline of
    /// the whole request, so that a connection that never came about is told from an answer that never came.
    #[must_use]
    pub fn connect_timeout(&self) -> Duration {
        (self.timeout / 2).min(Duration::from_secs(10))
    }
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            requests_per_second: Self::DEFAULT_REQUESTS_PER_SECOND,
            concurrency: Self::DEFAULT_CONCURRENCY,
            timeout: Self::DEFAULT_TIMEOUT,
        }
    }
}
