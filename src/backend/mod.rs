//! Remote sides that create keys: one enum over the three kinds, and the types that they share.
//!
//! This module does not depend on Kubernetes objects. The wire types of a remote side do not leave its own module.

mod bounded;
mod cloud_foundry;
mod confirmed;
mod error;
mod exchange;
mod http;
mod ibm_cloud;
#[cfg(test)]
mod import_tests;
mod key;
mod kind;
mod memory;
mod osb;
mod pages;
mod single_flight;
#[cfg(test)]
mod test_server;
mod token;

use std::{num::NonZeroUsize, time::Duration};

use tokio::time::Instant;

pub(crate) use cloud_foundry::{CloudFoundry, CloudFoundryConfig, CloudFoundryLogin};
pub(crate) use error::{BackendError, ErrorClass, FIRST_LOGIN_PAUSE, LOGIN_PAUSE};
pub use http::{AddressPolicy, AddressRules, ApiServer, Names, Network, Transport, Undelivered};
pub(crate) use http::{
    Author, CallOutcome, ClientCertificate, HttpConfig, NamedHost, ObservedCall, Observer, RemoteShares,
    RequestLimits, certificates, count_values, find_source, system_roots, without_secrets,
};
pub use ibm_cloud::IbmCloudConfig;
pub(crate) use ibm_cloud::{IbmCloud, IbmCloudLogin, Profile};
pub(crate) use key::{
    Accepted, AccessGrant, AdoptionPermit, Bound, Credentials, Fetched, InstanceRef, IssuedKey, KeyFacts,
    KeyRequest, KeyRole, KnownSecrets, LostClusters, Owner, Parameters, PlanIds, PlanView, Progress,
    RemoteOperation, Restored, ServiceIdAccess, SpaceLimit, Unbound,
};
pub(crate) use kind::BackendKind;
pub(crate) use memory::{Kept, MemoryBudget, MemoryShare};
pub(crate) use osb::{ApiVersion, Auth as BrokerAuth, BindResourceObject, Broker, BrokerConfig};
pub(crate) use pages::CompleteList;
pub(crate) use token::ClientCredentials;

use self::http::HttpClient;
use crate::lifecycle::{Identity, MarkedKey, Sequence};

/// One remote side with its login, ready for calls.
#[derive(Debug)]
pub(crate) enum Backend {
    OpenServiceBroker(Box<Broker>),
    CloudFoundry(Box<CloudFoundry>),
    /// An account of IBM Cloud.
    IbmCloud(Box<IbmCloud>),
}

/// Each call is boxed: its future is large, and would fill the stack of the task that awaits it.
impl Backend {
    /// The kind of remote side.
    #[must_use]
    pub(crate) const fn kind(&self) -> BackendKind {
        match self {
            Self::OpenServiceBroker(_) => BackendKind::OpenServiceBroker,
            Self::CloudFoundry(_) => BackendKind::CloudFoundry,
            Self::IbmCloud(_) => BackendKind::IbmCloud,
        }
    }

    /// The sizes of the tables that have an entry for each key.
    #[must_use]
    pub(crate) fn table_sizes(&self) -> Vec<(&'static str, usize)> {
        match self {
            Self::OpenServiceBroker(_) => Vec::new(),
            Self::CloudFoundry(foundry) => foundry.table_sizes().into(),
            Self::IbmCloud(cloud) => cloud.table_sizes().into(),
        }
    }

    /// Whether keys have a role and an access policy.
    #[must_use]
    pub(crate) const fn has_roles(&self) -> bool {
        match self {
            Self::OpenServiceBroker(_) | Self::CloudFoundry(_) => false,
            Self::IbmCloud(_) => true,
        }
    }

    /// The key's name at a remote side with names: the user's choice, if there is one.
    #[must_use]
    pub(crate) fn key_name(&self, identity: Identity, given: Option<&str>, owner: &Owner) -> String {
        match self {
            Self::OpenServiceBroker(_) | Self::CloudFoundry(_) => {
                identity.key_name(given, &owner.namespace, &owner.name)
            }
            Self::IbmCloud(_) => ibm_cloud::key_name(identity, given, owner),
        }
    }

