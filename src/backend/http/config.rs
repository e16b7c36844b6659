//! The settings of a provider for calls to its remote side.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    sync::Arc,
    time::Duration,
};

use secrecy::SecretString;

use super::{AddressPolicy, Observer, RemoteShares, Transport, observer::NoObserver};
use crate::{
    backend::memory::{MemoryBudget, MemoryShare},
    clock::Clock,
};

/// The settings for calls to one remote side.
#[derive(Clone, Debug)]
pub struct HttpConfig {
    /// PEM certificates trusted in addition to the system's roots.
    pub ca_bundle: Option<String>,
    /// The certificate for a remote side that requires one (mutual TLS).
    pub client_certificate: Option<ClientCertificate>,
    /// The limits on requests, shared by all keys of the remote side.
    pub limits: RequestLimits,
    /// The addresses that the operator may connect to.
    pub addresses: AddressPolicy,
    /// Delivers the requests instead of HTTP clients.
    pub transport: Option<Arc<dyn Transport>>,
    /// The clock that tells how long a pause until a point in time is.
    pub clock: Clock,
    /// The observer to notify of calls.
    pub observer: Arc<dyn Observer>,
    /// The limits that its calls share with those to all other remote sides.
    pub shares: RemoteShares,
    /// The memory for answers that no ServiceKey requested.
    pub answers: MemoryShare,
    /// The memory for the parts of answers that the operator keeps.
    pub kept: MemoryShare,
    /// The most bytes of cached instances, and the most bytes of cached roles.
    pub cached: usize,
    /// How much longer the operator must not try the login, because the remote side refused it to an earlier process.
    pub login_pause: Option<Duration>,
}

impl HttpConfig {
    /// Bytes of cached instances for a KeyProvider, some 300 instances. A tenant may have many KeyProviders.
    pub const CACHED_FOR_TENANT: usize = 256 << 10;
    /// Bytes of cached instances for a ClusterKeyProvider, some 5,000 instances.
    pub const CACHED_FOR_CLUSTER: usize = 4 << 20;
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            ca_bundle: None,
            client_certificate: None,
            limits: RequestLimits::default(),
            addresses: AddressPolicy::default(),
            transport: None,
            clock: Clock::default(),
            observer: Arc::new(NoObserver),
            shares: RemoteShares::default(),
            answers: MemoryBudget::for_answers().share("the provider"),
            kept: MemoryBudget::for_what_is_kept().share("the provider"),
            cached: Self::CACHED_FOR_CLUSTER,
            login_pause: None,
        }
    }
}

/// A client certificate and its key.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// The certificate, followed by its intermediates, in PEM.
    pub cert_pem: String,
    /// The private key in PEM: PKCS#8, PKCS#1 or SEC1.
    pub key_pem: SecretString,
}

/// The limits on requests to one remote side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// Requests that may start within a second, spread over it.
    pub requests_per_second: NonZeroU32,
    /// Requests that may be open at the same time.
    pub concurrency: NonZeroUsize,
    /// The longest time of one request, from connecting to the last byte of the answer. It does not include the wait
    /// for a slot within these limits.
    pub timeout: Duration,
}

impl RequestLimits {
    /// Requests per second, if the provider does not set a number.
    pub const DEFAULT_REQUESTS_PER_SECOND: NonZeroU32 = NonZeroU32::new(50).unwrap();
    /// Requests at the same time, if the provider does not set a number.
    pub const DEFAULT_CONCURRENCY: NonZeroUsize = NonZeroUsize::new(16).unwrap();
    /// The deadline of a request, if the provider does not set one: the recommendation of the Open Service Broker API.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

    /// The deadline for name resolution, TCP and TLS together. It is 10 s at most, and always before the deadline of
    /// the whole request. So a failed connection can be distinguished from a missing answer.
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
