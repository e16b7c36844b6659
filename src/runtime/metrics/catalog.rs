//! What is written about each metric where it is declared, and shown in `docs/metrics.md` and to Prometheus.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
    registry::{Metric, Registry, Unit},
};

use crate::backend::BackendKind;

/// One family of metrics, as it is documented.
#[derive(Debug)]
pub struct MetricEntry {
    /// The name of the family, in full: with its unit, and `_total` where it counts.
    pub name: &'static str,
    /// The labels of its series, in order.
    pub labels: &'static [Label],
    /// What it tells, without a full stop.
    pub help: &'static str,
    /// What to do about it, or what to look at next.
    pub advice: &'static str,
}

/// One label.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// What it can be.
    pub values: Values,
}

/// What a label can be.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    /// One of these values.
    OneOf(&'static [&'static str]),
    /// Something of which there are few, in words.
    Few(&'static str),
}

/// A family that is exposed.
#[derive(Clone, Copy, Debug)]
pub struct Exposed {
    /// What is written about it.
    pub entry: &'static MetricEntry,
    /// Its type.
    pub kind: MetricType,
}

/// All families: what Prometheus reads, and what is written about it.
#[derive(Debug, Default)]
pub(super) struct MetricCatalog {
    registry: Registry,
    exposed: Vec<Exposed>,
}

impl MetricCatalog {
    /// Exposes a family.
    pub(super) fn add(&mut self, entry: &'static MetricEntry, metric: impl Metric) {
        self.exposed.push(Exposed { entry, kind: EncodeMetric::metric_type(&metric) });
        let (name, unit) = entry.name_and_unit();
        match unit {
            Some(unit) => self.registry.register_with_unit(name, entry.help, unit, metric),
            None => self.registry.register(name, entry.help, metric),
        }
    }

    /// Exposes families that are computed when they are asked for: of these types, by this collector.
    pub(super) fn add_collected(
        &mut self,
        entries: impl IntoIterator<Item = (&'static MetricEntry, MetricType)>,
        collector: impl Collector,
    ) {
        self.exposed.extend(entries.into_iter().map(|(entry, kind)| Exposed { entry, kind }));
        self.registry.register_collector(Box::new(collector));
    }

    pub(super) const fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(super) fn exposed(&self) -> &[Exposed] {
        &self.exposed
    }
}

impl MetricEntry {
    /// The name without what the encoding adds by itself, and the unit that it ends in.
    fn name_and_unit(&self) -> (&'static str, Option<Unit>) {
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);
        let seconds = name.strip_suffix("_seconds").map(|name| (name, Some(Unit::Seconds)));
        let bytes = || name.strip_suffix("_bytes").map(|name| (name, Some(Unit::Bytes)));
        seconds.or_else(bytes).unwrap_or((name, None))
    }

    /// Writes the family as gauges of these labels and values; nothing where there are none.
    pub(super) fn encode_gauges<L: EncodeLabelSet>(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        gauges: impl IntoIterator<Item = (L, f64)>,
    ) -> fmt::Result {
        let mut gauges = gauges.into_iter().peekable();
        if gauges.peek().is_none() {
            return Ok(());
        }
        let (name, unit) = self.name_and_unit();
        let help = format!("{}.", self.help);
        let mut family = encoder.encode_descriptor(name, &help, unit.as_ref(), MetricType::Gauge)?;
        for (labels, value) in gauges {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// Writes the family as one metric without labels.
    pub(super) fn encode_one(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        metric: &impl EncodeMetric,
    ) -> fmt::Result {
        let (name, unit) = self.name_and_unit();
        let help = format!("{}.", self.help);
        metric.encode(encoder.encode_descriptor(name, &help, unit.as_ref(), metric.metric_type())?)
    }
}

/// The kind of remote side, which every metric about remote sides has.
pub(super) const BACKEND: Label = Label {
    name: "backend",
    values: Values::OneOf(&[
        BackendKind::OpenServiceBroker.as_str(),
        BackendKind::CloudFoundry.as_str(),
        BackendKind::IbmCloud.as_str(),
        BackendKind::Unknown.as_str(),
    ]),
};

/// The namespace of a provider.
pub(super) const PROVIDER_NAMESPACE: Label = Label {
    name: "provider_namespace",
    values: Values::Few("the namespace of a KeyProvider; empty for a ClusterKeyProvider"),
};

/// The name of a provider.
pub(super) const PROVIDER: Label = Label {
    name: "provider",
    values: Values::Few(
        "the name of a provider; empty for ServiceKeys whose provider does not exist, and, beside a namespace, for all \
         KeyProviders of the namespace but ten",
    ),
};
