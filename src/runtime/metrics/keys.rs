//! What becomes of keys: made, read, revoked, replaced, left behind, found without an owner.

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
    help: "What was wanted of remote sides for a key, by what came of it",
    advice: "The conditions of the ServiceKeys tell why something failed. A `lost` bind may have made a key: it is \
             cleaned up by itself",
};

const ROTATION_OUTCOMES: [&str; 2] = ["completed", "failed"];

static ROTATIONS: MetricEntry = MetricEntry {
    name: "servicekeys_rotations_total",
    labels: &[BACKEND, Label { name: "outcome", values: Values::OneOf(&ROTATION_OUTCOMES) }],
    help: "Attempts to replace a key by the next one: the Secret holds the next one, or it could not be made",
    advice: "Failed attempts are made again by themselves; the condition `Rotating` tells why they fail",
};

static ORPHAN_MITIGATIONS: MetricEntry = MetricEntry {
    name: "servicekeys_orphan_mitigations_total",
    labels: &[BACKEND],
    help: "Binds whose outcome was lost, so that the key they may have made was revoked",
    advice: "Nothing, as long as they are rare. Many mean that the remote side answers too late or not at all",
};

static LEFT_BEHIND: MetricEntry = MetricEntry {
    name: "servicekeys_keys_left_behind_total",
    labels: &[BACKEND],
    help: "Keys that stay at the remote side because their ServiceKey was abandoned, retains them, or vanished and the \
           revocation failed for a day",
    advice: "They work for whoever knows them: delete them at the remote side when nobody needs them. The event \
             `KeysLeftBehind` names the ServiceKey",
};

static ORPHANS: MetricEntry = MetricEntry {
    name: "servicekeys_orphans",
    labels: &[PROVIDER_NAMESPACE, PROVIDER],
    help: "Keys at the remote side that bear this operator's mark and have no ServiceKey",
    advice: "The provider's `status.orphans` names them. Delete them at the remote side, or set `orphans: Delete`",
};

static ORPHANS_REVOKED: MetricEntry = MetricEntry {
    name: "servicekeys_orphans_revoked_total",
    labels: &[BACKEND],
    help: "Keys without a ServiceKey that were revoked because their provider says so",
    advice: "Nothing; events `OrphanRevoked` of the provider name them",
};

static PROVIDER_READY: MetricEntry = MetricEntry {
    name: "servicekeys_provider_ready",
    labels: &[PROVIDER_NAMESPACE, PROVIDER],
    help: "Whether the remote side could be reached with the login at the last check: 1, or 0",
    advice: "At 0 no key of the provider is made, replaced or revoked: its condition `Ready` tells why",
};

/// What is wanted of a remote side for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum KeyOperation {
    /// Whether keys can be made for the instance.
    CheckInstance,
    Bind,
    /// How far the remote side is.
    Poll,
    /// The credentials of a key, again.
    Fetch,
    /// The same, by the request that created it.
    Repeat,
    /// Whether a key is still there.
    Confirm,
    /// That a key stays, without our mark.
    Release,
    /// That a key goes.
    Unbind,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "snake_case")]
pub(crate) enum KeyOutcome {
    Done,
    /// The remote side is at work.
    UnderWay,
    /// There is no such key.
    Absent,
    /// The key's credentials are not shown again.
    Unreadable,
    /// Another key is in the way.
    Conflict,
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

#[derive(Debug, Default)]
pub(super) struct Keys {
    operations: Family<OperationLabels, Counter>,
    rotations: Family<RotationLabels, Counter>,
    orphan_mitigations: Family<BackendLabels, Counter>,
    left_behind: Family<BackendLabels, Counter>,
    orphans: Family<ProviderLabels, Gauge>,
    orphans_revoked: Family<BackendLabels, Counter>,
    provider_ready: Family<ProviderLabels, Gauge>,
    /// What is known of each provider that has no series of its own, by namespace and name.
    further: Mutex<HashMap<String, HashMap<String, ProviderRecord>>>,
}

/// What the last check of a provider, and the last list of its keys, showed.
#[derive(Clone, Copy, Debug)]
struct ProviderRecord {
    ready: bool,
    orphans: usize,
}

impl Keys {
    pub(super) fn expose(&self, catalog: &mut MetricCatalog) {
        catalog.add(&OPERATIONS, self.operations.clone());
        catalog.add(&ROTATIONS, self.rotations.clone());
        catalog.add(&ORPHAN_MITIGATIONS, self.orphan_mitigations.clone());
        catalog.add(&LEFT_BEHIND, self.left_behind.clone());
        catalog.add(&ORPHANS, self.orphans.clone());
        catalog.add(&ORPHANS_REVOKED, self.orphans_revoked.clone());
        catalog.add(&PROVIDER_READY, self.provider_ready.clone());
    }

