//! Third stage of a step, at the remote side: carry out one effect through the backend and return the answer.

use std::time::Duration;

use kube::Resource;

use super::{
    reconciler::{Reconciler, plan_ids},
    request::{self, WithParameters},
};
use crate::{
    api::DeletionPolicy,
    backend::{
        Accepted, BackendError, Bound, Credentials, ErrorClass, Fetched, IssuedKey, Kept, KeyFacts,
        KeyRequest, Progress, Unbound,
    },
    lifecycle::{
        Answer, Attempted, CredentialEnd, Failure, Found, Identity, Inputs, KeyRecord, LONGEST_OPERATION,
        Lifetime, Observed, ParametersDigest, PendingOperation, RemoteEffect, RemoteOperation, Sequence,
        created_at, full_second,
    },
    runtime::metrics::KeyOperation,
    secret,
};

/// The result of one effect at the remote side. The driver updates the state with it.
pub(super) struct Executed {
    pub(super) operation: KeyOperation,
    /// An earlier request for the same key that the operator gave up, and that may still take effect.
    pub(super) given_up: Option<Answer>,
    pub(super) answer: Answer,
    /// The credentials of [`Answer::Issued`], with their key.
    pub(super) credentials: Option<(KeyRecord, Kept<Credentials>)>,
    /// The digest of the parameters that were read for the request, if their changes matter.
    pub(super) parameters: Option<ParametersDigest>,
}

impl Executed {
    const fn new(operation: KeyOperation, answer: Answer) -> Self {
        Self { operation, given_up: None, answer, credentials: None, parameters: None }
    }
}

/// Carries out one effect at the remote side. Its failures are answers.
pub(super) async fn execute(
    reconciler: &Reconciler<'_>,
    observed: &Observed,
    effect: RemoteEffect,
) -> Executed {
    let call = Call { reconciler, observed };
    match effect {
        RemoteEffect::CheckInstance => call.check_instance().await,
        RemoteEffect::Confirm(sequence) => call.confirm(sequence).await,
        RemoteEffect::Prove { former, sequence } => call.prove(Identity { owner: former, sequence }).await,
        RemoteEffect::Fetch(sequence) => call.fetch(sequence).await,
        RemoteEffect::Repeat(sequence) => call.repeat(sequence).await,
        RemoteEffect::Bind { sequence, predecessor } => call.bind(sequence, predecessor).await,
        RemoteEffect::Poll(operation) => call.poll(operation).await,
        RemoteEffect::Unbind(sequence) => call.unbind(sequence).await,
        RemoteEffect::Release(sequence) => call.release(sequence).await,
    }
}

/// One effect on behalf of a ServiceKey.
struct Call<'a> {
    reconciler: &'a Reconciler<'a>,
    observed: &'a Observed,
}

