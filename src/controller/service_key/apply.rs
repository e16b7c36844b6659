//! Third stage of a step, at the Kubernetes API: carry out one effect and return what changed.
//!
//! # Guarantees
//! Every write of an object that exists has a precondition: the version of the ServiceKey, or of the Secret, that was
//! observed. Only the patch of a workload has none: it sets one annotation, to the same value at each attempt.

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Resource,
    api::{
        ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions, TypeMeta,
    },
};
use secrecy::SecretString;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Worker, consumers,
    local_state::WrittenSecret,
    metrics,
    reconciler::{Reconciler, SecretLookup, Target, written_secret},
    request, staging, status, workloads,
};
use crate::{
    api::{OnChange, Reason, ServiceKey, marks},
    backend::{Credentials, ErrorClass, Kept},
    controller::{
        as_field_manager,
        error::{Error, bounded},
        finalizer, unread,
    },
    lifecycle::{
        Answer, Attempted, Claim, Failure, KeyRecord, KubernetesEffect, Observed, Operation,
        ParametersDigest, Problem, Recorded, Report, Sequence, StagingView,
    },
    runtime::answers,
    secret::{self, Entries, Imprint, Marks, ParametersKey, RenderError},
    wipe::HeldSecret,
};

/// Limit of write conflicts on the Secret in one reconcile.
const MOST_CONFLICTS: u32 = 3;

/// One change that an effect made. The driver updates its state with it.
pub(super) enum Change {
    /// The API server stored this version of the ServiceKey.
    Stored(Box<ServiceKey>),
    /// The ServiceKey is gone, and this is what would have been stored.
    Kept(Box<ServiceKey>),
    /// This process stored the finalizer.
    FinalizerAdded,
    /// The ServiceKey continues with the keys of a former one. Knowledge about its own keys is void.
    Inherited,
    /// The status has the plan ids of this key.
    PlanRecorded(Sequence),
    /// The result of a lookup of the Secret by name.
    SecretLookup(SecretLookup),
    /// The Secret is not as the cache shows it.
    CacheOutdated,
    /// Another writer of the Secret was faster.
    WriteConflict,
    /// The API server stored the Secret as it was sent.
    SecretWritten(WrittenSecret),
    /// The content of `parametersFrom` has this digest.
    ParametersRead(Option<ParametersDigest>),
    /// The content of `parametersFrom` could not be read.
    ParametersUnread {
        /// Whether the API server refused the read, or did not answer.
        is_unanswered: bool,
    },
    /// A request showed the staging Secret, and the cache may lag.
    StagingSeen(StagingView),
    /// The staging Secret was written.
    Staged,
    /// The key and the credentials in the staging Secret; `None`: they can't be used.
    StagingRead(Option<(KeyRecord, Kept<Credentials>)>),
    /// The memory budget dropped the credentials in hand in favor of others.
    CredentialsGone,
    /// An answer for the decision that chose the effect.
    Learned(Answer),
}

/// Everything that one effect changed, in order.
pub(super) type Applied = Vec<Change>;

/// Carries out one effect at the Kubernetes API.
///
/// # Errors
/// When the Kubernetes API fails. [`Error::Outdated`] if another writer changed the ServiceKey; its watch
/// starts the next reconcile.
pub(super) async fn apply(
    reconciler: &Reconciler<'_>,
    observed: &Observed,
    effect: KubernetesEffect,
    worker: &mut Worker<'_>,
) -> Result<Applied, Error> {
    match effect {
        KubernetesEffect::AddFinalizer => add_finalizer(reconciler, observed).await,
        KubernetesEffect::LookUpSecret => Ok(vec![look_up_secret(reconciler).await?]),
        KubernetesEffect::RehearseSecret => rehearse_secret(reconciler).await,
        KubernetesEffect::Record(report) => record(reconciler, observed, &report).await,
        KubernetesEffect::LookForConsumers(change) => {
            Ok(vec![Change::Learned(consumers::look(reconciler, change).await)])
        }
        KubernetesEffect::RestartWorkloads { restart, companions } => {
            Ok(vec![Change::Learned(workloads::restart(reconciler, restart, &companions).await)])
        }
        KubernetesEffect::StageCredentials(key) => staging::stage(reconciler, *key).await,
        KubernetesEffect::ReadStaged(sequence) => staging::take(reconciler, observed, sequence).await,
        KubernetesEffect::DiscardStaged => staging::discard(reconciler).await,
        KubernetesEffect::ReadParameters => Ok(vec![read_parameters(reconciler).await]),
        KubernetesEffect::RestoreSecret => restore_secret(reconciler, observed).await,
        KubernetesEffect::OmitPrevious => omit_previous(reconciler, observed).await,
        KubernetesEffect::DeleteSecret => delete_secret(reconciler).await,
        KubernetesEffect::ReleaseSecret => release_secret(reconciler).await,
        KubernetesEffect::RemoveFinalizer { left_behind } => remove_finalizer(reconciler, &left_behind).await,
        KubernetesEffect::WriteSecret { key, previous } => {
            write_secret(reconciler, observed, *key, previous, worker).await
        }
    }
}

