//! The state that the stages of one reconcile read: the ServiceKey, its local state, and the answers so far.
//!
//! A stage ([`observe`](super::observe), [`apply`](super::apply), [`external`](super::external)) borrows the
//! [`Reconciler`] and returns what changed. Only the driver in [`reconcile`](super::reconcile) changes it.

use std::sync::Arc;

use k8s_openapi::{
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{Api, Resource, ResourceExt};
use tracing::Span;
use uuid::Uuid;

use super::{
    Context,
    local_state::{Circumstances, LocalState, Occasion, WrittenSecret},
    secret_reader::SecretReader,
    status,
};
use crate::{
    api::{
        CertificateExpiry, DeletionPolicy, ExpiryDetection, OnChange, PreviousCredentials, ServiceKey, marks,
    },
    backend::{Backend, BackendKind, InstanceRef, Owner},
    controller::{
        error::Error,
        ids::ProviderId,
        provider::{ProviderStore, Tenant},
    },
    fair::Lane,
    lifecycle::{
        Allowance, Claim, Identity, Inputs, Observed, PlanIds, PlanView, Problem, RunState, Sequence,
        StagingView,
    },
    secret::{self, Digest, Entries, ExpiryParts, Layout, Marks, Ownership, ParametersKey},
    wipe::HeldSecret,
};

/// The ServiceKey that a reconcile is about, in the parts that never change.
pub(super) struct Target {
    pub(super) uid: Uuid,
    pub(super) namespace: String,
    pub(super) name: String,
    /// The name of its Secret.
    pub(super) secret: String,
    pub(super) owner_reference: OwnerReference,
    pub(super) provider: ProviderId,
    /// The queue in which it waits for resources that namespaces share.
    pub(super) lane: Lane,
}

impl Target {
    /// # Errors
    /// [`Error::Malformed`] for an object that the API server would never store.
    pub(super) fn new(key: &ServiceKey) -> Result<Self, Error> {
        let uid = key.parsed_uid().ok_or(Error::Malformed("metadata.uid"))?;
        let namespace = key.namespace().ok_or(Error::Malformed("metadata.namespace"))?;
        let provider = &key.spec.provider_ref;
        Ok(Self {
            uid,
            name: key.name_any(),
            secret: key.secret_name(),
            owner_reference: key.controller_owner_ref(&()).ok_or(Error::Malformed("metadata.name"))?,
            provider: ProviderId::named(provider.kind, &provider.name, &namespace),
            lane: Lane::of_namespace(&namespace),
            namespace,
        })
    }

    /// The span of all log lines of one reconcile. It has the level of errors, so that it is never filtered out.
    pub(super) fn span(&self) -> Span {
        let Self { uid, namespace, name, provider, .. } = self;
        let object = format_args!("{namespace}/{name}");
        // The field can't be called `name`: that is the name of the span itself.
        tracing::error_span!("reconcile", kind = "ServiceKey", %object, %uid, %provider)
    }
}

/// The state of one reconcile, as its stages read it.
pub(super) struct Reconciler<'a> {
    pub(super) context: &'a Context,
    pub(super) target: Target,
    /// The newest object: the cache's, or the one that the operator's own last write returned.
    pub(super) key: Arc<ServiceKey>,
    pub(super) local: LocalState,
    pub(super) run: RunState,
    pub(super) secret: SecretNotes,
    /// The provider right before the last call, or before the first one that failed.
    pub(super) called: CalledProvider,
    /// Whether the ServiceKey is gone. Then `key` is its last version.
    pub(super) vanished: bool,
}

/// A provider, as it was before a call. It may be loaded again or recover during the call. The answer is about the
/// former provider then, so the next reconcile has to try again at once.
#[derive(Clone, Debug, Default)]
pub(super) struct CalledProvider {
    /// Digest of everything that it was loaded from.
    origin: Option<String>,
    /// How often its remote side recovered.
    recoveries: u64,
}