    /// The name that a former release gave the key, if the user set another name.
    #[must_use]
    pub(crate) fn former_key_name(&self, identity: Identity, given: Option<&str>) -> Option<String> {
        match self {
            Self::CloudFoundry(_) => given
                .filter(|_| identity.sequence != Sequence::FIRST)
                .map(|given| identity.former_key_name(given)),
            Self::OpenServiceBroker(_) | Self::IbmCloud(_) => None,
        }
    }

    /// Whether a key that was not created for the ServiceKey can be adopted by its name.
    #[must_use]
    pub(crate) const fn adopts_keys(&self) -> bool {
        match self {
            Self::OpenServiceBroker(_) => false,
            Self::CloudFoundry(_) | Self::IbmCloud(_) => true,
        }
    }

    /// Whether the mark of a key shows the namespace and the name of the ServiceKey that it was created for.
    #[must_use]
    pub(crate) const fn marks_show_names(&self) -> bool {
        match self {
            Self::CloudFoundry(_) => true,
            Self::OpenServiceBroker(_) | Self::IbmCloud(_) => false,
        }
    }

    /// Checks whether the operator can reach the remote side with this login, without creating anything.
    ///
    /// # Errors
    /// Each problem that prevents the creation of keys here.
    pub(crate) async fn check(&self) -> Result<(), BackendError> {
        match self {
            Self::OpenServiceBroker(broker) => Box::pin(broker.check()).await,
            Self::CloudFoundry(foundry) => Box::pin(foundry.check()).await,
            Self::IbmCloud(cloud) => Box::pin(cloud.check()).await,
        }
    }

    /// Problems of a reachable remote side, or of the login there: the reason of an event, and a message for the user.
    #[must_use]
    pub(crate) fn shortcomings(&self) -> Option<(&'static str, String)> {
        match self {
            Self::OpenServiceBroker(broker) => broker.shortcomings().map(|what| ("CatalogFlawed", what)),
            Self::CloudFoundry(foundry) => foundry.shortcomings().map(|what| ("LoginExpires", what)),
            Self::IbmCloud(_) => None,
        }
    }

    /// Whether the operator knows already that it can create keys for this instance.
    /// [`check_instance`](Self::check_instance) then sends no request.
    #[must_use]
    pub(crate) fn knows_instance(&self, instance: &InstanceRef) -> bool {
        match self {
            Self::OpenServiceBroker(broker) => broker.knows_instance(instance),
            Self::CloudFoundry(foundry) => foundry.knows_instance(instance),
            Self::IbmCloud(cloud) => cloud.knows_instance(instance),
        }
    }

    /// The account or the space of the instance, if it is known without a request.
    #[must_use]
    pub(crate) fn place_of_instance(&self, instance: &InstanceRef) -> Option<String> {
        match self {
            Self::OpenServiceBroker(_) => None,
            Self::CloudFoundry(foundry) => foundry.space_of_instance(instance),
            Self::IbmCloud(cloud) => cloud.account_of_instance(instance),
        }
    }

    /// The plan of this instance's keys, in the remote side's terms, if it is known without a request.
    #[must_use]
    pub(crate) fn plan(&self, instance: &InstanceRef) -> PlanView {
        match self {
            Self::OpenServiceBroker(broker) => broker.plan_view(instance),
            Self::CloudFoundry(_) | Self::IbmCloud(_) => PlanView::NotNeeded,
        }
    }

    /// Checks whether keys can be created for this instance, as far as possible without creating one.
    /// [`bind`](Self::bind) refuses the same instances before it calls the remote side.
    ///
    /// # Errors
    /// The problem with the instance, or the failure that prevents the check.
    pub(crate) async fn check_instance(&self, instance: &InstanceRef) -> Result<(), BackendError> {
        match self {
            Self::OpenServiceBroker(broker) => Box::pin(broker.check_instance(instance)).await,
            Self::CloudFoundry(foundry) => Box::pin(foundry.check_instance(instance)).await,
            Self::IbmCloud(cloud) => Box::pin(cloud.check_instance(instance)).await,
        }
    }

