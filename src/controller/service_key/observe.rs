//! First stage of a step: collects the input of the next decision from the caches. It reads only a Secret
//! that seems damaged, and writes nothing to an API. In memory, it reserves the name of the Secret and takes
//! a seat.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::ResourceExt;
use uuid::Uuid;

use super::{
    Worker,
    heirs::heir,
    local_state::WrittenSecret,
    pending_restarts::Targets,
    reconciler::{Reconciler, SecretLookup, Target, written_secret},
    seats::Seat,
    staging, status,
    templates::LayoutVerdict,
    verification,
};
use crate::{
    api::{Adoption, ProviderKind, Reason, marks},
    backend::RequestLimits,
    controller::{error::Error, finalizer, unread},
    lifecycle::{
        Claim, Companion, Desired, Evidence, Flaw, GracePeriod, Inheritance, KeyAccess, Observed, Problem,
        ProviderView, Recorded, RequestedKey, SecretView, Sequence, Windows,
    },
    secret::{self, Entries, Former, Layout, Marks, Ownership},
};

/// The result of this stage.
pub(super) struct Snapshot {
    /// The input of the decision.
    pub(super) observed: Observed,
    /// The Secret, if it is as the operator wrote it.
    pub(super) intact: Option<WrittenSecret>,
}

/// Collects the input of the next decision. `problem` is the result of [`check_spec`].
///
/// # Errors
/// When the Kubernetes API fails; [`Error::Outdated`] until the caches contain all objects that the answer
/// depends on.
pub(super) async fn observe(
    reconciler: &Reconciler<'_>,
    problem: Option<Problem>,
) -> Result<Snapshot, Error> {
    let Reconciler { context, target, key, local, run, .. } = reconciler;
    let providers = &context.shared.providers;
    let recorded = status::read(key.status.as_ref());
    let SecretObservation { view, intact, other_writers } = secret(reconciler).await?;
    let now = context.shared.clock.now();
    let (admitted, marks_keys) = (is_admitted(reconciler), providers.marks_keys(&target.provider));
    let owner = reconciler.owner_of_keys();
    let evidence = Evidence { owner, recorded: &recorded, run, admitted, marks_keys, now };
    let secret = view.believed(&evidence);
    let observed = Observed {
        owner,
        desired: desired(reconciler, problem),
        secret,
        staging: staging::view(reconciler),
        provider: provider(reconciler)?,
        admitted,
        plan: reconciler.plan_view(),
        noted_first: reconciler.noted_plan(),
        marks_keys,
        pause: pause(reconciler),
        run: run.clone(),
        missed: missed(reconciler),
        grace: grace_period(reconciler),
        // Another process created a key of a former ServiceKey.
        all_refused: local.stored_finalizer && !local.may_have_created && recorded.former.is_none(),
        repair_from: local.repairs.next(),
        other_writers,
        companions: companions(reconciler, &recorded),
        parameters: local.parameters.view,
        published: status::published_ready(key.status.as_ref(), key.metadata.generation),
        recorded,
        now,
    };
    Ok(Snapshot { observed, intact })
}

/// Checks the spec. The driver keeps the result for each generation.
///
/// # Errors
/// [`Error::Unchecked`] if the templates of the spec can't be checked now.
pub(super) async fn check_spec(
    reconciler: &Reconciler<'_>,
    worker: &mut Worker<'_>,
) -> Result<Option<Problem>, Error> {
    let Reconciler { context, target, key, local, .. } = reconciler;
    let generation = key.metadata.generation.unwrap_or_default();
    if let Some((checked, problem)) = &local.checked_spec
        && *checked == generation
    {
        return Ok(problem.clone());
    }
    if let Some(problem) = unread::excess(&key.metadata) {
        return Ok(Some(problem));
    }
    let windows = key.spec.rotation.as_ref().map(|rotation| Windows::new(&rotation.windows));
    if let Some(Err(message)) = windows {
        return Ok(Some(Problem { reason: Reason::InvalidSpec, message }));
    }
    if key.spec.secret.secret_type == secret::STAGING_TYPE {
        let message =
            format!("`spec.secret.type` can't be `{}`, which only the operator uses", secret::STAGING_TYPE);
        return Ok(Some(Problem { reason: Reason::InvalidSpec, message }));
    }
    let verify = key.spec.rotation.as_ref().and_then(|rotation| rotation.verify.as_ref());
    if verify.is_some() && !context.shared.prober.has_networks(&target.namespace) {
        let message = "the administrator admits no network for `spec.rotation.verify` in this namespace \
                       (`--verify-cidr`, chart value `operator.verifyCidrs`)";
        return Ok(Some(Problem { reason: Reason::NotPermitted, message: message.to_owned() }));
    }
    if let Some(verify) = verify {
        let verdict = check_layout(reconciler, worker, verification::layout(verify)).await;
        let problem = invalid_layout(verdict, "`spec.rotation.verify` can't be used")?;
        if problem.is_some() {
            return Ok(problem);
        }
    }
    let layout = reconciler.layout_in_spec();
    let verdict = match context.shared.options.secrets.check(&layout) {
        Err(refused) => Err(refused),
        Ok(()) => check_layout(reconciler, worker, layout).await,
    };
    invalid_layout(verdict, "`spec.secret` can't be fulfilled")
}

