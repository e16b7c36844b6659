//! A ServiceKey without keys continues with those of a former one.

use uuid::Uuid;

use super::{
    Attempted, ErrorClass, Failure, KubernetesEffect, Observed, Problem, Recorded, RemoteEffect, Requeue,
    Sequence, Step, Wait,
    operation::{is_finally_revoked, may_return_until},
    order::decisions,
    report,
    revoke::unbind_at_once,
};

decisions! {
    /// The keys that the Secret from a backup names may belong to the ServiceKey.
    "Continue with former keys", FormerKeys<'_> => Step:

    /// The operator has to call the remote side first, and can't. Or only the user can correct the spec.
    wait_for_spec_or_provider,
    /// A call failed. Only a refusal to revoke the first key of its own means that this key does not exist.
    wait_for_failed_attempt,
    /// A ServiceKey that was deleted and created again has keys of its own, and the cache may still show the Secret of the
    /// deleted one.
    look_up_secret,
    /// Every tenant may write any UID into a Secret, so the remote side has to show a key with a mark that proves it.
    prove_mark,
    /// A request for the first key of its own may still take effect. The last revocation comes after that time.
    wait_for_late_key,
    /// A process that crashed may have created a first key with the new UID. Later, no record would name that key.
    revoke_own_first_key,
    else
    /// The keys belong to the ServiceKey, and it never has others.
    record_former_uid
}

/// The keys of a former ServiceKey that a Secret names.
pub(super) struct FormerKeys<'a> {
    pub observed: &'a Observed,
    /// The UID of the former ServiceKey.
    pub former: Uuid,
    /// The number of the key in the Secret, if the Secret contains it.
    pub sequence: Option<Sequence>,
    /// Whether the operator has read the Secret by name.
    pub looked_up: bool,
}

impl<'a> FormerKeys<'a> {
    /// Whether the remote side has not disproved them. A namespace that is not admitted must not learn the result.
    pub(super) fn may_be_accepted(&self) -> bool {
        self.observed.admitted && self.observed.run.is_proved != Some(false)
    }

    fn is_to_be_proved(&self) -> bool {
        let Observed { desired, run, marks_keys, .. } = self.observed;
        *marks_keys && run.is_proved.is_none() && !desired.abandon
    }

    /// Whether a first key of the ServiceKey's own UID may exist.
    fn may_have_own_key(&self) -> bool {
        let Observed { desired, all_refused, .. } = self.observed;
        let keeps_keys = desired.deleting && desired.keeps_keys();
        desired.finalizer
            && !all_refused
            && !keeps_keys
            && !is_finally_revoked(self.observed, Sequence::FIRST)
    }

    fn is_to_be_revoked(&self) -> bool {
        self.may_have_own_key() && self.observed.run.failure.is_none()
    }

    fn obstacle(&self) -> Option<&'a Problem> {
        let Observed { desired, provider, .. } = self.observed;
        let problem = desired.problem.as_ref().filter(|_| !desired.deleting);
        problem.or(provider.obstacle())
    }
}

fn wait_for_spec_or_provider(keys: &FormerKeys<'_>) -> Option<Step> {
    let problem = keys.obstacle().filter(|_| keys.is_to_be_proved() || keys.may_have_own_key())?;
    Some(Step::Wait(report::waiting(keys.observed, problem)))
}

fn wait_for_failed_attempt(FormerKeys { observed, .. }: &FormerKeys<'_>) -> Option<Step> {
    let failure = observed.run.failure.as_ref().filter(|failure| !is_refused(failure))?;
    Some(Step::Wait(report::failed(observed, failure)))
}

fn look_up_secret(FormerKeys { looked_up, .. }: &FormerKeys<'_>) -> Option<Step> {
    (!looked_up).then_some(Step::Apply(KubernetesEffect::LookUpSecret))
}

fn prove_mark(keys: &FormerKeys<'_>) -> Option<Step> {
    let (former, sequence) = (keys.former, keys.sequence.unwrap_or(Sequence::FIRST));
    keys.is_to_be_proved().then_some(Step::Execute(RemoteEffect::Prove { former, sequence }))
}

fn wait_for_late_key(keys: &FormerKeys<'_>) -> Option<Step> {
    let FormerKeys { observed, former, .. } = keys;
    let late = may_return_until(observed, Sequence::FIRST)?;
    keys.is_to_be_revoked()
        .then(|| Step::Wait(Wait::new(Requeue::At(late), report::inheriting(observed, *former, None))))
}

fn revoke_own_first_key(keys: &FormerKeys<'_>) -> Option<Step> {
    keys.is_to_be_revoked().then(|| unbind_at_once(keys.observed, Sequence::FIRST))
}

fn record_former_uid(FormerKeys { observed, former, .. }: &FormerKeys<'_>) -> Step {
    Step::record(report::inheriting(observed, *former, Some(*former)))
}

/// Whether the ServiceKey has keys of its own, or of another former one. It then can't continue with the keys of this
/// one.
pub(super) fn has_own_keys(observed: &Observed) -> bool {
    let Observed { recorded, run, .. } = observed;
    *recorded != Recorded::default() || run.in_hand.is_some() || run.stored.is_some()
}

/// Whether the remote side refused to revoke the key. No other source names this key, so it does not exist.
fn is_refused(failure: &Failure) -> bool {
    failure.attempted == Attempted::Revoke && matches!(failure.class, ErrorClass::Rejected | ErrorClass::Gone)
}
