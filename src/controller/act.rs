//! The effects: each is carried out once, and what came of it is what the next decision sees. Those at the Kubernetes
//! API are here; those at the remote side are in `ask`.

use std::sync::Arc;

use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Resource,
    api::{
        ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions, TypeMeta,
    },
};
use serde_json::{Value, json};

use super::{
    as_field_manager,
    error::{Error, bounded},
    finalizer, status,
    turn::{SecretLookup, Target, Turn},
    unread,
};
use crate::{
    api::{Reason, ServiceKey, marks},
    backend::ErrorClass,
    lifecycle::{
        Answer, Attempted, Claim, Effect, Failure, KeyRecord, OperationKind, Problem, Report, RunState,
        Sequence,
    },
    runtime::answers,
    secret::{self, Entries, Imprint, Marks},
    wipe::HeldSecret,
};

/// Writes of the Secret in one reconcile that another writer may be faster than.
const MOST_CONFLICTS: u32 = 3;

/// Whether the ServiceKey is still there after an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// It is.
    Continues,
    /// It is gone, or about to be.
    Ended,
}

impl Turn<'_> {
    /// Carries out one effect.
    pub(super) async fn act(&mut self, effect: Effect) -> Result<Flow, Error> {
        match effect {
            Effect::CheckInstance => self.check_instance().await,
            Effect::AddFinalizer => self.add_finalizer().await?,
            Effect::LookUpSecret => self.look_up_secret().await?,
            Effect::RehearseSecret => self.rehearse_secret().await?,
            Effect::Record(report) => self.record(&report).await?,
            Effect::Confirm(sequence) => self.confirm(sequence).await,
            Effect::Prove { former, sequence } => self.prove(former, sequence).await,
            Effect::Fetch(sequence) => self.fetch(sequence).await,
            Effect::Repeat(sequence) => self.repeat(sequence).await,
            Effect::Bind { sequence, predecessor } => self.bind(sequence, predecessor).await,
            Effect::Poll(work) => self.poll(work).await,
            Effect::WriteSecret { key, previous } => self.write_secret(*key, previous).await?,
            Effect::RestoreSecret => self.restore_secret().await?,
            Effect::OmitPrevious => self.omit_previous().await?,
            Effect::Unbind(sequence) => self.unbind(sequence).await,
            Effect::Release(sequence) => self.release(sequence).await,
            Effect::DeleteSecret => self.delete_secret().await?,
            Effect::ReleaseSecret => self.release_secret().await?,
            Effect::RemoveFinalizer { left_behind } => {
                self.remove_finalizer(&left_behind).await?;
                return Ok(Flow::Ended);
            }
        }
        Ok(Flow::Continues)
    }

    async fn add_finalizer(&mut self) -> Result<(), Error> {
        let ids = self.plan_view().ids().map(status::shown_plan_ids);
        // Those that are noted may be the ids of a key that exists already.
        let knows_key = self.key.status.as_ref().is_some_and(|status| status.key.is_some());
        let noted = ids.filter(|_| !knows_key && self.noted_first().is_none());
        let noted = noted.and_then(|ids| serde_json::to_string(&ids).ok());
        let annotation = noted.map(|ids| (marks::PLAN_IDS_ANNOTATION, ids));
        let write = finalizer::add_with(self.key.meta(), marks::FINALIZER, annotation);
        self.patch("add the finalizer", write).await?;
        self.local.stored_finalizer = true;
        Ok(())
    }

    async fn remove_finalizer(&mut self, left_behind: &[Sequence]) -> Result<(), Error> {
        if !left_behind.is_empty() {
            let keys: Vec<_> = left_behind.iter().map(ToString::to_string).collect();
            let note = format!("keys {} stay at the remote side, as asked for", keys.join(", "));
            self.context.events.warning(self.key.object_ref(&()), "KeysLeftBehind", "Delete", note);
            self.context.metrics.left_behind(self.kind_of_backend(), left_behind.len());
        }
        self.local.let_go = true;
        if self.vanished {
            return Ok(());
        }
        let write = finalizer::remove(self.key.meta(), marks::FINALIZER);
        self.patch("remove the finalizer", write).await
    }

    async fn patch(
        &mut self,
        attempt: &'static str,
        (parameters, patch): (PatchParams, Patch<Value>),
    ) -> Result<(), Error> {
        let api = self.keys_api();
        let write = api.patch(&self.target.name, &parameters, &patch);
        let written = bounded(attempt, write).await.map_err(Error::outdated)?;
        self.keep(written);
        Ok(())
    }

    /// Writes down what must not be forgotten.
    async fn record(&mut self, report: &Report) -> Result<(), Error> {
        let before = status::read(self.key.status.as_ref()).operation;
        let former = self.former();
        self.publish_status(report).await?;
        if self.former() != report.recorded.former {
            self.run.learn(Answer::Failed(Failure {
                attempted: Attempted::Store,
                class: ErrorClass::Rejected,
                message: "the API server does not store `status.formerUid`, which the operator needs to go on with the \
                          keys of a backup; apply the CustomResourceDefinitions of this release"
                    .to_owned(),
                retry_after: None,
            }));
        } else if self.former() != former {
            self.forget_own_keys();
        }
        let operation = &report.recorded.operation;
        let with_ids = operation.as_ref().filter(|operation| operation.plan_ids.is_some());
        self.run.recorded = with_ids.map(|operation| operation.sequence).or(self.run.recorded);
        let cleans_up = operation.as_ref().is_some_and(|operation| operation.kind == OperationKind::CleanUp);
        if cleans_up && *operation != before {
            self.context.metrics.count_mitigated_orphan(self.kind_of_backend());
        }
        Ok(())
    }

    /// Forgets what was learned of the ServiceKey's own keys, which are none: it goes on with those of a former one.
    fn forget_own_keys(&mut self) {
        self.run = RunState::default();
        self.local.written = None;
    }

    /// Writes the status, if the report changes anything in it.
    pub(super) async fn publish_status(&mut self, report: &Report) -> Result<(), Error> {
        let before = self.key.status.as_ref();
        let context = status::StatusContext {
            generation: self.key.metadata.generation,
            secret: &self.target.secret,
            secret_version: self.secret_version(),
            place: self.place_of_instance(),
            now: (self.context.clock)(),
        };
        let status = status::from_report(report, before, &context);
        if before == Some(&status) {
            return Ok(());
        }
        for problem in report.troubles() {
            self.publish_event(problem.reason, &problem.message);
        }
        let metadata = answers::without_note(self.key.metadata.clone());
        let object = ServiceKey { metadata, spec: self.key.spec.clone(), status: Some(status) };
        if self.vanished {
            self.key = Arc::new(object);
            return Ok(());
        }
        let (api, parameters) = (self.keys_api(), as_field_manager());
        let write = api.replace_status(&self.target.name, &parameters, &object);
        let written = bounded("write the status", write).await.map_err(Error::outdated)?;
        self.keep(written);
        Ok(())
    }

    /// Writes into the status of a ServiceKey that can't be read what keeps it from that. A status that can't be read
    /// is left alone, because a write would lose what it remembers.
    pub(super) async fn publish_unread(&self, problem: &Problem) -> Result<(), Error> {
        let (meta, before) = (&self.key.metadata, self.key.status.as_ref());
        let status = status::from_unread(before, problem, meta.generation, (self.context.clock)());
        if before == Some(&status) || !unread::has_read_status(meta) {
            return Ok(());
        }
        self.publish_event(problem.reason, &problem.message);
        let kind = ApiResource::erase::<ServiceKey>(&());
        let data = json!({"status": status});
        let metadata = answers::without_note(meta.clone());
        let object = DynamicObject { types: Some(TypeMeta::resource::<ServiceKey>()), metadata, data };
        // The answer can't be read as a ServiceKey either.
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.context.client.clone(), &self.target.namespace, &kind);
        let parameters = as_field_manager();
        let write = api.replace_status(&self.target.name, &parameters, &object);
        bounded("write the status", write).await.map_err(Error::outdated).map(drop)
    }

    /// The version of the Secret to remember: what we wrote, or else the first that was found to be right. Later
    /// versions that others made without harm are not worth a write.
    fn secret_version(&self) -> Option<String> {
        let remembered = || Some(self.key.status.as_ref()?.secret.as_ref()?.resource_version.clone());
        let found = || {
            let known = self.context.secrets.get(&self.target.namespace, &self.target.secret)?;
            known.meta.resource_version.filter(|_| known.verified)
        };
        self.written_version.clone().or_else(remembered).or_else(found)
    }

    /// Tells in an event what went wrong, when it begins to.
    fn publish_event(&self, reason: Reason, message: &str) {
        let mut shown = self.key.status.iter().flat_map(|status| &status.conditions);
        if shown.all(|condition| condition.reason != reason.as_str()) {
            let object = self.key.object_ref(&());
            self.context.events.warning(object, reason.as_str(), "Reconcile", message.to_owned());
        }
    }

    fn keep(&mut self, written: ServiceKey) {
        self.key = Arc::new(written);
        self.local.set_own_write(Arc::clone(&self.key));
    }

    async fn look_up_secret(&mut self) -> Result<(), Error> {
        let api = self.secrets_api();
        let found = bounded("look up the Secret", api.get_metadata_opt(&self.target.secret)).await?;
        self.secret_lookup = Some(match found {
            Some(secret) => SecretLookup::There(Box::new(secret.metadata)),
            None => SecretLookup::Absent,
        });
        Ok(())
    }

    /// Sends the Secret, with placeholders as entries, as a dry run.
    async fn rehearse_secret(&mut self) -> Result<(), Error> {
        let existing = self.existing_secret();
        let is_new = existing.is_none();
        let existing = existing.unwrap_or_else(|| ObjectMeta {
            name: Some(self.target.secret.clone()),
            namespace: Some(self.target.namespace.clone()),
            ..ObjectMeta::default()
        });
        let secret = secret::rehearsal(&existing, &self.target.owner_reference, &self.layout());
        let parameters = PostParams { dry_run: true, ..as_field_manager() };
        match self.send_secret(&secret, &parameters).await {
            Ok(stored) if !self.is_as_sent(&secret, &stored) => {}
            Ok(_) => {
                if is_new {
                    self.secret_lookup = Some(SecretLookup::Absent);
                }
                self.run.learn(Answer::Rehearsed);
            }
            Err(error) if is_new && error.is(409) => self.look_up_secret().await?,
            // A webhook that can't be asked without effect says nothing of the Secret.
            Err(error) if error.is(400) => {
                if is_new {
                    self.look_up_secret().await?;
                }
                self.run.learn(Answer::Rehearsed);
            }
            refused => drop(self.accept_write(refused)?),
        }
        Ok(())
    }

    /// Writes the credentials in hand, on condition that the Secret is still as it was observed.
    async fn write_secret(&mut self, key: KeyRecord, previous: Option<Sequence>) -> Result<(), Error> {
        let in_hand = self.local.in_hand().filter(|(held, _)| held.sequence == key.sequence);
        let Some(credentials) = in_hand.map(|(_, credentials)| credentials) else {
            // They had to make room for others. The key is asked for again.
            self.run.in_hand = None;
            return Ok(());
        };
        let layout = self.layout();
        let kept = match previous {
            Some(sequence) => self.kept(sequence).await?,
            None => None,
        };
        let previous = previous.filter(|_| kept.is_some());
        let salt = self.owner_of_keys();
        let digest = secret::digest_of(credentials.decisive().expose(), &salt);
        let (context, lane) = (self.context, self.target.lane.clone());
        let rendering = context.templates.render(&lane, layout.clone(), credentials);
        let rendered = self.idle_during(rendering).await.and_then(|entries| {
            if self.keeps_previous() { entries.with_previous(kept.as_ref()) } else { Ok(entries) }
        });
        let entries = match rendered {
            Ok(entries) => entries,
            Err(error) => {
                let failure = Failure {
                    attempted: Attempted::Render,
                    class: ErrorClass::Rejected,
                    message: format!("the credentials don't fit `spec.secret`: {error}"),
                    retry_after: None,
                };
                if error.may_pass() {
                    self.run.learn(Answer::Failed(failure));
                } else {
                    let answer = self.unusable(failure, key.sequence);
                    self.run.learn(answer);
                }
                return Ok(());
            }
        };
        let imprint = Imprint::new(&layout, &entries, &salt);
        let same = self.has_written(&digest, key.sequence);
        let key = KeyRecord { same_credentials: key.same_credentials || same, ..key };
        let imprint = Imprint { credentials: Some(digest), ..imprint };
        let marks = Marks { key, previous, former: self.former(), imprint };
        if self.send(&entries, &marks).await? {
            self.local.take_in_hand(None);
            self.run.learn(Answer::Stored(marks.key.clone()));
            self.local.reset_backoff();
            let current = self.key.status.as_ref().and_then(|status| status.key.as_ref());
            if current.is_some_and(|current| current.sequence < marks.key.sequence.number()) {
                self.context.metrics.count_rotation(self.kind_of_backend(), true);
            }
            let note = format!(
                "the credentials of key {} are in the Secret `{}`",
                marks.key.sequence, self.target.secret
            );
            self.context.events.normal(self.key.object_ref(&()), "SecretWritten", "Store", note);
        }
        Ok(())
    }

    /// Whether the Secret was written with the credentials of this digest, for a key before this one.
    fn has_written(&self, digest: &str, sequence: Sequence) -> bool {
        let marks = self.existing_secret().and_then(|meta| secret::read(&meta));
        let known = self.local.written.as_ref().map(|written| written.marks.clone());
        known.into_iter().chain(marks).any(|marks| {
            marks.key.sequence < sequence && marks.imprint.credentials.as_deref() == Some(digest)
        })
    }

    /// The entries that the Secret holds for this key, unless somebody edited them.
    async fn kept(&self, sequence: Sequence) -> Result<Option<Entries>, Error> {
        let found = self.read_secret().await?;
        Ok(found.and_then(|secret| secret::entries_of(&secret, sequence, &self.owner_of_keys())))
    }

    /// Writes the Secret again without the previous key, on condition that it is still as it was observed.
    async fn omit_previous(&mut self) -> Result<(), Error> {
        let found = self.read_secret().await?;
        let left = found.and_then(|secret| secret::without_previous(&secret, &self.owner_of_keys()));
        self.send_again(left).await
    }

    /// Writes the Secret again with the entries of ours that it holds, on condition that it is still as it was read.
    async fn restore_secret(&mut self) -> Result<(), Error> {
        let found = self.read_secret().await?;
        let held = found.as_ref().and_then(|secret| self.held(secret));
        self.secret_lookup = found.map(|secret| SecretLookup::There(Box::new(secret.metadata.clone())));
        self.send_again(held).await
    }

    /// Writes entries that the Secret holds already, in the present layout.
    async fn send_again(&mut self, held: Option<(Entries, Marks<Claim>)>) -> Result<(), Error> {
        let known = |marks: &Marks<Claim>| self.known(marks.key.sequence);
        let Some((entries, marks, key)) =
            held.and_then(|(entries, marks)| known(&marks).map(|key| (entries, marks, key)))
        else {
            self.distrust_cache();
            return Ok(());
        };
        let layout = self.layout();
        let written = &marks.imprint;
        let credentials = written.credentials.clone();
        let mut imprint = Imprint { credentials, ..Imprint::new(&layout, &entries, &self.owner_of_keys()) };
        if written.layout != imprint.layout && written.rendering != imprint.rendering {
            // The entries are still those of other templates.
            imprint =
                Imprint { layout: written.layout.clone(), rendering: written.rendering.clone(), ..imprint };
        }
        let marks = Marks { imprint, former: self.former(), ..marks.of(key) };
        self.send(&entries, &marks).await.map(drop)
    }

    /// Writes the Secret; says whether it is stored as it was sent.
    async fn send(&mut self, entries: &Entries, marks: &Marks) -> Result<bool, Error> {
        let secret = self.rendered(entries, marks);
        let written = self.send_secret(&secret, &as_field_manager()).await;
        let Some(stored) = self.accept_write(written)? else { return Ok(false) };
        if !self.is_as_sent(&secret, &stored) {
            return Ok(false);
        }
        self.secret_lookup = None;
        self.distrusts_cache = false;
        self.context.secrets.remember(&stored.metadata, true);
        self.written_version.clone_from(&stored.metadata.resource_version);
        self.note_intact(&stored.metadata, marks.clone().into());
        Ok(true)
    }

    /// Whether the API server keeps the Secret as it was sent.
    fn is_as_sent(&mut self, sent: &Secret, stored: &Secret) -> bool {
        let Some(change) = secret::changed(sent, stored) else { return true };
        self.run.learn(Answer::Failed(Failure {
            attempted: Attempted::Store,
            class: ErrorClass::Rejected,
            message: format!("the API server stores the Secret `{}` with {change}", self.target.secret),
            retry_after: None,
        }));
        false
    }

    /// The Secret to send: a new one, or ours with the version that was read.
    fn rendered(&self, entries: &Entries, marks: &Marks) -> HeldSecret {
        let Self { target, .. } = self;
        let layout = self.layout();
        let secret = match self.existing_secret() {
            Some(meta) => secret::replace(&meta, &target.owner_reference, &layout, entries, marks),
            None => secret::build(
                &target.secret,
                &target.namespace,
                &target.owner_reference,
                &layout,
                entries,
                marks,
            ),
        };
        HeldSecret::from(secret)
    }

    fn existing_secret(&self) -> Option<ObjectMeta> {
        match &self.secret_lookup {
            Some(SecretLookup::Absent) => None,
            Some(SecretLookup::There(meta)) => Some(meta.as_ref().clone()),
            None => {
                self.context.secrets.get(&self.target.namespace, &self.target.secret).map(|known| known.meta)
            }
        }
    }

    async fn send_secret(&self, secret: &Secret, parameters: &PostParams) -> Result<HeldSecret, Error> {
        let api = self.secrets_api();
        let written = if secret.metadata.resource_version.is_some() {
            bounded("replace the Secret", api.replace(&self.target.secret, parameters, secret)).await
        } else {
            bounded("create the Secret", api.create(parameters, secret)).await
        };
        written.map(HeldSecret::from).map_err(|error| error.hiding(Entries::from_secret(secret).texts()))
    }

    /// The Secret as it was sent, unless it was not taken.
    fn accept_write(&mut self, written: Result<HeldSecret, Error>) -> Result<Option<HeldSecret>, Error> {
        match written {
            Ok(secret) => Ok(Some(secret)),
            // Another writer was faster: look again.
            Err(error) if error.is(409) || error.is(404) => {
                self.distrust_cache();
                self.conflicts += 1;
                if self.conflicts > MOST_CONFLICTS {
                    self.run.learn(Answer::Failed(Failure {
                        attempted: Attempted::Store,
                        class: ErrorClass::Transient,
                        message: self.others_were_faster(),
                        retry_after: None,
                    }));
                }
                Ok(None)
            }
            Err(error) if error.is(422) || error.is(403) => {
                self.run.learn(Answer::Failed(Failure {
                    attempted: Attempted::Store,
                    class: ErrorClass::Rejected,
                    message: self.refusal_of_secret(&error),
                    retry_after: None,
                }));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn others_were_faster(&self) -> String {
        let writers = self.other_writers.as_ref();
        let named = writers.map(|writers| format!("; `metadata.managedFields` names {writers}"));
        format!(
            "another writer changed the Secret `{}` each time that the operator was about to write it{}",
            self.target.secret,
            named.unwrap_or_default()
        )
    }

    fn refusal_of_secret(&self, error: &Error) -> String {
        let Target { secret, .. } = &self.target;
        let said = error.to_string();
        // The type of a Secret, and whether it is immutable, can't be changed.
        let mendable = if said.contains("immutable") {
            "; delete the Secret, and the operator creates it again"
        } else {
            ""
        };
        format!("the API server refuses the Secret `{secret}`: {said}{mendable}")
    }

    fn distrust_cache(&mut self) {
        self.secret_lookup = None;
        self.context.secrets.forget(&self.target.namespace, &self.target.secret);
        self.distrusts_cache = true;
    }

    /// Leaves the Secret to whoever uses it, on condition that it is still ours.
    async fn release_secret(&mut self) -> Result<(), Error> {
        let found = self.read_secret().await?;
        let Some(secret) = found.filter(|secret| self.is_ours(&secret.metadata)) else {
            self.distrust_cache();
            return Ok(());
        };
        let released = self
            .send_secret(
                &HeldSecret::from(secret::release((*secret).clone(), &self.target.owner_reference)),
                &as_field_manager(),
            )
            .await;
        if let Some(released) = self.accept_write(released)? {
            self.secret_lookup = Some(SecretLookup::There(Box::new(released.metadata.clone())));
        }
        Ok(())
    }

    async fn delete_secret(&mut self) -> Result<(), Error> {
        let Some(meta) = self.existing_secret() else {
            self.secret_lookup = Some(SecretLookup::Absent);
            return Ok(());
        };
        let preconditions = Preconditions { uid: meta.uid, resource_version: meta.resource_version };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let api = self.secrets_api();
        match bounded("delete the Secret", api.delete(&self.target.secret, &parameters)).await {
            Ok(_) => self.secret_lookup = Some(SecretLookup::Absent),
            Err(error) if error.is(404) => self.secret_lookup = Some(SecretLookup::Absent),
            Err(error) if error.is(409) => self.distrust_cache(),
            Err(error) => return Err(error),
        }
        Ok(())
    }
}
