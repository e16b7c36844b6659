//! Pods that may still use the credentials of a replaced key.
//!
//! Nothing in a pod says which version of a Secret it has, so only times show it: a container that started long enough
//! after the change has the next key. What can't be known counts as a use.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    Observed, PreviousKey, Recorded, RemoteOperation, RotationPolicy, Sequence, operation::pending_operation,
    rotation::after,
};

/// How long after the change of the Secret a container may start with the previous version: kubelets learn of the change
/// late, and the clock of a node may be ahead by up to a minute.
const SETTLING: Duration = Duration::from_secs(90);

/// How long after the change a volume may have the previous version: the kubelet's cache and its period of
/// synchronization.
const REFRESH: Duration = Duration::from_secs(420);

/// The shortest and the longest time between two looks at the pods.
const LOOKS: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(600));

/// The parts of a container, or of an init container, that decide whether it uses a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ContainerView {
    /// The variables of its environment, which stay as they are until it restarts.
    pub environment: bool,
    /// A file that stays as it is until it restarts.
    pub sub_path: bool,
    /// A volume that follows the Secret.
    pub volume: bool,
    /// Whether it prepares the pod and ends. It may have stored what it read.
    pub initializes: bool,
    /// When it started last, if it has started.
    pub started: Option<Timestamp>,
    /// Whether it runs now.
    pub runs: bool,
}

/// The parts of a pod that decide whether it uses a Secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PodView {
    pub name: String,
    pub containers: Vec<ContainerView>,
    /// Whether the operator restarts its workload after rotations. Then it reads its volumes only when it starts.
    pub is_restarted: bool,
    /// The number of the key with which the operator restarted its workload before the pod was created.
    pub restarted_with: Option<Sequence>,
    /// Whether a part of the pod could not be read.
    pub is_incomplete: bool,
}

/// The change of a Secret from one key to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyChange {
    /// The number of the replaced key.
    pub replaced: Sequence,
    /// When the Secret got the next one.
    pub at: Timestamp,
}

/// The pods that may still use a replaced key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Consumers {
    /// The first few of them, by name.
    pub names: Vec<String>,
    /// How many there are.
    pub count: usize,
    /// Why the operator could not look at all pods.
    pub problem: Option<String>,
}

impl Consumers {
    /// How many names are kept.
    const NAMED: usize = 5;

    pub(crate) fn add(&mut self, name: String) {
        self.count += 1;
        if self.names.len() < Self::NAMED {
            self.names.push(name);
        }
    }

    fn are_none(&self) -> bool {
        self.count == 0 && self.problem.is_none()
    }

    /// The pods in words, after the number of the key.
    fn words(&self) -> String {
        if let Some(problem) = &self.problem {
            return format!("its consumers are unknown: {problem}");
        }
        let names: Vec<_> = self.names.iter().map(|name| format!("`{name}`")).collect();
        let more = self.count - self.names.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("pods that started before the rotation may use it: {}{more}", names.join(", "))
    }
}

impl KeyChange {
    /// Whether the pod may still use the replaced key.
    pub(crate) fn may_be_used_by(&self, pod: &PodView, now: Timestamp) -> bool {
        let is_restarted_since = pod.restarted_with.is_some_and(|sequence| sequence > self.replaced);
        let is_used = |container: &ContainerView| self.may_be_used_in(container, pod.is_restarted, now);
        pod.is_incomplete || !is_restarted_since && pod.containers.iter().any(is_used)
    }

    fn may_be_used_in(&self, container: &ContainerView, is_restarted: bool, now: Timestamp) -> bool {
        let ContainerView { environment, sub_path, volume, initializes, started, runs } = container;
        let reads_once = *environment || *sub_path || *volume && (is_restarted || *initializes);
        // The content of a volume may be older than the container.
        let behind = if *sub_path || *volume { SETTLING + REFRESH } else { SETTLING };
        let safe = after(self.at, behind);
        if reads_once {
            // A container that does not run reads the Secret when it starts, and an init container does not start again.
            let has_read = *runs || *initializes;
            return match started {
                Some(started) if has_read => *started <= safe,
                _ => now <= safe,
            };
        }
        *volume && now <= after(self.at, REFRESH)
    }
}

