//! A small kubelet: it runs the pods of one namespace as local processes, so that tests see what a workload does with
//! its Secrets.
//!
//! It binds each pod to its node and runs the init containers in order, then the containers. It restarts them, reports
//! their status, and ends them at the deletion of the pod: SIGTERM, the grace period, SIGKILL. No Node object and no
//! scheduler is needed. With the [controllers](crate::control_plane::Builder::with_controller_manager) of the control
//! plane it runs Deployments and StatefulSets.
//!
//! # A container
//! A container is the program that `command` names by its absolute path on this machine, with `args`. The image is only
//! copied into the status. The process has the environment of the container, `PATH`, `HOSTNAME` and `POD_ROOT`, and
//! nothing of the environment of the test. Its output is in [`ContainerStart::log`].
//!
//! The kubelet isolates nothing: all processes run as the user of the test, in its network. Instead of a root file
//! system, a container has a folder, whose path is in the variable `POD_ROOT`. Each path in the pod's spec is below it:
//! a volume that is mounted at `/etc/creds` is at `$POD_ROOT/etc/creds`. The folder is also the working directory. It is
//! empty at each start of the container, except for the mounts. The pause before a restart grows from 100 ms to 3 s.
//!
//! # Secrets
//! Each start of a container, also a restart in the same pod, reads the environment from the Secrets and ConfigMaps of
//! that moment. Later changes do not reach it. While a Secret or a required entry is missing, the container waits with
//! the reason `CreateContainerConfigError`.
//!
//! Volumes of kind `secret`, and `projected` ones of Secrets, change some time after the Secret
//! ([`Builder::volume_delay`]), all files at once. A `subPath` of them is copied at the start of the container and never
//! changes while it runs.
//!
//! # Readiness
//! A container is ready while it runs. With `readinessProbe.exec` it is ready once that command has exited with 0, and
//! until it fails. The command is a local program, with the environment and working directory of the container. The
//! kubelet respects the thresholds, the initial delay and the timeout of the probe. The period is the builder's
//! ([`Builder::probe_period`]).
//!
//! # Limits
//! The kubelet does not run a pod with other parts, such as other volumes, liveness probes, hooks and sidecars. The pod
//! stays pending; its containers wait with the reason `NotModelled`, and [`Kubelet::refusals`] names the parts. It does
//! not become `Failed`, because a ReplicaSet would replace it without end. Resources, security contexts, read-only
//! mounts, ports, affinities and tolerations have no effect. There are no service variables, events and eviction.

mod environment;
mod modelled;
mod node;
mod pod;
mod processes;
mod status;
mod volumes;

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::ListParams};
use tokio::{sync::watch, task::AbortHandle};

use self::{
    environment::Objects,
    node::{Node, Records},
    processes::Processes,
};
use crate::{FileError, Stderr, scratch::Scratch};

/// The default time between a change of a Secret and that of its volumes.
const VOLUME_DELAY: Duration = Duration::from_millis(500);
/// The default time between two runs of a readiness probe.
const PROBE_PERIOD: Duration = Duration::from_millis(100);
/// The default limit for the grace period of a pod.
const LONGEST_GRACE: Duration = Duration::from_secs(10);

/// The kubelet can't start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The folder of the pods can't be created.
    #[error(transparent)]
    File(#[from] FileError),
    /// The API server does not let the client list pods.
    #[error("can't list the pods of the namespace `{namespace}`")]
    Pods {
        /// The namespace.
        namespace: String,
        /// The client's error.
        #[source]
        source: Box<kube::Error>,
    },
}

/// The start of a container.
#[derive(Clone, Debug)]
pub struct ContainerStart {
    /// The name of the pod.
    pub pod: String,
    /// The name of the container or init container.
    pub container: String,
    /// The number of restarts of this container before.
    pub restarts: i32,
    /// The time of the kubelet's clock. The status has it in whole seconds.
    pub at: Timestamp,
    /// The resourceVersion of each Secret that the environment is from, by the name of the Secret.
    pub secrets: BTreeMap<String, String>,
    /// The resourceVersion of each Secret that files of a `subPath` were copied from, by the name of the Secret.
    pub sub_paths: BTreeMap<String, String>,
    /// The id of the process.
    pub process: u32,
    /// The folder in place of a root file system, as in `POD_ROOT`.
    pub root: PathBuf,
    /// The file with the output of the container, of all its starts in this pod.
    pub log: PathBuf,
}

/// A pod that the kubelet does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The name of the pod.
    pub pod: String,
    /// The parts of the pod that the kubelet does not model.
    pub reason: String,
}

