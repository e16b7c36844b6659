//! The kinds of remote sides, as they appear in metrics, logs and traces.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};

use crate::api::BackendSpec;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum BackendKind {
    /// An Open Service Broker.
    OpenServiceBroker,
    /// A Cloud Foundry.
    CloudFoundry,
    /// An account of IBM Cloud.
    IbmCloud,
    /// The remote side of a provider that does not exist, or whose spec does not configure one.
    #[default]
    Unknown,
}

impl BackendKind {
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::OpenServiceBroker => "OpenServiceBroker",
            Self::CloudFoundry => "CloudFoundry",
            Self::IbmCloud => "IbmCloud",
            Self::Unknown => "unknown",
        }
    }
}

impl From<Option<BackendSpec<'_>>> for BackendKind {
    fn from(spec: Option<BackendSpec<'_>>) -> Self {
        match spec {
            Some(BackendSpec::OpenServiceBroker(_)) => Self::OpenServiceBroker,
            Some(BackendSpec::CloudFoundry(_)) => Self::CloudFoundry,
            Some(BackendSpec::IbmCloud(_)) => Self::IbmCloud,
            None => Self::Unknown,
        }
    }
}

impl EncodeLabelValue for BackendKind {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.as_str().encode(encoder)
    }
}
