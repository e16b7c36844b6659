//! The operator as a process of its own, which can be killed.

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

/// How long a process that was asked to end may take, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// The name of the control socket.
const CONTROL_SOCKET: &str = "control.sock";

/// The command that is shipped.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_servicekey-operator");

/// The command itself, behind a gateway of its own. It ends with the test, whatever becomes of that.
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

    /// The same behind a gateway that may have gates already.
    pub fn behind(gateway: Gateway, stage: &Stage) -> Self {
        Self::with(gateway, stage, &[])
    }

    /// The same with more flags.
    pub fn with(gateway: Gateway, stage: &Stage, flags: &[&str]) -> Self {
        let mut command = Self::command(stage);
        command.args(flags);
        Self::run(gateway, command)
    }

    /// What runs the operator for the namespace of the stage.
    pub fn command(stage: &Stage) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(["run", "--namespaces", &stage.namespace, "--allow-cidr", "127.0.0.0/8"]);
        command.args(["--disclose-cidr", "127.0.0.0/8"]);
        command.args(["--http-addr", "127.0.0.1:0"]);
        command
    }

    /// A command of one's own that runs the [`PROGRAM`].
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

    /// Where it serves metrics and health, which it says in its log.
    pub async fn http_address(&self) -> SocketAddr {
        self.until_logged("where it serves metrics", |line| line["fields"]["address"].as_str()?.parse().ok())
            .await
    }

    /// Waits until it has logged a line that holds what is looked for.
    pub async fn until_logged<T>(&self, what: &str, find: impl Fn(&Value) -> Option<T>) -> T {
        let logged = async {
            loop {
                if let Some(found) = self.logged().iter().find_map(&find) {
                    return found;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, logged).await.unwrap_or_else(|_| panic!("it does not log {what}"))
    }

    /// Has `servicekey-operator log-level` change what it logs.
    pub async fn log_level(&self, filter: &str) -> Output {
        let mut command = Command::new(PROGRAM);
        command.args(["log-level", filter]).env("CONTROL_SOCKET", self.control.path().join(CONTROL_SOCKET));
        command.output().await.unwrap()
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log.path()).unwrap()
    }

    /// The lines that it has logged.
    pub fn logged(&self) -> Vec<Value> {
        let log = self.log();
        // The last one may be half written.
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Kills it as the kernel does when memory runs out, and returns when it is dead.
    pub async fn kill(mut self) {
        assert_eq!(self.child.try_wait().unwrap(), None, "it ended by itself");
        self.child.kill().await.unwrap();
    }

    /// Kills it when it has come to the gate. What is held there ends as it stands.
    pub async fn kill_at(self, gate: Gate) {
        gate.wait_for_arrival().await.unwrap();
        self.kill().await;
        gate.cut();
    }

    /// Lets it do nothing until it [goes on](Self::go_on), as a machine does that is suspended.
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
        id.expect("it ended by itself")
    }

    /// Lets it have so many bytes of memory of its own: it ends where it asks for more.
    ///
    /// A limit by cgroups would be that of a pod, and needs rights over the machine that not every sandbox gives. This
    /// one counts what is reserved and never used as well, and so is stricter.
    pub fn limit_memory(&self, bytes: usize) {
        let bytes = Some(bytes.try_into().unwrap());
        let limit = Rlimit { current: bytes, maximum: bytes };
        prlimit(Some(self.id()), Resource::Data, limit).expect("the kernel limits the memory of a process");
    }

    /// The most bytes of physical memory that it has had so far, as the kernel counts them.
    pub fn peak_memory(&self) -> usize {
        self.counted_memory("VmHWM:")
    }

    /// The bytes of physical memory that it has now.
    pub fn memory(&self) -> usize {
        self.counted_memory("VmRSS:")
    }

    fn counted_memory(&self, name: &str) -> usize {
        let file = format!("/proc/{}/status", self.id().as_raw_nonzero());
        let status = fs::read_to_string(file).expect("it ended by itself");
        let count = status.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
        count.expect("the kernel counts it").parse::<usize>().unwrap() << 10
    }

    /// Waits until it has ended by itself, and returns what it logged.
    pub async fn end(mut self) -> (ExitStatus, String) {
        let status = timeout(PATIENCE, self.child.wait()).await.expect("it goes on").unwrap();
        (status, fs::read_to_string(self.log.path()).unwrap())
    }

    /// Asks it to end, as a node does that stops a pod, and waits until it has.
    pub async fn terminate(mut self) -> ExitStatus {
        self.send(Signal::TERM);
        timeout(PATIENCE, self.child.wait()).await.expect("it goes on after SIGTERM").unwrap()
    }
}

impl Stage {
    /// A way to the API server for one process, as a service account with the rights to serve this namespace.
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
