//! The effects at the remote side: each is asked for once, and what came of it is what the next decision sees.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::FutureExt;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use kube::Resource;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    local_state::{Circumstances, Occasion, Setback},
    status,
    turn::Turn,
};
use crate::{
    api::{Adoption as AdoptionPolicy, DeletionPolicy, IbmCloudAccess, ResourceAttribute, WantedRole},
    backend::{
        Accepted, AccessGrant, AdoptionPermit, Backend, BackendError, Bound, Credentials, ErrorClass,
        Fetched, IssuedKey, KeyFacts, KeyRequest, KeyRole, KnownSecrets, Parameters, Progress, Restored,
        ServiceIdAccess, Unbound, count_values,
    },
    lifecycle::{
        Answer, Attempted, Failure, Found, Identity, KeyRecord, LONGEST_OPERATION, Operation, OperationKind,
        PendingOperation, PlanIds, Problem, RemoteOperation, Sequence, Unusable, created_at, full_second,
    },
    runtime::{
        answers::{self, Size},
        metrics::KeyOperation,
    },
    wipe::{HeldSecret, SecretValues},
};

impl Turn<'_> {
    pub(super) async fn check_instance(&mut self) {
        let answer = match self.backend() {
            Err(failure) => Answer::Failed(failure),
            Ok(backend) => match backend.check_instance(&self.instance()).await {
                Ok(()) => Answer::InstanceChecked,
                Err(error) => Answer::Failed(failure(Attempted::Provision, &error)),
            },
        };
        self.learn_counted(KeyOperation::CheckInstance, answer);
    }

    /// Whether the check of the instance would send no request.
    pub(super) fn knows_instance(&self) -> bool {
        self.backend().is_ok_and(|backend| backend.knows_instance(&self.instance()))
    }

    pub(super) async fn bind(&mut self, sequence: Sequence, predecessor: Option<Sequence>) {
        let answer = match self.permitted_request(sequence).await {
            Err(failure) => Answer::Failed(failure),
            Ok((backend, request)) => {
                let predecessor = predecessor.map(|sequence| self.identity(sequence));
                match backend.bind(&KeyRequest { predecessor, ..request }).await {
                    Ok(bound) => self.take_bound(sequence, bound),
                    Err(error) => self.classify_bind_error(sequence, &error),
                }
            }
        };
        self.local.may_have_created |= !answer.had_no_effect();
        self.learn_counted(KeyOperation::Bind, answer);
    }

    fn take_bound(&mut self, sequence: Sequence, bound: Bound) -> Answer {
        match bound {
            Bound::Issued(issued) => self.take_in_hand(sequence, issued, self.inputs()),
            Bound::Accepted(accepted) => self.accepted(RemoteOperation::Bind, sequence, accepted),
            Bound::Repeated(bound) => {
                self.run.learn(Answer::GivenUp(sequence, full_second((self.context.clock)())));
                self.take_bound(sequence, *bound)
            }
        }
    }

    fn classify_bind_error(&mut self, sequence: Sequence, error: &BackendError) -> Answer {
        let failure = failure(Attempted::Provision, error);
        match error.class {
            // It was revoked and created again, and the answer is the same.
            ErrorClass::Withheld if self.run.revoked.contains_key(&sequence) => {
                let class = ErrorClass::Unusable;
                self.unusable(Failure { class, ..failure }, sequence)
            }
            ErrorClass::Conflict | ErrorClass::Withheld => Answer::Conflict(failure, sequence),
            ErrorClass::Unusable => self.unusable(failure, sequence),
            ErrorClass::OrphanPossible => self.lost(failure, sequence),
            ErrorClass::Unsure => self.unsure(failure, sequence),
            _ => Answer::Failed(failure),
        }
    }

    fn lost(&self, failure: Failure, sequence: Sequence) -> Answer {
        Answer::Lost(failure, sequence, full_second((self.context.clock)()))
    }

    fn unsure(&self, failure: Failure, sequence: Sequence) -> Answer {
        Answer::Unsure(failure, sequence, full_second((self.context.clock)()))
    }

    /// Asks whether a key is still there that a list did not show.
    pub(super) async fn confirm(&mut self, sequence: Sequence) {
        let asked = self.look_for(&self.bare_request(sequence)).await;
        if asked.is_ok() {
            self.context.missing_keys.remove(self.identity(sequence));
        }
        self.learn_counted(
            KeyOperation::Confirm,
            match asked {
                Ok(Some(KeyFacts { id, name, .. })) => Answer::Present(Found { sequence, id, name }),
                Ok(None) => Answer::Absent(sequence),
                Err(failure) => Answer::Failed(failure),
            },
        );
    }

    /// Asks whether the remote side has a key.
    async fn look_for(&self, request: &KeyRequest) -> Result<Option<KeyFacts>, Failure> {
        let backend =
            self.backend().map_err(|failure| Failure { attempted: Attempted::Confirm, ..failure })?;
        backend.find_key(request).await.map_err(|error| failure(Attempted::Confirm, &error))
    }

    /// Asks for a key of a former ServiceKey by its mark.
    pub(super) async fn prove(&mut self, former: Uuid, sequence: Sequence) {
        let asked = self.look_for(&self.request_about(Identity { owner: former, sequence })).await;
        let answer = asked.map_or_else(Answer::Failed, |found| Answer::Proved(found.is_some()));
        self.learn_counted(KeyOperation::Confirm, answer);
    }

    pub(super) async fn fetch(&mut self, sequence: Sequence) {
        let answer = match self.request(sequence).await {
            Err(failure) => Answer::Failed(failure),
            Ok((backend, request)) => match backend.fetch(&request).await {
                Ok(Fetched::Found(issued)) => self.take_back(sequence, issued),
                Ok(Fetched::Absent) => Answer::Absent(sequence),
                Ok(Fetched::NotRetrievable) => Answer::Unreadable(sequence),
                Err(error) if error.class == ErrorClass::Unusable => {
                    self.unusable(failure(Attempted::Provision, &error), sequence)
                }
                Err(error) => Answer::Failed(failure(Attempted::Provision, &error)),
            },
        };
        self.learn_counted(KeyOperation::Fetch, answer);
    }

    /// Sends the request again that created the key. A lost answer is no reason to revoke the key, which may be in use.
    pub(super) async fn repeat(&mut self, sequence: Sequence) {
        let answer = match self.permitted_request(sequence).await {
            Err(failure) => Answer::Failed(failure),
            Ok((backend, request)) => match backend.repeat(&request).await {
                Ok(Fetched::Found(issued)) => self.take_back(sequence, issued),
                Ok(Fetched::Absent | Fetched::NotRetrievable) => {
                    Answer::Unrepeatable(sequence, full_second((self.context.clock)()))
                }
                Err(error) if error.class == ErrorClass::OrphanPossible => {
                    let class = ErrorClass::Unsure;
                    self.unsure(Failure { class, ..failure(Attempted::Provision, &error) }, sequence)
                }
                Err(error) => Answer::Failed(failure(Attempted::Provision, &error)),
            },
        };
        self.learn_counted(KeyOperation::Repeat, answer);
    }

    pub(super) async fn unbind(&mut self, sequence: Sequence) {
        let answer = match self.backend() {
            Err(failure) => Answer::Failed(Failure { attempted: Attempted::Revoke, ..failure }),
            Ok(backend) => {
                // What a key was made with plays no part in revoking it.
                match backend.unbind(&self.bare_request(sequence)).await {
                    Ok(Unbound::Gone) => self.revoked(sequence),
                    Ok(Unbound::GoneExcept(what)) => {
                        let note = format!("key {sequence} was revoked, but {what}");
                        self.context.events.warning(
                            self.key.object_ref(&()),
                            "CredentialRemains",
                            "Unbind",
                            note,
                        );
                        self.revoked(sequence)
                    }
                    Ok(Unbound::Absent) if self.has_recorded(sequence) => self.revoked(sequence),
                    Ok(Unbound::Absent) => Answer::Revoked(sequence, (self.context.clock)()),
                    Ok(Unbound::Accepted(accepted)) => {
                        self.accepted(RemoteOperation::Unbind, sequence, accepted)
                    }
                    Err(error) => Answer::Failed(failure(Attempted::Revoke, &error)),
                }
            }
        };
        self.learn_counted(KeyOperation::Unbind, answer);
    }

    /// Takes our mark off a key that stays.
    pub(super) async fn release(&mut self, sequence: Sequence) {
        let answer = match self.backend() {
            Err(failure) => Answer::Failed(Failure { attempted: Attempted::Release, ..failure }),
            Ok(backend) => match backend.release(&self.bare_request(sequence)).await {
                Ok(()) => Answer::Released(sequence),
                Err(error) => Answer::Failed(failure(Attempted::Release, &error)),
            },
        };
        self.learn_counted(KeyOperation::Release, answer);
    }

    /// Asks how far the remote side is. A look that fails says nothing of the work, which goes on.
    pub(super) async fn poll(&mut self, work: PendingOperation) {
        let request = self.bare_request(work.sequence);
        let (kind, sequence) = (work.operation, work.sequence);
        let asked = match self.backend() {
            Ok(backend) => backend.poll(&request, kind, work.token.as_deref()).await,
            Err(failure) => Err(BackendError::new(failure.class, failure.message)),
        };
        self.run.pending = Some(work.clone());
        let answer = match asked {
            Ok(Progress::Running { said, retry_after }) => Answer::Running { said, retry_after },
            Ok(Progress::Succeeded) if kind == RemoteOperation::Bind => Answer::Completed(work),
            Ok(Progress::Succeeded) => self.revoked(sequence),
            Ok(Progress::Failed { said, leaves_orphan }) => self.abandoned(&work, &said, leaves_orphan),
            Err(BackendError { class, message, retry_after, refuses_login, source: _ }) => {
                // The login waits for itself, and may be another one at any time.
                let retry_after = retry_after.filter(|_| !refuses_login);
                Answer::Unheard { class, message, retry_after }
            }
        };
        self.learn_counted(KeyOperation::Poll, answer);
    }

    fn abandoned(&self, work: &PendingOperation, said: &str, leaves_orphan: bool) -> Answer {
        let failed = |attempted, class, what| Failure {
            attempted,
            class,
            message: format!("{what} failed: the remote side gave it up: {said}"),
            retry_after: None,
        };
        match work.operation {
            RemoteOperation::Bind if leaves_orphan => {
                self.lost(failed(Attempted::Provision, ErrorClass::OrphanPossible, "bind"), work.sequence)
            }
            RemoteOperation::Bind => {
                self.unsure(failed(Attempted::Provision, ErrorClass::Unsure, "bind"), work.sequence)
            }
            RemoteOperation::Unbind => {
                Answer::Failed(failed(Attempted::Revoke, ErrorClass::Transient, "unbind"))
            }
        }
    }

    fn accepted(&self, work: RemoteOperation, sequence: Sequence, accepted: Accepted) -> Answer {
        let Accepted { token, retry_after, longest, first_look } = accepted;
        let since = (self.context.clock)();
        let longest = longest.map_or(LONGEST_OPERATION, |longest: Duration| longest.min(LONGEST_OPERATION));
        Answer::Accepted(PendingOperation {
            operation: work,
            sequence,
            token,
            since,
            ends: since.checked_add(longest).unwrap_or(since),
            next_poll: None,
            retry_after,
            first_look,
            said: None,
            is_refused: false,
            inputs: self.inputs(),
        })
    }

    /// Whether the status or this process knows that the key existed.
    fn has_recorded(&self, sequence: Sequence) -> bool {
        let memory = status::read(self.key.status.as_ref());
        let previous = memory.previous.iter().map(|key| key.sequence);
        let shown = memory.key.iter().map(|key| key.sequence).chain(previous);
        let held = [self.run.in_hand.as_ref(), self.run.stored.as_ref()];
        let held = held.into_iter().flatten().map(|key| key.sequence);
        let accepted = self.run.pending.as_ref().map(|work| work.sequence);
        shown.chain(held).chain(accepted).any(|known| known == sequence)
    }

    fn revoked(&self, sequence: Sequence) -> Answer {
        let kept = self.key.metadata.deletion_timestamp.is_some()
            && self.key.spec.deletion_policy == DeletionPolicy::Retain;
        let denied = self.allowance().retain_denied().filter(|_| kept);
        let why = denied.map(|limit| format!(", because {limit} is `Deny`")).unwrap_or_default();
        let note = format!("key {sequence} was revoked{why}");
        self.context.events.normal(self.key.object_ref(&()), "KeyRevoked", "Unbind", note);
        Answer::Revoked(sequence, (self.context.clock)())
    }

    /// Digest of the fields that a key was made from, which may have changed since.
    fn inputs_of(&self, sequence: Sequence) -> String {
        let completed = self.run.completed.as_ref().filter(|work| work.sequence == sequence);
        completed
            .map(|work| work.inputs.clone())
            .or_else(|| self.known(sequence).map(|known| known.inputs))
            .unwrap_or_else(|| self.inputs())
    }

    /// Takes the credentials of a key in hand that was created before.
    fn take_back(&mut self, sequence: Sequence, issued: IssuedKey) -> Answer {
        let inputs = self.inputs_of(sequence);
        self.take_in_hand(sequence, issued, inputs)
    }

    fn take_in_hand(&mut self, sequence: Sequence, issued: IssuedKey, inputs: String) -> Answer {
        let IssuedKey { facts, credentials } = issued;
        if let Some(name) = &facts.adopted {
            let note = format!("the key `{name}`, which was there already, is key {sequence} from now on");
            self.context.events.normal(self.key.object_ref(&()), "KeyAdopted", "Bind", note);
        }
        let known = self.known(sequence);
        let now = (self.context.clock)();
        let made_at = created_at(facts.created_at, known.as_ref().map_or(now, |known| known.created_at));
        let (name, role, creator, same_credentials) = known
            .map(|known| (known.name, known.role, known.created_by, known.same_credentials))
            .unwrap_or_default();
        let key = KeyRecord {
            sequence,
            id: Some(facts.id),
            name: facts.name.or(name),
            role: facts.role.or(role),
            created_at: made_at,
            created_by: facts.created_by.or(creator),
            expires_at: facts.expires_at.map(full_second),
            renew_before: facts.renew_before.map(full_second),
            late_until: None,
            inputs,
            plan_ids: self.plan_ids(sequence),
            same_credentials,
        };
        let share = self.context.answer_memory.kept(Some(&self.target.namespace));
        match share.keep(credentials.size(), credentials) {
            Ok(kept) => {
                self.local.take_in_hand(Some((key.clone(), kept)));
                Answer::Issued(key)
            }
            Err(why) => {
                let message = format!(
                    "the credentials of key {sequence} could not be held until they are stored: {why}"
                );
                let class = ErrorClass::Unsure;
                let failure = Failure { attempted: Attempted::Provision, class, message, retry_after: None };
                self.unsure(failure, sequence)
            }
        }
    }

    /// Drops the credentials of a key that no Secret can hold, and remembers what that depends on.
    pub(super) fn unusable(&mut self, failure: Failure, sequence: Sequence) -> Answer {
        self.local.take_in_hand(None);
        let unusable = Unusable { sequence, failure: failure.clone(), revoked: None };
        self.local.unusable = Some((self.circumstances(), unusable));
        Answer::Unusable(failure, sequence)
    }

    /// Goes on as before with a key that no Secret can hold, unless something has changed.
    pub(super) fn recall_unusable(&mut self) {
        let circumstances = self.circumstances();
        let known = self.local.unusable.take().filter(|(of, _)| *of == circumstances);
        self.run.unusable = known.as_ref().map(|(_, unusable)| unusable.clone());
        self.local.unusable = known;
    }

    /// Keeps what was learned of it.
    pub(super) fn remember_unusable(&mut self) {
        let (known, learned) = (self.local.unusable.take(), self.run.unusable.take());
        self.local.unusable = known.zip(learned).map(|((of, _), unusable)| (of, unusable));
    }

    /// Counts the last failure as a failure of this round until its backoff is over or something has changed. So no event of
    /// a watch shortens a backoff.
    pub(super) fn recall_setback(&mut self) {
        let (now, of) = ((self.context.clock)(), self.occasion());
        self.local.setback =
            self.local.setback.take().filter(|setback| setback.until > now && setback.of == of);
        if let Some(Setback { failure, until, of: _ }) = &self.local.setback {
            self.run.failure = Some(failure.clone());
            self.run.held_back = Some(*until);
        }
    }

    /// Remembers the failure, and when the next attempt is due.
    pub(super) fn note_setback(&mut self, until: Timestamp) {
        let of = self.occasion();
        self.local.set_back(self.run.failure.clone(), until, of);
    }

    fn occasion(&self) -> Occasion {
        Occasion {
            circumstances: self.circumstances(),
            recoveries: self.context.registry.recoveries(&self.target.provider),
            deleting: self.key.metadata.deletion_timestamp.is_some(),
            has_secret: self.context.secrets.contains(&self.target.namespace, &self.target.secret),
        }
    }

    fn circumstances(&self) -> Circumstances {
        Circumstances {
            generation: self.key.metadata.generation,
            inputs: self.inputs(),
            provider: self.context.registry.origin_digest(&self.target.provider),
        }
    }

    /// What the status remembers of a key.
    pub(super) fn known(&self, sequence: Sequence) -> Option<KeyRecord> {
        status::read(self.key.status.as_ref()).key.filter(|key| key.sequence == sequence)
    }

    /// The remote side's id of a key, where the status tells it, which is no proof of whose key that is.
    fn hint(&self, sequence: Sequence) -> Option<String> {
        let memory = status::read(self.key.status.as_ref());
        let current = memory.key.into_iter().map(|key| (key.sequence, key.id));
        let previous = memory.previous.into_iter().map(|key| (key.sequence, key.id));
        current.chain(previous).find(|(of, _)| *of == sequence)?.1
    }

    /// Where the instance is, as far as that is known without a request.
    pub(super) fn place_of_instance(&self) -> Option<String> {
        self.backend().ok()?.place_of_instance(&self.instance())
    }

    /// The ids that a key was created with, where they were noted.
    fn plan_ids(&self, sequence: Sequence) -> Option<PlanIds> {
        let memory = status::read(self.key.status.as_ref());
        let current = memory.key.into_iter().map(|key| (key.sequence, key.plan_ids));
        let previous = memory.previous.into_iter().map(|key| (key.sequence, key.plan_ids));
        let operation =
            memory.operation.into_iter().map(|operation| (operation.sequence, operation.plan_ids));
        let mut known = current.chain(previous).chain(operation).filter(|(of, _)| *of == sequence);
        let first = || self.noted_first().filter(|_| sequence == Sequence::FIRST);
        known.find_map(|(_, ids)| ids).or_else(first)
    }

    fn backend(&self) -> Result<Arc<Backend>, Failure> {
        match self.context.registry.backend(&self.target.provider) {
            Some(Ok(backend)) => Ok(backend),
            // It went away since it was observed; the next round says so.
            Some(Err(problem)) => Err(transient(problem.message)),
            None => Err(transient(format!("{} does not exist", self.target.provider))),
        }
    }

    pub(super) fn identity(&self, sequence: Sequence) -> Identity {
        Identity { owner: self.owner_of_keys(), sequence }
    }

    fn bare_request(&self, sequence: Sequence) -> KeyRequest {
        self.request_about(self.identity(sequence))
    }

    /// The request for a key of the ServiceKey, or of one that it was or may have been restored from.
    fn request_about(&self, identity: Identity) -> KeyRequest {
        let sequence = identity.sequence;
        let is_of_former = identity.owner != self.target.uid;
        KeyRequest {
            identity,
            restored: is_of_former.then(|| Restored { login_is_own: self.login_is_own() }),
            owner: self.owner(),
            instance: self.instance(),
            parameters: Parameters::default(),
            predecessor: None,
            name: self.name_of(identity),
            role: self.role(),
            access: self.access(),
            former_name: self.former_name_of(identity),
            hint: self.hint(sequence),
            place: self.key.status.as_ref().and_then(|status| status.instance_place.clone()),
            plan_ids: self.plan_ids(sequence),
            age: self.age(sequence),
            inputs: self.inputs_of(sequence),
            cleans_up: self.cleans_up(sequence),
            adoption: self.adoption(sequence),
            known: self.known_secrets(),
            answers: self.context.answer_memory.answers(Some(&self.target.namespace)),
        }
    }

    /// Leave to take over a key of the name that the user gives, which only the first one has.
    fn adoption(&self, sequence: Sequence) -> Option<AdoptionPermit> {
        let spec = &self.key.spec;
        let wanted = spec.adoption == AdoptionPolicy::IfExists
            && sequence == Sequence::FIRST
            && self.allowance().permits_adoption();
        let name = spec.key_name.clone().filter(|_| wanted)?;
        let registry = Arc::clone(&self.context.registry);
        let provider = self.target.provider.clone();
        Some(AdoptionPermit::new(name, self.login_is_own(), move |owner| {
            registry.has_keys_of(owner, &provider)
        }))
    }

    /// Whether the login at the remote side is that of the ServiceKey's own namespace.
    const fn login_is_own(&self) -> bool {
        self.target.provider.namespace.is_some()
    }

    /// What a key is called, as far as the remote side can be asked for it.
    fn name_of(&self, identity: Identity) -> String {
        let given = self.key.spec.key_name.as_deref();
        let backend = self.backend().ok();
        backend.map_or_else(String::new, |backend| backend.key_name(identity, given, &self.owner()))
    }

    /// What a former release called the key, if that is something else.
    fn former_name_of(&self, identity: Identity) -> Option<String> {
        self.backend().ok()?.former_key_name(identity, self.key.spec.key_name.as_deref())
    }

    /// The role that keys are to have, where they can have one.
    fn role(&self) -> KeyRole {
        match self.key.spec.ibm_cloud.clone().unwrap_or_default().role() {
            WantedRole::Named(role) => KeyRole::Named(role.to_owned()),
            WantedRole::None => KeyRole::None,
            WantedRole::Default => KeyRole::Default { limit: self.allowance().no_role_denied() },
        }
    }

    /// The service ID that keys are to act as, where they can have one.
    fn access(&self) -> Option<ServiceIdAccess> {
        let IbmCloudAccess { service_id_crn, roles, resource_attributes } =
            self.key.spec.ibm_cloud.clone()?.access?;
        let attributes =
            resource_attributes.into_iter().map(|ResourceAttribute { name, value }| (name, value)).collect();
        Some(
            service_id_crn
                .map_or(ServiceIdAccess::Own(AccessGrant { roles, attributes }), ServiceIdAccess::Existing),
        )
    }

    /// How long ago a key was made that the status tells of.
    fn age(&self, sequence: Sequence) -> Option<Duration> {
        let created_at = self.known(sequence)?.created_at;
        Some(Duration::try_from((self.context.clock)().duration_since(created_at)).unwrap_or_default())
    }

    /// What parameters hold, and the credentials of the keys so far, wherever they are kept.
    fn known_secrets(&self) -> KnownSecrets {
        let Self { context, target, key, local, .. } = self;
        let is_ours = context.secrets.contains(&target.namespace, &target.secret);
        let ours = is_ours.then(|| target.secret.clone());
        let in_hand = local.in_hand().map(|(_, credentials)| credentials);
        let (key, reader) = (Arc::clone(key), self.secret_reader());
        KnownSecrets::new(move || {
            let (key, reader, ours, in_hand) =
                (Arc::clone(&key), reader.clone(), ours.clone(), in_hand.clone());
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

    /// Whether the key is one that a lost answer may have left, and that the user did not ask to be revoked.
    fn cleans_up(&self, sequence: Sequence) -> bool {
        let operation = status::read(self.key.status.as_ref()).operation;
        let lost =
            |operation: Operation| operation.kind == OperationKind::CleanUp && operation.sequence == sequence;
        self.key.metadata.deletion_timestamp.is_none() && operation.is_some_and(lost)
    }

    async fn request(&self, sequence: Sequence) -> Result<(Arc<Backend>, KeyRequest), Failure> {
        let parameters = self.parameters().await?;
        Ok((
            self.backend()?,
            KeyRequest { parameters, inputs: self.inputs(), cleans_up: false, ..self.bare_request(sequence) },
        ))
    }

    /// A request for a new key. What its parameters ask for is known only when they have been read.
    async fn permitted_request(&self, sequence: Sequence) -> Result<(Arc<Backend>, KeyRequest), Failure> {
        let (backend, request) = self.request(sequence).await?;
        let parameters = request.parameters.expose();
        match self.allowance().refusal_of_parameters(&self.target.namespace, parameters) {
            None => Ok((backend, request)),
            Some(Problem { message, .. }) => Err(Failure {
                attempted: Attempted::Permission,
                class: ErrorClass::Rejected,
                message,
                retry_after: None,
            }),
        }
    }

    /// The parameters of the spec, and over them those of each Secret that it names.
    async fn parameters(&self) -> Result<Parameters, Failure> {
        let unusable = |why: String| Failure {
            attempted: Attempted::Parameters,
            class: ErrorClass::Rejected,
            message: format!("`spec.parametersFrom`: {why}"),
            retry_after: None,
        };
        let mut parameters = Parameters::new(self.key.spec.parameters.clone());
        let mut together = Size::default();
        for source in &self.key.spec.parameters_from {
            let (name, entry) = (&source.secret_key_ref.name, &source.secret_key_ref.key);
            let secret = self
                .secret_reader()
                .read("read a Secret of `spec.parametersFrom`", name)
                .await
                .map_err(|error| transient(error.to_string()))?;
            let (size, object) = object_in(secret.as_ref(), entry)
                .map_err(|why| unusable(format!("the entry `{entry}` of the Secret `{name}` {why}")))?;
            together = together.and(size);
            if let Some(refusal) = together.refusal_by(&answers::PARAMETERS) {
                return Err(unusable(format!("what all entries hold together {refusal}")));
            }
            parameters.extend(object);
        }
        Ok(parameters)
    }
}

fn failure(attempted: Attempted, error: &BackendError) -> Failure {
    Failure { attempted, class: error.class, message: error.message.clone(), retry_after: error.retry_after }
}

fn transient(message: String) -> Failure {
    Failure { attempted: Attempted::Provision, class: ErrorClass::Transient, message, retry_after: None }
}

/// How much may be known that is to be hidden in the remote side's words: a tenant chooses how many Secrets there are,
/// and how much what they hold takes in memory. Where there is more, no words are shown.
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
    /// Makes room for these entries, unless there is not enough.
    fn take<'a>(&mut self, entries: impl IntoIterator<Item = (&'a String, &'a ByteString)>) -> Option<()> {
        for (_, ByteString(bytes)) in entries {
            self.bytes = self.bytes.checked_sub(bytes.len())?;
            self.values = self.values.checked_sub(count_values(bytes))?;
        }
        Some(())
    }
}

/// The entries of a Secret as text, and what they hold where they are JSON.
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
