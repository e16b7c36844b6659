//! Remote sides that make keys: one enum over the three kinds, and the domain types they share.
//!
//! Nothing here knows Kubernetes objects, and no type of a remote side's wire format leaves its own module.

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
pub use http::{AddressPolicy, AddressRules, ApiServer, Names, Network};
pub(crate) use http::{
    Author, CallOutcome, ClientCertificate, HttpConfig, NamedHost, ObservedCall, Observer, RemoteShares,
    RequestLimits, count_values, without_secrets,
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

/// One remote side, logged in and ready to be asked for keys.
#[derive(Debug)]
pub(crate) enum Backend {
    OpenServiceBroker(Box<Broker>),
    CloudFoundry(Box<CloudFoundry>),
    /// An account of IBM Cloud.
    IbmCloud(Box<IbmCloud>),
}

/// Calls are on the heap: what one does is deep, and would fill the stack of whoever waits for it.
impl Backend {
    /// The kind of remote side, as providers name it.
    #[must_use]
    pub(crate) const fn kind(&self) -> BackendKind {
        match self {
            Self::OpenServiceBroker(_) => BackendKind::OpenServiceBroker,
            Self::CloudFoundry(_) => BackendKind::CloudFoundry,
            Self::IbmCloud(_) => BackendKind::IbmCloud,
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

    /// What a key is called at a remote side that has names: as the user wants it, where that is given.
    #[must_use]
    pub(crate) fn key_name(&self, identity: Identity, given: Option<&str>, owner: &Owner) -> String {
        match self {
            Self::OpenServiceBroker(_) | Self::CloudFoundry(_) => {
                identity.key_name(given, &owner.namespace, &owner.name)
            }
            Self::IbmCloud(_) => ibm_cloud::key_name(identity, given, owner),
        }
    }

    /// What a former release called the key, where the user named it and that is another name.
    #[must_use]
    pub(crate) fn former_key_name(&self, identity: Identity, given: Option<&str>) -> Option<String> {
        match self {
            Self::CloudFoundry(_) => given
                .filter(|_| identity.sequence != Sequence::FIRST)
                .map(|given| identity.former_key_name(given)),
            Self::OpenServiceBroker(_) | Self::IbmCloud(_) => None,
        }
    }

    /// Whether a key that somebody else made can be taken over by its name.
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

    /// Asks the remote side whether it can be reached with this login; creates nothing.
    ///
    /// # Errors
    /// Whatever keeps a key from being made here.
    pub(crate) async fn check(&self) -> Result<(), BackendError> {
        match self {
            Self::OpenServiceBroker(broker) => Box::pin(broker.check()).await,
            Self::CloudFoundry(foundry) => Box::pin(foundry.check()).await,
            Self::IbmCloud(cloud) => Box::pin(cloud.check()).await,
        }
    }

    /// Flaws of a remote side that can be reached, or of the login there: the reason of an event, and words for the user.
    #[must_use]
    pub(crate) fn shortcomings(&self) -> Option<(&'static str, String)> {
        match self {
            Self::OpenServiceBroker(broker) => broker.shortcomings().map(|what| ("CatalogFlawed", what)),
            Self::CloudFoundry(foundry) => foundry.shortcomings().map(|what| ("LoginExpires", what)),
            Self::IbmCloud(_) => None,
        }
    }

    /// Whether it is known already that keys can be created for this instance: [`check_instance`](Self::check_instance)
    /// sends no request then.
    #[must_use]
    pub(crate) fn knows_instance(&self, instance: &InstanceRef) -> bool {
        match self {
            Self::OpenServiceBroker(broker) => broker.knows_instance(instance),
            Self::CloudFoundry(foundry) => foundry.knows_instance(instance),
            Self::IbmCloud(cloud) => cloud.knows_instance(instance),
        }
    }

    /// The account or the space that the instance is in, as far as that is known without a request.
    #[must_use]
    pub(crate) fn place_of_instance(&self, instance: &InstanceRef) -> Option<String> {
        match self {
            Self::OpenServiceBroker(_) => None,
            Self::CloudFoundry(foundry) => foundry.space_of_instance(instance),
            Self::IbmCloud(cloud) => cloud.account_of_instance(instance),
        }
    }

    /// What the remote side calls the plan that keys of this instance are of, as far as that is known without a request.
    #[must_use]
    pub(crate) fn plan(&self, instance: &InstanceRef) -> PlanView {
        match self {
            Self::OpenServiceBroker(broker) => broker.plan_view(instance),
            Self::CloudFoundry(_) | Self::IbmCloud(_) => PlanView::NotNeeded,
        }
    }

    /// Whether keys can be made for this instance, as far as that is known without making one. What is refused here is
    /// refused by [`bind`](Self::bind) as well, before the remote side is asked for anything.
    ///
    /// # Errors
    /// What is wrong with the instance, or what keeps that from being known.
    pub(crate) async fn check_instance(&self, instance: &InstanceRef) -> Result<(), BackendError> {
        match self {
            Self::OpenServiceBroker(broker) => Box::pin(broker.check_instance(instance)).await,
            Self::CloudFoundry(foundry) => Box::pin(foundry.check_instance(instance)).await,
            Self::IbmCloud(cloud) => Box::pin(cloud.check_instance(instance)).await,
        }
    }

    /// Makes the key, or, where a key of this identity exists already, answers with that one.
    ///
    /// # Errors
    /// [`ErrorClass::Conflict`] where a key of this identity exists with other parameters,
    /// [`ErrorClass::Taken`] where one of its name is somebody else's, [`ErrorClass::Withheld`] where it exists and
    /// its credentials are not shown again; [`ErrorClass::OrphanPossible`] or [`ErrorClass::Unsure`] where the key may
    /// or may not exist now.
    pub(crate) async fn bind(&self, request: &KeyRequest) -> Result<Bound, BackendError> {
        match self {
            Self::OpenServiceBroker(broker) => Box::pin(broker.bind(request)).await,
            Self::CloudFoundry(foundry) => Box::pin(foundry.bind(request)).await,
            Self::IbmCloud(cloud) => Box::pin(cloud.bind(request)).await,
        }
    }

    /// Reads the credentials of an existing key again; creates nothing.
    ///
    /// # Errors
    /// Failures of the call itself; a key that is absent or can't be read back is an `Ok` of [`Fetched`].
    pub(crate) async fn fetch(&self, request: &KeyRequest) -> Result<Fetched, BackendError> {
        match self {
            Self::OpenServiceBroker(broker) => Box::pin(broker.fetch(request)).await,
            Self::CloudFoundry(foundry) => Box::pin(foundry.fetch(request)).await,
            Self::IbmCloud(cloud) => Box::pin(cloud.fetch(request)).await,
        }
    }

    /// Sends the request again that created a key, where the remote side answers it with the same key (Open Service Broker
    /// API: "Creating a Service Binding", 200).
    ///
    /// # Errors
    /// [`ErrorClass::OrphanPossible`] where the answer is lost: the key may have been created again if it was gone.
    pub(crate) async fn repeat(&self, request: &KeyRequest) -> Result<Fetched, BackendError> {
        match self {
            Self::OpenServiceBroker(broker) => Box::pin(broker.repeat(request)).await,
            // They give each key another id.
            Self::CloudFoundry(_) | Self::IbmCloud(_) => Ok(Fetched::NotRetrievable),
        }
    }

    /// What a key is called, if it is still there and bears our mark. A remote side that does not tell is taken to have
    /// it.
    ///
    /// # Errors
    /// [`ErrorClass::Gone`] where its instance is out of sight as well, so that nothing can be told; and failures of
    /// the calls themselves.
    pub(crate) async fn find_key(&self, request: &KeyRequest) -> Result<Option<KeyFacts>, BackendError> {
        match self {
            Self::OpenServiceBroker(_) => {
                Ok(Some(KeyFacts { id: request.identity.binding_id().to_string(), ..KeyFacts::default() }))
            }
            Self::CloudFoundry(foundry) => Box::pin(foundry.exists(request)).await,
            Self::IbmCloud(cloud) => Box::pin(cloud.exists(request)).await,
        }
    }

    /// All keys that bear the mark of this operator and cluster; `None` where the remote side lists none.
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

    /// Takes in a list of [`marked_keys`](Self::marked_keys) that was asked for at this time, without the keys that no
    /// ServiceKey has: calls by the ids on it need no further proof of whose keys they are.
    pub(crate) fn confirm<'a>(&self, asked: Instant, listed: impl Iterator<Item = &'a MarkedKey>) {
        match self {
            Self::OpenServiceBroker(_) => {}
            Self::CloudFoundry(foundry) => foundry.confirmed.replace(asked, listed),
            Self::IbmCloud(cloud) => cloud.confirmed.replace(asked, listed),
        }
    }

    /// Revokes a key of which nothing but the list of [`marked_keys`](Self::marked_keys) is known.
    ///
    /// # Errors
    /// Anything but the remote side's confirmation that the key is gone, or that it is being revoked.
    pub(crate) async fn discard(&self, key: &MarkedKey) -> Result<(), BackendError> {
        match self {
            Self::OpenServiceBroker(_) => Ok(()),
            Self::CloudFoundry(foundry) => Box::pin(foundry.discard(key)).await,
            Self::IbmCloud(cloud) => Box::pin(cloud.discard(key)).await,
        }
    }

    /// Takes our mark off a key that stays for good, so that [`marked_keys`](Self::marked_keys) does not show it any
    /// more; a key that is gone is a success.
    ///
    /// # Errors
    /// Anything but the confirmation.
    pub(crate) async fn release(&self, request: &KeyRequest) -> Result<(), BackendError> {
        match self {
            Self::OpenServiceBroker(_) => Ok(()),
            Self::CloudFoundry(foundry) => Box::pin(foundry.release(request)).await,
            Self::IbmCloud(cloud) => Box::pin(cloud.release(request)).await,
        }
    }

    /// Revokes the key; a key that is gone already is a success.
    ///
    /// # Errors
    /// Anything but the remote side's confirmation that the key is gone, or that it is being revoked.
    pub(crate) async fn unbind(&self, request: &KeyRequest) -> Result<Unbound, BackendError> {
        match self {
            Self::OpenServiceBroker(broker) => Box::pin(broker.unbind(request)).await,
            Self::CloudFoundry(foundry) => Box::pin(foundry.unbind(request)).await,
            Self::IbmCloud(cloud) => Box::pin(cloud.unbind(request)).await,
        }
    }

    /// Asks how far the remote side is with work that it accepted.
    ///
    /// # Errors
    /// Failures of the call itself, which say nothing of the work: it is to be asked again.
    pub(crate) async fn poll(
        &self,
        request: &KeyRequest,
        work: RemoteOperation,
        token: Option<&str>,
    ) -> Result<Progress, BackendError> {
        match self {
            Self::OpenServiceBroker(broker) => Box::pin(broker.poll(request, work, token)).await,
            Self::CloudFoundry(foundry) => Box::pin(foundry.poll(request, work, token)).await,
            // Nothing there is done in the background.
            Self::IbmCloud(_) => Ok(Progress::Running { said: None, retry_after: None }),
        }
    }

    /// What all its calls go through.
    const fn http(&self) -> &HttpClient {
        match self {
            Self::OpenServiceBroker(broker) => &broker.http,
            Self::CloudFoundry(foundry) => &foundry.http,
            Self::IbmCloud(cloud) => &cloud.http,
        }
    }

    /// How much longer the remote side wants to be left alone, by everybody who would ask it for something.
    #[must_use]
    pub(crate) fn paused(&self) -> Option<Duration> {
        self.http().paused()
    }

    /// How many calls may be under way at the same time.
    #[must_use]
    pub(crate) const fn concurrency(&self) -> NonZeroUsize {
        self.http().concurrency()
    }

    /// The longest that a call may take: what was asked before that is over, whatever became of it.
    #[must_use]
    pub(crate) const fn timeout(&self) -> Duration {
        self.http().timeout()
    }
}
