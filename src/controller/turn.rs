//! One reconcile of one ServiceKey: what it is about, and what it knows so far.

use std::sync::Arc;

use k8s_openapi::{
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::reflector::{ObjectRef, Store},
};
use tracing::Span;
use uuid::Uuid;

use super::{
    Clock, Options,
    answer_memory::AnswerMemory,
    error::Error,
    events::Events,
    local_state::{LocalState, LocalStates},
    missing_keys::MissingKeys,
    namespaces::Namespaces,
    provider::{ProviderId, Registry, Tenant},
    queue::{QueuePlace, Waiters},
    seats::Seats,
    secret_cache::SecretCache,
    secret_reader::SecretReader,
    secret_reservations::SecretReservations,
    status,
    templates::Templates,
    term::Term,
    vanished::Departures,
};
use crate::{
    api::{DeletionPolicy, ServiceKey, marks},
    backend::{InstanceRef, Owner},
    fair::{FairPermit, FairSemaphore, Lane},
    lifecycle::{Allowance, RunState, inputs},
    runtime::{Metrics, metrics::ReconcileOutcome},
    secret::{self, Digest, Layout, Ownership},
};

/// What all reconciles of ServiceKeys within one scope share.
pub struct Context {
    pub(super) client: Client,
    pub(super) options: Arc<Options>,
    pub(super) clock: Clock,
    pub(super) term: Arc<Term>,
    pub(super) registry: Arc<Registry>,
    pub(super) events: Events,
    pub(super) metrics: Metrics,
    pub(super) reservations: Arc<SecretReservations>,
    pub(super) local_states: Arc<LocalStates>,
    pub(super) keys: Store<ServiceKey>,
    pub(super) secrets: SecretCache,
    pub(super) namespaces: Namespaces,
    pub(super) missing_keys: Arc<MissingKeys>,
    pub(super) seats: Arc<Seats>,
    pub(super) answer_memory: AnswerMemory,
    /// Places for those who work, which does not include waiting for a remote side. Namespaces take turns.
    pub(super) workers: FairSemaphore,
    /// Places for reads of whole Secrets.
    pub(super) secret_reads: FairSemaphore,
    pub(super) waiting: Arc<Waiters<Uuid>>,
    pub(super) templates: Templates,
    pub(super) departures: Arc<Departures>,
}

impl Context {
    /// Waits until this process may work, with caches that were filled: what they don't show yet would have to be
    /// looked up.
    pub(super) async fn ready(&self) {
        self.term.begins().await;
        self.secrets.ready().await;
        self.namespaces.wait_filled().await;
    }

    /// The ServiceKey as the cache shows it now; `None` once it is gone.
    pub(super) fn current(&self, key: &ServiceKey) -> Option<Arc<ServiceKey>> {
        self.keys.get(&ObjectRef::from_obj(key)).filter(|current| current.metadata.uid == key.metadata.uid)
    }

    /// Waits for a place among those who work.
    pub(super) async fn work(&self, lane: &Lane) -> Option<FairPermit> {
        // It is `None` only where the semaphore was closed, which nobody does.
        self.metrics.worker_queue().during(self.workers.acquire(lane)).await
    }
}

/// The ServiceKey that a reconcile is about, in the parts that never change.
pub(super) struct Target {
    pub(super) uid: Uuid,
    pub(super) namespace: String,
    pub(super) name: String,
    /// The name of its Secret.
    pub(super) secret: String,
    pub(super) owner_reference: OwnerReference,
    pub(super) provider: ProviderId,
    /// Where it waits for whatever is shared with other namespaces.
    pub(super) lane: Lane,
}

impl Target {
    pub(super) fn new(key: &ServiceKey) -> Result<Self, Error> {
        let uid = uid(key).ok_or(Error::Malformed("metadata.uid"))?;
        let namespace = key.namespace().ok_or(Error::Malformed("metadata.namespace"))?;
        let provider = &key.spec.provider_ref;
        Ok(Self {
            uid,
            name: key.name_any(),
            secret: secret_name(key),
            owner_reference: key.controller_owner_ref(&()).ok_or(Error::Malformed("metadata.name"))?,
            provider: ProviderId::named(provider.kind, &provider.name, &namespace),
            lane: Lane::of_namespace(&namespace),
            namespace,
        })
    }

