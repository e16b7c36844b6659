//! The request about a key for a backend, derived from the ServiceKey, its status and its provider.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::FutureExt;
use k8s_openapi::ByteString;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::reconciler::{Reconciler, plan_ids};
use crate::{
    api::{
        Adoption as AdoptionPolicy, IbmCloudAccess, OnChange, ParametersSource, ResourceAttribute, WantedRole,
    },
    backend::{
        AccessGrant, AdoptionPermit, Backend, Credentials, ErrorClass, KeyRequest, KeyRole, KnownSecrets,
        Parameters, Restored, ServiceIdAccess, count_values,
    },
    lifecycle::{
        Attempted, Failure, Identity, Inputs, KeyRecord, Observed, Operation, ParametersDigest, Problem,
        Sequence,
    },
    runtime::answers::{self, Size},
    wipe::{HeldSecret, SecretValues},
};

/// The backend of the ServiceKey's provider.
///
/// # Errors
/// A transient failure if the provider disappeared since it was observed. The next decision reports that.
pub(super) fn backend(reconciler: &Reconciler<'_>) -> Result<Arc<Backend>, Failure> {
    match reconciler.backend() {
        Some(Ok(backend)) => Ok(backend),
        Some(Err(problem)) => Err(transient(problem.message)),
        None => Err(transient(format!("{} does not exist", reconciler.target.provider))),
    }
}

/// A request about a key, without the parameters that create one.
pub(super) fn about_key(reconciler: &Reconciler<'_>, observed: &Observed, sequence: Sequence) -> KeyRequest {
    about(reconciler, observed, reconciler.identity(sequence))
}

/// A request about a key of the ServiceKey, or of the ServiceKey that it may have been restored from.
pub(super) fn about(reconciler: &Reconciler<'_>, observed: &Observed, identity: Identity) -> KeyRequest {
    let Reconciler { context, target, key, .. } = reconciler;
    let sequence = identity.sequence;
    let is_of_former = identity.owner != target.uid;
    let login_is_own = login_is_own(reconciler);
    let given_name = key.spec.key_name.as_deref();
    let backend = reconciler.usable_backend();
    let backend = backend.as_deref();
    let owner = reconciler.owner();
    KeyRequest {
        identity,
        restored: is_of_former.then_some(Restored { login_is_own }),
        instance: reconciler.instance(),
        parameters: Parameters::default(),
        predecessor: None,
        name: backend.map_or_else(String::new, |backend| backend.key_name(identity, given_name, &owner)),
        role: role(reconciler),
        access: access(reconciler),
        former_name: backend.and_then(|backend| backend.former_key_name(identity, given_name)),
        recorded_id: hint(observed, sequence),
        place: key.status.as_ref().and_then(|status| status.instance_place.clone()),
        plan_ids: plan_ids(observed, sequence),
        age: age(reconciler, observed, sequence),
        inputs: recorded_inputs(reconciler, observed, sequence).to_string(),
        cleans_up: cleans_up(observed, sequence),
        adoption: adoption(reconciler, sequence),
        known: known_secrets(reconciler),
        answers: context.shared.answer_memory.answers(Some(&target.namespace)),
        owner,
    }
}

/// A request about a key with the parameters that create it, and their digest.
pub(super) struct WithParameters {
    pub(super) backend: Arc<Backend>,
    pub(super) request: KeyRequest,
    /// The digest of the content of `parametersFrom`, if its changes matter.
    pub(super) digest: Option<ParametersDigest>,
}

/// A request about a key with the parameters that create it.
///
/// # Errors
/// If a parameter can't be read, or the provider disappeared.
pub(super) async fn with_parameters(
    reconciler: &Reconciler<'_>,
    observed: &Observed,
    sequence: Sequence,
) -> Result<WithParameters, Failure> {
    let (parameters, digest) = parameters(reconciler, |_| true).await?;
    let request = about_key(reconciler, observed, sequence);
    let inputs = reconciler.inputs().with_parameters(digest.clone()).to_string();
    Ok(WithParameters {
        backend: backend(reconciler)?,
        request: KeyRequest { parameters, inputs, cleans_up: false, ..request },
        digest,
    })
}

/// A request for a new key. The provider's limits on parameters apply to their values, which are known only now.
///
/// # Errors
/// As for [`with_parameters`], and if the provider does not permit the parameters.
pub(super) async fn for_new_key(
    reconciler: &Reconciler<'_>,
    observed: &Observed,
    sequence: Sequence,
) -> Result<WithParameters, Failure> {
    let complete = with_parameters(reconciler, observed, sequence).await?;
    let namespace = &reconciler.target.namespace;
    match reconciler.allowance().refusal_of_parameters(namespace, complete.request.parameters.expose()) {
        None => Ok(complete),
        Some(Problem { message, .. }) => Err(Failure {
            attempted: Attempted::Permission,
            class: ErrorClass::Rejected,
            message,
            retry_after: None,
        }),
    }
}