impl CalledProvider {
    pub(super) fn now(providers: &ProviderStore, id: &ProviderId) -> Self {
        Self { origin: providers.origin_digest(id), recoveries: providers.recoveries(id) }
    }
}

/// Knowledge of the Secret that this reconcile has and the cache does not show.
#[derive(Default)]
pub(super) struct SecretNotes {
    /// The result of a lookup of the Secret by name, until the operator writes it.
    pub(super) lookup: Option<SecretLookup>,
    /// Whether a write showed that the cache is outdated, so that the Secret has to be looked up.
    pub(super) distrusts_cache: bool,
    /// The version of the Secret that this reconcile wrote.
    pub(super) written_version: Option<String>,
    /// The other owners of fields of a Secret that is not intact, in words.
    pub(super) other_writers: Option<String>,
    /// Write conflicts on the Secret in this reconcile.
    pub(super) conflicts: u32,
    /// The staging Secret as a request of this reconcile showed it. The cache may lag.
    pub(super) staging: Option<StagingView>,
}

/// The result of a lookup of the Secret by name.
pub(super) enum SecretLookup {
    Absent,
    Found(Box<ObjectMeta>),
}

/// The desired state.
impl Reconciler<'_> {
    /// The layout of the Secret. The key of digests is written only after the content could be read.
    pub(super) fn layout(&self) -> Layout {
        let of_secret = self.confirmed_parameters_key();
        let parameters = &self.local.parameters;
        let new = parameters.key.clone().filter(|_| parameters.digest.is_some());
        let parameters_key = of_secret.or(new).filter(|_| self.key.spec.follows_parameters());
        Layout { parameters_key, ..self.layout_in_spec() }
    }

    /// The layout of the Secret, as far as the spec determines it.
    pub(super) fn layout_in_spec(&self) -> Layout {
        let secret = &self.key.spec.secret;
        Layout {
            type_: secret.secret_type.clone(),
            labels: secret.labels.clone(),
            annotations: secret.annotations.clone(),
            template: secret.template.clone().unwrap_or_default().data,
            outlives_owner: secret.deletion_policy == DeletionPolicy::Retain,
            parameters_key: None,
        }
    }

    /// The key of digests on the Secret, if the status has a digest that was made with it. Every user who may edit the
    /// Secret can change the key there.
    pub(super) fn confirmed_parameters_key(&self) -> Option<ParametersKey> {
        let recorded =
            self.known_inputs().find_map(|inputs| inputs.parameters_key_id().map(str::to_owned))?;
        let of_secret = ParametersKey::read(&self.existing_secret()?)?;
        (of_secret.id(&self.followed_entries()) == recorded).then_some(of_secret)
    }

    /// The entries of `parametersFrom` whose other content requires another key, by the names of Secret and entry.
    pub(super) fn followed_entries(&self) -> Vec<(&str, &str)> {
        let sources = self.key.spec.parameters_from.iter();
        let followed = sources.filter(|source| source.on_change == Some(OnChange::Rotate));
        followed.map(|source| (&*source.secret_key_ref.name, &*source.secret_key_ref.key)).collect()
    }

    /// The parts of the credentials whose ends limit a key, according to the spec.
    pub(super) fn expiry_parts(&self) -> ExpiryParts {
        let ExpiryDetection { certificates, tokens } =
            self.key.spec.rotation.as_ref().and_then(|rotation| rotation.expiry.clone()).unwrap_or_default();
        ExpiryParts { certificates: certificates == CertificateExpiry::Detect, tokens }
    }

    pub(super) fn keeps_previous(&self) -> bool {
        self.key.spec.secret.previous == PreviousCredentials::Include
    }

    /// Digests of everything that a remote key is created from. Other inputs require another key.
    pub(super) fn inputs(&self) -> Inputs {
        let request = self.key.annotations().get(marks::ROTATE_ANNOTATION);
        let request = request.map(|value| Digest::new("servicekeys.dev/rotate/1").field(value).finish());
        let follows = self.key.spec.follows_parameters();
        let parameters = self.local.parameters.digest.clone().filter(|_| follows);
        let known = self.known_inputs();
        let known = known.map(|known| if follows { known } else { known.without_parameters() });
        Inputs::new(self.fields(), parameters, request, known)
    }

    /// The inputs that the status records: those of the key that is being created, and those of the current one.
    fn known_inputs(&self) -> impl Iterator<Item = Inputs> {
        let status = self.key.status.as_ref();
        let operation = status.and_then(|status| status.operation.as_ref()?.inputs.as_deref());
        let key = status.and_then(|status| Some(status.key.as_ref()?.inputs.as_str()));
        operation.into_iter().chain(key).map(Inputs::from)
    }

    /// Digest of the fields of the spec that a remote key is created from.
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
}

