//! The process itself: what it is, whether it leads, and what it uses of the machine.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
};

use super::{
    Metrics,
    catalog::{Label, MetricCatalog, MetricEntry, Values},
};

static BUILD: MetricEntry = MetricEntry {
    name: "servicekeys_build_info",
    labels: &[Label { name: "version", values: Values::Few("the version of the operator") }],
    help: "What runs here; always 1",
    advice: "More than one version for longer than an upgrade takes means that it got stuck",
};

static LEADER: MetricEntry = MetricEntry {
    name: "servicekeys_leader",
    labels: &[],
    help: "Whether this replica does the work: 1, or 0 while it stands by",
    advice: "The sum over all replicas is 1, but for the moment of a change. 0 for long: nobody works",
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: &'static str,
}

#[derive(Debug, Default)]
pub(super) struct ProcessMetrics {
    leader: Gauge,
}

impl ProcessMetrics {
    pub(super) fn expose(&self, catalog: &mut MetricCatalog) {
        let build = Family::<_, Gauge>::default();
        build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
        catalog.add(&BUILD, build);
        catalog.add(&LEADER, self.leader.clone());
        #[cfg(target_os = "linux")]
        usage::expose(catalog);
    }
}

impl Metrics {
    /// Notes whether this replica does the work.
    pub fn set_leader(&self, leads: bool) {
        self.0.process.leader.set(i64::from(leads));
    }
}

/// What Prometheus' own libraries tell of every process, by the same names.
#[cfg(target_os = "linux")]
mod usage {
    use std::fmt;

    use procfs::WithCurrentSystemInfo;
    use prometheus_client::{
        collector::Collector,
        encoding::DescriptorEncoder,
        metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    };

    use super::{MetricCatalog, MetricEntry};

    static CPU: MetricEntry = MetricEntry {
        name: "process_cpu_seconds_total",
        labels: &[],
        help: "Processor time that the process has used",
        advice: "Raise the limit of the pod where it is reached",
    };

    static RESIDENT: MetricEntry = MetricEntry {
        name: "process_resident_memory_bytes",
        labels: &[],
        help: "Memory that the process has",
        advice: "It grows with the number of ServiceKeys; raise the limit of the pod before it is reached",
    };

    static OPEN_FILES: MetricEntry = MetricEntry {
        name: "process_open_fds",
        labels: &[],
        help: "Files and connections that the process has open",
        advice: "As for `process_max_fds`",
    };

    static MOST_FILES: MetricEntry = MetricEntry {
        name: "process_max_fds",
        labels: &[],
        help: "Files and connections that the process may have open",
        advice: "Where `process_open_fds` comes near it, connections fail: raise the limit, and report it",
    };

    static STARTED: MetricEntry = MetricEntry {
        name: "process_start_time_seconds",
        labels: &[],
        help: "When the process began, in seconds since 1970",
        advice: "Where it changes often the process ends and begins: look at the pod's last state and at its log",
    };

    /// Reads what the process uses when somebody asks.
    #[derive(Debug)]
    struct ProcessUsage;

    pub(super) fn expose(catalog: &mut MetricCatalog) {
        let gauges = [&RESIDENT, &OPEN_FILES, &MOST_FILES, &STARTED].map(|entry| (entry, MetricType::Gauge));
        let entries = [(&CPU, MetricType::Counter)].into_iter().chain(gauges);
        catalog.add_collected(entries, ProcessUsage);
    }

    impl Collector for ProcessUsage {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
            // Where the kernel does not tell, nothing is said.
            let Some(Read { cpu, resident, open_files, most_files, started }) = read().ok() else {
                return Ok(());
            };
            CPU.encode_one(&mut encoder, &ConstCounter::new(cpu))?;
            RESIDENT.encode_one(&mut encoder, &ConstGauge::new(resident))?;
            OPEN_FILES.encode_one(&mut encoder, &ConstGauge::new(open_files))?;
            if let Some(most_files) = most_files {
                MOST_FILES.encode_one(&mut encoder, &ConstGauge::new(most_files))?;
            }
            STARTED.encode_one(&mut encoder, &ConstGauge::new(started))
        }
    }

    struct Read {
        /// In seconds.
        cpu: f64,
        /// In bytes.
        resident: u64,
        open_files: usize,
        most_files: Option<u64>,
        /// In seconds since 1970.
        started: u64,
    }

    fn read() -> procfs::ProcResult<Read> {
        let process = procfs::process::Process::myself()?;
        let stat = process.stat()?;
        let ticks = procfs::ticks_per_second();
        #[expect(clippy::cast_precision_loss, reason = "a process does not live for so long")]
        let cpu = (stat.utime + stat.stime) as f64 / ticks as f64;
        let most_files = match process.limits()?.max_open_files.soft_limit {
            procfs::process::LimitValue::Value(limit) => Some(limit),
            procfs::process::LimitValue::Unlimited => None,
        };
        Ok(Read {
            cpu,
            resident: stat.rss_bytes().get(),
            open_files: process.fd_count()?,
            most_files,
            started: procfs::boot_time_secs()? + stat.starttime / ticks,
        })
    }
}