    /// What everything that is logged of one reconcile is logged in: whatever the level, lines say what they are about.
    pub(super) fn span(&self) -> Span {
        let Self { uid, namespace, name, provider, .. } = self;
        let object = format_args!("{namespace}/{name}");
        // `name` is what the span itself is called.
        tracing::error_span!("reconcile", kind = "ServiceKey", %object, %uid, %provider)
    }
}

/// The UID of a ServiceKey, which every stored one has.
pub(super) fn uid(key: &ServiceKey) -> Option<Uuid> {
    Uuid::try_parse(key.metadata.uid.as_deref()?).ok()
}

/// The name of a ServiceKey's Secret.
pub(super) fn secret_name(key: &ServiceKey) -> String {
    key.spec.secret.name.clone().unwrap_or_else(|| key.name_any())
}

/// One reconcile.
pub(super) struct Turn<'a> {
    pub(super) context: &'a Context,
    pub(super) target: Target,
    /// The newest object: the cache's, or what our own last write returned.
    pub(super) key: Arc<ServiceKey>,
    pub(super) local: LocalState,
    pub(super) run: RunState,
    /// What a look-up of the Secret by name showed, until we write it.
    pub(super) secret_lookup: Option<SecretLookup>,
    /// Whether a write showed that the cache is behind: the Secret has to be looked up.
    pub(super) distrusts_cache: bool,
    /// The version of the Secret that we wrote in this reconcile.
    pub(super) written_version: Option<String>,
    /// Who else owns fields of a Secret that is not right, in words.
    pub(super) other_writers: Option<String>,
    /// Writes of the Secret in this reconcile that another writer was faster than.
    pub(super) conflicts: u32,
    /// The place among those who work, given up while a remote side is waited for.
    pub(super) worker: Option<FairPermit>,
    /// The place at the remote side, while it is asked.
    pub(super) place: Option<QueuePlace>,
    /// Whether the ServiceKey is gone, so that `key` is all that is left of it.
    pub(super) vanished: bool,
    /// What is counted of it, once it rests; until then the ServiceKey may be gone.
    pub(super) outcome: ReconcileOutcome,
}

/// What a look-up of the Secret by name showed.
pub(super) enum SecretLookup {
    Absent,
    There(Box<ObjectMeta>),
}

impl<'a> Turn<'a> {
    /// A turn that goes on where the last one ended.
    pub(super) fn begin(
        context: &'a Context,
        target: Target,
        key: Arc<ServiceKey>,
        mut local: LocalState,
        worker: Option<FairPermit>,
    ) -> Self {
        let run = RunState {
            in_hand: local.in_hand().map(|(key, _)| key.clone()),
            stored: local.stored.take(),
            pending: local.pending.take(),
            given_up: local.given_up.take(),
            ..RunState::default()
        };
        let mut turn = Self {
            context,
            target,
            key,
            local,
            run,
            secret_lookup: None,
            other_writers: None,
            distrusts_cache: false,
            written_version: None,
            conflicts: 0,
            worker,
            place: None,
            vanished: false,
            outcome: ReconcileOutcome::Gone,
        };
        turn.recall_unusable();
        turn.recall_setback();
        turn
    }

    /// What is remembered of it.
    pub(super) fn end(mut self) -> LocalState {
        self.remember_unusable();
        let Self { mut local, key, run, .. } = self;
        (local.pending, local.given_up) = (run.pending, run.given_up);
        let told = status::read(key.status.as_ref()).key;
        local.stored = run.stored.filter(|stored| told.as_ref() != Some(stored));
        local
    }
}

