//! The life of one pod on the node: volumes, init containers in order, containers, and their end.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    fs, io,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use futures::future::{join_all, pending};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Container, ContainerStateTerminated, Pod, PodSpec, Probe},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde_json::json;
use tokio::{
    process::Command,
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    ContainerStart, Refusal,
    environment::{Environment, expand, resolve},
    modelled::refusals,
    node::Node,
    processes::Process,
    status::State,
    volumes::{Contents, Volumes},
};

/// The pause before the first restart of a container. It doubles with each further one.
const FIRST_BACK_OFF: Duration = Duration::from_millis(100);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(3);
/// The time after which something that failed is tried again, if no Secret has changed earlier.
const RETRY: Duration = Duration::from_millis(500);
/// The search path of programs, as container runtimes set it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The exit code of a container whose program could not be started.
const NOT_STARTED: i32 = 128;
/// Added to the number of the signal that ended a process.
const BY_SIGNAL: i32 = 128;

/// The time when the processes of a pod are killed; `None` while it should run.
pub(super) type Stop = Option<Instant>;

/// Runs a pod until `stop`, ends its processes, and deletes the object.
pub(super) async fn run(node: Arc<Node>, pod: Pod, stop: watch::Receiver<Stop>) {
    let spec = pod.spec.clone().unwrap_or_default();
    let folder = node.folder.join(pod.uid().unwrap_or_default());
    let volumes = Volumes::new(&spec, folder.join("volumes"));
    let state = watch::Sender::new(State::new(&pod, node.now()));
    let is_over = phase(&pod).is_some_and(|phase| matches!(phase, "Succeeded" | "Failed"));
    let life = Life { node, name: pod.name_any(), pod, spec, folder, volumes, state, stop };
    if is_over {
        life.stopped().await;
    } else {
        tokio::select! {
            () = life.run() => {}
            never = life.write_statuses() => match never {},
        }
        life.write_status().await;
    }
    life.delete().await;
}

fn phase(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.phase.as_deref()
}

struct Life {
    node: Arc<Node>,
    name: String,
    pod: Pod,
    spec: PodSpec,
    folder: PathBuf,
    volumes: Volumes,
    state: watch::Sender<State>,
    stop: watch::Receiver<Stop>,
}

/// A started container.
struct Running {
    process: Process,
    surroundings: Surroundings,
    since: Timestamp,
    /// The place of its start in the records.
    record: usize,
}

/// The environment and the files of a container's processes.
struct Surroundings {
    variables: BTreeMap<String, String>,
    root: PathBuf,
    log: PathBuf,
}

/// A container that has no process yet.
enum NotStarted {
    /// Its configuration is incomplete; it waits for another one.
    Waits { reason: &'static str, message: String },
    /// Its program can't be started. This counts as an end of the container.
    Failed(String),
}

impl Life {
    /// Returns once the pod is stopped and none of its processes runs.
    async fn run(&self) {
        let refused = refusals(&self.spec);
        if refused.is_empty() {
            self.run_containers().await;
        } else {
            let reason = refused.join("; ");
            tracing::warn!(pod = %self.name, %reason, "the kubelet does not run this pod");
            self.state.send_modify(|state| state.refuse(&reason));
            self.node.records().refusals.push(Refusal { pod: self.name.clone(), reason });
        }
        self.stopped().await;
    }

    async fn run_containers(&self) {
        let changes = self.node.changes.subscribe();
        if !self.until_mounted().await {
            return;
        }
        tokio::select! {
            never = self.refresh_volumes(changes) => match never {},
            () = async {
                for container in self.spec.init_containers.iter().flatten() {
                    if !self.run_container(container, true).await {
                        return;
                    }
                }
                join_all(self.spec.containers.iter().map(|container| self.run_container(container, false))).await;
            } => {}
        }
    }