async fn add_finalizer(reconciler: &Reconciler<'_>, observed: &Observed) -> Result<Applied, Error> {
    let ids = observed.plan.ids().map(status::shown_plan_ids);
    // Ids that are noted already may belong to an existing key.
    let knows_key = reconciler.key.status.as_ref().is_some_and(|status| status.key.is_some());
    let noted = ids.filter(|_| !knows_key && observed.noted_first.is_none());
    let noted = noted.and_then(|ids| serde_json::to_string(&ids).ok());
    let annotation = noted.map(|ids| (marks::PLAN_IDS_ANNOTATION, ids));
    let write = finalizer::add_with(reconciler.key.meta(), marks::FINALIZER, annotation);
    let stored = patch(reconciler, "add the finalizer", write).await?;
    Ok(vec![stored, Change::FinalizerAdded])
}

async fn remove_finalizer(reconciler: &Reconciler<'_>, left_behind: &[Sequence]) -> Result<Applied, Error> {
    if !left_behind.is_empty() {
        let keys: Vec<_> = left_behind.iter().map(ToString::to_string).collect();
        let note = format!("keys {} stay at the remote side, as requested", keys.join(", "));
        let shared = &reconciler.context.shared;
        shared.events.warning(reconciler.key.object_ref(&()), "KeysLeftBehind", "Delete", note);
        shared.metrics.count_left_behind(reconciler.backend_kind(), left_behind.len());
    }
    if reconciler.vanished {
        return Ok(Vec::new());
    }
    let write = finalizer::remove(reconciler.key.meta(), marks::FINALIZER);
    Ok(vec![patch(reconciler, "remove the finalizer", write).await?])
}

async fn patch(
    reconciler: &Reconciler<'_>,
    attempt: &'static str,
    (parameters, patch): (PatchParams, Patch<Value>),
) -> Result<Change, Error> {
    let api = reconciler.keys_api();
    let write = api.patch(&reconciler.target.name, &parameters, &patch);
    let stored = bounded(attempt, write).await.map_err(Error::outdated)?;
    Ok(Change::Stored(Box::new(stored)))
}

/// Writes the status before an action, or after a result, that only the status shows after a crash.
async fn record(reconciler: &Reconciler<'_>, observed: &Observed, report: &Report) -> Result<Applied, Error> {
    let before = &observed.recorded;
    let inherited = report.recorded.former.filter(|_| before.former.is_none() && !reconciler.vanished);
    if let Some(former) = inherited {
        claim_keys_of(reconciler, former)?;
    }
    let written = publish_status(reconciler, report).await;
    if matches!(written, Err(Error::Outdated)) {
        reconciler.context.shared.index.disclaim_keys(reconciler.target.uid);
    }
    let mut applied = written?;
    let stored = applied.iter().find_map(|change| match change {
        Change::Stored(key) | Change::Kept(key) => Some(key.as_ref()),
        _ => None,
    });
    let stored = stored.unwrap_or(&reconciler.key);
    let former = stored.status.as_ref().and_then(status::former_uid);
    if former != report.recorded.former {
        reconciler.context.shared.index.disclaim_keys(reconciler.target.uid);
        applied.push(Change::Learned(Answer::Failed(Failure {
            attempted: Attempted::Store,
            class: ErrorClass::Rejected,
            message: "the API server does not store `status.formerUid`, which the operator needs to continue with the \
                      keys of a backup; apply the CustomResourceDefinitions of this release"
                .to_owned(),
            retry_after: None,
        })));
    } else if former != before.former {
        applied.push(Change::Inherited);
    }
    let has_failed = |recorded: &Recorded| {
        recorded.verification.as_ref().is_some_and(|verification| verification.failed.is_some())
    };
    if has_failed(&report.recorded) && !has_failed(before) {
        metrics::count_verification(reconciler, false);
    }
    let operation = &report.recorded.operation;
    let with_ids = operation.as_ref().filter(|operation| operation.plan_ids.is_some());
    applied.extend(with_ids.map(|operation| Change::PlanRecorded(operation.sequence)));
    let is_mitigated = operation.as_ref().is_some_and(Operation::has_unknown_outcome);
    if is_mitigated && *operation != before.operation {
        reconciler.context.shared.metrics.count_mitigated_orphan(reconciler.backend_kind());
    }
    Ok(applied)
}

