//! The effects on the staging Secret, which has the credentials of a key until they are verified.

use std::iter;

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::api::{DeleteParams, PostParams, Preconditions};

use super::{
    apply::{Applied, Change, put_secret},
    reconciler::{Reconciler, Target},
};
use crate::{
    backend::{Credentials, ErrorClass},
    controller::{
        as_field_manager,
        error::{Error, bounded},
    },
    lifecycle::{
        Answer, Attempted, Evidence, Failure, KeyRecord, Observed, SecretView, Sequence, StagingView,
    },
    secret::{self, Ownership},
    wipe::HeldSecret,
};

/// The staging Secret, as far as the cache or a request of this reconcile shows it.
pub(super) fn view(reconciler: &Reconciler<'_>) -> StagingView {
    let Reconciler { context, target, secret, .. } = reconciler;
    if let Some(seen) = &secret.staging {
        return seen.clone();
    }
    let name = secret::staging_name(target.uid);
    match context.secrets.get(&target.namespace, &name) {
        Some(known) => view_of(reconciler, &known.meta),
        None => StagingView::Absent,
    }
}

fn view_of(reconciler: &Reconciler<'_>, meta: &ObjectMeta) -> StagingView {
    let Reconciler { target, local, .. } = reconciler;
    let name = secret::staging_name(target.uid);
    match secret::ownership(meta, &target.owner_reference) {
        Ownership::Ours => {}
        Ownership::Foreign { holder } => {
            return StagingView::Foreign { holder: format!("the name `{name}` is that of {holder}") };
        }
        Ownership::Former(_) => {
            return StagingView::Foreign { holder: format!("`{name}` belongs to another ServiceKey") };
        }
    }
    if meta.deletion_timestamp.is_some() {
        return StagingView::Foreign { holder: format!("`{name}` is deleted, and a finalizer keeps it") };
    }
    let Some(marks) = secret::read(meta) else { return StagingView::Damaged };
    // The remote side may have created the key of this number again, with other credentials.
    let in_hand = local.in_hand().filter(|(key, _)| key.sequence == marks.key.sequence);
    let differs = |(_, credentials): (&KeyRecord, Credentials)| {
        marks.imprint != secret::staging_imprint(target.uid, credentials.expose())
    };
    if in_hand.is_some_and(differs) { StagingView::Damaged } else { StagingView::Holds(marks.key.sequence) }
}

/// Sends a staging Secret without credentials as a dry run, if the spec wants new credentials to be verified and there is
/// none. Returns why the API server does not store it.
pub(super) async fn rehearse(reconciler: &Reconciler<'_>) -> Result<Option<Change>, Error> {
    let Reconciler { target, key, .. } = reconciler;
    let name = secret::staging_name(target.uid);
    let wants_it = key.spec.rotation.as_ref().is_some_and(|rotation| rotation.verify.is_some());
    if !wants_it {
        return Ok(None);
    }
    match view(reconciler) {
        StagingView::Absent => {}
        StagingView::Foreign { holder } => return Ok(Some(refused(&holder))),
        StagingView::Damaged | StagingView::Holds(_) => return Ok(None),
    }
    let staged = secret::staging_rehearsal(target.uid, &target.namespace, &target.owner_reference);
    let staged = HeldSecret::from(staged);
    let parameters = PostParams { dry_run: true, ..as_field_manager() };
    match send(reconciler, &staged, &parameters).await {
        Ok(stored) => Ok(alteration(&name, &staged, &stored)),
        Err(error) if error.is(409) => Ok(match look_up(reconciler, &name).await? {
            StagingView::Foreign { holder } => Some(refused(&holder)),
            StagingView::Absent | StagingView::Damaged | StagingView::Holds(_) => None,
        }),
        // A webhook that does not support dry runs says nothing about the Secret.
        Err(error) if error.is(400) => Ok(None),
        Err(error) => refusal(&name, error).map(Some),
    }
}

/// Writes the credentials in hand into the staging Secret.
pub(super) async fn stage(reconciler: &Reconciler<'_>, key: KeyRecord) -> Result<Applied, Error> {
    let Reconciler { context, target, local, .. } = reconciler;
    let in_hand = local.in_hand().filter(|(held, _)| held.sequence == key.sequence);
    let Some((_, credentials)) = in_hand else { return Ok(vec![Change::CredentialsGone]) };
    let name = secret::staging_name(target.uid);
    let known = context.secrets.get(&target.namespace, &name).map(|known| known.meta);
    let existing = known.filter(|_| view(reconciler).is_ours());
    let staged = secret::staged(
        target.uid,
        &target.namespace,
        &target.owner_reference,
        existing.as_ref(),
        key,
        credentials.expose(),
    );
    let staged = HeldSecret::from(staged);
    match send(reconciler, &staged, &as_field_manager()).await {
        Ok(stored) => {
            context.secrets.remember(&stored.metadata, true);
            Ok(iter::once(Change::Staged).chain(alteration(&name, &staged, &stored)).collect())
        }
        Err(error) if error.is(409) || error.is(404) => {
            Ok(vec![Change::StagingSeen(look_up(reconciler, &name).await?)])
        }
        Err(error) => refusal(&name, error).map(|refused| vec![refused]),
    }
}