/// Checks the templates of a layout, without the worker's slot if that takes a thread.
async fn check_layout(reconciler: &Reconciler<'_>, worker: &mut Worker<'_>, layout: Layout) -> LayoutVerdict {
    let Reconciler { context, target, .. } = reconciler;
    let templates = &context.shared.shares.templates;
    match templates.known(&target.lane, &layout) {
        Some(verdict) => verdict,
        None => worker.idle_during(templates.validate(&target.lane, layout)).await,
    }
}

/// # Errors
/// [`Error::Unchecked`] if the check could not be made now.
fn invalid_layout(verdict: LayoutVerdict, complaint: &str) -> Result<Option<Problem>, Error> {
    match verdict {
        Ok(()) => Ok(None),
        Err(error) if error.is_transient() => Err(Error::Unchecked(error)),
        Err(error) => {
            let message = format!("{complaint}: {error}");
            Ok(Some(Problem { reason: Reason::InvalidSpec, message }))
        }
    }
}

fn desired(reconciler: &Reconciler<'_>, problem: Option<Problem>) -> Desired {
    let key = &reconciler.key;
    let finalizer = finalizer::has(&key.metadata, marks::FINALIZER);
    let deleting = key.metadata.deletion_timestamp.is_some();
    let abandons = key.annotations().get(marks::ABANDON_ANNOTATION).is_some_and(|value| value == "true");
    Desired {
        finalizer,
        deleting,
        problem,
        ..Desired::new(&key.spec, &reconciler.allowance(), reconciler.inputs(), abandons)
    }
}

fn grace_period(reconciler: &Reconciler<'_>) -> GracePeriod {
    let timeout =
        reconciler.usable_backend().map_or(RequestLimits::DEFAULT_TIMEOUT, |backend| backend.timeout());
    let shared = &reconciler.context.shared;
    let acquired_at = shared.leadership.acquired_at().unwrap_or_else(|| shared.clock.now());
    GracePeriod::new(timeout, acquired_at, reconciler.local.stored_finalizer)
}

/// The current key, if the last list of all keys did not contain it.
fn missed(reconciler: &Reconciler<'_>) -> Option<Sequence> {
    let sequence = Sequence::new(reconciler.key.status.as_ref()?.key.as_ref()?.sequence)?;
    let missing = &reconciler.context.shared.missing_keys;
    missing.contains(reconciler.identity(sequence)).then_some(sequence)
}

/// The other ServiceKeys with which a ServiceKey that has to restart workloads may restart them.
fn companions(reconciler: &Reconciler<'_>, recorded: &Recorded) -> BTreeMap<Uuid, Companion> {
    if recorded.restart.is_none() {
        return BTreeMap::new();
    }
    let Target { namespace, uid, .. } = &reconciler.target;
    let targets = Targets::of(reconciler.key.restart_targets());
    reconciler.context.restarts.companions(namespace, *uid, &targets)
}

/// The end of the pause that the remote side requested.
fn pause(reconciler: &Reconciler<'_>) -> Option<Timestamp> {
    let paused = reconciler.usable_backend()?.paused()?;
    reconciler.context.shared.clock.now().checked_add(paused).ok()
}

/// Whether the provider admits the ServiceKey's namespace.
fn is_admitted(reconciler: &Reconciler<'_>) -> bool {
    let providers = &reconciler.context.shared.providers;
    reconciler.with_tenant(|tenant| providers.admits(&reconciler.target.provider, tenant))
}