    /// Writes the volumes for the first time. `false` if the pod is stopped before their Secrets exist.
    async fn until_mounted(&self) -> bool {
        while !self.is_stopped() {
            let changes = self.node.changes.subscribe();
            let (contents, mut failures) = self.volumes.read(&self.node.objects).await;
            if failures.is_empty() {
                match self.volumes.write(contents) {
                    Ok(()) => {
                        self.state.send_modify(State::mount);
                        return true;
                    }
                    Err(error) => failures.push(format!("can't write the volumes: {error}")),
                }
            }
            let message = failures.join("; ");
            self.state.send_modify(|state| state.wait_all("ContainerCreating", &message));
            self.until_retry(changes).await;
        }
        false
    }

    /// Writes each later version of the volumes, after the delay.
    async fn refresh_volumes(&self, mut changes: watch::Receiver<()>) -> Infallible {
        if self.spec.volumes.iter().flatten().next().is_none() {
            return pending().await;
        }
        let mut waiting: VecDeque<(Instant, Contents)> = VecDeque::new();
        loop {
            let due = waiting.front().map(|(due, _)| *due);
            tokio::select! {
                Ok(()) = changes.changed() => {
                    let latest =
                        waiting.back().map_or_else(|| self.volumes.contents(), |(_, latest)| latest.clone());
                    let (changed, failures) = self.volumes.read(&self.node.objects).await;
                    let mut next = latest.clone();
                    next.extend(changed);
                    if next != latest {
                        waiting.push_back((Instant::now() + self.node.volume_delay, next));
                    }
                    if !failures.is_empty() {
                        tracing::debug!(pod = %self.name, ?failures, "volumes keep their content");
                        sleep(RETRY).await;
                        changes.mark_changed();
                    }
                }
                () = until(due) => {
                    if let Some((_, contents)) = waiting.pop_front()
                        && let Err(error) = self.volumes.write(contents)
                    {
                        tracing::warn!(pod = %self.name, %error, "volumes keep their content");
                    }
                }
            }
        }
    }

    /// Runs a container, with restarts, until its final end. Whether it has succeeded then.
    async fn run_container(&self, container: &Container, is_init: bool) -> bool {
        let name = &container.name;
        let mut restarts = self.state.borrow().next_restart(name);
        let mut back_off = FIRST_BACK_OFF;
        while !self.is_stopped() {
            let changes = self.node.changes.subscribe();
            let terminated = match self.start(container, restarts).await {
                Ok(running) => self.until_ended(container, restarts, running).await,
                Err(NotStarted::Failed(message)) => self.not_started(message),
                Err(NotStarted::Waits { reason, message }) => {
                    self.state.send_modify(|state| state.wait(name, reason, &message));
                    self.until_retry(changes).await;
                    continue;
                }
            };
            let succeeded = terminated.exit_code == 0;
            let starts_again = match self.spec.restart_policy.as_deref() {
                Some("Never") => false,
                Some("OnFailure") => !succeeded,
                _ => !succeeded || !is_init,
            };
            if !starts_again || self.is_stopped() {
                self.state.send_modify(|state| state.end(name, restarts, terminated));
                return succeeded;
            }
            self.state.send_modify(|state| state.back_off(name, restarts, terminated));
            tokio::select! {
                () = sleep(back_off) => {}
                () = self.stopped() => {}
            }
            back_off = (back_off * 2).min(LONGEST_BACK_OFF);
            restarts += 1;
        }
        false
    }

    /// Starts the process of a container with an environment and `subPath` files of this moment.
    async fn start(&self, container: &Container, restarts: i32) -> Result<Running, NotStarted> {
        let waits = |reason| move |message| NotStarted::Waits { reason, message };
        let environment = resolve(&self.pod, container, &self.node.objects).await;
        let Environment { variables, secrets } = environment.map_err(waits("CreateContainerConfigError"))?;
        let root = self.folder.join("roots").join(&container.name).join(restarts.to_string());
        empty(&root).map_err(|error| {
            waits("CreateContainerError")(format!("can't create `{}`: {error}", root.display()))
        })?;
        let sub_paths = self.volumes.mount(container, &root).map_err(waits("CreateContainerConfigError"))?;

        let log = self.folder.join(format!("{}.log", container.name));
        let surroundings = Surroundings { variables, root, log };
        let process = surroundings
            .command(&self.name, container.command.iter().chain(&container.args).flatten())
            .and_then(|mut command| self.node.processes.start(&mut command))
            .map_err(|error| NotStarted::Failed(format!("can't start the program: {error}")))?;
        let since = self.node.now();
        let record = self.node.records().add(ContainerStart {
            pod: self.name.clone(),
            container: container.name.clone(),
            restarts,
            at: since,
            secrets,
            sub_paths,
            process: process.id(),
            root: surroundings.root.clone(),
            log: surroundings.log.clone(),
        });
        Ok(Running { process, surroundings, since, record })
    }