impl Turn<'_> {
    /// How the user wants the Secret to look.
    pub(super) fn layout(&self) -> Layout {
        let secret = &self.key.spec.secret;
        Layout {
            type_: secret.secret_type.clone(),
            labels: secret.labels.clone(),
            annotations: secret.annotations.clone(),
            template: secret.template.clone().unwrap_or_default().data,
            outlives_owner: secret.deletion_policy == DeletionPolicy::Retain,
        }
    }

    /// Digest of what a remote key is made from.
    pub(super) fn inputs(&self) -> String {
        let request = self.key.annotations().get(marks::ROTATE_ANNOTATION);
        let request = request.map(|value| Digest::new("servicekeys.dev/rotate/1").field(value).finish());
        let status = self.key.status.as_ref();
        let operation = status.and_then(|status| status.operation.as_ref()?.inputs.as_deref());
        let key = status.and_then(|status| Some(status.key.as_ref()?.inputs.as_str()));
        inputs(self.fields(), request, operation.into_iter().chain(key))
    }

    /// Digest of the fields of the spec that a remote key is made from.
    fn fields(&self) -> String {
        let spec = &self.key.spec;
        let sources = spec.parameters_from.iter().map(|source| {
            let secret = &source.secret_key_ref;
            (secret.name.as_str(), secret.key.as_str())
        });
        Digest::new("servicekeys.dev/inputs/1")
            .field(serde_json::to_string(&spec.parameters).unwrap_or_default())
            .pairs(sources)
            .finish()
    }

    /// The UID of the ServiceKey that this one was restored from, where it was.
    pub(super) fn former(&self) -> Option<Uuid> {
        self.key.status.as_ref().and_then(status::former_uid)
    }

    /// Whether the ServiceKey goes on with the keys of the one of this UID.
    pub(super) fn goes_on_with(&self, uid: Uuid) -> bool {
        self.former() == Some(uid)
    }

    /// The UID that the ids of its keys follow from.
    pub(super) fn owner_of_keys(&self) -> Uuid {
        self.former().unwrap_or(self.target.uid)
    }

    /// Whether a Secret belongs to the ServiceKey, or to the one that it was restored from.
    pub(super) fn is_ours(&self, meta: &ObjectMeta) -> bool {
        match secret::ownership(meta, &self.target.owner_reference) {
            Ownership::Ours => true,
            Ownership::Former(former) => self.goes_on_with(former.created_for),
            Ownership::Foreign { .. } => false,
        }
    }

    /// The service instance, as the user wrote it.
    pub(super) fn instance(&self) -> InstanceRef {
        let instance = self.key.spec.instance.clone();
        InstanceRef {
            name: instance.name,
            id: instance.id,
            crn: instance.crn,
            offering: instance.offering,
            plan: instance.plan,
            annotations: instance.annotations,
            space_limit: self.allowance().spaces(),
        }
    }

    /// What the provider permits the namespace.
    pub(super) fn allowance(&self) -> Allowance {
        let labels = self.context.namespaces.labels(&self.target.namespace);
        let tenant = Tenant { namespace: &self.target.namespace, labels: labels.as_ref() };
        self.context.registry.allowance(&self.target.provider, &tenant)
    }

    /// The ServiceKey, for the remote side's own records.
    pub(super) fn owner(&self) -> Owner {
        Owner {
            namespace: self.target.namespace.clone(),
            name: self.target.name.clone(),
            uid: self.target.uid,
            cluster_id: self.context.namespaces.cluster_id(),
        }
    }

    /// The kind of the remote side, for metrics: also of one that can't be asked.
    pub(super) fn kind_of_backend(&self) -> &'static str {
        self.context.registry.kind(&self.target.provider)
    }

    pub(super) fn keys_api(&self) -> Api<ServiceKey> {
        Api::namespaced(self.context.client.clone(), &self.target.namespace)
    }

    /// Reads Secrets of the ServiceKey's namespace as a whole.
    pub(super) fn secret_reader(&self) -> SecretReader {
        let Self { context, target, .. } = self;
        SecretReader::new(self.secrets_api(), target.lane.clone(), context.secret_reads.clone())
    }

    pub(super) fn secrets_api(&self) -> Api<Secret> {
        Api::namespaced(self.context.client.clone(), &self.target.namespace)
    }
}
