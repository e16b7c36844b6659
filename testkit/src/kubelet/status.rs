//! The state of a pod's containers, and the status that follows from it.

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus, Pod, PodCondition, PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

/// The waiting reason of a pod that the kubelet does not run.
const NOT_MODELLED: &str = "NotModelled";

/// The containers of one pod.
#[derive(Clone, Debug)]
pub(super) struct State {
    init: Vec<ContainerStatus>,
    containers: Vec<ContainerStatus>,
    conditions: Vec<PodCondition>,
    start: Option<Time>,
    never_restarts: bool,
}

impl State {
    /// The state before any container runs. `now` is the time of the kubelet's clock. The status of the pod is not
    /// empty if another kubelet ran it earlier.
    pub(super) fn new(pod: &Pod, now: Timestamp) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        let earlier = pod.status.clone().unwrap_or_default();
        let known = |statuses: Option<Vec<ContainerStatus>>| statuses.unwrap_or_default();
        let init_containers = spec.init_containers.unwrap_or_default();
        let reason = first_reason(init_containers.is_empty());
        let before = |containers: &[Container], statuses: Vec<ContainerStatus>| {
            let earlier = |name: &str| statuses.iter().find(|status| status.name == name).cloned();
            containers
                .iter()
                .map(|container| unstarted(container, earlier(&container.name), reason))
                .collect()
        };
        Self {
            init: before(&init_containers, known(earlier.init_container_statuses)),
            containers: before(&spec.containers, known(earlier.container_statuses)),
            conditions: earlier.conditions.unwrap_or_default(),
            start: earlier.start_time.or(Some(Time(now))),
            never_restarts: spec.restart_policy.as_deref() == Some("Never"),
        }
    }

    /// The number of restarts that the next start of a container counts as.
    pub(super) fn next_restart(&self, name: &str) -> i32 {
        let status = self.init.iter().chain(&self.containers).find(|status| status.name == name);
        status.map_or(0, |status| status.restart_count + i32::from(status.last_state.is_some()))
    }

    /// A container can't start yet.
    pub(super) fn wait(&mut self, name: &str, reason: &str, message: &str) {
        self.update(name, |status| status.state = Some(waiting(reason, message)));
    }

    /// No container can start yet.
    pub(super) fn wait_all(&mut self, reason: &str, message: &str) {
        for status in self.init.iter_mut().chain(&mut self.containers) {
            status.state = Some(waiting(reason, message));
        }
    }

    /// The volumes are mounted, so the first container starts.
    pub(super) fn mount(&mut self) {
        self.wait_all(first_reason(self.init.is_empty()), "");
    }

    /// The kubelet does not run this pod.
    pub(super) fn refuse(&mut self, message: &str) {
        self.wait_all(NOT_MODELLED, message);
    }

    /// A container runs, after this number of restarts.
    pub(super) fn run(&mut self, name: &str, restarts: i32, id: &str, now: Timestamp, is_ready: bool) {
        self.update(name, |status| {
            let running = ContainerStateRunning { started_at: Some(Time(now)) };
            status.state = Some(ContainerState { running: Some(running), ..ContainerState::default() });
            status.restart_count = restarts;
            status.container_id = Some(id.to_owned());
            status.ready = is_ready;
            status.started = Some(true);
        });
    }

    /// The result of a readiness probe.
    pub(super) fn set_ready(&mut self, name: &str, is_ready: bool) {
        self.update(name, |status| status.ready = is_ready);
    }

    /// A container has ended and does not start again. An init container that has succeeded counts as ready.
    pub(super) fn end(&mut self, name: &str, restarts: i32, terminated: ContainerStateTerminated) {
        let is_init = self.init.iter().any(|status| status.name == name);
        let is_ready = is_init && terminated.exit_code == 0;
        self.update(name, |status| {
            status.state = Some(ContainerState { terminated: Some(terminated), ..ContainerState::default() });
            status.restart_count = restarts;
            status.ready = is_ready;
            status.started = Some(false);
        });
    }

    /// A container has ended and starts again after a pause.
    pub(super) fn back_off(&mut self, name: &str, restarts: i32, terminated: ContainerStateTerminated) {
        self.update(name, |status| {
            status.state = Some(waiting("CrashLoopBackOff", "back-off restarting failed container"));
            status.last_state =
                Some(ContainerState { terminated: Some(terminated), ..ContainerState::default() });
            status.restart_count = restarts;
            status.ready = false;
            status.started = Some(false);
        });
    }

    fn update(&mut self, name: &str, change: impl FnOnce(&mut ContainerStatus)) {
        if let Some(status) =
            self.init.iter_mut().chain(&mut self.containers).find(|status| status.name == name)
        {
            change(status);
        }
    }

    /// The status to write. `now` is the real time: controllers compare the times of conditions with their own clock.
    pub(super) fn status(&mut self, now: Timestamp) -> PodStatus {
        let phase = self.phase();
        let unready =
            self.containers.iter().filter(|status| !status.ready).map(|status| status.name.as_str());
        let unready: Vec<&str> = unready.collect();
        let readiness = if phase == "Succeeded" {
            Err(("PodCompleted", String::new()))
        } else if unready.is_empty() {
            Ok(())
        } else {
            Err(("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" "))))
        };
        let incomplete = self.init.iter().filter(|status| exit_code(status) != Some(0));
        let incomplete: Vec<&str> = incomplete.map(|status| status.name.as_str()).collect();
        let initialized = if incomplete.is_empty() {
            Ok(())
        } else {
            let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
            Err(("ContainersNotInitialized", message))
        };
        self.set_condition("PodScheduled", Ok(()), now);
        self.set_condition("Initialized", initialized, now);
        self.set_condition("ContainersReady", readiness.clone(), now);
        self.set_condition("Ready", readiness, now);
        PodStatus {
            phase: Some(phase.to_owned()),
            conditions: Some(self.conditions.clone()),
            init_container_statuses: (!self.init.is_empty()).then(|| self.init.clone()),
            container_statuses: Some(self.containers.clone()),
            start_time: self.start.clone(),
            ..PodStatus::default()
        }
    }

    /// The phase as the kubelet derives it.
    fn phase(&self) -> &'static str {
        let has_failed = |status: &ContainerStatus| exit_code(status).is_some_and(|code| code != 0);
        if self.init.iter().any(|status| exit_code(status) != Some(0)) {
            let is_over = self.never_restarts && self.init.iter().any(has_failed);
            return if is_over { "Failed" } else { "Pending" };
        }
        if self.containers.iter().all(|status| exit_code(status).is_some()) {
            return if self.containers.iter().any(has_failed) { "Failed" } else { "Succeeded" };
        }
        let never_started = |status: &ContainerStatus| {
            status.last_state.is_none() && status.state.as_ref().is_none_or(|state| state.waiting.is_some())
        };
        if self.containers.iter().any(never_started) { "Pending" } else { "Running" }
    }

    fn set_condition(&mut self, kind: &str, result: Result<(), (&str, String)>, now: Timestamp) {
        let (status, reason, message) = match result {
            Ok(()) => ("True", None, None),
            Err((reason, message)) => {
                ("False", Some(reason.to_owned()), Some(message).filter(|message| !message.is_empty()))
            }
        };
        let earlier = self.conditions.iter().position(|condition| condition.type_ == kind);
        let earlier = earlier.map(|place| self.conditions.remove(place));
        let unchanged = earlier.filter(|condition| condition.status == status);
        let since = unchanged.and_then(|condition| condition.last_transition_time).unwrap_or(Time(now));
        self.conditions.push(PodCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason,
            message,
            last_transition_time: Some(since),
            ..PodCondition::default()
        });
    }
}