/// The owner of the keys.
impl Reconciler<'_> {
    /// The UID of the ServiceKey that this one was restored from.
    pub(super) fn former(&self) -> Option<Uuid> {
        self.key.status.as_ref().and_then(status::former_uid)
    }

    /// Whether the ServiceKey continues with the keys of the ServiceKey with this UID.
    pub(super) fn goes_on_with(&self, uid: Uuid) -> bool {
        self.former() == Some(uid)
    }

    /// The UID from which the ids of its keys are derived.
    pub(super) fn owner_of_keys(&self) -> Uuid {
        self.former().unwrap_or(self.target.uid)
    }

    pub(super) fn identity(&self, sequence: Sequence) -> Identity {
        Identity { owner: self.owner_of_keys(), sequence }
    }

    /// Whether a Secret belongs to the ServiceKey, or to the one that it was restored from.
    pub(super) fn owns(&self, meta: &ObjectMeta) -> bool {
        match secret::ownership(meta, &self.target.owner_reference) {
            Ownership::Ours => true,
            Ownership::Former(former) => self.goes_on_with(former.created_for),
            Ownership::Foreign { .. } => false,
        }
    }

    /// The ServiceKey, as the remote side records it.
    pub(super) fn owner(&self) -> Owner {
        Owner {
            namespace: self.target.namespace.clone(),
            name: self.target.name.clone(),
            uid: self.target.uid,
            cluster_id: self.context.shared.namespaces.cluster_id(),
        }
    }
}

/// The provider.
impl Reconciler<'_> {
    /// Runs `ask` with the namespace and its labels.
    pub(super) fn with_tenant<T>(&self, ask: impl FnOnce(&Tenant<'_>) -> T) -> T {
        let namespace = &self.target.namespace;
        let labels = self.context.shared.namespaces.labels(namespace);
        ask(&Tenant { namespace, labels: labels.as_ref() })
    }

    /// The provider's limits for the namespace.
    pub(super) fn allowance(&self) -> Allowance {
        self.with_tenant(|tenant| self.context.shared.providers.allowance(&self.target.provider, tenant))
    }

    /// The backend; `None` if it is missing or can't be used.
    pub(super) fn usable_backend(&self) -> Option<Arc<Backend>> {
        self.backend()?.ok()
    }

    /// The backend, or why it can't be used; `None` if the provider was not loaded.
    pub(super) fn backend(&self) -> Option<Result<Arc<Backend>, Problem>> {
        self.context.shared.providers.backend(&self.target.provider)
    }

    /// The kind of the remote side, for metrics. Known even if the remote side can't be called.
    pub(super) fn backend_kind(&self) -> BackendKind {
        self.context.shared.providers.kind(&self.target.provider)
    }

    /// The ids of the instance's plan in the broker's catalog, as far as they are known without a request.
    pub(super) fn plan_view(&self) -> PlanView {
        self.usable_backend().map_or(PlanView::NotNeeded, |backend| backend.plan(&self.instance()))
    }

    /// Whether the check of the instance needs no request.
    pub(super) fn knows_instance(&self) -> bool {
        self.usable_backend().is_some_and(|backend| backend.knows_instance(&self.instance()))
    }

    /// The location of the instance, if it is known without a request.
    pub(super) fn place_of_instance(&self) -> Option<String> {
        self.usable_backend()?.place_of_instance(&self.instance())
    }

    /// The plan ids that the first key is created with. The ServiceKey notes them until its status records a key.
    pub(super) fn noted_plan(&self) -> Option<PlanIds> {
        if self.key.status.as_ref().is_some_and(|status| status.key.is_some()) {
            return None;
        }
        let noted = self.key.annotations().get(marks::PLAN_IDS_ANNOTATION)?;
        status::plan_ids(&serde_json::from_str(noted).ok()?)
    }
}

