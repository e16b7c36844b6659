//! Changes of the content of `parametersFrom`, if the user wants another key after them.
//!
//! The Secrets that users name there do not belong to the operator, so no watch shows them. The operator reads them from
//! time to time.

use std::time::Duration;

use jiff::Timestamp;

use super::{KeyRecord, Observed, rotation::after};

/// The time between two reads.
const INTERVAL: Duration = Duration::from_secs(600);

/// The time after which a read is repeated that the API server refused or did not answer.
const RETRY: Duration = Duration::from_secs(60);

/// The knowledge of this process about the content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ParametersView {
    /// When this process last read the content, or tried to.
    pub read_at: Option<Timestamp>,
    /// Whether the API server refused that read, or did not answer.
    pub is_unanswered: bool,
    /// Since when this process has known the present content.
    pub since: Option<Timestamp>,
}

impl ParametersView {
    /// The time of the next read; `None`: now. A clock that was set back since does not delay it.
    fn next_read(&self, now: Timestamp) -> Option<Timestamp> {
        let wait = if self.is_unanswered { RETRY } else { INTERVAL };
        self.read_at.filter(|read_at| *read_at <= now).map(|read_at| after(read_at, wait))
    }
}

/// Whether the operator has to read the content now.
pub(super) fn is_read_due(observed: &Observed, key: &KeyRecord) -> bool {
    let Observed { desired, run, parameters, now, .. } = observed;
    let is_due = parameters.next_read(*now).is_none_or(|next| next <= *now);
    // The current key is revoked first, so what was read a while ago is not enough.
    let confirms = has_changed(observed, key) && desired.rotation.revokes_first;
    desired.follows_parameters && (is_due || confirms && run.parameters_read.is_none())
}

/// When a ServiceKey that waits has to read the content.
pub(super) fn next_read(observed: &Observed) -> Option<Timestamp> {
    let next = observed.parameters.next_read(observed.now)?;
    (observed.desired.follows_parameters && next > observed.now).then_some(next)
}

/// Since when the content differs from the one that the key was created from.
pub(super) fn changed_at(observed: &Observed, key: &KeyRecord) -> Option<Timestamp> {
    let Observed { desired, run, parameters, .. } = observed;
    let is_certain = !desired.rotation.revokes_first || run.parameters_read == Some(true);
    let since = parameters.since.unwrap_or(key.created_at).max(key.created_at);
    (is_certain && has_changed(observed, key)).then_some(since)
}

fn has_changed(observed: &Observed, key: &KeyRecord) -> bool {
    observed.desired.inputs.has_other_parameters_than(&key.inputs)
}
