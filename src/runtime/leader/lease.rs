//! Conversions of the Lease object.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{ResourceExt, api::ObjectMeta};

use super::candidate::SeenLease;

/// Reads the fields that the election needs.
pub(super) fn seen(lease: &Lease) -> SeenLease {
    let spec = lease.spec.as_ref();
    let seconds = spec.and_then(|spec| u64::try_from(spec.lease_duration_seconds?).ok());
    SeenLease {
        version: lease.resource_version().unwrap_or_default(),
        holder: spec.and_then(|spec| spec.holder_identity.clone()).filter(|holder| !holder.is_empty()),
        duration: seconds.map(Duration::from_secs),
    }
}

/// A new Lease without a holder.
pub(super) fn new(name: &str) -> Lease {
    Lease { metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }, spec: None }
}

/// The Lease with `holder` as its holder at this time. `duration` is in whole seconds.
pub(super) fn held(lease: &Lease, holder: &str, duration: Duration, now: Timestamp) -> Lease {
    let spec = lease.spec.clone().unwrap_or_default();
    let renews = spec.holder_identity.as_deref() == Some(holder);
    let transitions = spec.lease_transitions.map_or(0, |before| before.saturating_add(i32::from(!renews)));
    let spec = LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: Some(i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)),
        acquire_time: if renews { spec.acquire_time } else { Some(MicroTime(now)) },
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(transitions),
        ..spec
    };
    Lease { spec: Some(spec), ..lease.clone() }
}

/// The Lease without a holder, so that the next candidate need not wait.
pub(super) fn resigned(lease: &Lease, now: Timestamp) -> Lease {
    let spec = LeaseSpec {
        holder_identity: None,
        renew_time: Some(MicroTime(now)),
        ..lease.spec.clone().unwrap_or_default()
    };
    Lease { spec: Some(spec), ..lease.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn spec(lease: &Lease) -> &LeaseSpec {
        lease.spec.as_ref().unwrap()
    }

    #[test]
    fn holders_are_counted_and_their_times_written_down() {
        let duration = Duration::from_secs(15);
        let first = held(&new("operator"), "a", duration, at(10));
        assert_eq!(seen(&first).holder.as_deref(), Some("a"));
        assert_eq!(seen(&first).duration, Some(duration));
        let renewed = held(&first, "a", duration, at(12));
        assert_eq!(spec(&renewed).acquire_time, Some(MicroTime(at(10))));
        assert_eq!(spec(&renewed).renew_time, Some(MicroTime(at(12))));
        assert_eq!(spec(&renewed).lease_transitions, Some(0));
        let resigned = resigned(&renewed, at(13));
        assert_eq!(seen(&resigned).holder, None);
        let second = held(&resigned, "b", duration, at(14));
        assert_eq!(spec(&second).acquire_time, Some(MicroTime(at(14))));
        assert_eq!(spec(&second).lease_transitions, Some(1));
    }

    #[test]
    fn what_others_wrote_besides_stays() {
        let mut lease = new("operator");
        lease.metadata.resource_version = Some("7".to_owned());
        lease.labels_mut().insert("team".to_owned(), "data".to_owned());
        lease.spec = Some(LeaseSpec { preferred_holder: Some("b".to_owned()), ..LeaseSpec::default() });
        for written in [held(&lease, "a", Duration::from_secs(15), at(0)), resigned(&lease, at(0))] {
            assert_eq!(written.metadata, lease.metadata);
            assert_eq!(spec(&written).preferred_holder.as_deref(), Some("b"));
        }
    }

    #[test]
    fn an_empty_holder_is_none() {
        let mut lease = new("operator");
        lease.spec = Some(LeaseSpec { holder_identity: Some(String::new()), ..LeaseSpec::default() });
        assert_eq!(seen(&lease).holder, None);
    }
}