    /// Shows that a container runs, and returns when its process has ended.
    async fn until_ended(
        &self,
        container: &Container,
        restarts: i32,
        running: Running,
    ) -> ContainerStateTerminated {
        let Running { mut process, surroundings, since, record } = running;
        let id = format!("process://{}", process.id());
        let is_ready = container.readiness_probe.is_none();
        self.state.send_modify(|state| state.run(&container.name, restarts, &id, since, is_ready));
        let ended = tokio::select! {
            ended = process.wait() => ended,
            () = self.stopped() => self.end(&mut process).await,
            never = self.probe(container, &surroundings) => match never {},
        };
        // The rest of its group ends here, before the end is shown.
        drop(process);
        self.node.records().end(record);
        let (exit_code, message) = match ended {
            Ok(status) => (exit_code(status), None),
            Err(error) => (NOT_STARTED, Some(error.to_string())),
        };
        ContainerStateTerminated {
            exit_code,
            message,
            reason: Some(if exit_code == 0 { "Completed" } else { "Error" }.to_owned()),
            started_at: Some(Time(since)),
            finished_at: Some(Time(self.node.now())),
            container_id: Some(id),
            ..ContainerStateTerminated::default()
        }
    }

    /// Ends a process with SIGTERM, and with SIGKILL once the grace period is over. A later deletion may shorten it.
    async fn end(&self, process: &mut Process) -> io::Result<ExitStatus> {
        process.terminate();
        let mut stop = self.stop.clone();
        loop {
            let deadline = stop.borrow_and_update().unwrap_or_else(Instant::now);
            tokio::select! {
                ended = process.wait() => return ended,
                () = sleep_until(deadline) => return process.kill().await,
                Ok(()) = stop.changed() => {}
            }
        }
    }

    /// Runs the readiness probe of a container again and again, and shows its results.
    async fn probe(&self, container: &Container, surroundings: &Surroundings) -> Infallible {
        let Some(probe) = &container.readiness_probe else { return pending().await };
        let threshold = |configured: Option<i32>, default| configured.unwrap_or(default).max(1);
        let (to_succeed, to_fail) =
            (threshold(probe.success_threshold, 1), threshold(probe.failure_threshold, 3));
        sleep(seconds(probe.initial_delay_seconds, 0)).await;
        let (mut successes, mut failures) = (0, 0);
        loop {
            (successes, failures) =
                if self.succeeds(probe, surroundings).await { (successes + 1, 0) } else { (0, failures + 1) };
            if successes == to_succeed || failures == to_fail {
                self.state.send_modify(|state| state.set_ready(&container.name, successes > 0));
            }
            sleep(self.node.probe_period).await;
        }
    }

    /// Whether the command of a probe exits with 0 in time.
    async fn succeeds(&self, probe: &Probe, surroundings: &Surroundings) -> bool {
        let argv = probe.exec.iter().flat_map(|exec| exec.command.iter().flatten());
        let process = surroundings.command(&self.name, argv).and_then(|mut command| {
            self.node.processes.start(command.stdout(Stdio::null()).stderr(Stdio::null()))
        });
        match process {
            Ok(mut process) => {
                let ended = timeout(seconds(probe.timeout_seconds, 1), process.wait()).await;
                matches!(ended, Ok(Ok(status)) if status.success())
            }
            Err(_) => false,
        }
    }