    /// Creates the key, or returns the existing key of this identity.
    ///
    /// # Errors
    /// [`ErrorClass::Conflict`] if a key of this identity exists with other parameters, [`ErrorClass::Taken`] if a key
    /// of its name belongs to others, [`ErrorClass::Withheld`] if it exists and the remote side does not show its
    /// credentials again; [`ErrorClass::OrphanPossible`] or [`ErrorClass::Unsure`] if the key may or may not exist now.
    pub(crate) async fn bind(&self, request: &KeyRequest) -> Result<Bound, BackendError> {
        match self {
            Self::OpenServiceBroker(broker) => Box::pin(broker.bind(request)).await,
            Self::CloudFoundry(foundry) => Box::pin(foundry.bind(request)).await,
            Self::IbmCloud(cloud) => Box::pin(cloud.bind(request)).await,
        }
    }

    /// Reads the credentials of an existing key again. It creates nothing.
    ///
    /// # Errors
    /// Failures of the call itself. A key that is absent or can't be read again is an `Ok` of [`Fetched`].
    pub(crate) async fn fetch(&self, request: &KeyRequest) -> Result<Fetched, BackendError> {
        match self {
            Self::OpenServiceBroker(broker) => Box::pin(broker.fetch(request)).await,
            Self::CloudFoundry(foundry) => Box::pin(foundry.fetch(request)).await,
            Self::IbmCloud(cloud) => Box::pin(cloud.fetch(request)).await,
        }
    }

    /// Repeats the request that created a key, if the remote side answers it with the same key (Open Service Broker
    /// API: "Creating a Service Binding", 200).
    ///
    /// # Errors
    /// [`ErrorClass::OrphanPossible`] if no answer arrives: the remote side may have created the key again if it was
    /// gone.
    pub(crate) async fn repeat(&self, request: &KeyRequest) -> Result<Fetched, BackendError> {
        match self {
            Self::OpenServiceBroker(broker) => Box::pin(broker.repeat(request)).await,
            // They create a key with another id each time.
            Self::CloudFoundry(_) | Self::IbmCloud(_) => Ok(Fetched::NotRetrievable),
        }
    }

    /// The name of the key, if it still exists and bears the operator's mark. A remote side that does not report this
    /// counts as having the key.
    ///
    /// # Errors
    /// [`ErrorClass::Gone`] if the instance is not visible either, so that the state of the key is unknown; and
    /// failures of the calls themselves.
    pub(crate) async fn find_key(&self, request: &KeyRequest) -> Result<Option<KeyFacts>, BackendError> {
        match self {
            Self::OpenServiceBroker(broker) => {
                let facts = KeyFacts { id: request.identity.binding_id().to_string(), ..KeyFacts::default() };
                let found = Box::pin(broker.fetch(request)).await?;
                Ok((!matches!(found, Fetched::Absent)).then_some(facts))
            }
            Self::CloudFoundry(foundry) => Box::pin(foundry.exists(request)).await,
            Self::IbmCloud(cloud) => Box::pin(cloud.exists(request)).await,
        }
    }

    /// Lists all keys with the mark of this operator and cluster, or returns `None` if the remote side can't list keys.
    ///
    /// # Errors
    /// Those of the list.
    pub(crate) async fn marked_keys(
        &self,
        cluster_id: Option<&str>,
    ) -> Result<Option<CompleteList<MarkedKey>>, BackendError> {
        match self {
            Self::OpenServiceBroker(_) => Ok(None),
            Self::CloudFoundry(foundry) => Box::pin(foundry.marked_keys(cluster_id)).await.map(Some),
            Self::IbmCloud(cloud) => Box::pin(cloud.marked_keys(cluster_id)).await.map(Some),
        }
    }