/// Reserves the keys of a former ServiceKey. The cache may not show yet that another ServiceKey continues with them.
///
/// # Errors
/// [`Error::Outdated`] if another ServiceKey has reserved them.
fn claim_keys_of(reconciler: &Reconciler<'_>, former: Uuid) -> Result<(), Error> {
    let Target { provider, uid, .. } = &reconciler.target;
    let is_free = reconciler.context.shared.index.claim_keys_of(former, provider, *uid);
    if is_free { Ok(()) } else { Err(Error::Outdated) }
}

/// Writes the status, if the report changes anything in it.
///
/// # Errors
/// As for [`apply`].
pub(super) async fn publish_status(reconciler: &Reconciler<'_>, report: &Report) -> Result<Applied, Error> {
    let Reconciler { context, target, key, .. } = reconciler;
    let before = key.status.as_ref();
    let status_context = status::StatusContext {
        generation: key.metadata.generation,
        secret: &target.secret,
        secret_version: secret_version(reconciler),
        place: reconciler.place_of_instance(),
        now: context.shared.clock.now(),
    };
    let status = status::from_report(report, before, &status_context);
    if before == Some(&status) {
        return Ok(Vec::new());
    }
    for problem in report.troubles() {
        publish_event(reconciler, problem.reason, &problem.message);
    }
    let metadata = answers::without_note(key.metadata.clone());
    let object = ServiceKey { metadata, spec: key.spec.clone(), status: Some(status) };
    if reconciler.vanished {
        return Ok(vec![Change::Kept(Box::new(object))]);
    }
    let (api, parameters) = (reconciler.keys_api(), as_field_manager());
    let write = api.replace_status(&target.name, &parameters, &object);
    let stored = bounded("write the status", write).await.map_err(Error::outdated)?;
    Ok(vec![Change::Stored(Box::new(stored))])
}

/// Writes into the status of a ServiceKey why the operator can't read it. A status that can't be read stays as it is,
/// because a write would lose what it records.
///
/// # Errors
/// As for [`apply`].
pub(super) async fn publish_unread(reconciler: &Reconciler<'_>, problem: &Problem) -> Result<(), Error> {
    let Reconciler { context, target, key, .. } = reconciler;
    let (meta, before) = (&key.metadata, key.status.as_ref());
    let status = status::from_unread(before, problem, meta.generation, context.shared.clock.now());
    if before == Some(&status) || !unread::has_read_status(meta) {
        return Ok(());
    }
    publish_event(reconciler, problem.reason, &problem.message);
    let kind = ApiResource::erase::<ServiceKey>(&());
    let data = json!({"status": status});
    let metadata = answers::without_note(meta.clone());
    let object = DynamicObject { types: Some(TypeMeta::resource::<ServiceKey>()), metadata, data };
    // The answer can't be read as a ServiceKey either.
    let api: Api<DynamicObject> =
        Api::namespaced_with(context.shared.client.clone(), &target.namespace, &kind);
    let parameters = as_field_manager();
    let write = api.replace_status(&target.name, &parameters, &object);
    bounded("write the status", write).await.map_err(Error::outdated).map(drop)
}

