//! Operations on keys, rotations, orphans, and keys left behind at remote sides.

use std::collections::HashMap;

use parking_lot::Mutex;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};
use strum::{IntoStaticStr, VariantNames};

use super::{
    Metrics,
    catalog::{BACKEND, Label, MetricCatalog, MetricEntry, PROVIDER, PROVIDER_NAMESPACE, Values},
    labels::{BackendLabels, ProviderLabels, gauge},
};
use crate::backend::BackendKind;

static OPERATIONS: MetricEntry = MetricEntry {
    name: "servicekeys_key_operations_total",
    labels: &[
        BACKEND,
        Label { name: "operation", values: Values::OneOf(KeyOperation::VARIANTS) },
        Label { name: "outcome", values: Values::OneOf(KeyOutcome::VARIANTS) },
    ],
    help: "Operations on keys at remote sides, by outcome",
    advice: "The conditions of the ServiceKeys give the reason of a failure. The outcome of a `lost` bind is unknown, \
             so it may have created a key: the operator finds or revokes that key automatically",
};

const ROTATION_OUTCOMES: [&str; 2] = ["completed", "failed"];

static ROTATIONS: MetricEntry = MetricEntry {
    name: "servicekeys_rotations_total",
    labels: &[BACKEND, Label { name: "outcome", values: Values::OneOf(&ROTATION_OUTCOMES) }],
    help: "Rotation attempts: `completed` when the Secret contains the next key, `failed` when no usable key could be \
           created",
    advice: "The operator retries failed attempts; the condition `Rotating` gives the reason of the failure",
};

static RESTARTS: MetricEntry = MetricEntry {
    name: "servicekeys_workload_restarts_total",
    labels: &[BACKEND, Label { name: "outcome", values: Values::OneOf(&ROTATION_OUTCOMES) }],
    help: "Restarts of workloads after rotations: `completed` when the API server stored the new pod template, `failed` \
           otherwise",
    advice: "The operator retries failed restarts; the condition `Rotating` with the reason `RestartFailed` gives the \
             causes",
};

static VERIFICATIONS: MetricEntry = MetricEntry {
    name: "servicekeys_verifications_total",
    labels: &[BACKEND, Label { name: "outcome", values: Values::OneOf(&ROTATION_OUTCOMES) }],
    help: "Keys verified by `spec.rotation.verify`: `completed` when the service accepted the credentials, `failed` when it \
           did not accept them in time",
    advice: "The operator revokes a key whose verification failed, and creates another one later; the condition `Ready` or \
             `Rotating` with the reason `VerificationFailed` gives the service's last answer",
};

static ORPHAN_MITIGATIONS: MetricEntry = MetricEntry {
    name: "servicekeys_orphan_mitigations_total",
    labels: &[BACKEND],
    help: "Binds whose outcome is unknown, so that the operator revokes the key that they may have created",
    advice: "Nothing, as long as they are rare. Many of them mean that the remote side answers too late or not at all",
};

static LEFT_BEHIND: MetricEntry = MetricEntry {
    name: "servicekeys_keys_left_behind_total",
    labels: &[BACKEND],
    help: "Keys left at the remote side because their ServiceKey was abandoned, has `deletionPolicy: Retain`, or \
           vanished and the revocation failed for a day",
    advice: "Their credentials still work. Delete the keys at the remote side when no client needs them. The event \
             `KeysLeftBehind` names the ServiceKey",
};

static ORPHANS: MetricEntry = MetricEntry {
    name: "servicekeys_orphans",
    labels: &[PROVIDER_NAMESPACE, PROVIDER],
    help: "Keys at the remote side that have this operator's mark but no ServiceKey",
    advice: "The provider's `status.orphans` names them. Delete them at the remote side, or set `orphans: Delete`",
};

static ORPHANS_REVOKED: MetricEntry = MetricEntry {
    name: "servicekeys_orphans_revoked_total",
    labels: &[BACKEND],
    help: "Keys without a ServiceKey that the operator revoked because their provider has `orphans: Delete`",
    advice: "Nothing; the events `OrphanRevoked` of the provider name them",
};

static PROVIDER_READY: MetricEntry = MetricEntry {
    name: "servicekeys_provider_ready",
    labels: &[PROVIDER_NAMESPACE, PROVIDER],
    help: "1 if the remote side could be reached with the provider's login at the last check, else 0",
    advice: "At 0 the operator creates, rotates and revokes no keys of this provider. Its condition `Ready` gives the \
             reason",
};