/// A running kubelet; from [`Kubelet::builder`]. It lives in the runtime that started it.
///
/// Dropping it kills every process that it has started, and returns after the containers have ended. It also kills their
/// descendants, except for those that have left their process group. The pods keep their last status, as on a node that
/// loses its power. The processes also end with this process, even if that is killed.
pub struct Kubelet {
    node: Arc<Node>,
    task: AbortHandle,
    _scratch: Scratch,
}

impl Kubelet {
    /// The options of a kubelet for the pods of this namespace. The client needs all permissions on pods, bindings and
    /// the status of pods, and read permissions on Secrets and ConfigMaps.
    #[must_use]
    pub fn builder(client: Client, namespace: impl Into<String>) -> Builder {
        let namespace = namespace.into();
        Builder {
            client,
            node: format!("node-of-{namespace}"),
            namespace,
            volume_delay: VOLUME_DELAY,
            probe_period: PROBE_PERIOD,
            longest_grace: LONGEST_GRACE,
            clock: Box::new(Timestamp::now),
        }
    }

    /// All starts of containers, in their order. A start is here before the status of the pod shows it.
    #[must_use]
    pub fn starts(&self) -> Vec<ContainerStart> {
        self.node.records().starts.clone()
    }

    /// The starts of the containers that run now.
    #[must_use]
    pub fn running(&self) -> Vec<ContainerStart> {
        self.node.records().running()
    }

    /// The pods that the kubelet did not run, with the reasons.
    #[must_use]
    pub fn refusals(&self) -> Vec<Refusal> {
        self.node.records().refusals.clone()
    }

    /// The output of a container so far, of the latest pod with this name. Empty if it never started.
    #[must_use]
    pub fn log(&self, pod: &str, container: &str) -> String {
        let starts = self.starts();
        let latest = starts.iter().rfind(|start| start.pod == pod && start.container == container);
        let output = latest.and_then(|start| fs::read(&start.log).ok()).unwrap_or_default();
        String::from_utf8_lossy(&output).into_owned()
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.task.abort();
        self.node.processes.close();
    }
}

/// The options of a kubelet; from [`Kubelet::builder`].
pub struct Builder {
    client: Client,
    namespace: String,
    node: String,
    volume_delay: Duration,
    probe_period: Duration,
    longest_grace: Duration,
    clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Builder {
    /// The node to which the kubelet binds pods, and whose pods it runs. `node-of-` and the namespace by default.
    #[must_use]
    pub fn node(mut self, name: impl Into<String>) -> Self {
        self.node = name.into();
        self
    }

    /// The time from a change of a Secret to that of its volumes, on tokio's clock. Each version of a Secret shows that
    /// late, in order; versions that follow each other fast may be left out. 500 ms by default.
    #[must_use]
    pub fn volume_delay(mut self, delay: Duration) -> Self {
        self.volume_delay = delay;
        self
    }

    /// The time between two runs of a readiness probe, in place of its `periodSeconds`. 100 ms by default.
    #[must_use]
    pub fn probe_period(mut self, period: Duration) -> Self {
        self.probe_period = period;
        self
    }

    /// The longest time between SIGTERM and SIGKILL, for pods whose grace period is longer. 10 s by default.
    #[must_use]
    pub fn longest_grace(mut self, grace: Duration) -> Self {
        self.longest_grace = grace;
        self
    }

    /// The clock of `startTime`, `startedAt`, `finishedAt` and [`ContainerStart::at`]. The real time by default.
    /// Conditions always have the real time, because controllers compare them with their own clock.
    #[must_use]
    pub fn clock(mut self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.clock = Box::new(clock);
        self
    }

    /// Starts the kubelet. It runs the pods that exist already, too.
    ///
    /// # Errors
    /// The client can't list the pods of the namespace, or a folder can't be created.
    pub async fn start(self) -> Result<Kubelet, Error> {
        let Self { client, namespace, node, volume_delay, probe_period, longest_grace, clock } = self;
        let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
        let listed = pods.list(&ListParams::default().limit(1)).await;
        listed.map_err(|error| Error::Pods { namespace: namespace.clone(), source: Box::new(error) })?;
        let scratch = Scratch::new("the kubelet", Arc::new(Stderr))?;
        let node = Arc::new(Node {
            name: node,
            pods,
            secrets: Api::namespaced(client.clone(), &namespace),
            objects: Objects::new(&client, &namespace),
            processes: Arc::new(Processes::default()),
            records: std::sync::Mutex::new(Records::default()),
            changes: watch::Sender::new(()),
            clock,
            folder: scratch.path().to_owned(),
            volume_delay,
            probe_period,
            longest_grace,
        });
        let task = tokio::spawn(Arc::clone(&node).run()).abort_handle();
        Ok(Kubelet { node, task, _scratch: scratch })
    }
}
