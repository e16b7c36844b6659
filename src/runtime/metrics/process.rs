//! The process: its version, whether it leads, and its resource usage.

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
    help: "The version of the operator, as a label; always 1",
    advice: "Several versions for longer than an upgrade takes mean that the upgrade is stuck",
};

static LEADER: MetricEntry = MetricEntry {
    name: "servicekeys_leader",
    labels: &[],
    help: "1 if this replica leads, 0 while it stands by",
    advice: "The sum over all replicas is 1, except during a change of leader. If it stays 0, no replica reconciles",
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
    /// Sets whether this replica leads.
    pub fn set_leader(&self, leads: bool) {
        self.0.process.leader.set(i64::from(leads));
    }
}

/// The metrics that Prometheus' own client libraries expose for every process, under the same names.
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
        help: "CPU time used by the process",
        advice: "If the process reaches the CPU limit of its pod, raise that limit",
    };

    static RESIDENT: MetricEntry = MetricEntry {
        name: "process_resident_memory_bytes",
        labels: &[],
        help: "Resident memory of the process",
        advice: "It grows with the number of ServiceKeys. Raise the pod's memory limit before the process reaches it",
    };

    static OPEN_FILES: MetricEntry = MetricEntry {
        name: "process_open_fds",
        labels: &[],
        help: "Open file descriptors of the process: files and connections",
        advice: "As for `process_max_fds`",
    };

    static MOST_FILES: MetricEntry = MetricEntry {
        name: "process_max_fds",
        labels: &[],
        help: "Limit of open file descriptors of the process",
        advice: "If `process_open_fds` comes near this limit, connections fail: raise the limit, and report a bug",
    };

    static STARTED: MetricEntry = MetricEntry {
        name: "process_start_time_seconds",
        labels: &[],
        help: "Start time of the process, in seconds since 1970",
        advice: "If it changes often, the process restarts repeatedly: check the pod's last state and its log",
    };

    /// Reads the usage of the process at each scrape.
    #[derive(Debug)]
    struct ProcessUsage;

    pub(super) fn expose(catalog: &mut MetricCatalog) {
        let gauges = [&RESIDENT, &OPEN_FILES, &MOST_FILES, &STARTED].map(|entry| (entry, MetricType::Gauge));
        let entries = [(&CPU, MetricType::Counter)].into_iter().chain(gauges);
        catalog.add_collected(entries, ProcessUsage);
    }

    impl Collector for ProcessUsage {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
            // Without `/proc` the families are left out.
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