impl Call<'_> {
    async fn check_instance(&self) -> Executed {
        let answer = match request::backend(self.reconciler) {
            Err(failure) => Answer::Failed(failure),
            Ok(backend) => match backend.check_instance(&self.reconciler.instance()).await {
                Ok(()) => Answer::InstanceChecked,
                Err(error) => Answer::Failed(failure(Attempted::Provision, &error)),
            },
        };
        Executed::new(KeyOperation::CheckInstance, answer)
    }

    async fn bind(&self, sequence: Sequence, predecessor: Option<Sequence>) -> Executed {
        match request::for_new_key(self.reconciler, self.observed, sequence).await {
            Err(failure) => Executed::new(KeyOperation::Bind, Answer::Failed(failure)),
            Ok(WithParameters { backend, request, digest }) => {
                let predecessor = predecessor.map(|sequence| self.reconciler.identity(sequence));
                let inputs = self.reconciler.inputs().with_parameters(digest.clone());
                let executed = match backend.bind(&KeyRequest { predecessor, ..request }).await {
                    Ok(bound) => self.bound(sequence, bound, inputs),
                    Err(error) => Executed::new(KeyOperation::Bind, self.not_bound(sequence, &error)),
                };
                Executed { parameters: digest, ..executed }
            }
        }
    }

    fn bound(&self, sequence: Sequence, bound: Bound, inputs: Inputs) -> Executed {
        match bound {
            Bound::Issued(issued) => {
                let ends = self.ends(&issued);
                self.issued(KeyOperation::Bind, sequence, issued, inputs, ends)
            }
            Bound::Existing(issued) => {
                let ends = self.ends(&issued).into_iter().map(|end| end.after_receipt(self.now())).collect();
                self.issued(KeyOperation::Bind, sequence, issued, inputs, ends)
            }
            Bound::Accepted(accepted) => {
                let answer = self.accepted(RemoteOperation::Bind, sequence, accepted, inputs);
                Executed::new(KeyOperation::Bind, answer)
            }
            Bound::Repeated(bound) => {
                let given_up = Answer::GivenUp(sequence, full_second(self.now()));
                Executed { given_up: Some(given_up), ..self.bound(sequence, *bound, inputs) }
            }
        }
    }

    fn not_bound(&self, sequence: Sequence, error: &BackendError) -> Answer {
        let failure = failure(Attempted::Provision, error);
        match error.class {
            // It was revoked and created again, and the answer is the same.
            ErrorClass::Withheld if self.observed.run.revoked.contains_key(&sequence) => {
                Answer::Unusable(Failure { class: ErrorClass::Unusable, ..failure }, sequence)
            }
            ErrorClass::Conflict | ErrorClass::Withheld => Answer::Conflict(failure, sequence),
            ErrorClass::Unusable => Answer::Unusable(failure, sequence),
            ErrorClass::OrphanPossible => self.lost(failure, sequence),
            ErrorClass::Unsure => self.unsure(failure, sequence),
            _ => Answer::Failed(failure),
        }
    }

    /// Checks whether a key exists, or finds its id.
    async fn confirm(&self, sequence: Sequence) -> Executed {
        let request = request::about_key(self.reconciler, self.observed, sequence);
        let found = self.find_key(&request).await;
        if found.is_ok() {
            self.reconciler.context.shared.missing_keys.remove(self.reconciler.identity(sequence));
        }
        let answer = match found {
            Ok(Some(KeyFacts { id, name, .. })) => Answer::Present(Found { sequence, id, name }),
            Ok(None) => Answer::Absent(sequence),
            Err(failure) => Answer::Failed(failure),
        };
        Executed::new(KeyOperation::Confirm, answer)
    }

    /// Finds a key of a former ServiceKey by its mark.
    async fn prove(&self, identity: Identity) -> Executed {
        let found = self.find_key(&request::about(self.reconciler, self.observed, identity)).await;
        let answer = found.map_or_else(Answer::Failed, |found| Answer::Proved(found.is_some()));
        Executed::new(KeyOperation::Confirm, answer)
    }

    async fn find_key(&self, request: &KeyRequest) -> Result<Option<KeyFacts>, Failure> {
        let backend = request::backend(self.reconciler)
            .map_err(|failure| Failure { attempted: Attempted::Confirm, ..failure })?;
        backend.find_key(request).await.map_err(|error| failure(Attempted::Confirm, &error))
    }

    async fn fetch(&self, sequence: Sequence) -> Executed {
        let answer = match request::with_parameters(self.reconciler, self.observed, sequence).await {
            Err(failure) => Answer::Failed(failure),
            Ok(WithParameters { backend, request, digest }) => match backend.fetch(&request).await {
                Ok(Fetched::Found(issued)) => {
                    let found = self.found(KeyOperation::Fetch, sequence, issued);
                    return Executed { parameters: digest, ..found };
                }
                Ok(Fetched::Absent) => Answer::Absent(sequence),
                Ok(Fetched::NotRetrievable) => Answer::Unreadable(sequence),
                Err(error) if error.class == ErrorClass::Unusable => {
                    Answer::Unusable(failure(Attempted::Provision, &error), sequence)
                }
                Err(error) => Answer::Failed(failure(Attempted::Provision, &error)),
            },
        };
        Executed::new(KeyOperation::Fetch, answer)
    }

    /// Repeats the request that created the key. A missing answer does not justify revoking the key, which
    /// may be in use.
    async fn repeat(&self, sequence: Sequence) -> Executed {
        let answer = match request::for_new_key(self.reconciler, self.observed, sequence).await {
            Err(failure) => Answer::Failed(failure),
            Ok(WithParameters { backend, request, digest }) => match backend.repeat(&request).await {
                Ok(Fetched::Found(issued)) => {
                    // The remote side may have created the key again.
                    let inputs = request::recorded_inputs(self.reconciler, self.observed, sequence);
                    let inputs = inputs.with_parameters(digest.clone());
                    let ends = self.ends(&issued);
                    let executed = self.issued(KeyOperation::Repeat, sequence, issued, inputs, ends);
                    return Executed { parameters: digest, ..executed };
                }
                Ok(Fetched::Absent | Fetched::NotRetrievable) => {
                    Answer::Unrepeatable(sequence, full_second(self.now()))
                }
                Err(error) if error.class == ErrorClass::OrphanPossible => {
                    let class = ErrorClass::Unsure;
                    self.unsure(Failure { class, ..failure(Attempted::Provision, &error) }, sequence)
                }
                Err(error) => Answer::Failed(failure(Attempted::Provision, &error)),
            },
        };
        Executed::new(KeyOperation::Repeat, answer)
    }

    async fn unbind(&self, sequence: Sequence) -> Executed {
        let answer = match request::backend(self.reconciler) {
            Err(failure) => Answer::Failed(Failure { attempted: Attempted::Revoke, ..failure }),
            Ok(backend) => {
                // The parameters that created a key play no part in its revocation.
                let request = request::about_key(self.reconciler, self.observed, sequence);
                match backend.unbind(&request).await {
                    Ok(Unbound::Gone) => self.revoked(sequence),
                    Ok(Unbound::GoneExcept(what)) => {
                        let note = format!("key {sequence} was revoked, but {what}");
                        let key = self.reconciler.key.object_ref(&());
                        let events = &self.reconciler.context.shared.events;
                        events.warning(key, "CredentialRemains", "Unbind", note);
                        self.revoked(sequence)
                    }
                    Ok(Unbound::Absent) if self.is_known(sequence) => self.revoked(sequence),
                    Ok(Unbound::Absent) => Answer::Revoked(sequence, self.now()),
                    Ok(Unbound::Accepted(accepted)) => {
                        self.accepted(RemoteOperation::Unbind, sequence, accepted, self.reconciler.inputs())
                    }
                    Err(error) => self.not_revoked(sequence, &error),
                }
            }
        };
        Executed::new(KeyOperation::Unbind, answer)
    }

    /// Removes the operator's mark from a key that stays.
    async fn release(&self, sequence: Sequence) -> Executed {
        let answer = match request::backend(self.reconciler) {
            Err(failure) => Answer::Failed(Failure { attempted: Attempted::Release, ..failure }),
            Ok(backend) => {
                let request = request::about_key(self.reconciler, self.observed, sequence);
                match backend.release(&request).await {
                    Ok(()) => Answer::Released(sequence),
                    Err(error) => Answer::Failed(failure(Attempted::Release, &error)),
                }
            }
        };
        Executed::new(KeyOperation::Release, answer)
    }

    /// Polls the state of an operation. A failed poll does not affect the operation, which continues.
    async fn poll(&self, pending: PendingOperation) -> Executed {
        let request = request::about_key(self.reconciler, self.observed, pending.sequence);
        let (operation, sequence) = (pending.operation, pending.sequence);
        let progress = match request::backend(self.reconciler) {
            Ok(backend) => backend.poll(&request, operation, pending.token.as_deref()).await,
            Err(failure) => Err(BackendError::new(failure.class, failure.message)),
        };
        let answer = match progress {
            Ok(Progress::Running { said, retry_after }) => Answer::Running { said, retry_after },
            Ok(Progress::Succeeded) if operation == RemoteOperation::Bind => Answer::Completed(pending),
            Ok(Progress::Succeeded) => self.revoked(sequence),
            Ok(Progress::Failed { said, leaves_orphan }) => {
                self.remote_failed(&pending, &said, leaves_orphan)
            }
            Err(BackendError { class, message, retry_after, refuses_login, source: _ }) => {
                // A refused login has its own pause, and the user may correct it at any time.
                let retry_after = retry_after.filter(|_| !refuses_login);
                Answer::PollFailed { class, message, retry_after }
            }
        };
        Executed::new(KeyOperation::Poll, answer)
    }
}