/// The Secret.
impl Reconciler<'_> {
    /// The newest metadata that is known of the Secret.
    pub(super) fn existing_secret(&self) -> Option<ObjectMeta> {
        match &self.secret.lookup {
            Some(SecretLookup::Absent) => None,
            Some(SecretLookup::Found(meta)) => Some(meta.as_ref().clone()),
            None => {
                let known = self.context.secrets.get(&self.target.namespace, &self.target.secret);
                known.map(|known| known.meta)
            }
        }
    }

    /// The written entries that the Secret still contains, with the marks that they were written with. The
    /// marks are those that this process knows, or those on the Secret, which another writer may have
    /// changed.
    pub(super) fn held(&self, secret: &Secret) -> Option<(Entries, Marks<Claim>)> {
        let known = self.local.written.as_ref().map(|written| written.marks.clone());
        let found = Entries::from_secret(secret);
        known.into_iter().chain(secret::read(&secret.metadata)).find_map(|marks| {
            let entries = marks.imprint.untouched(&found, &self.owner_of_keys())?;
            Some((entries, marks))
        })
    }

    /// Reads the whole Secret, which few reconciles need.
    ///
    /// # Errors
    /// When the Kubernetes API fails.
    pub(super) async fn read_secret(&self) -> Result<Option<HeldSecret>, Error> {
        self.secret_reader().read("read the Secret", &self.target.secret).await
    }

    /// Reads whole Secrets of the ServiceKey's namespace.
    pub(super) fn secret_reader(&self) -> SecretReader {
        let Self { context, target, .. } = self;
        SecretReader::new(self.secrets_api(), target.lane.clone(), context.shared.shares.secret_reads.clone())
    }

    pub(super) fn secrets_api(&self) -> Api<Secret> {
        Api::namespaced(self.context.shared.client.clone(), &self.target.namespace)
    }

    pub(super) fn keys_api(&self) -> Api<ServiceKey> {
        Api::namespaced(self.context.shared.client.clone(), &self.target.namespace)
    }
}

/// The conditions of an attempt.
impl Reconciler<'_> {
    /// The conditions under which the credentials of a key can be stored.
    pub(super) fn circumstances(&self) -> Circumstances {
        Circumstances {
            generation: self.key.metadata.generation,
            inputs: self.inputs(),
            provider: self.called.origin.clone(),
        }
    }

    /// The conditions of an attempt. The operator tries again at once when they change.
    pub(super) fn occasion(&self) -> Occasion {
        Occasion {
            circumstances: self.circumstances(),
            recoveries: self.called.recoveries,
            deleting: self.key.metadata.deletion_timestamp.is_some(),
            has_secret: self.context.secrets.contains(&self.target.namespace, &self.target.secret),
        }
    }
}

/// A Secret in this version, written by the operator or found intact.
pub(super) fn written_secret(meta: &ObjectMeta, marks: Marks<Claim>) -> WrittenSecret {
    WrittenSecret { version: meta.resource_version.clone(), marks }
}

/// The plan ids of a key, if they were noted before it was created.
pub(super) fn plan_ids(observed: &Observed, sequence: Sequence) -> Option<PlanIds> {
    let recorded = &observed.recorded;
    let current = recorded.key.iter().map(|key| (key.sequence, &key.plan_ids));
    let previous = recorded.previous.iter().map(|key| (key.sequence, &key.plan_ids));
    let mut known = current.chain(previous).filter(|(of, _)| *of == sequence);
    known.find_map(|(_, ids)| ids.clone()).or_else(|| observed.noted(sequence))
}