/// Looks the staging Secret up by its name, because the cache does not show it as it is.
async fn look_up(reconciler: &Reconciler<'_>, name: &str) -> Result<StagingView, Error> {
    let Reconciler { context, target, .. } = reconciler;
    context.secrets.forget(&target.namespace, name);
    let api = reconciler.secrets_api();
    let found = bounded("look up the staging Secret", api.get_metadata_opt(name)).await?;
    let Some(found) = found else { return Ok(StagingView::Absent) };
    let view = view_of(reconciler, &found.metadata);
    if view.is_ours() {
        context.secrets.remember(&found.metadata, false);
    }
    Ok(view)
}

/// The failure if the API server stores something else than it was sent.
fn alteration(name: &str, sent: &Secret, stored: &Secret) -> Option<Change> {
    let change = secret::changed(sent, stored)?;
    Some(refused(&format!("the API server stores the Secret `{name}` with {change}")))
}

/// # Errors
/// The same error, if it says nothing about the Secret.
fn refusal(name: &str, error: Error) -> Result<Change, Error> {
    if error.is(422) || error.is(403) {
        Ok(refused(&format!("the API server refuses the Secret `{name}`: {error}")))
    } else {
        Err(error)
    }
}

fn refused(problem: &str) -> Change {
    Change::Learned(Answer::Failed(Failure {
        attempted: Attempted::Store,
        class: ErrorClass::Rejected,
        message: format!("`spec.rotation.verify` needs a further Secret, and {problem}"),
        retry_after: None,
    }))
}

async fn send(
    reconciler: &Reconciler<'_>,
    secret: &Secret,
    parameters: &PostParams,
) -> Result<HeldSecret, Error> {
    let attempts = ["create the staging Secret", "replace the staging Secret"];
    let written = put_secret(reconciler, attempts, secret, parameters).await;
    written.map_err(|error| error.hiding(secret::staged_texts(secret)))
}

/// Takes the credentials in the staging Secret in hand, if they are those of this key.
pub(super) async fn take(
    reconciler: &Reconciler<'_>,
    observed: &Observed,
    sequence: Sequence,
) -> Result<Applied, Error> {
    let Target { uid, namespace, .. } = &reconciler.target;
    let name = secret::staging_name(*uid);
    let found = reconciler.secret_reader().read("read the staging Secret", &name).await?;
    let ours = found.filter(|secret| {
        secret::ownership(&secret.metadata, &reconciler.target.owner_reference) == Ownership::Ours
    });
    let read = ours.as_ref().and_then(|secret| secret::read_staged(secret, *uid));
    let Some((claim, credentials)) = read.filter(|(claim, _)| claim.sequence == sequence) else {
        return Ok(vec![Change::StagingRead(None)]);
    };
    let evidence = Evidence {
        owner: observed.owner,
        recorded: &observed.recorded,
        run: &observed.run,
        admitted: observed.admitted,
        marks_keys: observed.marks_keys,
        now: observed.now,
    };
    let view = SecretView::Intact { key: claim, previous: None, flaw: None };
    let Some(key) = view.believed(&evidence).key().cloned() else {
        return Ok(vec![Change::StagingRead(None)]);
    };
    let credentials = Credentials::new(credentials);
    let share = reconciler.context.shared.answer_memory.kept(Some(namespace));
    Ok(vec![match share.keep(credentials.size(), credentials) {
        Ok(kept) => Change::StagingRead(Some((key, kept))),
        Err(why) => Change::Learned(Answer::Failed(Failure {
            attempted: Attempted::Provision,
            class: ErrorClass::Transient,
            message: format!("the credentials of the key can't be kept in memory: {why}"),
            retry_after: None,
        })),
    }])
}

/// Deletes the staging Secret in the version in which it belongs to the ServiceKey. If another writer was faster, or a
/// finalizer keeps the Secret, a later reconcile tries again: neither may hold up the deletion of the ServiceKey.
pub(super) async fn discard(reconciler: &Reconciler<'_>) -> Result<Applied, Error> {
    let Reconciler { context, target, .. } = reconciler;
    let name = secret::staging_name(target.uid);
    let known = context.secrets.get(&target.namespace, &name);
    context.secrets.forget(&target.namespace, &name);
    let gone = vec![Change::StagingSeen(StagingView::Absent)];
    let Some(known) = known else { return Ok(gone) };
    let ObjectMeta { uid, resource_version, .. } = known.meta;
    let preconditions = Some(Preconditions { uid, resource_version });
    let parameters = DeleteParams { preconditions, ..DeleteParams::default() };
    match bounded("delete the staging Secret", reconciler.secrets_api().delete(&name, &parameters)).await {
        Ok(_) => Ok(gone),
        Err(error) if error.is(404) || error.is(409) => Ok(gone),
        Err(error) => Err(error),
    }
}
