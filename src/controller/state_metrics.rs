//! The current state for the metrics: the number of ServiceKeys in each state, and the rotations that are
//! due.

use std::{collections::HashMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{ids::ProviderId, provider::ProviderStore, service_key::index::ServiceKeyIndex};
use crate::{
    api::{ConditionType, Reason, ServiceKey, ServiceKeyStatus},
    runtime::metrics::{KeyState, ProviderState},
};

/// A rotation that is overdue for this long is late.
const LATE: SignedDuration = SignedDuration::from_mins(10);

/// Collects the state, as far as the caches show it.
pub(super) fn collect(store: &ProviderStore, index: &ServiceKeyIndex, now: Timestamp) -> Vec<ProviderState> {
    let providers = store.providers().into_iter().map(|(id, backend, pause)| {
        let ProviderId { namespace, name } = id.clone();
        (id, ProviderState { namespace, name, backend, pause, ..ProviderState::default() })
    });
    sorted(providers.collect(), &index.known_service_keys(), now)
}

/// Counts the ServiceKeys of each provider. Any user can write the name of a provider that does not exist, so
/// such ServiceKeys are counted together.
fn sorted(
    mut providers: HashMap<ProviderId, ProviderState>,
    keys: &[Arc<ServiceKey>],
    now: Timestamp,
) -> Vec<ProviderState> {
    let mut without_provider = ProviderState::default();
    for key in keys {
        let stock = providers.get_mut(&ProviderId::from_key(key)).unwrap_or(&mut without_provider);
        stock.keys[state(key) as usize] += 1;
        if let Some(status) = key.status.as_ref().filter(|_| is_rotated(key)) {
            count(stock, status, now);
        }
    }
    let without_provider = Some(without_provider)
        .filter(|without_provider| without_provider.keys.iter().any(|count| *count > 0));
    providers.into_values().chain(without_provider).collect()
}

/// Whether the operator rotates its key when that is due.
fn is_rotated(key: &ServiceKey) -> bool {
    key.metadata.deletion_timestamp.is_none() && !key.spec.suspend
}

fn count(stock: &mut ProviderState, status: &ServiceKeyStatus, now: Timestamp) {
    let overdue = status.next_rotation.as_ref().map(|due| now.duration_since(due.0));
    stock.due += u32::from(overdue.is_some_and(|overdue| !overdue.is_negative()));
    stock.late += u32::from(overdue.is_some_and(|overdue| overdue >= LATE));
    stock.failing += u32::from(fails_to_rotate(status));
    // A time that is not after the creation does not count as an expiry.
    let expires_at = status.key.as_ref().and_then(|key| {
        let end = key.expires_at.as_ref()?;
        (end.0 > key.created_at.0).then_some(end)
    });
    let left = expires_at.map(|end| end.0.duration_since(now).as_secs_f64());
    stock.next_expiry = match (stock.next_expiry, left) {
        (Some(first), Some(left)) => Some(first.min(left)),
        (first, left) => first.or(left),
    };
}

fn state(key: &ServiceKey) -> KeyState {
    let holds = |type_| key.status.as_ref().is_some_and(|status| shows(status, type_).is_some());
    if key.metadata.deletion_timestamp.is_some() {
        KeyState::Deleting
    } else if key.spec.suspend {
        KeyState::Suspended
    } else if holds(ConditionType::Ready) {
        KeyState::Ready
    } else if holds(ConditionType::Stalled) {
        KeyState::Stalled
    } else {
        KeyState::Pending
    }
}

/// The reason of a condition that is true.
fn shows(status: &ServiceKeyStatus, type_: ConditionType) -> Option<&str> {
    let holds = |condition: &&Condition| condition.type_ == type_.as_str() && condition.status == "True";
    status.conditions.iter().find(holds).map(|condition| condition.reason.as_str())
}

/// Whether `Rotating` has a reason other than those of a regular rotation.
fn fails_to_rotate(status: &ServiceKeyStatus) -> bool {
    let is_in_order = |reason: &Reason| {
        let ends_well = matches!(reason, Reason::RotationIneffective | Reason::Deleting);
        ends_well || reason.is_progress_of_a_rotation()
    };
    let mut in_order = Reason::ALL.iter().filter(|reason| is_in_order(reason));
    shows(status, ConditionType::Rotating)
        .is_some_and(|shown| in_order.all(|reason| reason.as_str() != shown))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn at(time: &str) -> Timestamp {
        time.parse().unwrap()
    }

    fn key(provider: &str, changes: &Value) -> Arc<ServiceKey> {
        let mut key = json!({
            "apiVersion": "servicekeys.dev/v1alpha1",
            "kind": "ServiceKey",
            "metadata": {"name": "key", "namespace": "training"},
            "spec": {"providerRef": {"name": provider}, "instance": {"id": "db"}},
        });
        for (part, change) in changes.as_object().unwrap() {
            let fields = key.as_object_mut().unwrap().entry(part).or_insert_with(|| json!({}));
            fields.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        }
        Arc::new(serde_json::from_value(key).unwrap())
    }

    fn condition(type_: &str, status: &str, reason: &str) -> Value {
        json!({
            "type": type_, "status": status, "reason": reason, "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    }

    fn stock_of(keys: &[Arc<ServiceKey>]) -> Vec<ProviderState> {
        let id = ProviderId { namespace: Some("training".into()), name: "broker".into() };
        let stock = ProviderState { name: id.name.clone(), ..ProviderState::default() };
        sorted([(id, stock)].into(), keys, at("2026-01-01T12:00:00Z"))
    }

    #[rstest]
    #[case::made_just_now(json!({}), KeyState::Pending)]
    #[case::ready(json!({"status": {"conditions": [condition("Ready", "True", "Available")]}}), KeyState::Ready)]
    #[case::stalled(
        json!({"status": {"conditions": [
            condition("Ready", "False", "BindRejected"), condition("Stalled", "True", "BindRejected")]}}),
        KeyState::Stalled
    )]
    #[case::suspended(
        json!({"spec": {"suspend": true}, "status": {"conditions": [condition("Ready", "True", "Suspended")]}}),
        KeyState::Suspended
    )]
    #[case::deleting(
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"},
               "status": {"conditions": [condition("Ready", "True", "Available")]}}),
        KeyState::Deleting
    )]
    fn a_service_key_is_in_one_state(#[case] changes: Value, #[case] expected: KeyState) {
        let stock = stock_of(&[key("broker", &changes)]);
        let counts = KeyState::ALL.map(|state| u32::from(state == expected));
        assert_eq!(stock.iter().map(|of| of.keys).collect::<Vec<_>>(), [counts]);
    }

    #[rstest]
    #[case::later("2026-01-01T12:00:01Z", 0, 0)]
    #[case::now("2026-01-01T12:00:00Z", 1, 0)]
    #[case::a_while_ago("2026-01-01T11:50:01Z", 1, 0)]
    #[case::long_ago("2026-01-01T11:50:00Z", 1, 1)]
    fn a_rotation_is_due_and_then_late(#[case] next_rotation: &str, #[case] due: u32, #[case] late: u32) {
        let changes = json!({"status": {"nextRotation": next_rotation}});
        let stock = stock_of(&[key("broker", &changes)]).remove(0);
        assert_eq!((stock.due, stock.late), (due, late));
        let suspended =
            key("broker", &json!({"status": {"nextRotation": next_rotation}, "spec": {"suspend": true}}));
        let stock = stock_of(&[suspended]).remove(0);
        assert_eq!((stock.due, stock.late), (0, 0), "no rotation of it is due");
    }

    #[rstest]
    #[case::under_way("Rotating", 0)]
    #[case::over("Overlapping", 0)]
    #[case::without_effect("RotationIneffective", 0)]
    #[case::refused("BindRejected", 1)]
    #[case::not_revoked("RevokeFailed", 1)]
    fn a_rotation_that_does_not_work_is_counted(#[case] reason: &str, #[case] failing: u32) {
        let changes = json!({"status": {"conditions": [condition("Rotating", "True", reason)]}});
        assert_eq!(stock_of(&[key("broker", &changes)])[0].failing, failing);
    }

    #[test]
    fn the_first_expiry_counts() {
        let expiring = |at: &str| {
            let known = json!({
                "sequence": 1, "id": "a", "createdAt": "2026-01-01T00:00:00Z", "inputs": "", "expiresAt": at,
            });
            key("broker", &json!({"status": {"key": known}}))
        };
        assert_eq!(stock_of(&[key("broker", &json!({}))])[0].next_expiry, None);
        let keys = [
            expiring("2026-01-01T13:00:00Z"),
            expiring("2026-01-01T12:00:30Z"),
            expiring("2026-01-02T00:00:00Z"),
            expiring("0001-01-01T00:00:00Z"),
        ];
        assert_eq!(stock_of(&keys)[0].next_expiry, Some(30.0));
    }

    #[test]
    fn service_keys_of_providers_that_do_not_exist_are_counted_together() {
        let keys = ["broker", "misspelled", "another"].map(|provider| key(provider, &json!({})));
        let stock = stock_of(&keys);
        let pending =
            stock.iter().map(|provider| (provider.name.as_str(), provider.keys[KeyState::Pending as usize]));
        assert_eq!(pending.collect::<Vec<_>>(), [("broker", 1), ("", 2)]);
    }
}