/// Publishes an event about a problem when it begins.
fn publish_event(reconciler: &Reconciler<'_>, reason: Reason, message: &str) {
    let key = &reconciler.key;
    let mut shown = key.status.iter().flat_map(|status| &status.conditions);
    if shown.all(|condition| condition.reason != reason.as_str()) {
        let events = &reconciler.context.shared.events;
        events.warning(key.object_ref(&()), reason.as_str(), "Reconcile", message.to_owned());
    }
}

/// The version of the Secret to record: the one that the operator wrote, or the first one that it found
/// intact. Later harmless changes by other writers are not worth a write.
fn secret_version(reconciler: &Reconciler<'_>) -> Option<String> {
    let Reconciler { context, target, key, secret, .. } = reconciler;
    let recorded = || Some(key.status.as_ref()?.secret.as_ref()?.resource_version.clone());
    let found = || {
        let known = context.secrets.get(&target.namespace, &target.secret)?;
        known.meta.resource_version.filter(|_| known.verified)
    };
    secret.written_version.clone().or_else(recorded).or_else(found)
}

/// Reads the content of `parametersFrom`. The current key stays if that fails, so an event is enough.
async fn read_parameters(reconciler: &Reconciler<'_>) -> Change {
    let read = request::parameters(reconciler, |source| source.on_change == Some(OnChange::Rotate)).await;
    let Failure { attempted, message, .. } = match read {
        Ok((_, digest)) => return Change::ParametersRead(digest),
        Err(failure) => failure,
    };
    tracing::warn!(problem = message, "the content of `spec.parametersFrom` can't be read");
    let note = format!("changes of the content are not noticed: {message}");
    publish_event(reconciler, Reason::ParametersUnusable, &note);
    let is_unanswered = attempted != Attempted::Parameters;
    Change::ParametersUnread { is_unanswered }
}

async fn look_up_secret(reconciler: &Reconciler<'_>) -> Result<Change, Error> {
    let api = reconciler.secrets_api();
    let found = bounded("look up the Secret", api.get_metadata_opt(&reconciler.target.secret)).await?;
    Ok(Change::SecretLookup(match found {
        Some(secret) => SecretLookup::Found(Box::new(secret.metadata)),
        None => SecretLookup::Absent,
    }))
}

/// Sends the Secret, with placeholders as entries, as a dry run.
async fn rehearse_secret(reconciler: &Reconciler<'_>) -> Result<Applied, Error> {
    let target = &reconciler.target;
    let existing = reconciler.existing_secret();
    let is_new = existing.is_none();
    let existing = existing.unwrap_or_else(|| ObjectMeta {
        name: Some(target.secret.clone()),
        namespace: Some(target.namespace.clone()),
        ..ObjectMeta::default()
    });
    let secret = secret::rehearsal(&existing, &target.owner_reference, &reconciler.layout());
    let parameters = PostParams { dry_run: true, ..as_field_manager() };
    match send_secret(reconciler, &secret, &parameters).await {
        Ok(stored) => match alteration(reconciler, &secret, &stored) {
            Some(altered) => Ok(vec![altered]),
            None => {
                let absent = is_new.then_some(Change::SecretLookup(SecretLookup::Absent));
                rehearsed(reconciler, absent).await
            }
        },
        Err(error) if is_new && error.is(409) => Ok(vec![look_up_secret(reconciler).await?]),
        // A webhook that does not support dry runs says nothing about the Secret.
        Err(error) if error.is(400) => {
            let found = if is_new { Some(look_up_secret(reconciler).await?) } else { None };
            rehearsed(reconciler, found).await
        }
        Err(error) => refusal(reconciler, error),
    }
}

/// The changes after the rehearsal of the Secret succeeded: rehearses the staging Secret too, if there will be one.
async fn rehearsed(reconciler: &Reconciler<'_>, found: Option<Change>) -> Result<Applied, Error> {
    let refused = staging::rehearse(reconciler).await?;
    let outcome = refused.unwrap_or(Change::Learned(Answer::Rehearsed));
    Ok(found.into_iter().chain([outcome]).collect())
}