/// Digests of everything that a key was created from, which may have changed since.
pub(super) fn recorded_inputs(
    reconciler: &Reconciler<'_>,
    observed: &Observed,
    sequence: Sequence,
) -> Inputs {
    let completed = observed.run.completed.as_ref().filter(|operation| operation.sequence == sequence);
    completed
        .map(|operation| operation.inputs.clone())
        .or_else(|| known_key(observed, sequence).map(|key| key.inputs.clone()))
        .unwrap_or_else(|| reconciler.inputs())
}

/// The record of an existing key. The status of a restored ServiceKey records no key, but its Secret may name one.
pub(super) fn known_key(observed: &Observed, sequence: Sequence) -> Option<&KeyRecord> {
    let of_secret = || observed.secret.key().filter(|key| key.sequence == sequence);
    observed.recorded.current(sequence).or_else(of_secret)
}

/// The remote side's id of a key, if the status has one. It does not prove whose key that is.
fn hint(observed: &Observed, sequence: Sequence) -> Option<String> {
    let current = observed.recorded.key.iter().map(|key| (key.sequence, &key.id));
    let previous = observed.recorded.previous.iter().map(|key| (key.sequence, &key.id));
    current.chain(previous).find(|(of, _)| *of == sequence)?.1.clone()
}

/// Permission to adopt a key of the name that the user gives. Only the first key can be an adopted one.
fn adoption(reconciler: &Reconciler<'_>, sequence: Sequence) -> Option<AdoptionPermit> {
    let spec = &reconciler.key.spec;
    let wanted = spec.adoption == AdoptionPolicy::IfExists
        && sequence == Sequence::FIRST
        && reconciler.allowance().permits_adoption();
    let name = spec.key_name.clone().filter(|_| wanted)?;
    let index = Arc::clone(&reconciler.context.shared.index);
    let provider = reconciler.target.provider.clone();
    let has_keys_of = move |owner| index.has_keys_of(owner, &provider);
    Some(AdoptionPermit::new(name, login_is_own(reconciler), has_keys_of))
}

/// Whether the login at the remote side is that of the ServiceKey's own namespace.
const fn login_is_own(reconciler: &Reconciler<'_>) -> bool {
    reconciler.target.provider.namespace.is_some()
}

/// The role of new keys, at a remote side whose keys have roles.
fn role(reconciler: &Reconciler<'_>) -> KeyRole {
    match reconciler.key.spec.ibm_cloud.clone().unwrap_or_default().role() {
        WantedRole::Named(role) => KeyRole::Named(role.to_owned()),
        WantedRole::None => KeyRole::None,
        WantedRole::Default => KeyRole::Default { limit: reconciler.allowance().no_role_denied() },
    }
}

/// The service ID that new keys act as, at a remote side that has service IDs.
fn access(reconciler: &Reconciler<'_>) -> Option<ServiceIdAccess> {
    let IbmCloudAccess { service_id_crn, roles, resource_attributes } =
        reconciler.key.spec.ibm_cloud.clone()?.access?;
    let attributes =
        resource_attributes.into_iter().map(|ResourceAttribute { name, value }| (name, value)).collect();
    let own = ServiceIdAccess::Own(AccessGrant { roles, attributes });
    Some(service_id_crn.map_or(own, ServiceIdAccess::Existing))
}

/// The age of a key that the status records.
fn age(reconciler: &Reconciler<'_>, observed: &Observed, sequence: Sequence) -> Option<Duration> {
    let created_at = observed.recorded.current(sequence)?.created_at;
    let now = reconciler.context.shared.clock.now();
    Some(Duration::try_from(now.duration_since(created_at)).unwrap_or_default())
}

/// Whether the operator revokes the key only because no answer to its request arrived.
fn cleans_up(observed: &Observed, sequence: Sequence) -> bool {
    let lost = observed.recorded.operation_on(sequence).is_some_and(Operation::has_unknown_outcome);
    !observed.desired.deleting && lost
}

/// The values of the parameters, and the credentials in the Secret and in hand. Messages must not show them.
fn known_secrets(reconciler: &Reconciler<'_>) -> KnownSecrets {
    let Reconciler { context, target, key, local, .. } = reconciler;
    let is_ours = context.secrets.contains(&target.namespace, &target.secret);
    let ours = is_ours.then(|| target.secret.clone());
    let in_hand = local.in_hand().map(|(_, credentials)| credentials);
    let (key, reader) = (Arc::clone(key), reconciler.secret_reader());
    KnownSecrets::new(move || {
        let (key, reader, ours, in_hand) = (Arc::clone(&key), reader.clone(), ours.clone(), in_hand.clone());
        async move {
            let sources = key.spec.parameters_from.iter().map(|source| &source.secret_key_ref.name);
            let names: BTreeSet<&String> = sources.chain(&ours).collect();
            let in_hand = in_hand.iter().map(Credentials::expose);
            let at_hand = in_hand.chain([&key.spec.parameters]).cloned().map(Value::Object);
            let mut known = SecretValues::new(at_hand.collect());
            let mut room = Room::default();
            for name in names {
                let secret = reader.read("read a Secret", name).await.ok()?;
                room.take(secret.iter().flat_map(|secret| secret.data.iter().flatten()))?;
                known.extend(secret.iter().flat_map(values));
            }
            Some(known)
        }
        .boxed()
    })
}