    fn not_started(&self, message: String) -> ContainerStateTerminated {
        let now = Time(self.node.now());
        ContainerStateTerminated {
            exit_code: NOT_STARTED,
            message: Some(message),
            reason: Some("StartError".to_owned()),
            started_at: Some(now.clone()),
            finished_at: Some(now),
            ..ContainerStateTerminated::default()
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.borrow().is_some()
    }

    async fn stopped(&self) {
        // It fails only if the kubelet has gone, and then this task ends too.
        drop(self.stop.clone().wait_for(Option::is_some).await);
    }

    /// Waits for a moment, for a change of a Secret since `changes`, or until the pod is stopped.
    async fn until_retry(&self, mut changes: watch::Receiver<()>) {
        tokio::select! {
            () = self.stopped() => {}
            _ = changes.changed() => {}
            () = sleep(RETRY) => {}
        }
    }

    /// Writes the status after each change of the state.
    async fn write_statuses(&self) -> Infallible {
        let mut changes = self.state.subscribe();
        loop {
            self.write_status().await;
            // The sender is in `self`, so this does not fail.
            drop(changes.changed().await);
        }
    }

    /// Writes the status, and tries again until it is stored or the pod is gone.
    async fn write_status(&self) {
        loop {
            let mut status = None;
            self.state.send_if_modified(|state| {
                status = Some(state.status(Timestamp::now()));
                false
            });
            // With the UID, the API server refuses to change another pod of this name.
            let patch =
                Patch::Strategic(json!({"metadata": {"uid": self.pod.metadata.uid}, "status": status}));
            let written = self.node.pods.patch_status(&self.name, &PatchParams::default(), &patch).await;
            let Err(error) = written else { return };
            match code(&error) {
                Some(404) => return,
                // A conflict is either with another pod of this name, or it is over soon.
                Some(409) if self.is_stopped() => return,
                _ => tracing::debug!(pod = %self.name, %error, "the status is written later"),
            }
            sleep(RETRY).await;
        }
    }

    /// Deletes the object at once, and tries again until it is gone.
    async fn delete(&self) {
        let uid = Preconditions { uid: self.pod.metadata.uid.clone(), ..Preconditions::default() };
        let at_once = DeleteParams::default().grace_period(0).preconditions(uid);
        loop {
            let deleted = self.node.pods.delete(&self.name, &at_once).await;
            let Err(error) = deleted else { return };
            // A conflict is with another pod of this name.
            if matches!(code(&error), Some(404 | 409)) {
                return;
            }
            tracing::debug!(pod = %self.name, %error, "the pod is deleted later");
            sleep(RETRY).await;
        }
    }
}

impl Surroundings {
    /// A process of the container, with this program and its arguments.
    fn command<'a>(&self, pod: &str, argv: impl IntoIterator<Item = &'a String>) -> io::Result<Command> {
        let mut argv = argv.into_iter().map(|argument| expand(argument, &self.variables));
        let mut command = Command::new(argv.next().unwrap_or_default());
        let output = fs::File::options().create(true).append(true).open(&self.log)?;
        command
            .args(argv)
            .env_clear()
            .env("PATH", PATH)
            .env("HOSTNAME", pod)
            .envs(&self.variables)
            .env("POD_ROOT", &self.root)
            .current_dir(&self.root)
            .stderr(output.try_clone()?)
            .stdout(output);
        Ok(command)
    }
}

/// The HTTP status of an answer that is an error.
fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// Waits until this time, or forever.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}

fn seconds(configured: Option<i32>, default: u64) -> Duration {
    Duration::from_secs(configured.map_or(default, |seconds| seconds.unsigned_abs().into()))
}

/// The exit code as container runtimes report it.
fn exit_code(status: ExitStatus) -> i32 {
    let by_signal = || status.signal().map(|signal| BY_SIGNAL + signal);
    status.code().or_else(by_signal).unwrap_or(NOT_STARTED)
}

/// Creates an empty folder.
fn empty(folder: &Path) -> io::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)
}
