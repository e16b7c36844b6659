//! The status to show at each stage: what is remembered, and what the conditions say about it.

use jiff::Timestamp;

use super::{
    Attempted, ErrorClass, Failure, KeyRecord, Memory, Problem, Report, Rest, SecretView, Sequence, Verdict,
    Wake, World, rotation,
};
use crate::api::Reason;

/// The Secret holds the credentials of `key`.
pub(super) fn settled(world: &World, memory: &Memory, key: &KeyRecord) -> Report {
    let overlap = memory.previous.first().map(|previous| Problem {
        reason: Reason::Overlapping,
        message: format!("key {} is revoked at {}", previous.sequence, previous.revoke_at),
    });
    Report {
        memory: memory.clone(),
        ready: Verdict {
            ready: true,
            reason: Reason::Available,
            message: format!("the credentials of key {} are in the Secret", key.sequence),
        },
        rotating: memory.attempt.map(rotation_under_way).or(overlap),
        stalled: world.desired.problem.clone(),
        next_rotation: rotation::next_rotation(&world.desired, key),
    }
}

/// All is well until the next time at which something is to be done.
pub(super) fn rest_settled(world: &World, key: &KeyRecord) -> Rest {
    let report = settled(world, &world.memory, key);
    let revocations = world.memory.previous.iter().map(|previous| previous.revoke_at);
    let next: Option<Timestamp> = revocations.chain(report.next_rotation).min();
    Rest { wake: next.map_or(Wake::OnChange, Wake::At), report }
}

/// The next key is about to be made.
pub(super) fn rotating(world: &World, memory: Memory, next: Sequence) -> Report {
    let report = standing(world, &rotation_under_way(next));
    Report { memory, rotating: Some(rotation_under_way(next)), ..report }
}

fn rotation_under_way(next: Sequence) -> Problem {
    Problem { reason: Reason::Rotating, message: format!("making key {next}") }
}

/// The current key works, and a rotation or a revocation waits for the provider.
pub(super) fn rotation_waiting(world: &World, key: &KeyRecord, problem: &Problem) -> Rest {
    let report = Report { rotating: Some(problem.clone()), ..settled(world, &world.memory, key) };
    let revocations = world.memory.previous.iter().map(|previous| previous.revoke_at);
    let next = revocations.filter(|revoke_at| *revoke_at > world.now).min();
    Rest { wake: next.map_or(Wake::OnChange, Wake::At), report }
}

/// The current key works, and a rotation or a revocation failed.
pub(super) fn rotation_failed(world: &World, key: &KeyRecord, failure: &Failure) -> Rest {
    let report = Report { rotating: Some(problem_of(failure)), ..settled(world, &world.memory, key) };
    Rest { wake: Wake::Retry { not_before: failure.retry_after }, report }
}

/// The Secret is not right, and getting it right failed.
pub(super) fn failed(world: &World, failure: &Failure) -> Rest {
    let report = standing(world, &problem_of(failure));
    Rest { wake: Wake::Retry { not_before: failure.retry_after }, report }
}

/// Something stands in the way whose change wakes the ServiceKey: its spec, or its provider.
pub(super) fn waiting(world: &World, problem: &Problem) -> Rest {
    Rest { wake: Wake::OnChange, report: standing(world, problem) }
}

/// The Secret's name is taken. Nothing that is watched tells when it is free again.
pub(super) fn secret_conflict(world: &World, holder: &str) -> Rest {
    let problem = Problem {
        reason: Reason::SecretConflict,
        message: format!(
            "the Secret's name is taken by {holder}; delete that one, or name another in `spec.secret.name`"
        ),
    };
    Rest { wake: Wake::Retry { not_before: None }, report: standing(world, &problem) }
}

/// The user stopped all action.
pub(super) fn suspended(world: &World) -> Rest {
    let problem = Problem {
        reason: Reason::Suspended,
        message: "nothing is done for this ServiceKey until `spec.suspend` is false".to_owned(),
    };
    Rest { wake: Wake::OnChange, report: standing(world, &problem) }
}

/// Nothing is left to do.
pub(super) fn let_go(world: &World) -> Rest {
    let problem = Problem { reason: Reason::Deleting, message: "nothing is left to revoke".to_owned() };
    Rest { wake: Wake::OnChange, report: standing(world, &problem) }
}

/// Revoking a key failed; it is tried again until the remote side confirms.
pub(super) fn deletion_failed(world: &World, failure: &Failure) -> Rest {
    let problem = Problem {
        reason: Reason::RevokeFailed,
        message: format!(
            "{}; the key is revoked as soon as this works, or is left behind once the ServiceKey is annotated \
             `servicekeys.dev/abandon: \"true\"`",
            failure.message
        ),
    };
    Rest { wake: Wake::Retry { not_before: failure.retry_after }, report: standing(world, &problem) }
}

/// A key is to be revoked and the provider can't be asked.
pub(super) fn deletion_waiting(world: &World, problem: &Problem) -> Rest {
    let problem = Problem {
        reason: problem.reason,
        message: format!(
            "{}; the key is revoked as soon as that is restored, or is left behind once the ServiceKey is \
             annotated `servicekeys.dev/abandon: \"true\"`",
            problem.message
        ),
    };
    Rest { wake: Wake::OnChange, report: standing(world, &problem) }
}

/// Where things stand without progress: ready only if the Secret is right although something else is not.
fn standing(world: &World, problem: &Problem) -> Report {
    let holds_current_key = !world.desired.deleting
        && matches!(&world.secret, SecretView::Intact { key }
            if world.memory.key.as_ref().is_none_or(|known| known.sequence <= key.sequence));
    let verdict =
        Verdict { ready: holds_current_key, reason: problem.reason, message: problem.message.clone() };
    let hopeless = !holds_current_key && problem.needs_the_user();
    Report {
        memory: world.memory.clone(),
        ready: verdict,
        rotating: None,
        stalled: hopeless.then(|| problem.clone()),
        next_rotation: None,
    }
}

fn problem_of(failure: &Failure) -> Problem {
    let reason = match (failure.attempted, failure.class) {
        (Attempted::Parameters, _) => Reason::ParametersUnusable,
        (Attempted::Render, _) => Reason::CredentialsUnusable,
        (Attempted::Revoke, _) => Reason::RevokeFailed,
        (Attempted::Store, _) => Reason::SecretRejected,
        (Attempted::Provision, ErrorClass::Transient) => Reason::RemoteUnreachable,
        (Attempted::Provision, ErrorClass::Rejected) => Reason::BindRejected,
        (Attempted::Provision, ErrorClass::Conflict) => Reason::KeyConflict,
        (Attempted::Provision, ErrorClass::Gone) => Reason::InstanceNotFound,
        (Attempted::Provision, ErrorClass::Forbidden) => Reason::Unauthorized,
        (Attempted::Provision, ErrorClass::Untrusted) => Reason::TlsFailed,
        (Attempted::Provision, ErrorClass::Unexpected) => Reason::UnexpectedAnswer,
        (Attempted::Provision, ErrorClass::OrphanPossible) => Reason::BindFailed,
    };
    Problem { reason, message: failure.message.clone() }
}
