//! Decisions for single states, to check their messages or the order of two of them. The model shows that the rules
//! hold in all states.

mod consumers;
mod inheritance;
mod lost;
mod order;
mod pause;
mod plans;
mod reconciling;
mod refusals;
mod repairs;
mod restart;
mod retain;
mod rotation;
mod vanished;

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use uuid::Uuid;

use super::*;
use crate::api::Reason;

const MINUTE: Duration = Duration::from_secs(60);

fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(now().as_second() + seconds).unwrap()
}

fn key(inputs: &str) -> KeyRecord {
    KeyRecord {
        sequence: Sequence::FIRST,
        id: Some("binding-1".to_owned()),
        name: None,
        role: None,
        created_at: now(),
        created_by: None,
        lifetime: Lifetime::default(),
        late_until: None,
        inputs: inputs.into(),
        plan_ids: None,
        same_credentials: false,
    }
}

/// A ServiceKey that is about to request its first key.
pub(crate) fn asking() -> Observed {
    Observed {
        owner: Uuid::from_u128(1),
        desired: Desired {
            finalizer: true,
            deleting: false,
            abandon: false,
            abandon_denied: None,
            retain: false,
            retains_secret: false,
            suspended: false,
            inputs: "now".into(),
            follows_parameters: false,
            verification: None,
            rotation: RotationPolicy {
                every: None,
                overlap: Duration::ZERO,
                max_overlap: None,
                revokes_first: false,
            },
            windows: Windows::default(),
            restarts: false,
            keeps_previous: false,
            adopts: false,
            problem: None,
        },
        recorded: Recorded::default(),
        secret: SecretView::Absent,
        provider: ProviderView::Available,
        admitted: true,
        plan: PlanView::NotNeeded,
        noted_first: None,
        marks_keys: false,
        pause: None,
        run: RunState::default(),
        missed: None,
        grace: GracePeriod { patience: MINUTE, unknown_until: None },
        all_refused: false,
        repair_from: None,
        other_writers: None,
        companions: BTreeMap::new(),
        parameters: ParametersView::default(),
        staging: StagingView::Absent,
        published: None,
        now: now(),
    }
}

/// A ServiceKey whose Secret contains this key.
fn holding(key: KeyRecord) -> Observed {
    let recorded = Recorded { key: Some(key.clone()), ..Recorded::default() };
    Observed { recorded, secret: SecretView::Intact { key, previous: None, flaw: None }, ..asking() }
}

/// The third key is current, and the overlaps of the two before it are not over.
fn crowded() -> Observed {
    let [first, second] = [Sequence::FIRST, Sequence::FIRST.next()];
    let mut observed = holding(KeyRecord { sequence: second.next(), ..key("now") });
    observed.desired.rotation.overlap = MINUTE;
    observed.recorded.replace(first, None, None, now(), MINUTE);
    observed.recorded.replace(second, None, None, now(), 2 * MINUTE);
    observed
}

/// A ServiceKey whose key is being created asynchronously.
fn at_work() -> Observed {
    let mut observed = asking();
    observed.run.pending = Some(PendingOperation {
        operation: RemoteOperation::Bind,
        sequence: Sequence::FIRST,
        token: None,
        since: now(),
        ends: now().checked_add(60 * MINUTE).unwrap(),
        next_poll: Some(now()),
        retry_after: None,
        first_poll: Duration::ZERO,
        said: None,
        is_refused: false,
        inputs: "now".into(),
    });
    observed
}

/// The record that the step writes into the status.
fn recorded(step: Step) -> Recorded {
    match step {
        Step::Apply(KubernetesEffect::Record(report)) => report.recorded,
        other => panic!("{other:?}"),
    }
}

fn rest(observed: &Observed) -> Wait {
    match decide(observed) {
        Step::Wait(rest) => rest,
        step => panic!("{step:?}"),
    }
}
