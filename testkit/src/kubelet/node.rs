//! The node: it binds the pods of its namespace to itself, and starts and stops a task for each of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::TryStreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod, Secret};
use kube::{
    Api, ResourceExt as _,
    api::{ObjectMeta, PostParams},
    runtime::{WatchStreamExt as _, watcher, watcher::Event},
};
use serde_json::Value;
use tokio::{sync::watch, task::JoinSet, time::Instant};

use super::{
    ContainerStart, Refusal,
    environment::Objects,
    pod::{self, Stop},
    processes::Processes,
};

/// The parts that the tasks of all pods share.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) pods: Api<Pod>,
    pub(super) secrets: Api<Secret>,
    pub(super) objects: Objects,
    pub(super) processes: Arc<Processes>,
    pub(super) records: Mutex<Records>,
    /// Its value changes when a Secret does.
    pub(super) changes: watch::Sender<()>,
    pub(super) clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
    /// The folder of the pods' folders.
    pub(super) folder: PathBuf,
    pub(super) volume_delay: Duration,
    pub(super) probe_period: Duration,
    pub(super) longest_grace: Duration,
}

/// The events of a kubelet that its tests read.
#[derive(Default)]
pub(super) struct Records {
    pub(super) starts: Vec<ContainerStart>,
    /// The places in `starts` of the containers that run.
    running: BTreeSet<usize>,
    pub(super) refusals: Vec<Refusal>,
}

impl Records {
    /// Records a start, and returns its place.
    pub(super) fn add(&mut self, start: ContainerStart) -> usize {
        let place = self.starts.len();
        self.starts.push(start);
        self.running.insert(place);
        place
    }

    /// Records the end of the container that was started at this place.
    pub(super) fn end(&mut self, place: usize) {
        self.running.remove(&place);
    }

    pub(super) fn running(&self) -> Vec<ContainerStart> {
        self.running.iter().filter_map(|place| self.starts.get(*place)).cloned().collect()
    }
}

impl Node {
    /// The time of the kubelet's clock.
    pub(super) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    pub(super) fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the pods of the namespace. Never returns.
    pub(super) async fn run(self: Arc<Self>) {
        tokio::join!(self.watch_secrets(), self.watch_pods());
    }

    async fn watch_secrets(&self) {
        let events = watcher(self.secrets.clone(), watcher::Config::default()).default_backoff();
        let mut events = pin!(events);
        loop {
            match events.try_next().await {
                Ok(Some(_)) => self.changes.send_replace(()),
                Ok(None) => return,
                Err(error) => tracing::debug!(%error, "the watch of secrets is opened again"),
            }
        }
    }

    async fn watch_pods(self: &Arc<Self>) {
        let events = watcher(self.pods.clone(), watcher::Config::default()).default_backoff();
        let mut events = pin!(events);
        let mut tasks = Tasks::default();
        let mut listed = BTreeSet::new();
        loop {
            match events.try_next().await {
                Ok(Some(Event::Init)) => listed.clear(),
                Ok(Some(Event::InitApply(pod))) => {
                    listed.extend(pod.uid());
                    self.apply(pod, &mut tasks).await;
                }
                Ok(Some(Event::InitDone)) => tasks.end_all_but(&listed),
                Ok(Some(Event::Apply(pod))) => self.apply(pod, &mut tasks).await,
                Ok(Some(Event::Delete(pod))) => tasks.end(&pod.uid().unwrap_or_default()),
                Ok(None) => return,
                Err(error) => tracing::debug!(%error, "the watch of pods is opened again"),
            }
        }
    }

    async fn apply(self: &Arc<Self>, pod: Pod, tasks: &mut Tasks) {
        match pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) {
            None | Some("") => return self.bind(&pod).await,
            Some(node) if node != self.name => return,
            Some(_) => {}
        }
        let uid = pod.uid().unwrap_or_default();
        let deletion = pod.metadata.deletion_timestamp.as_ref().map(|_| self.grace(&pod));
        tasks.start(&uid, |stop| pod::run(Arc::clone(self), pod, stop));
        if let Some(grace) = deletion {
            tasks.stop(&uid, Instant::now() + grace);
        }
    }

    /// Binds a pod, as the scheduler does. The watch then shows it again.
    async fn bind(&self, pod: &Pod) {
        let name = pod.name_any();
        let binding = Binding {
            metadata: ObjectMeta { name: Some(name.clone()), uid: pod.uid(), ..ObjectMeta::default() },
            target: ObjectReference {
                kind: Some("Node".to_owned()),
                name: Some(self.name.clone()),
                ..ObjectReference::default()
            },
        };
        let parameters = PostParams::default();
        let bound = self.pods.create_subresource::<_, Value>("binding", &name, &parameters, &binding);
        if let Err(error) = bound.await {
            tracing::warn!(pod = %name, %error, "the pod is not bound");
        }
    }

    /// The time between SIGTERM and SIGKILL at the deletion of this pod.
    fn grace(&self, pod: &Pod) -> Duration {
        let seconds = pod.metadata.deletion_grace_period_seconds.unwrap_or_default();
        Duration::from_secs(seconds.unsigned_abs()).min(self.longest_grace)
    }
}

/// The tasks of the pods, by UID.
#[derive(Default)]
struct Tasks {
    stops: BTreeMap<String, watch::Sender<Stop>>,
    running: JoinSet<()>,
}

impl Tasks {
    /// Starts the task of a pod unless it was started earlier.
    fn start<F>(&mut self, uid: &str, task: impl FnOnce(watch::Receiver<Stop>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        while let Some(ended) = self.running.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "the task of a pod failed");
            }
        }
        if !self.stops.contains_key(uid) {
            let (sender, receiver) = watch::channel(None);
            self.stops.insert(uid.to_owned(), sender);
            self.running.spawn(task(receiver));
        }
    }

    /// Stops a pod, and kills its processes at this time. A later time than an earlier one has no effect.
    fn stop(&self, uid: &str, deadline: Instant) {
        if let Some(stop) = self.stops.get(uid) {
            stop.send_if_modified(|current| {
                let is_earlier = current.is_none_or(|current| deadline < current);
                if is_earlier {
                    *current = Some(deadline);
                }
                is_earlier
            });
        }
    }

    /// Stops a pod whose object is gone, and kills its processes now.
    fn end(&mut self, uid: &str) {
        self.stop(uid, Instant::now());
        // The task keeps the last value of the channel.
        self.stops.remove(uid);
    }

    fn end_all_but(&mut self, listed: &BTreeSet<String>) {
        let gone: Vec<_> = self.stops.keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
        gone.iter().for_each(|uid| self.end(uid));
    }
}