/// An operation on a key at a remote side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum KeyOperation {
    /// Check that the instance exists and accepts keys.
    CheckInstance,
    Bind,
    /// Read the state of an asynchronous bind or unbind.
    Poll,
    /// Read the credentials of an existing key.
    Fetch,
    /// Read the credentials of an existing key by repeating the request that created it.
    Repeat,
    /// Check that a key still exists.
    Confirm,
    /// Remove this operator's mark from a key that stays.
    Release,
    Unbind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum KeyOutcome {
    Done,
    /// The remote side has accepted the request and is still working on it.
    UnderWay,
    /// The remote side does not have the key.
    Absent,
    /// The remote side does not return the credentials of an existing key.
    Unreadable,
    /// Another key has the same name or id, or the key exists with other parameters.
    Conflict,
    /// The outcome is unknown: the operation may have taken effect.
    Lost,
    Failed,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OperationLabels {
    backend: BackendKind,
    operation: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RotationLabels {
    backend: BackendKind,
    outcome: &'static str,
}

impl RotationLabels {
    const fn new(backend: BackendKind, completed: bool) -> Self {
        let [done, failed] = ROTATION_OUTCOMES;
        Self { backend, outcome: if completed { done } else { failed } }
    }
}

#[derive(Debug, Default)]
pub(super) struct Keys {
    operations: Family<OperationLabels, Counter>,
    rotations: Family<RotationLabels, Counter>,
    restarts: Family<RotationLabels, Counter>,
    verifications: Family<RotationLabels, Counter>,
    orphan_mitigations: Family<BackendLabels, Counter>,
    left_behind: Family<BackendLabels, Counter>,
    orphans: Family<ProviderLabels, Gauge>,
    orphans_revoked: Family<BackendLabels, Counter>,
    provider_ready: Family<ProviderLabels, Gauge>,
    /// The records of the providers without series of their own, by namespace and name.
    further: Mutex<HashMap<String, HashMap<String, ProviderRecord>>>,
}

/// The results of a provider's last check and of the last list of its keys.
#[derive(Clone, Copy, Debug)]
struct ProviderRecord {
    ready: bool,
    orphans: usize,
}

impl Keys {
    pub(super) fn expose(&self, catalog: &mut MetricCatalog) {
        catalog.add(&OPERATIONS, self.operations.clone());
        catalog.add(&ROTATIONS, self.rotations.clone());
        catalog.add(&RESTARTS, self.restarts.clone());
        catalog.add(&VERIFICATIONS, self.verifications.clone());
        catalog.add(&ORPHAN_MITIGATIONS, self.orphan_mitigations.clone());
        catalog.add(&LEFT_BEHIND, self.left_behind.clone());
        catalog.add(&ORPHANS, self.orphans.clone());
        catalog.add(&ORPHANS_REVOKED, self.orphans_revoked.clone());
        catalog.add(&PROVIDER_READY, self.provider_ready.clone());
    }

    /// Creates the counters of this kind of remote side at 0. Prometheus sees no increase in a series that starts at 1.
    pub(super) fn begin(&self, backend: BackendKind) {
        for outcome in ROTATION_OUTCOMES {
            for counter in [&self.rotations, &self.restarts, &self.verifications] {
                let _ = counter.get_or_create(&RotationLabels { backend, outcome });
            }
        }
        for counter in [&self.orphan_mitigations, &self.left_behind, &self.orphans_revoked] {
            let _ = counter.get_or_create(&BackendLabels { backend });
        }
    }

    fn forget(&self, provider: &ProviderLabels) {
        self.orphans.remove(provider);
        self.provider_ready.remove(provider);
    }

    /// Updates the record of a provider without series of its own, and the series that all such providers share.
    fn note_further(&self, labels: &ProviderLabels, name: &str, note: impl FnOnce(&mut ProviderRecord)) {
        let mut further = self.further.lock();
        let of_namespace = further.entry(labels.provider_namespace.clone()).or_default();
        note(of_namespace.entry(name.to_owned()).or_insert(ProviderRecord { ready: true, orphans: 0 }));
        self.show_further(labels, of_namespace);
    }

    fn show_further(&self, labels: &ProviderLabels, known: &HashMap<String, ProviderRecord>) {
        let (ready, orphans) = known
            .values()
            .fold((true, 0), |(ready, orphans), known| (ready && known.ready, orphans + known.orphans));
        self.provider_ready.get_or_create(labels).set(i64::from(ready));
        self.orphans.get_or_create(labels).set(gauge(orphans));
    }

    /// Forgets a provider without series of its own. Returns whether it was the last one of its namespace.
    fn forget_further(&self, labels: &ProviderLabels, name: &str) -> bool {
        let mut further = self.further.lock();
        let Some(of_namespace) = further.get_mut(&labels.provider_namespace) else { return true };
        of_namespace.remove(name);
        if of_namespace.is_empty() {
            further.remove(&labels.provider_namespace);
            self.forget(labels);
            return true;
        }
        self.show_further(labels, of_namespace);
        false
    }
}

impl Metrics {
    pub(crate) fn count_key_operation(
        &self,
        backend: BackendKind,
        operation: KeyOperation,
        outcome: KeyOutcome,
    ) {
        let (operation, outcome) = (operation.into(), outcome.into());
        self.0.keys.operations.get_or_create(&OperationLabels { backend, operation, outcome }).inc();
    }

    /// Counts a rotation attempt. It is completed when the Secret contains the next key.
    pub(crate) fn count_rotation(&self, backend: BackendKind, completed: bool) {
        self.0.keys.rotations.get_or_create(&RotationLabels::new(backend, completed)).inc();
    }

    /// Counts restarts of workloads after a rotation.
    pub(crate) fn count_restarts(&self, backend: BackendKind, completed: usize, failed: usize) {
        for (outcome, count) in ROTATION_OUTCOMES.into_iter().zip([completed, failed]) {
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            self.0.keys.restarts.get_or_create(&RotationLabels { backend, outcome }).inc_by(count);
        }
    }

    /// Counts a verified key. It is completed when the service accepted the credentials.
    pub(crate) fn count_verification(&self, backend: BackendKind, completed: bool) {
        self.0.keys.verifications.get_or_create(&RotationLabels::new(backend, completed)).inc();
    }

    /// Counts a bind that may have created a key without an owner. The operator revokes that key.
    pub(crate) fn count_mitigated_orphan(&self, backend: BackendKind) {
        self.0.keys.orphan_mitigations.get_or_create(&BackendLabels { backend }).inc();
    }

    /// Counts keys that stay at the remote side after their ServiceKey is gone.
    pub(crate) fn count_left_behind(&self, backend: BackendKind, keys: usize) {
        let keys = u64::try_from(keys).unwrap_or(u64::MAX);
        self.0.keys.left_behind.get_or_create(&BackendLabels { backend }).inc_by(keys);
    }

    /// Sets how many keys of a provider have no ServiceKey, according to the last list of its keys.
    pub(crate) fn set_orphans(&self, namespace: Option<&str>, name: &str, keys: usize) {
        let (labels, known) = (self.0.providers.labels(namespace, name), &self.0.keys);
        if labels.is_shared() {
            known.note_further(&labels, name, |known| known.orphans = keys);
        } else {
            known.orphans.get_or_create(&labels).set(gauge(keys));
        }
    }

    /// Counts a key without a ServiceKey that the operator revoked because the provider has `orphans: Delete`.
    pub(crate) fn count_revoked_orphan(&self, backend: BackendKind) {
        self.0.keys.orphans_revoked.get_or_create(&BackendLabels { backend }).inc();
    }

    /// Sets the result of a provider's last check.
    pub(crate) fn set_provider_ready(&self, namespace: Option<&str>, name: &str, ready: bool) {
        let (labels, known) = (self.0.providers.labels(namespace, name), &self.0.keys);
        if labels.is_shared() {
            known.note_further(&labels, name, |known| known.ready = ready);
        } else {
            known.provider_ready.get_or_create(&labels).set(i64::from(ready));
        }
    }

    /// Removes the series of a provider that was deleted.
    pub(crate) fn forget_provider(&self, namespace: Option<&str>, name: &str) {
        let Some(labels) = self.0.providers.forget(namespace, name) else { return };
        if labels.is_shared() {
            if self.0.keys.forget_further(&labels, name) {
                self.0.queues.forget(&labels);
            }
        } else {
            self.0.keys.forget(&labels);
            self.0.queues.forget(&labels);
        }
    }
}
