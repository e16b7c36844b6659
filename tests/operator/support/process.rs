//! The operator as its own process, which a test can kill.

use std::{
    fs,
    net::SocketAddr,
    process::{ExitStatus, Output, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::Value;
use tempfile::{NamedTempFile, TempDir};
use testkit::{Gate, gateway::Gateway};
use tokio::{
    process::{Child, Command},
    time::{sleep, timeout},
};

use crate::support::stage::Stage;

/// Longest time that a process may take to start, to log a line or to end, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

const CONTROL_SOCKET: &str = "control.sock";

/// The command as it is shipped.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_servicekey-operator");

/// The command itself, behind its own gateway. It ends with the test, even if the test fails.
pub struct Process {
    pub gateway: Gateway,
    child: Child,
    log: NamedTempFile,
    /// The folder of its control socket.
    control: TempDir,
}

impl Process {
    /// Starts the operator for the namespace of the stage.
    pub async fn start(stage: &Stage) -> Self {
        Self::behind(stage.gateway().await, stage)
    }

    /// The same behind this gateway, which may already have gates.
    pub fn behind(gateway: Gateway, stage: &Stage) -> Self {
        Self::with(gateway, stage, &[])
    }

    /// The same with more flags.
    pub fn with(gateway: Gateway, stage: &Stage, flags: &[&str]) -> Self {
        let mut command = Self::command(stage);
        command.args(flags);
        Self::run(gateway, command)
    }

    /// The command that runs the operator for the namespace of the stage.
    pub fn command(stage: &Stage) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(["run", "--namespaces", &stage.namespace, "--allow-cidr", "127.0.0.0/8"]);
        command.args(["--disclose-cidr", "127.0.0.0/8"]);
        command.args(["--http-addr", "127.0.0.1:0"]);
        command
    }

    /// Starts this command, which must run the [`PROGRAM`].
    pub fn run(gateway: Gateway, mut command: Command) -> Self {
        let (log, control) = (NamedTempFile::new().unwrap(), TempDir::new().unwrap());
        let child = command
            .env("CONTROL_SOCKET", control.path().join(CONTROL_SOCKET))
            .env("KUBECONFIG", gateway.kubeconfig())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.reopen().unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { gateway, child, log, control }
    }

    /// The address that serves metrics and health, read from the log.
    pub async fn http_address(&self) -> SocketAddr {
        self.until_logged("the address of its metrics", |line| {
            line["fields"]["address"].as_str()?.parse().ok()
        })
        .await
    }

    /// Waits until the process has logged a line for which `find` returns a value.
    pub async fn until_logged<T>(&self, what: &str, find: impl Fn(&Value) -> Option<T>) -> T {
        let logged = async {
            loop {
                if let Some(found) = self.logged().iter().find_map(&find) {
                    return found;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, logged).await.unwrap_or_else(|_| panic!("the process does not log {what}"))
    }

    /// Changes the log filter with `servicekey-operator log-level`.
    pub async fn log_level(&self, filter: &str) -> Output {
        let mut command = Command::new(PROGRAM);
        command.args(["log-level", filter]).env("CONTROL_SOCKET", self.control.path().join(CONTROL_SOCKET));
        command.output().await.unwrap()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.log.path()).unwrap()
    }

    /// The logged lines, parsed.
    pub fn logged(&self) -> Vec<Value> {
        let log = self.log();
        // The last line may be incomplete.
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Kills the process like the kernel when memory runs out, and returns when it is dead.
    pub async fn kill(mut self) {
        assert_eq!(self.child.try_wait().unwrap(), None, "the process has already ended");
        self.child.kill().await.unwrap();
    }

    /// Kills the process when it has reached the gate. The request that the gate blocks is cut off there.
    pub async fn kill_at(self, gate: Gate) {
        gate.wait_for_arrival().await.unwrap();
        self.kill().await;
        gate.cut();
    }

    /// Stops the process until it [continues](Self::go_on), like a machine that is suspended.
    pub fn pause(&self) {
        self.send(Signal::STOP);
    }

    pub fn go_on(&self) {
        self.send(Signal::CONT);
    }

    fn send(&self, signal: Signal) {
        kill_process(self.id(), signal).unwrap();
    }

    fn id(&self) -> Pid {
        let id = self.child.id().and_then(|id| Pid::from_raw(id.try_into().unwrap()));
        id.expect("the process has already ended")
    }

    /// Limits the process's own memory to this many bytes; it aborts if it allocates more.
    ///
    /// A cgroup limit would match a pod's, but needs rights on the machine that not every sandbox grants. This limit
    /// also counts memory that is reserved and never used, so it is stricter.
    pub fn limit_memory(&self, bytes: usize) {
        let bytes = Some(bytes.try_into().unwrap());
        let limit = Rlimit { current: bytes, maximum: bytes };
        prlimit(Some(self.id()), Resource::Data, limit).expect("the kernel limits the memory of a process");
    }

    /// The peak of physical memory in bytes, as the kernel counts it.
    pub fn peak_memory(&self) -> usize {
        self.counted_memory("VmHWM:")
    }

    /// The physical memory in use, in bytes.
    pub fn memory(&self) -> usize {
        self.counted_memory("VmRSS:")
    }

    fn counted_memory(&self, name: &str) -> usize {
        let file = format!("/proc/{}/status", self.id().as_raw_nonzero());
        let status = fs::read_to_string(file).expect("the process has already ended");
        let count = status.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
        count.expect("the kernel counts it").parse::<usize>().unwrap() << 10
    }

    /// Waits until the process has ended on its own, and returns its log.
    pub async fn end(mut self) -> (ExitStatus, String) {
        let status = timeout(PATIENCE, self.child.wait()).await.expect("the process ends in time").unwrap();
        (status, fs::read_to_string(self.log.path()).unwrap())
    }

    /// Sends SIGTERM, like a node that stops a pod, and waits until the process has ended.
    pub async fn terminate(mut self) -> ExitStatus {
        self.send(Signal::TERM);
        timeout(PATIENCE, self.child.wait()).await.expect("the process ends after SIGTERM").unwrap()
    }
}

impl Stage {
    /// A gateway to the API server for one process. Its service account has the rights to serve this namespace.
    pub async fn gateway(&self) -> Gateway {
        let user = self.operator_user().await;
        Gateway::start(self.plane.client_as(&user)).await.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the operator's log:\n{}", fs::read_to_string(self.log.path()).unwrap_or_default());
        }
    }
}