/// The change whose consumers matter now: the overlap is over, and the user wants no key revoked that a pod may use.
pub(super) fn to_look_for(observed: &Observed, sequence: Sequence) -> Option<KeyChange> {
    let previous = observed.recorded.previous.iter().find(|previous| previous.sequence == sequence)?;
    let at = previous.replaced_at?;
    if is_being_revoked(observed, sequence, at) {
        return None;
    }
    let is_over = previous.revoke_at.is_some_and(|time| time <= observed.now);
    let may_wait = kept_until(observed, previous).is_some_and(|latest| observed.now < latest);
    (is_over && may_wait).then_some(KeyChange { replaced: sequence, at })
}

/// Whether the remote side may have revoked the key since it was replaced, or is about to. An earlier key of the same
/// number may have been revoked before.
fn is_being_revoked(observed: &Observed, sequence: Sequence, replaced_at: Timestamp) -> bool {
    let Observed { run, .. } = observed;
    let unsure = run.unsure_revocation.filter(|(of, _)| *of == sequence).map(|(_, since)| since);
    let accepted = pending_operation(observed, RemoteOperation::Unbind, sequence).map(|work| work.since);
    let begun = [run.revoked.get(&sequence).copied(), unsure, accepted];
    begun.into_iter().flatten().any(|time| time >= replaced_at)
}

/// Whether a key whose overlap is over stays, as far as this reconcile has found out.
pub(super) fn may_be_used(observed: &Observed, sequence: Sequence) -> bool {
    to_look_for(observed, sequence)
        .is_some_and(|change| found(observed, change).is_none_or(|consumers| !consumers.are_none()))
}

/// The latest time at which the key is revoked, if it stays for its consumers. It is fixed at the first look. The overlap
/// may have begun later than the change of the Secret, because workloads restarted late.
fn kept_until(observed: &Observed, previous: &PreviousKey) -> Option<Timestamp> {
    let RotationPolicy { overlap, max_overlap, .. } = observed.desired.rotation;
    let max_overlap = max_overlap?;
    let began = || {
        let overlap_began = previous.revoke_at?.checked_sub(overlap).ok()?;
        Some(previous.replaced_at?.max(overlap_began))
    };
    previous.kept_until.or_else(|| Some(after(began()?, max_overlap)))
}

/// The result of this reconcile's look.
pub(super) fn found(observed: &Observed, change: KeyChange) -> Option<&Consumers> {
    observed.run.consumers.as_ref().filter(|(of, _)| *of == change).map(|(_, consumers)| consumers)
}