/// Writes the credentials in hand, on condition that the Secret is still as it was observed.
async fn write_secret(
    reconciler: &Reconciler<'_>,
    observed: &Observed,
    key: KeyRecord,
    previous: Option<Sequence>,
    worker: &mut Worker<'_>,
) -> Result<Applied, Error> {
    let Reconciler { context, target, local, .. } = reconciler;
    let in_hand = local.in_hand().filter(|(held, _)| held.sequence == key.sequence);
    let Some(credentials) = in_hand.map(|(_, credentials)| credentials) else {
        // The next decision requests the key again.
        return Ok(vec![Change::CredentialsGone]);
    };
    let kept = match previous {
        Some(sequence) => {
            let found = reconciler.read_secret().await?;
            found.and_then(|secret| secret::entries_of(&secret, sequence, &observed.owner))
        }
        None => None,
    };
    let previous = previous.filter(|_| kept.is_some());
    let digest = secret::digest_of(credentials.decisive().expose(), &observed.owner);
    let layout = reconciler.layout();
    let templates = &context.shared.shares.templates;
    let rendering = templates.render(&target.lane, layout.clone(), credentials);
    let rendered = worker.idle_during(rendering).await.and_then(|entries| {
        if reconciler.keeps_previous() { entries.with_previous(kept.as_ref()) } else { Ok(entries) }
    });
    let entries = match rendered {
        Ok(entries) => entries,
        Err(error) => return Ok(vec![Change::Learned(not_rendered(&error, key.sequence))]),
    };
    let same = has_written(reconciler, &digest, key.sequence);
    let key = KeyRecord { same_credentials: key.same_credentials || same, ..key };
    let imprint = Imprint::new(&layout, &entries, &observed.owner);
    let imprint = Imprint { credentials: Some(digest), ..imprint };
    let marks = Marks { key, previous, former: observed.recorded.former, imprint };
    let mut applied = send(reconciler, reconciler.existing_secret().as_ref(), &entries, &marks).await?;
    if matches!(applied.last(), Some(Change::SecretWritten(_))) {
        report_written(reconciler, &marks.key);
        applied.push(Change::Learned(Answer::Stored(marks.key)));
    }
    Ok(applied)
}

fn not_rendered(error: &RenderError, sequence: Sequence) -> Answer {
    let failure = Failure {
        attempted: Attempted::Render,
        class: ErrorClass::Rejected,
        message: format!("the credentials don't fit `spec.secret`: {error}"),
        retry_after: None,
    };
    if error.is_transient() { Answer::Failed(failure) } else { Answer::Unusable(failure, sequence) }
}

/// Counts a completed rotation, and publishes an event.
fn report_written(reconciler: &Reconciler<'_>, key: &KeyRecord) {
    let Reconciler { context, target, key: object, .. } = reconciler;
    let current = object.status.as_ref().and_then(|status| status.key.as_ref());
    if current.is_some_and(|current| current.sequence < key.sequence.number()) {
        context.shared.metrics.count_rotation(reconciler.backend_kind(), true);
    }
    let note = format!("the credentials of key {} are in the Secret `{}`", key.sequence, target.secret);
    context.shared.events.normal(object.object_ref(&()), "SecretWritten", "Store", note);
}

/// Whether the Secret was written with the credentials of this digest, for a key before this one.
fn has_written(reconciler: &Reconciler<'_>, digest: &str, sequence: Sequence) -> bool {
    let marks = reconciler.existing_secret().and_then(|meta| secret::read(&meta));
    let known = reconciler.local.written.as_ref().map(|written| written.marks.clone());
    known
        .into_iter()
        .chain(marks)
        .any(|marks| marks.key.sequence < sequence && marks.imprint.credentials.as_deref() == Some(digest))
}

/// Writes the Secret again without the previous key, on condition that it is still as it was observed.
async fn omit_previous(reconciler: &Reconciler<'_>, observed: &Observed) -> Result<Applied, Error> {
    let found = reconciler.read_secret().await?;
    // The same marks as those of the decision: another writer may have changed those on the Secret.
    let held = found.as_ref().and_then(|secret| reconciler.held(secret));
    let left = held.map(|(entries, marks)| secret::without_previous(entries, marks));
    send_again(reconciler, observed, reconciler.existing_secret().as_ref(), left).await
}

