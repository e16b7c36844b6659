//! Changes of the content of `parametersFrom`, if the user wants another key after them.
//!
//! The Secrets that users name there do not belong to the operator, so no watch shows them. The operator reads them from
//! time to time.

use std::time::Duration;

use jiff::Timestamp;

use super::{Observed, rotation::after};

/// The time between two looks.
const INTERVAL: Duration = Duration::from_secs(600);

/// Whether the operator has to read the content now.
pub(super) fn is_look_due(observed: &Observed) -> bool {
    let has_seen = observed.parameters_seen_at.is_some_and(|seen| observed.now < after(seen, INTERVAL));
    observed.desired.follows_parameters && !has_seen
}

/// When a ServiceKey that waits has to read the content.
pub(super) fn next_look(observed: &Observed) -> Option<Timestamp> {
    let next = after(observed.parameters_seen_at?, INTERVAL);
    (observed.desired.follows_parameters && next > observed.now).then_some(next)
}
