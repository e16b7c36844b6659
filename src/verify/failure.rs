//! Failed probes, and their words for people.

use std::{error::Error, io, sync::Arc, time::Duration};

use super::Probe;
use crate::backend::find_source;

/// The setting that admits a network for probes.
const ADMIT: &str =
    "have the administrator admit it with the chart value `operator.verifyCidrs` (`--verify-cidr`)";

/// A probe that did not succeed.
///
/// The message names the fields of the probe and the service's error code. It repeats no value, because each of them
/// may be a part of the credentials, and nothing else that the service sent.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ProbeFailure {
    /// The kind of the problem.
    pub class: ProbeFailureClass,
    /// The problem, and the next step for the user where there is one.
    pub message: String,
    source: Option<Arc<io::Error>>,
}

/// The reason for a [`ProbeFailure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeFailureClass {
    /// A field has an invalid value. The probe sent nothing.
    InvalidProbe,
    /// The service has no address in a network that is admitted for the namespace. The probe sent nothing.
    NotAdmitted,
    /// The address did not answer in the protocol of the probe before the deadline.
    Unreachable,
    /// One side does not accept the certificate or the TLS of the other.
    TlsFailed,
    /// The service does not accept the credentials.
    Refused,
    /// The service answered in its protocol, but neither accepted nor refused the credentials.
    UnexpectedAnswer,
}

/// A failed probe, without the words for its fields.
#[derive(Debug)]
pub(super) enum Fault {
    Invalid {
        field: &'static str,
        problem: &'static str,
    },
    NotAdmitted,
    Unreachable(io::Error),
    TimedOut(Duration),
    Tls(String),
    /// The error code of the service.
    Refused(String),
    /// The error code of the service.
    Unexpected(String),
}

impl ProbeFailure {
    /// A refusal of this probe of a ServiceKey in the namespace, with the service's error code.
    #[must_use]
    pub fn refused(namespace: &str, probe: &Probe, code: &str) -> Self {
        Fault::Refused(code.to_owned()).describe(namespace, probe)
    }

    /// The failure of this probe of a ServiceKey in the namespace, because no admitted network has the address.
    #[must_use]
    pub fn not_admitted(namespace: &str, probe: &Probe) -> Self {
        Fault::NotAdmitted.describe(namespace, probe)
    }

    /// The failure of this probe of a ServiceKey in the namespace, if no connection is possible.
    #[must_use]
    pub fn unreachable(namespace: &str, probe: &Probe) -> Self {
        Fault::Unreachable(io::ErrorKind::ConnectionRefused.into()).describe(namespace, probe)
    }
}

impl Fault {
    /// The fault of a connection that ended before the service answered in the protocol.
    pub(super) fn of_connection(error: &(dyn Error + 'static)) -> Self {
        let kind = find_source::<io::Error>(error).map_or(io::ErrorKind::InvalidData, io::Error::kind);
        Self::Unreachable(kind.into())
    }

    /// The fault of an answer that does not follow the protocol.
    pub(super) fn of_another_protocol() -> Self {
        Self::Unreachable(io::ErrorKind::InvalidData.into())
    }

    /// Describes the fault of this probe for a ServiceKey in the namespace.
    pub(super) fn describe(self, namespace: &str, probe: &Probe) -> ProbeFailure {
        use ProbeFailureClass as Class;
        let (kind, (address, server)) = (probe.kind(), field_and_server(probe));
        let (class, message) = match &self {
            Self::Invalid { field, problem } => (Class::InvalidProbe, format!("`{kind}.{field}` {problem}")),
            Self::NotAdmitted => (
                Class::NotAdmitted,
                format!(
                    "`{kind}.{address}` has no address in a network that namespace `{namespace}` may probe; {ADMIT}"
                ),
            ),
            Self::Unreachable(_) => (
                Class::Unreachable,
                format!("`{kind}.{address}` is not reachable{server}; check host, port and network policies"),
            ),
            Self::TimedOut(deadline) => (
                Class::Unreachable,
                format!(
                    "`{kind}.{address}` did not answer{server} within {deadline:?}; check host, port and network \
                     policies"
                ),
            ),
            Self::Tls(reason) => {
                (Class::TlsFailed, format!("no TLS connection to `{kind}.{address}`: {reason}"))
            }
            Self::Refused(code) => (
                Class::Refused,
                format!("the service at `{kind}.{address}` does not accept the credentials: {code}"),
            ),
            Self::Unexpected(code) => (
                Class::UnexpectedAnswer,
                format!("the service at `{kind}.{address}` sent an unexpected answer: {code}"),
            ),
        };
        let source = match self {
            Self::Unreachable(error) => Some(Arc::new(error)),
            Self::Invalid { .. }
            | Self::NotAdmitted
            | Self::TimedOut(_)
            | Self::Tls(_)
            | Self::Refused(_)
            | Self::Unexpected(_) => None,
        };
        ProbeFailure { class, message, source }
    }
}

/// The field with the address of the probe, and the server that the probe expects there.
const fn field_and_server(probe: &Probe) -> (&'static str, &'static str) {
    match probe {
        Probe::Tcp { .. } => ("address", ""),
        Probe::Tls { .. } => ("address", " as a TLS server"),
        Probe::Http { .. } => ("url", " as an HTTP server"),
        Probe::Postgres { .. } => ("address", " as a PostgreSQL server"),
        Probe::Redis { .. } => ("address", " as a Redis server"),
    }
}