/// Writes the Secret again with the operator's entries that it contains, on condition that it is unchanged
/// since it was read.
async fn restore_secret(reconciler: &Reconciler<'_>, observed: &Observed) -> Result<Applied, Error> {
    let found = reconciler.read_secret().await?;
    let held = found.as_ref().and_then(|secret| reconciler.held(secret));
    let meta = found.map(|secret| secret.metadata.clone());
    let lookup = meta.clone().map(|meta| Change::SecretLookup(SecretLookup::Found(Box::new(meta))));
    let meta = meta.or_else(|| reconciler.existing_secret());
    let sent = send_again(reconciler, observed, meta.as_ref(), held).await?;
    Ok(lookup.into_iter().chain(sent).collect())
}

/// Writes entries that the Secret contains already, in the current layout.
async fn send_again(
    reconciler: &Reconciler<'_>,
    observed: &Observed,
    existing: Option<&ObjectMeta>,
    held: Option<(Entries, Marks<Claim>)>,
) -> Result<Applied, Error> {
    let known = |sequence| observed.recorded.key.clone().filter(|key| key.sequence == sequence);
    let Some((entries, marks, key)) =
        held.and_then(|(entries, marks)| known(marks.key.sequence).map(|key| (entries, marks, key)))
    else {
        return Ok(vec![distrust_cache(reconciler)]);
    };
    let written = &marks.imprint;
    let credentials = written.credentials.clone();
    let layout = reconciler.layout();
    let mut imprint = Imprint { credentials, ..Imprint::new(&layout, &entries, &observed.owner) };
    if written.layout != imprint.layout && written.rendering != imprint.rendering {
        // The entries were rendered from other templates.
        imprint = Imprint { layout: written.layout.clone(), rendering: written.rendering.clone(), ..imprint };
    }
    let marks = Marks { imprint, former: observed.recorded.former, ..marks.of(key) };
    send(reconciler, existing, &entries, &marks).await
}

/// Writes the Secret over this version. The last change is [`Change::SecretWritten`] if it is stored as it was sent.
async fn send(
    reconciler: &Reconciler<'_>,
    existing: Option<&ObjectMeta>,
    entries: &Entries,
    marks: &Marks,
) -> Result<Applied, Error> {
    let Reconciler { target, context, .. } = reconciler;
    let (layout, owner) = (reconciler.layout(), &target.owner_reference);
    let secret = HeldSecret::from(match existing {
        Some(meta) => secret::replace(meta, owner, &layout, entries, marks),
        None => secret::build(&target.secret, &target.namespace, owner, &layout, entries, marks),
    });
    let stored = match send_secret(reconciler, &secret, &as_field_manager()).await {
        Ok(stored) => stored,
        Err(error) => return refusal(reconciler, error),
    };
    if let Some(altered) = alteration(reconciler, &secret, &stored) {
        return Ok(vec![altered]);
    }
    context.secrets.remember(&stored.metadata, true);
    Ok(vec![Change::SecretWritten(written_secret(&stored.metadata, marks.clone().into()))])
}

/// The difference between the Secret that was sent and the one that is stored, as a failure.
fn alteration(reconciler: &Reconciler<'_>, sent: &Secret, stored: &Secret) -> Option<Change> {
    let change = secret::changed(sent, stored)?;
    Some(Change::Learned(Answer::Failed(Failure {
        attempted: Attempted::Store,
        class: ErrorClass::Rejected,
        message: format!("the API server stores the Secret `{}` with {change}", reconciler.target.secret),
        retry_after: None,
    })))
}

async fn send_secret(
    reconciler: &Reconciler<'_>,
    secret: &Secret,
    parameters: &PostParams,
) -> Result<HeldSecret, Error> {
    let attempts = ["create the Secret", "replace the Secret"];
    let written = put_secret(reconciler, attempts, secret, parameters).await;
    let key = ParametersKey::read(&secret.metadata).map(|key| SecretString::from(key.text()));
    let secrets = Entries::from_secret(secret).texts().into_iter().chain(key);
    written.map_err(|error| error.hiding(secrets))
}