/// The waiting reason of a container that has not started and can.
const fn first_reason(has_no_init_containers: bool) -> &'static str {
    if has_no_init_containers { "ContainerCreating" } else { "PodInitializing" }
}

/// A container before its first start by this kubelet. If an earlier kubelet has started it, the next start is a
/// restart.
fn unstarted(container: &Container, earlier: Option<ContainerStatus>, reason: &str) -> ContainerStatus {
    let image = container.image.clone().unwrap_or_default();
    let earlier = earlier.filter(|status| status.container_id.is_some());
    let last_state = earlier.as_ref().map(|status| {
        let ended = status.state.as_ref().and_then(|state| state.terminated.clone());
        let lost = || ContainerStateTerminated {
            exit_code: 137,
            reason: Some("ContainerStatusUnknown".to_owned()),
            ..ContainerStateTerminated::default()
        };
        let ended = ended.unwrap_or_else(lost);
        ContainerState { terminated: Some(ended), ..ContainerState::default() }
    });
    ContainerStatus {
        name: container.name.clone(),
        image_id: format!("local://{image}"),
        image,
        state: Some(waiting(reason, "")),
        last_state,
        restart_count: earlier.map_or(0, |status| status.restart_count),
        started: Some(false),
        ..ContainerStatus::default()
    }
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    let message = (!message.is_empty()).then(|| message.to_owned());
    let waiting = ContainerStateWaiting { reason: Some(reason.to_owned()), message };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

/// The exit code of a container that has ended and does not start again.
fn exit_code(status: &ContainerStatus) -> Option<i32> {
    status.state.as_ref()?.terminated.as_ref().map(|terminated| terminated.exit_code)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn pod(policy: &str, init: &[&str]) -> Pod {
        let containers = |names: &[&str]| -> Vec<_> {
            names.iter().map(|name| json!({"name": name, "image": "program"})).collect()
        };
        let spec = json!({
            "restartPolicy": policy, "containers": containers(&["main"]), "initContainers": containers(init),
        });
        serde_json::from_value(json!({"metadata": {"name": "pod"}, "spec": spec})).unwrap()
    }

    fn ended(exit_code: i32) -> ContainerStateTerminated {
        ContainerStateTerminated { exit_code, ..ContainerStateTerminated::default() }
    }

    fn phase(state: &mut State) -> String {
        state.status(at(0)).phase.unwrap()
    }

    fn condition(state: &mut State, kind: &str, now: Timestamp) -> (String, Timestamp) {
        let conditions = state.status(now).conditions.unwrap();
        let found = conditions.into_iter().find(|condition| condition.type_ == kind).unwrap();
        (found.status, found.last_transition_time.unwrap().0)
    }

    #[test]
    fn the_phase_follows_from_the_containers() {
        let mut state = State::new(&pod("Always", &["first"]), at(0));
        assert_eq!(phase(&mut state), "Pending");
        state.run("first", 0, "1", at(0), false);
        assert_eq!(phase(&mut state), "Pending");
        state.end("first", 0, ended(0));
        assert_eq!(phase(&mut state), "Pending");
        state.run("main", 0, "2", at(0), true);
        assert_eq!(phase(&mut state), "Running");
        state.back_off("main", 0, ended(1));
        assert_eq!(phase(&mut state), "Running");
        state.end("main", 0, ended(0));
        assert_eq!(phase(&mut state), "Succeeded");
        state.end("main", 0, ended(1));
        assert_eq!(phase(&mut state), "Failed");
    }

    #[test]
    fn a_failed_init_container_fails_only_a_pod_that_never_restarts() {
        for (policy, expected) in [("Never", "Failed"), ("OnFailure", "Pending")] {
            let mut state = State::new(&pod(policy, &["first"]), at(0));
            state.end("first", 0, ended(1));
            assert_eq!(phase(&mut state), expected, "{policy}");
        }
    }

    #[test]
    fn a_condition_keeps_its_time_while_its_status_stays() {
        let mut state = State::new(&pod("Always", &[]), at(0));
        assert_eq!(condition(&mut state, "Ready", at(1)), ("False".to_owned(), at(1)));
        state.run("main", 0, "1", at(0), true);
        assert_eq!(condition(&mut state, "Ready", at(2)), ("True".to_owned(), at(2)));
        assert_eq!(condition(&mut state, "Ready", at(3)), ("True".to_owned(), at(2)));
        state.back_off("main", 0, ended(1));
        assert_eq!(condition(&mut state, "Ready", at(4)), ("False".to_owned(), at(4)));
    }

    #[test]
    fn a_start_after_another_kubelet_is_a_restart() {
        let mut pod = pod("Always", &[]);
        let mut state = State::new(&pod, at(0));
        assert_eq!(state.next_restart("main"), 0);
        state.run("main", 4, "1", at(0), true);
        pod.status = Some(state.status(at(0)));
        assert_eq!(State::new(&pod, at(0)).next_restart("main"), 5);
    }
}