impl Call<'_> {
    fn lost(&self, failure: Failure, sequence: Sequence) -> Answer {
        Answer::Lost(failure, sequence, full_second(self.now()))
    }

    fn unsure(&self, failure: Failure, sequence: Sequence) -> Answer {
        Answer::Unsure(failure, sequence, full_second(self.now()))
    }

    fn not_revoked(&self, sequence: Sequence, error: &BackendError) -> Answer {
        let failure = failure(Attempted::Revoke, error);
        match error.class {
            ErrorClass::Transient => Answer::UnsureRevocation(failure, sequence, full_second(self.now())),
            _ => Answer::Failed(failure),
        }
    }

    /// The answer when an operation failed at the remote side.
    fn remote_failed(&self, pending: &PendingOperation, said: &str, leaves_orphan: bool) -> Answer {
        let failed = |attempted, class, what| Failure {
            attempted,
            class,
            message: format!("{what} failed at the remote side: {said}"),
            retry_after: None,
        };
        match pending.operation {
            RemoteOperation::Bind if leaves_orphan => {
                self.lost(failed(Attempted::Provision, ErrorClass::OrphanPossible, "bind"), pending.sequence)
            }
            RemoteOperation::Bind => {
                self.unsure(failed(Attempted::Provision, ErrorClass::Unsure, "bind"), pending.sequence)
            }
            RemoteOperation::Unbind => {
                Answer::Failed(failed(Attempted::Revoke, ErrorClass::Transient, "unbind"))
            }
        }
    }

    fn accepted(
        &self,
        operation: RemoteOperation,
        sequence: Sequence,
        accepted: Accepted,
        inputs: Inputs,
    ) -> Answer {
        let Accepted { token, retry_after, longest, first_look } = accepted;
        let since = self.now();
        let longest = longest.map_or(LONGEST_OPERATION, |longest: Duration| longest.min(LONGEST_OPERATION));
        Answer::Accepted(PendingOperation {
            operation,
            sequence,
            token,
            since,
            ends: since.checked_add(longest).unwrap_or(since),
            next_poll: None,
            retry_after,
            first_poll: first_look,
            said: None,
            is_refused: false,
            inputs,
        })
    }

    /// Whether the status or this process knows that the key existed.
    fn is_known(&self, sequence: Sequence) -> bool {
        let Observed { recorded, run, .. } = self.observed;
        let previous = recorded.previous.iter().map(|key| key.sequence);
        let current = [recorded.key.as_ref(), run.in_hand.as_ref(), run.stored.as_ref()];
        let current = current.into_iter().flatten().map(|key| key.sequence);
        let accepted = run.pending.as_ref().map(|operation| operation.sequence);
        current.chain(previous).chain(accepted).any(|known| known == sequence)
    }

    fn revoked(&self, sequence: Sequence) -> Answer {
        let Reconciler { context, key, .. } = self.reconciler;
        let kept = self.observed.desired.deleting && key.spec.deletion_policy == DeletionPolicy::Retain;
        let denied = self.reconciler.allowance().retain_denied().filter(|_| kept);
        let why = denied.map(|limit| format!(", because {limit} is `Deny`")).unwrap_or_default();
        let note = format!("key {sequence} was revoked{why}");
        context.shared.events.normal(key.object_ref(&()), "KeyRevoked", "Unbind", note);
        Answer::Revoked(sequence, self.now())
    }

    /// A key that was created before.
    fn found(&self, operation: KeyOperation, sequence: Sequence, issued: IssuedKey) -> Executed {
        let inputs = request::recorded_inputs(self.reconciler, self.observed, sequence);
        let ends = self.ends(&issued);
        self.issued(operation, sequence, issued, inputs, ends)
    }

    /// The ends of the certificates and tokens in the credentials.
    fn ends(&self, issued: &IssuedKey) -> Vec<CredentialEnd> {
        secret::ends(issued.credentials.expose(), &self.reconciler.expiry_parts())
    }

    /// A key with its credentials, which the memory budget of the namespace keeps until they are stored.
    fn issued(
        &self,
        operation: KeyOperation,
        sequence: Sequence,
        issued: IssuedKey,
        inputs: Inputs,
        ends: Vec<CredentialEnd>,
    ) -> Executed {
        let Reconciler { context, target, key: object, .. } = self.reconciler;
        let IssuedKey { facts, credentials } = issued;
        if let Some(name) = &facts.adopted {
            let note = format!("adopted the existing key `{name}` as key {sequence}");
            context.shared.events.normal(object.object_ref(&()), "KeyAdopted", "Bind", note);
        }
        let known = match operation {
            // A key that is created may have the number of an earlier one.
            KeyOperation::Bind => self.observed.recorded.current(sequence),
            _ => request::known_key(self.observed, sequence),
        };
        let known = known.cloned();
        let known_since = known.as_ref().map_or_else(|| self.now(), |known| known.created_at);
        let (name, role, creator, same_credentials) = known
            .map(|known| (known.name, known.role, known.created_by, known.same_credentials))
            .unwrap_or_default();
        let created_at = created_at(facts.created_at, known_since);
        let key = KeyRecord {
            sequence,
            id: Some(facts.id),
            name: facts.name.or(name),
            role: facts.role.or(role),
            created_at,
            created_by: facts.created_by.or(creator),
            lifetime: Lifetime::new(created_at, facts.expires_at, facts.renew_before, ends),
            late_until: None,
            inputs,
            plan_ids: plan_ids(self.observed, sequence),
            same_credentials,
        };
        let share = context.shared.answer_memory.kept(Some(&target.namespace));
        match share.keep(credentials.size(), credentials) {
            Ok(kept) => Executed {
                operation,
                given_up: None,
                answer: Answer::Issued(key.clone()),
                credentials: Some((key, kept)),
                parameters: None,
            },
            Err(why) => {
                let message = format!(
                    "the credentials of key {sequence} could not be kept in memory until they are stored: {why}"
                );
                let class = ErrorClass::Unsure;
                let failure = Failure { attempted: Attempted::Provision, class, message, retry_after: None };
                Executed::new(operation, self.unsure(failure, sequence))
            }
        }
    }

    fn now(&self) -> jiff::Timestamp {
        self.reconciler.context.shared.clock.now()
    }
}

fn failure(attempted: Attempted, error: &BackendError) -> Failure {
    Failure { attempted, class: error.class, message: error.message.clone(), retry_after: error.retry_after }
}