/// Creates a Secret, or replaces the one of its version. `attempts` names both requests in errors, which may quote the
/// Secret.
pub(super) async fn put_secret(
    reconciler: &Reconciler<'_>,
    [create, replace]: [&'static str; 2],
    secret: &Secret,
    parameters: &PostParams,
) -> Result<HeldSecret, Error> {
    let api = reconciler.secrets_api();
    let name = secret.metadata.name.as_deref().unwrap_or_default();
    let written = if secret.metadata.resource_version.is_some() {
        bounded(replace, api.replace(name, parameters, secret)).await
    } else {
        bounded(create, api.create(parameters, secret)).await
    };
    written.map(HeldSecret::from)
}

/// The changes that follow from a failed write of the Secret.
///
/// # Errors
/// The same error, if it says nothing about the Secret.
fn refusal(reconciler: &Reconciler<'_>, error: Error) -> Result<Applied, Error> {
    let failed = |class, message| {
        let attempted = Attempted::Store;
        Change::Learned(Answer::Failed(Failure { attempted, class, message, retry_after: None }))
    };
    if error.is(409) || error.is(404) {
        let mut applied = overtaken(reconciler);
        if is_contested(reconciler) {
            applied.push(failed(ErrorClass::Transient, others_were_faster(reconciler)));
        }
        Ok(applied)
    } else if error.is(422) || error.is(403) {
        Ok(vec![failed(ErrorClass::Rejected, refusal_of_secret(reconciler, &error))])
    } else {
        Err(error)
    }
}

fn others_were_faster(reconciler: &Reconciler<'_>) -> String {
    let writers = reconciler.secret.other_writers.as_ref();
    let named = writers.map(|writers| format!("; `metadata.managedFields` names {writers}"));
    format!(
        "another writer changed the Secret `{}` each time that the operator was about to write it{}",
        reconciler.target.secret,
        named.unwrap_or_default()
    )
}

fn refusal_of_secret(reconciler: &Reconciler<'_>, error: &Error) -> String {
    let secret = &reconciler.target.secret;
    let said = error.to_string();
    // The type of a Secret, and whether it is immutable, can't be changed.
    let advice = if said.contains("immutable") {
        "; delete the Secret, and the operator creates it again"
    } else {
        ""
    };
    format!("the API server refuses the Secret `{secret}`: {said}{advice}")
}

/// The changes after another writer was faster than the operator.
fn overtaken(reconciler: &Reconciler<'_>) -> Applied {
    vec![distrust_cache(reconciler), Change::WriteConflict]
}

/// Whether other writers were faster so often that this reconcile stops trying.
fn is_contested(reconciler: &Reconciler<'_>) -> bool {
    reconciler.secret.conflicts >= MOST_CONFLICTS
}

/// Marks the cached Secret as outdated. The next step looks the Secret up.
fn distrust_cache(reconciler: &Reconciler<'_>) -> Change {
    reconciler.context.secrets.forget(&reconciler.target.namespace, &reconciler.target.secret);
    Change::CacheOutdated
}

/// Removes the operator's marks from the Secret, on condition that it still belongs to the operator.
async fn release_secret(reconciler: &Reconciler<'_>) -> Result<Applied, Error> {
    let found = reconciler.read_secret().await?;
    let Some(secret) = found.filter(|secret| reconciler.owns(&secret.metadata)) else {
        return Ok(vec![distrust_cache(reconciler)]);
    };
    let released = secret::release((*secret).clone(), &reconciler.target.owner_reference);
    match send_secret(reconciler, &HeldSecret::from(released), &as_field_manager()).await {
        Ok(released) => {
            let lookup = SecretLookup::Found(Box::new(released.metadata.clone()));
            Ok(vec![Change::SecretLookup(lookup)])
        }
        Err(error) => refusal(reconciler, error),
    }
}

async fn delete_secret(reconciler: &Reconciler<'_>) -> Result<Applied, Error> {
    let absent = || Ok(vec![Change::SecretLookup(SecretLookup::Absent)]);
    let Some(meta) = reconciler.existing_secret() else { return absent() };
    let preconditions = Preconditions { uid: meta.uid, resource_version: meta.resource_version };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    let api = reconciler.secrets_api();
    match bounded("delete the Secret", api.delete(&reconciler.target.secret, &parameters)).await {
        Ok(_) => absent(),
        Err(error) if error.is(404) => absent(),
        Err(error) if error.is(409) && is_contested(reconciler) => Err(Error::Outdated),
        Err(error) if error.is(409) => Ok(overtaken(reconciler)),
        Err(error) => Err(error),
    }
}