    /// Counts from zero for remote sides of this kind: what first shows at 1 has not grown by what Prometheus sees.
    pub(super) fn begin(&self, backend: BackendKind) {
        for outcome in ROTATION_OUTCOMES {
            let _ = self.rotations.get_or_create(&RotationLabels { backend, outcome });
        }
        for counter in [&self.orphan_mitigations, &self.left_behind, &self.orphans_revoked] {
            let _ = counter.get_or_create(&BackendLabels { backend });
        }
    }

    fn forget(&self, provider: &ProviderLabels) {
        self.orphans.remove(provider);
        self.provider_ready.remove(provider);
    }

    /// Takes in what is known of a provider without series of its own, and shows what is known of all of them together.
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

    /// Forgets a provider without series of its own; says whether it was the last one of its namespace.
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
    /// Counts something that was wanted of a remote side for a key.
    pub(crate) fn count_key_operation(
        &self,
        backend: BackendKind,
        operation: KeyOperation,
        outcome: KeyOutcome,
    ) {
        let (operation, outcome) = (operation.into(), outcome.into());
        self.0.keys.operations.get_or_create(&OperationLabels { backend, operation, outcome }).inc();
    }

    /// Counts a rotation: whether the next key is in the Secret, or could not be made.
    pub(crate) fn count_rotation(&self, backend: BackendKind, completed: bool) {
        let [done, failed] = ROTATION_OUTCOMES;
        let outcome = if completed { done } else { failed };
        self.0.keys.rotations.get_or_create(&RotationLabels { backend, outcome }).inc();
    }

    /// Counts a call that may have made a key which nobody wants, and which is revoked now.
    pub(crate) fn count_mitigated_orphan(&self, backend: BackendKind) {
        self.0.keys.orphan_mitigations.get_or_create(&BackendLabels { backend }).inc();
    }

    /// Counts keys that stay at the remote side because the user let go of them.
    pub(crate) fn count_left_behind(&self, backend: BackendKind, keys: usize) {
        let keys = u64::try_from(keys).unwrap_or(u64::MAX);
        self.0.keys.left_behind.get_or_create(&BackendLabels { backend }).inc_by(keys);
    }

    /// Notes how many keys of a provider have no ServiceKey, by the last list of all its keys.
    pub(crate) fn set_orphans(&self, namespace: Option<&str>, name: &str, keys: usize) {
        let (labels, known) = (self.0.providers.labels(namespace, name), &self.0.keys);
        if labels.is_of_further() {
            known.note_further(&labels, name, |known| known.orphans = keys);
        } else {
            known.orphans.get_or_create(&labels).set(gauge(keys));
        }
    }

    /// Counts a key that had no ServiceKey, and was revoked because the provider says so.
    pub(crate) fn count_revoked_orphan(&self, backend: BackendKind) {
        self.0.keys.orphans_revoked.get_or_create(&BackendLabels { backend }).inc();
    }

    /// Notes what the last check of a provider showed.
    pub(crate) fn set_provider_ready(&self, namespace: Option<&str>, name: &str, ready: bool) {
        let (labels, known) = (self.0.providers.labels(namespace, name), &self.0.keys);
        if labels.is_of_further() {
            known.note_further(&labels, name, |known| known.ready = ready);
        } else {
            known.provider_ready.get_or_create(&labels).set(i64::from(ready));
        }
    }

    /// Forgets a provider that is gone.
    pub(crate) fn forget_provider(&self, namespace: Option<&str>, name: &str) {
        let Some(labels) = self.0.providers.forget(namespace, name) else { return };
        if labels.is_of_further() {
            if self.0.keys.forget_further(&labels, name) {
                self.0.queues.forget(&labels);
            }
        } else {
            self.0.keys.forget(&labels);
            self.0.queues.forget(&labels);
        }
    }
}
