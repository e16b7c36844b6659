//! Observations from outside: conditions of the ServiceKey, and calls to the broker.

use servicekey_operator::api::{ConditionType, OperationStatusKind, Reason, ServiceKey};
use testkit::broker::{Call as Asked, Route};

use crate::case::{Ask, Case, Outcome, Says, Shown};

impl Outcome {
    /// The outcome from these versions of the ServiceKey and these calls. The call under test is at the index `struck`.
    pub fn of(case: Case, versions: &[ServiceKey], calls: &[Asked], struck: usize) -> Self {
        let mut told: Vec<_> = versions.iter().filter_map(shown).collect();
        // The progress of background work is not a reaction to the answer, except in cases of polls.
        told.retain(|shown| {
            case.call.is_poll() || !matches!(shown.reason, Reason::Binding | Reason::Deleting)
        });
        told.dedup();
        let next = next(case, calls, struck);
        let mitigated = versions.iter().any(cleans_up) && next.contains(&Ask::Unbind);
        Self { shown: told, mitigated, next }
    }
}

/// The calls after the one under test, until the next bind or the next call of the same kind.
fn next(case: Case, calls: &[Asked], struck: usize) -> Vec<Ask> {
    let binding = calls[struck].binding.as_ref();
    // The operator may read the catalog and the instance at any time, which changes nothing.
    let of_keys = |call: &&Asked| !matches!(call.route, Route::Catalog | Route::FetchInstance);
    let asked = calls[struck + 1..].iter().filter(of_keys);
    let mut next = Vec::new();
    for ask in asked.map(|call| ask(call, binding)) {
        let last = next.last().copied();
        // The polls of a revocation belong to it.
        let same = last == Some(ask) || (last, ask) == (Some(Ask::Unbind), Ask::Poll);
        let until_the_end = case.says == Says::NoEnd && next.is_empty() && ask == Ask::Poll;
        if same || until_the_end {
            continue;
        }
        next.push(ask);
        if matches!(ask, Ask::Bind | Ask::BindNext) || ask == case.call.ask() {
            break;
        }
    }
    next
}

fn ask(call: &Asked, binding: Option<&String>) -> Ask {
    match call.route {
        Route::Bind if call.binding.as_ref() == binding => Ask::Bind,
        Route::Bind => Ask::BindNext,
        Route::LastOperation => Ask::Poll,
        Route::Fetch => Ask::Fetch,
        Route::Unbind => Ask::Unbind,
        Route::Catalog | Route::FetchInstance | Route::Unknown => panic!("unexpected call {call:?}"),
    }
}

fn holds(key: &ServiceKey, type_: ConditionType, status: &str) -> bool {
    let mut conditions = key.status.iter().flat_map(|status| &status.conditions);
    conditions.any(|condition| condition.type_ == type_.as_str() && condition.status == status)
}

pub fn is_ready(key: &ServiceKey) -> bool {
    holds(key, ConditionType::Ready, "True")
}

/// The condition `Ready`, unless it is true.
pub fn shown(key: &ServiceKey) -> Option<Shown> {
    let conditions = &key.status.as_ref()?.conditions;
    let ready = conditions.iter().find(|condition| condition.type_ == ConditionType::Ready.as_str())?;
    let reason = Reason::ALL.iter().find(|reason| reason.as_str() == ready.reason).unwrap();
    let stalled = holds(key, ConditionType::Stalled, "True");
    (ready.status != "True").then_some(Shown { reason: *reason, stalled })
}

/// Whether the status reports a key that a request without an answer may have created: since when that is unknown. A key
/// of no use is revoked as well, and its status has no such time.
fn cleans_up(key: &ServiceKey) -> bool {
    let operation = key.status.as_ref().and_then(|status| status.operation.as_ref());
    operation.is_some_and(|operation| {
        operation.kind == OperationStatusKind::CleanUp && operation.started_at.is_some()
    })
}