/// Whether the remote side can be called on behalf of the ServiceKey.
fn provider(reconciler: &Reconciler<'_>) -> Result<ProviderView, Error> {
    let Reconciler { context, target, key, .. } = reconciler;
    let providers = &context.shared.providers;
    let backend = reconciler.usable_backend();
    let view = reconciler.with_tenant(|tenant| providers.view(&target.provider, tenant));
    // Without a provider it does not matter whether the former ServiceKey exists.
    let former = reconciler.former().filter(|_| view.is_some());
    let view = KeyAccess {
        provider: &target.provider.to_string(),
        view,
        is_served: key.spec.provider_ref.kind == ProviderKind::KeyProvider
            || context.shared.options.namespaces.is_none(),
        inheritance: former.map(|uid| obstacle_to_inheritance(reconciler, &[uid])).transpose()?.flatten(),
        asks_for_role: key.spec.ibm_cloud.is_some(),
        has_roles: backend.as_ref().is_none_or(|backend| backend.has_roles()),
        asks_for_adoption: key.spec.adoption == Adoption::IfExists,
        adopts_keys: backend.as_ref().is_none_or(|backend| backend.adopts_keys()),
        not_permitted: not_permitted(reconciler),
    }
    .view();
    match view {
        // A seat is taken only if nothing else blocks the ServiceKey.
        ProviderView::Available => {
            Ok(take_seat(reconciler)?.map_or(ProviderView::Available, ProviderView::Closed))
        }
        ProviderView::Closed(_) | ProviderView::Unavailable(_) => Ok(view),
    }
}

/// Returns the reason, if any, why the ServiceKey may not continue with the keys of these former ServiceKeys.
///
/// # Errors
/// [`Error::Outdated`] until all ServiceKeys are known.
fn obstacle_to_inheritance(reconciler: &Reconciler<'_>, uids: &[Uuid]) -> Result<Option<Problem>, Error> {
    let Reconciler { context, target, key, .. } = reconciler;
    let index = &context.shared.index;
    let Some(heir) = heir(key) else { return Err(Error::Malformed("metadata.creationTimestamp")) };
    let mut is_former_alive = false;
    for uid in uids {
        // The keys of a ServiceKey that is gone may still be in revocation. One of these revocations may be that of the
        // ServiceKey at hand, which must not wait for itself.
        let own = usize::from(reconciler.vanished && reconciler.goes_on_with(*uid));
        let is_leaving = context.departures.revocations_of(*uid) > own;
        is_former_alive |= is_leaving || index.has_service_key(*uid).ok_or(Error::Outdated)?;
    }
    let denied = reconciler.allowance().restore_denied();
    let inheritance = Inheritance {
        namespace: &target.namespace,
        heir,
        is_settled: reconciler.former().is_some_and(|uid| uids.contains(&uid)),
        is_former_alive,
        other_heir: uids
            .iter()
            .filter_map(|uid| index.first_heir_except(*uid, &target.provider, heir.uid))
            .min(),
        is_proved_by_marks: reconciler.usable_backend().is_some_and(|backend| backend.marks_show_names()),
        denied: denied.as_deref(),
    };
    Ok(inheritance.obstacle())
}

/// The first setting of the spec that the provider does not permit in the namespace.
fn not_permitted(reconciler: &Reconciler<'_>) -> Option<Problem> {
    let status = reconciler.key.status.as_ref();
    reconciler.allowance().refusal(&RequestedKey {
        namespace: &reconciler.target.namespace,
        spec: &reconciler.key.spec,
        has_key: status.is_some_and(|status| status.key.is_some()),
    })
}

/// Takes a seat for the ServiceKey among those of its namespace, or returns why none is free. A ServiceKey
/// that is being deleted needs none.
///
/// # Errors
/// [`Error::Outdated`] if the index has not seen the ServiceKey yet.
fn take_seat(reconciler: &Reconciler<'_>) -> Result<Option<Problem>, Error> {
    let Reconciler { context, target, key, .. } = reconciler;
    let allowance = reconciler.allowance();
    let Some(max) = allowance.max_keys().filter(|_| key.metadata.deletion_timestamp.is_none()) else {
        return Ok(None);
    };
    match context.shared.seats.take(&target.provider, &target.namespace, target.uid, max) {
        Seat::Taken => Ok(None),
        Seat::Refused => Ok(allowance.limit_exceeded(&target.namespace)),
        Seat::Unknown => Err(Error::Outdated),
    }
}

/// The Secret as it was observed.
struct SecretObservation {
    view: SecretView<Claim>,
    intact: Option<WrittenSecret>,
    other_writers: Option<String>,
}

/// Observes the newest known version of the Secret.
async fn secret(reconciler: &Reconciler<'_>) -> Result<SecretObservation, Error> {
    let Reconciler { context, target, secret, .. } = reconciler;
    let unread = |view| SecretObservation { view, intact: None, other_writers: secret.other_writers.clone() };
    if let Some(holder) = reserve_secret(reconciler) {
        return Ok(unread(SecretView::Foreign { holder }));
    }
    let (meta, verified) = match &secret.lookup {
        Some(SecretLookup::Absent) => return Ok(unread(SecretView::Absent)),
        Some(SecretLookup::Found(meta)) => (meta.as_ref().clone(), false),
        None if secret.distrusts_cache => return Ok(unread(SecretView::Unknown)),
        None => match context.secrets.get(&target.namespace, &target.secret) {
            None => return Ok(unread(SecretView::Unknown)),
            Some(known) => (known.meta, known.verified),
        },
    };
    match secret::ownership(&meta, &target.owner_reference) {
        Ownership::Foreign { holder } => Ok(unread(SecretView::Foreign { holder })),
        Ownership::Former(Former { owner, created_for }) if !reconciler.goes_on_with(created_for) => {
            let obstacle = obstacle_to_inheritance(reconciler, &[owner, created_for])?;
            let sequence = secret::read(&meta).map(|marks| marks.key.sequence);
            let looked_up = secret.lookup.is_some();
            Ok(unread(SecretView::Former { uid: created_for, sequence, looked_up, obstacle }))
        }
        Ownership::Former(_) | Ownership::Ours => own_secret(reconciler, &meta, verified).await,
    }
}

