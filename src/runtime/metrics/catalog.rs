//! Descriptions of the metrics. Prometheus reads them as HELP, and `docs/metrics.md` is generated from them.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric},
    metrics::{MetricType, gauge::ConstGauge},
    registry::{Metric, Registry, Unit},
};

use crate::backend::BackendKind;

/// The description of one metric family.
#[derive(Debug)]
pub struct MetricEntry {
    /// The full name of the family, with its unit, and with `_total` if it is a counter.
    pub name: &'static str,
    /// The labels of its series, in order.
    pub labels: &'static [Label],
    /// The HELP text, without a full stop.
    pub help: &'static str,
    /// The reader's next step, without a full stop.
    pub advice: &'static str,
}

/// A label of a family.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    /// The name of the label.
    pub name: &'static str,
    /// The values that the label can have.
    pub values: Values,
}

/// The values that a label can have.
#[derive(Clone, Copy, Debug)]
pub enum Values {
    /// A fixed list of values.
    OneOf(&'static [&'static str]),
    /// A small number of values, described in words.
    Few(&'static str),
}

/// A family that Prometheus can read.
#[derive(Clone, Copy, Debug)]
pub struct Exposed {
    /// The description of the family.
    pub entry: &'static MetricEntry,
    /// The type, such as counter or histogram.
    pub kind: MetricType,
}

/// All families that Prometheus can read, and their descriptions.
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

    /// Exposes families that the collector computes at each scrape.
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
    /// The name without the suffixes that the encoder adds, and its unit.
    fn name_and_unit(&self) -> (&'static str, Option<Unit>) {
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);
        let seconds = name.strip_suffix("_seconds").map(|name| (name, Some(Unit::Seconds)));
        let bytes = || name.strip_suffix("_bytes").map(|name| (name, Some(Unit::Bytes)));
        seconds.or_else(bytes).unwrap_or((name, None))
    }

    /// Writes the family as gauges with these labels and values. An empty family is left out.
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

/// The kind of remote side. Every metric about remote sides has this label.
pub(super) const BACKEND: Label = Label {
    name: "backend",
    values: Values::OneOf(&[
        BackendKind::OpenServiceBroker.as_str(),
        BackendKind::CloudFoundry.as_str(),
        BackendKind::IbmCloud.as_str(),
        BackendKind::Unknown.as_str(),
    ]),
};

pub(super) const PROVIDER_NAMESPACE: Label = Label {
    name: "provider_namespace",
    values: Values::Few("the namespace of a KeyProvider; empty for a ClusterKeyProvider"),
};

pub(super) const PROVIDER: Label = Label {
    name: "provider",
    values: Values::Few(
        "the name of a provider; empty for ServiceKeys whose provider does not exist, and, together with a namespace, \
         for all KeyProviders of that namespace beyond the first ten",
    ),
};