/// The record in which the key stays until the next look; `None` if no pod uses it.
pub(super) fn kept(observed: &Observed, change: KeyChange) -> Option<Recorded> {
    let consumers = found(observed, change).filter(|consumers| !consumers.are_none())?;
    let mut recorded = observed.recorded.clone();
    let previous = recorded.previous.iter_mut().find(|previous| previous.sequence == change.replaced)?;
    let latest = kept_until(observed, previous)?;
    let age = Duration::try_from(observed.now.duration_since(change.at)).unwrap_or_default();
    let (shortest, longest) = LOOKS;
    previous.revoke_at = Some(after(observed.now, (age / 10).clamp(shortest, longest)).min(latest));
    previous.kept_until = Some(latest);
    previous.consumers = Some(format!("{}; it is revoked at {latest} at the latest", consumers.words()));
    Some(recorded)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    const CHANGE: i64 = 0;
    const LATER: i64 = 3600;

    fn environment() -> ContainerView {
        ContainerView { environment: true, ..ContainerView::default() }
    }

    fn sub_path() -> ContainerView {
        ContainerView { sub_path: true, ..ContainerView::default() }
    }

    fn volume() -> ContainerView {
        ContainerView { volume: true, ..ContainerView::default() }
    }

    fn running(second: i64, container: ContainerView) -> ContainerView {
        ContainerView { runs: true, started: Some(at(second)), ..container }
    }

    fn initialized(second: i64, container: ContainerView) -> ContainerView {
        ContainerView { initializes: true, started: Some(at(second)), ..container }
    }

    #[rstest]
    //                                    container                                  now    used
    #[case::no_reference(                 running(-10, ContainerView::default()),    1,     false)]
    #[case::environment(                  running(-10, environment()),               LATER, true)]
    #[case::environment_at_once(          running(90, environment()),                LATER, true)]
    #[case::environment_started_later(    running(91, environment()),                LATER, false)]
    #[case::environment_about_to_start(   environment(),                             90,    true)]
    #[case::environment_will_start(       environment(),                             91,    false)]
    #[case::environment_ended(            ContainerView { started: Some(at(-10)), ..environment() }, LATER, false)]
    #[case::sub_path(                     running(-10, sub_path()),                  LATER, true)]
    #[case::sub_path_of_an_old_volume(    running(510, sub_path()),                  LATER, true)]
    #[case::sub_path_of_a_new_volume(     running(511, sub_path()),                  LATER, false)]
    #[case::volume(                       running(-10, volume()),                    420,   true)]
    #[case::volume_has_followed(          running(-10, volume()),                    421,   false)]
    #[case::init_container(               initialized(-10, environment()),           LATER, true)]
    #[case::init_container_of_a_new_pod(  initialized(91, environment()),            LATER, false)]
    #[case::init_container_with_a_volume( initialized(-10, volume()),                LATER, true)]
    #[case::both(                         running(100, ContainerView { sub_path: true, ..environment() }), LATER, true)]
    #[rustfmt::skip]
    fn a_container_uses_a_key_until_it_has_read_the_next_one(
        #[case] container: ContainerView,
        #[case] now: i64,
        #[case] used: bool,
    ) {
        let change = KeyChange { replaced: Sequence::FIRST, at: at(CHANGE) };
        let other = running(5000, environment());
        let pod = PodView { containers: vec![other, container], ..PodView::default() };
        assert_eq!(change.may_be_used_by(&pod, at(now)), used);
    }

    /// The list of workloads to restart says that their pods read volumes only when they start.
    #[rstest]
    #[case::not_yet(None, true)]
    #[case::with_the_replaced_key(Some(Sequence::FIRST), true)]
    #[case::with_the_next_key(Some(Sequence::FIRST.next()), false)]
    fn a_pod_of_a_restarted_workload_reads_its_volumes_once(
        #[case] restarted_with: Option<Sequence>,
        #[case] used: bool,
    ) {
        let change = KeyChange { replaced: Sequence::FIRST, at: at(CHANGE) };
        let containers = vec![running(-10, volume())];
        let pod = PodView { containers, is_restarted: true, restarted_with, ..PodView::default() };
        assert_eq!(change.may_be_used_by(&pod, at(LATER)), used);
    }

    #[test]
    fn a_pod_that_can_not_be_read_counts() {
        let change = KeyChange { replaced: Sequence::FIRST, at: at(CHANGE) };
        let pod = PodView { is_incomplete: true, ..PodView::default() };
        assert!(change.may_be_used_by(&pod, at(LATER)));
    }

    #[test]
    fn at_most_five_pods_are_named() {
        let mut consumers = Consumers::default();
        assert!(consumers.are_none());
        for number in 1..=7 {
            consumers.add(format!("app-{number}"));
        }
        let words = "pods that started before the rotation may use it: `app-1`, `app-2`, `app-3`, `app-4`, `app-5` and 2 more";
        assert_eq!(consumers.words(), words);
    }
}
