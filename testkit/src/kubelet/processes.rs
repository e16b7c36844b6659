//! The processes of containers, each in a process group that ends with it.
//!
//! The leader of a group is a small shell, the guard. Its stdin is a pipe from this process, which never writes to it.
//! When this process ends, also by SIGKILL, the kernel closes the pipe, and the guard kills its group. The guard is
//! reaped last, so the id of the group is not used again while a signal may still be sent to it.

use std::{
    collections::BTreeMap,
    io,
    os::unix::process::CommandExt as _,
    process::{self, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};
use tokio::process::{Child, Command};

/// A signal to the whole group must not end the guard before the others.
const GUARD: &str = "trap '' TERM INT HUP; read -r _; kill -s KILL 0";
/// The number of checks whether a killed process has ended, and the time between two of them.
const END_CHECKS: usize = 1000;
const END_PAUSE: Duration = Duration::from_millis(2);

/// The groups of all running processes of one kubelet.
#[derive(Default)]
pub(super) struct Processes {
    groups: Mutex<Groups>,
}

#[derive(Default)]
struct Groups {
    closed: bool,
    running: BTreeMap<i32, Group>,
}

impl Processes {
    /// Starts a process without stdin in a group of its own.
    pub(super) fn start(self: &Arc<Self>, command: &mut Command) -> io::Result<Process> {
        let mut groups = self.groups();
        if groups.closed {
            return Err(io::Error::other("the kubelet has stopped"));
        }
        let mut group = Group::new()?;
        let id = group.id();
        let child = command.stdin(Stdio::null()).process_group(id).spawn()?;
        let process = child.id().ok_or_else(|| io::Error::other("the process has no id"))?;
        group.process = Some(process);
        groups.running.insert(id, group);
        Ok(Process { id: process, group: id, child, processes: Arc::clone(self) })
    }

    /// Kills all processes and waits for their end. Afterwards no process can be started.
    pub(super) fn close(&self) {
        let running = {
            let mut groups = self.groups();
            groups.closed = true;
            std::mem::take(&mut groups.running)
        };
        let ids: Vec<u32> = running.values().filter_map(|group| group.process).collect();
        drop(running);
        ids.into_iter().for_each(wait_until_dead);
    }

    fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until a killed child has ended, and leaves it to the runtime to reap it. The wait has a limit, because the id
/// may belong to another child once the runtime has done so.
fn wait_until_dead(id: u32) {
    let Some(pid) = pid(id) else { return };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    for _ in 0..END_CHECKS {
        match waitid(WaitId::Pid(pid), options) {
            Ok(None) => thread::sleep(END_PAUSE),
            Ok(Some(_)) | Err(_) => return,
        }
    }
}

fn pid(id: u32) -> Option<Pid> {
    i32::try_from(id).ok().and_then(Pid::from_raw)
}

/// A running process. Dropping it kills its whole group.
pub(super) struct Process {
    id: u32,
    group: i32,
    child: Child,
    processes: Arc<Processes>,
}

impl Process {
    pub(super) const fn id(&self) -> u32 {
        self.id
    }

    /// Waits for the end of the process; its group may still run. Dropping the future loses nothing.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Sends SIGTERM to the process alone, as a container runtime does with the first process of a container.
    pub(super) fn terminate(&self) {
        // It has no id once it is reaped, so the signal can't reach another process.
        if let Some(pid) = self.child.id().and_then(pid) {
            // It fails only if the process has already ended.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Kills the whole group, and waits for the end of the process.
    pub(super) async fn kill(&mut self) -> io::Result<ExitStatus> {
        self.end_group();
        self.child.wait().await
    }

    fn end_group(&self) {
        let group = self.processes.groups().running.remove(&self.group);
        drop(group);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end_group();
    }
}

/// A process group with its guard. Dropping it kills the group.
struct Group {
    guard: process::Child,
    /// The process that the group is for.
    process: Option<u32>,
}

impl Group {
    fn new() -> io::Result<Self> {
        let guard = process::Command::new("sh")
            .args(["-c", GUARD, "guard"])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { guard, process: None })
    }

    fn id(&self) -> i32 {
        Pid::from_child(&self.guard).as_raw_pid()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The guard is not reaped yet, so the group exists even if every process of it has ended.
        let _ = kill_process_group(Pid::from_child(&self.guard), Signal::KILL);
        let _ = self.guard.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn sh(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    /// Whether a process with this id runs. A process that has ended and is not reaped yet does not.
    fn runs(id: &str) -> bool {
        let output = process::Command::new("ps").args(["-o", "stat=", "-p", id]).output().unwrap();
        let state = String::from_utf8(output.stdout).unwrap();
        !state.trim().is_empty() && !state.trim().starts_with('Z')
    }

    fn until_ended(id: &str) {
        let deadline = Instant::now() + PATIENCE;
        while runs(id) {
            assert!(Instant::now() < deadline, "process {id} still runs");
            thread::sleep(END_PAUSE);
        }
    }

    /// Starts a process with a child of its own, and returns the child's id.
    async fn parent(processes: &Arc<Processes>, folder: &std::path::Path) -> (Process, String) {
        let file = folder.join("child");
        let script =
            format!("trap '' TERM; sleep 60 & echo $! >{0}.new; mv {0}.new {0}; wait", file.display());
        let process = processes.start(&mut sh(&script)).unwrap();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(id) = std::fs::read_to_string(&file) {
                return (process, id.trim().to_owned());
            }
            assert!(Instant::now() < deadline, "the script did not start");
            tokio::time::sleep(END_PAUSE).await;
        }
    }

    /// Not a test: the process that the test below kills.
    #[tokio::test]
    #[ignore = "runs a container until it is killed"]
    async fn hold_a_container() {
        let processes: Arc<Processes> = Arc::default();
        let process = processes.start(&mut sh("exec sleep 600")).unwrap();
        std::fs::write(std::env::var("HELD").unwrap(), process.id().to_string()).unwrap();
        std::future::pending::<()>().await;
    }

    #[test]
    fn a_killed_kubelet_leaves_no_processes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("held");
        let mut holder = process::Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "kubelet::processes::tests::hold_a_container"])
            .env("HELD", &file)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + PATIENCE;
        let id = loop {
            match std::fs::read_to_string(&file) {
                Ok(id) if !id.is_empty() => break id,
                _ => assert!(Instant::now() < deadline, "the holder did not start a container"),
            }
            thread::sleep(END_PAUSE);
        };
        assert!(runs(&id));
        holder.kill().unwrap();
        holder.wait().unwrap();
        until_ended(&id);
    }

    #[tokio::test]
    async fn the_children_of_a_process_end_with_it() {
        let (folder, processes) = (tempfile::tempdir().unwrap(), Arc::default());
        let (mut process, child) = parent(&processes, folder.path()).await;
        process.kill().await.unwrap();
        until_ended(&child);
    }

    #[tokio::test]
    async fn closing_ends_every_process_and_refuses_new_ones() {
        let (folder, processes) = (tempfile::tempdir().unwrap(), Arc::default());
        let (process, child) = parent(&processes, folder.path()).await;
        processes.close();
        assert!(!runs(&process.id().to_string()));
        until_ended(&child);
        assert!(processes.start(&mut sh("true")).is_err());
    }
}