/// The parameters of the spec, overridden by those of each source that is read, and the digest of those whose other
/// content requires another key.
///
/// # Errors
/// A Secret can't be read, an entry is missing or contains no JSON object, or the content is too large.
pub(super) async fn parameters(
    reconciler: &Reconciler<'_>,
    is_read: impl Fn(&ParametersSource) -> bool,
) -> Result<(Parameters, Option<ParametersDigest>), Failure> {
    let unusable = |why: String| Failure {
        attempted: Attempted::Parameters,
        class: ErrorClass::Rejected,
        message: format!("`spec.parametersFrom`: {why}"),
        retry_after: None,
    };
    let mut parameters = Parameters::new(reconciler.key.spec.parameters.clone());
    let mut together = Size::default();
    let mut followed = Vec::new();
    for source in reconciler.key.spec.parameters_from.iter().filter(|source| is_read(source)) {
        let (name, entry) = (&source.secret_key_ref.name, &source.secret_key_ref.key);
        let secret = reconciler
            .secret_reader()
            .read("read a Secret of `spec.parametersFrom`", name)
            .await
            .map_err(|error| transient(error.to_string()))?;
        let (size, object) = object_in(secret.as_ref(), entry)
            .map_err(|why| unusable(format!("the entry `{entry}` of the Secret `{name}` {why}")))?;
        together = together.and(size);
        if let Some(refusal) = together.refusal_by(&answers::PARAMETERS) {
            return Err(unusable(format!("the content of all entries together {refusal}")));
        }
        if source.on_change == Some(OnChange::Rotate) {
            // The members of a map are sorted, so the text is stable. Serializing a map does not fail.
            followed.push(Zeroizing::new(serde_json::to_vec(&object).unwrap_or_default()));
        }
        parameters.extend(object);
    }
    let entries = reconciler.followed_entries();
    let key = reconciler.local.parameters.key.as_ref().filter(|_| !entries.is_empty());
    let digest = key.map(|key| key.digest(&entries, followed.iter().map(|content| content.as_slice())));
    Ok((parameters, digest))
}

fn transient(message: String) -> Failure {
    Failure { attempted: Attempted::Provision, class: ErrorClass::Transient, message, retry_after: None }
}

/// Limit of the secrets that the operator hides in the remote side's error texts. A tenant chooses the number
/// and size of its Secrets. Beyond the limit, the operator shows no error text.
struct Room {
    bytes: usize,
    values: usize,
}

impl Default for Room {
    fn default() -> Self {
        Self { bytes: 512 << 10, values: 2_000 }
    }
}

impl Room {
    /// Reserves capacity for these entries; `None` if it is exhausted.
    fn take<'a>(&mut self, entries: impl IntoIterator<Item = (&'a String, &'a ByteString)>) -> Option<()> {
        for (_, ByteString(bytes)) in entries {
            self.bytes = self.bytes.checked_sub(bytes.len())?;
            self.values = self.values.checked_sub(count_values(bytes))?;
        }
        Some(())
    }
}

/// The entries of a Secret as text, and as JSON where they are JSON.
fn values(secret: &HeldSecret) -> impl Iterator<Item = Value> {
    secret.data.iter().flat_map(BTreeMap::values).flat_map(|ByteString(bytes)| {
        let text = String::from_utf8(bytes.clone()).ok().map(Value::String);
        text.into_iter().chain(serde_json::from_slice(bytes).ok())
    })
}

/// The JSON object in an entry of a Secret and its size, or what is wrong with it, without quoting it.
fn object_in(secret: Option<&HeldSecret>, entry: &str) -> Result<(Size, Map<String, Value>), String> {
    let secret = secret.ok_or("is missing: there is no such Secret; create it")?;
    let data = secret.data.as_ref();
    let ByteString(text) = data.and_then(|data| data.get(entry)).ok_or("is missing; add it")?;
    let size = Size::measure(text);
    if let Some(refusal) = size.refusal_by(&answers::PARAMETERS) {
        return Err(refusal);
    }
    match serde_json::from_slice(text) {
        Ok(Value::Object(object)) => Ok((size, object)),
        Ok(_) | Err(_) => Err("is not a JSON object; correct it".to_owned()),
    }
}