    /// Records a list of [`marked_keys`](Self::marked_keys) that was requested at this time, without the keys that no
    /// ServiceKey has. Calls by the ids on it need no further proof of the owner.
    pub(crate) fn confirm<'a>(&self, asked: Instant, listed: impl Iterator<Item = &'a MarkedKey>) {
        match self {
            Self::OpenServiceBroker(_) => {}
            Self::CloudFoundry(foundry) => foundry.confirmed.replace(asked, listed),
            Self::IbmCloud(cloud) => cloud.confirmed.replace(asked, listed),
        }
    }

    /// Revokes a key that is known only from the list of [`marked_keys`](Self::marked_keys).
    ///
    /// # Errors
    /// Any outcome other than the remote side's confirmation that the key is gone or is being revoked.
    pub(crate) async fn discard(&self, key: &MarkedKey) -> Result<(), BackendError> {
        match self {
            Self::OpenServiceBroker(_) => Ok(()),
            Self::CloudFoundry(foundry) => Box::pin(foundry.discard(key)).await,
            Self::IbmCloud(cloud) => Box::pin(cloud.discard(key)).await,
        }
    }

    /// Removes the operator's mark from a key that stays permanently, so that [`marked_keys`](Self::marked_keys) no
    /// longer lists it. A key that is gone is a success.
    ///
    /// # Errors
    /// Any outcome other than the confirmation.
    pub(crate) async fn release(&self, request: &KeyRequest) -> Result<(), BackendError> {
        match self {
            Self::OpenServiceBroker(_) => Ok(()),
            Self::CloudFoundry(foundry) => Box::pin(foundry.release(request)).await,
            Self::IbmCloud(cloud) => Box::pin(cloud.release(request)).await,
        }
    }

    /// Revokes the key. A key that is gone already is a success.
    ///
    /// # Errors
    /// Any outcome other than the remote side's confirmation that the key is gone or is being revoked.
    pub(crate) async fn unbind(&self, request: &KeyRequest) -> Result<Unbound, BackendError> {
        match self {
            Self::OpenServiceBroker(broker) => Box::pin(broker.unbind(request)).await,
            Self::CloudFoundry(foundry) => Box::pin(foundry.unbind(request)).await,
            Self::IbmCloud(cloud) => Box::pin(cloud.unbind(request)).await,
        }
    }

    /// Polls an operation that the remote side accepted.
    ///
    /// # Errors
    /// Failures of the call itself. They do not show the state of the operation: the caller polls again.
    pub(crate) async fn poll(
        &self,
        request: &KeyRequest,
        work: RemoteOperation,
        token: Option<&str>,
    ) -> Result<Progress, BackendError> {
        match self {
            Self::OpenServiceBroker(broker) => Box::pin(broker.poll(request, work, token)).await,
            Self::CloudFoundry(foundry) => Box::pin(foundry.poll(request, work, token)).await,
            // The operator follows no operations at IBM Cloud: an accepted deletion (202) counts as done.
            Self::IbmCloud(_) => Ok(Progress::Running { said: None, retry_after: None }),
        }
    }

    /// The client of all calls.
    const fn http(&self) -> &HttpClient {
        match self {
            Self::OpenServiceBroker(broker) => &broker.http,
            Self::CloudFoundry(foundry) => &foundry.http,
            Self::IbmCloud(cloud) => &cloud.http,
        }
    }

    /// The remaining pause that the remote side requires of all callers.
    #[must_use]
    pub(crate) fn paused(&self) -> Option<Duration> {
        self.http().paused()
    }

    /// The most calls at the same time.
    #[must_use]
    pub(crate) const fn concurrency(&self) -> NonZeroUsize {
        self.http().concurrency()
    }

    /// The longest time of a call. A call that began longer ago has ended, with or without effect.
    #[must_use]
    pub(crate) const fn timeout(&self) -> Duration {
        self.http().timeout()
    }
}