/// Returns another ServiceKey that reserved the Secret's name first, and may be creating a key for it.
fn reserve_secret(reconciler: &Reconciler<'_>) -> Option<String> {
    let Reconciler { context, target, key, .. } = reconciler;
    if key.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let reserved = context.reservations.reserve(&target.namespace, &target.secret, target.uid, &target.name);
    reserved.err().map(|rival| format!("ServiceKey `{rival}`"))
}

/// Whether the operator's own Secret is intact. The operator reads the whole Secret only if its metadata does
/// not answer that.
async fn own_secret(
    reconciler: &Reconciler<'_>,
    meta: &ObjectMeta,
    verified: bool,
) -> Result<SecretObservation, Error> {
    let (layout, marks) = (reconciler.layout(), secret::read(meta));
    let owner = &reconciler.target.owner_reference;
    let is_right = |marks: &&Marks<Claim>| {
        let complete = secret::intact(meta, owner, &layout);
        // Admission may have changed what the operator wrote. The API server accepted it in that form.
        let accepted = is_own_version(reconciler, meta);
        marks.imprint.layout == layout.digest() && (accepted || complete && verified)
    };
    if let Some(marks) = marks.as_ref().filter(is_right) {
        let (key, previous) = (marks.key.clone(), marks.previous);
        let intact = Some(written_secret(meta, marks.clone()));
        let view = SecretView::Intact { key, previous, flaw: None };
        return Ok(SecretObservation { view, intact, other_writers: None });
    }
    let secret = reconciler.read_secret().await?.filter(|secret| secret.metadata.uid == meta.uid);
    let other_writers = secret.as_ref().and_then(|secret| secret::other_writers(secret, &layout));
    let held = secret.as_ref().and_then(|secret| Some((secret, reconciler.held(secret)?)));
    let Some((secret, (entries, held))) = held else {
        let previous = marks.as_ref().and_then(|marks| marks.previous);
        let view = SecretView::Damaged { key: marks.map(|marks| marks.key), previous };
        return Ok(SecretObservation { view, intact: None, other_writers });
    };
    let flaw = flaw(secret, (&entries, &held), owner, &layout);
    let intact = flaw.is_none().then(|| {
        reconciler.context.secrets.remember(&secret.metadata, true);
        written_secret(&secret.metadata, held.clone())
    });
    let view = SecretView::Intact { key: held.key, previous: held.previous, flaw };
    Ok(SecretObservation { view, intact, other_writers })
}

/// The flaw of a Secret that contains these entries of the operator.
fn flaw(
    secret: &Secret,
    (entries, held): (&Entries, &Marks<Claim>),
    owner: &OwnerReference,
    layout: &Layout,
) -> Option<Flaw> {
    let Marks { imprint, .. } = held;
    let is_as_marked = secret::read(&secret.metadata).as_ref() == Some(held);
    let is_complete = secret::intact(&secret.metadata, owner, layout);
    let is_exact = secret.data.as_ref().map_or(0, BTreeMap::len) == entries.names().count();
    let is_wanted = imprint.layout == layout.digest();
    if is_as_marked && is_complete && is_exact && is_wanted {
        None
    } else if is_wanted || imprint.rendering.as_ref() == Some(&layout.rendering()) {
        Some(Flaw::Edited)
    } else {
        Some(Flaw::Outdated)
    }
}

/// Whether the operator wrote exactly this version, according to the status or to this process's memory.
fn is_own_version(reconciler: &Reconciler<'_>, meta: &ObjectMeta) -> bool {
    let Reconciler { target: Target { secret: name, .. }, key, local, .. } = reconciler;
    let version = meta.resource_version.as_ref();
    let known = local.written.as_ref().and_then(|written| written.version.as_ref());
    let recorded = key.status.as_ref().and_then(|status| status.secret.as_ref());
    let recorded = recorded.filter(|secret| secret.name == *name).map(|secret| &secret.resource_version);
    version.is_some() && [known, recorded].contains(&version)
}
