//! The demo as a user runs it: it succeeds, hides credentials, reports an error in one line, and leaves nothing behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    net::TcpListener,
    path::Path,
    process::{Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use servicekey_operator::api::ServiceKey;
use tokio::io::{AsyncBufReadExt, BufReader};

/// The start of every password of the embedded broker, plain and escaped for a URI.
const PASSWORD: [&str; 2] = ["p@ss/", "p%40ss%2F"];

/// Cargo provides no path for examples; they are next to the binaries. `cargo test` builds them, unless it builds only
/// named tests.
fn demo(arguments: &[&str]) -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_servicekey-operator"));
    let demo = binary.with_file_name("examples").join("demo");
    assert!(demo.exists(), "`{}` does not exist: build it with `cargo build --example demo`", demo.display());
    let mut command = Command::new(demo);
    command.args(arguments).env_remove("RUST_LOG").env_remove("TESTKIT_KEEP");
    command
}

fn run(command: &mut Command) -> (Output, String, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let stdout = String::from_utf8(output.stdout.clone()).unwrap();
    let stderr = String::from_utf8(output.stderr.clone()).unwrap();
    (output, stdout, stderr)
}

#[test]
fn the_whole_tour_ends_well_and_shows_no_credential() {
    let (output, stdout, stderr) = run(&mut demo(&["--keys", "5"]));
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    for line in [
        "Ready      True    Available  the credentials of key 1 are in the Secret",
        "calls to the broker: 1 to read the key, 0 to create one",
        // 2 from the manifests, 10 one after the other, 5 at once.
        "The broker has no key (calls so far: 17 to create a key, 17 to revoke one)",
        "create → Ready, 1 ServiceKey ",
        "delete → gone, 1 ServiceKey ",
        "create → Ready, 5 ServiceKeys at once ",
    ] {
        assert!(stdout.contains(line), "`{line}` is not in:\n{stdout}");
    }
    for secret in PASSWORD.into_iter().chain(["change-me"]) {
        assert!(!stdout.contains(secret), "a credential is in:\n{stdout}");
    }
    assert!(!stdout.contains('\u{1b}'), "colours without a terminal");
    assert_eq!(stderr, "");
}

#[test]
fn credentials_are_shown_to_whoever_asks_for_them() {
    let (output, stdout, stderr) = run(&mut demo(&["--keys", "0", "--show-secrets"]));
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    for secret in PASSWORD {
        assert!(stdout.contains(secret), "{stdout}");
    }
    assert!(!stdout.contains("at once"), "nothing was to be measured:\n{stdout}");
}

#[test]
fn with_a_real_database_the_secrets_log_in_until_their_keys_are_deleted() {
    let (output, stdout, stderr) = run(&mut demo(&["--broker", "postgres", "--keys", "5"]));
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    for line in [
        "SECRET             LOGGED IN AS                              DATABASE",
        "calls to the broker: 1 to read the key, 0 to create one",
        "password             •••••••• (43 bytes)",
        // 2 from the manifests, 10 one after the other, 5 at once.
        "The broker has no key (calls so far: 17 to create a key, 17 to revoke one)",
    ] {
        assert!(stdout.contains(line), "`{line}` is not in:\n{stdout}");
    }
    let user = |secret: &str| {
        let line = stdout.lines().find(|line| line.trim().starts_with(secret) && line.ends_with("app"));
        line.and_then(|line| line.split_whitespace().nth(1)).unwrap_or_else(|| panic!("{stdout}"))
    };
    let users = ["monitoring-creds", "postgres-exporter"].map(user);
    assert_ne!(users[0], users[1]);
    for user in users {
        let line = format!("is refused: password authentication failed for user \"{user}\"");
        assert!(stdout.contains(&line), "`{line}` is not in:\n{stdout}");
    }
    assert_eq!(stderr, "");
}

#[test]
fn a_database_server_that_is_missing_is_told_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let (output, _, stderr) = run(demo(&["--broker", "postgres"]).env("PG_BIN", folder.path()));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.contains("`apt-get install postgresql`"), "{stderr}");
}

#[tokio::test]
async fn what_is_kept_can_be_used_until_ctrl_c_and_then_is_gone() {
    let mut demo = tokio::process::Command::from(demo(&["--keys", "0", "--keep"]))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let kubeconfig = loop {
        let line = lines.next_line().await.unwrap().expect("the demo prints how to reach it");
        if let Some(path) = line.trim().strip_prefix("export KUBECONFIG=") {
            break path.to_owned();
        }
    };
    let folder = Path::new(&kubeconfig).parent().unwrap();
    assert!(!processes_of(folder).is_empty());

    let config = Kubeconfig::read_from(&kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
    let keys: Api<ServiceKey> = Api::namespaced(Client::try_from(config).unwrap(), "training");
    let key = keys.get("monitoring-creds").await.unwrap();
    assert_eq!(key.status.unwrap().binding.unwrap().name, "monitoring-creds");

    let interrupt = format!("kill -INT {}", demo.id().unwrap());
    assert!(Command::new("sh").args(["-c", &interrupt]).status().unwrap().success());
    let output = demo.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "interrupted: everything is stopped\n");
    assert!(!folder.exists());
    until_no_processes_of(folder);
}

#[test]
fn a_port_that_is_taken_is_refused_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (output, _, stderr) = run(&mut demo(&["--port", &port]));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stderr,
        format!(
            "error: port {port} can't be used: address in use; choose another with `--port`, or leave it out\n"
        )
    );
}

#[test]
fn servers_that_are_missing_are_told_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let (output, _, stderr) = run(demo(&[]).env("KUBEBUILDER_ASSETS", folder.path()));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("error: `KUBEBUILDER_ASSETS` names "), "{stderr}");
}

/// The shells that guard the servers may end a moment after the demo.
fn until_no_processes_of(folder: &Path) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !processes_of(folder).is_empty() {
        assert!(Instant::now() < deadline, "left: {:?}", processes_of(folder));
        sleep(Duration::from_millis(50));
    }
}

/// The command lines of all processes that name the folder.
fn processes_of(folder: &Path) -> Vec<String> {
    let output = Command::new("ps")
        .args(["-A", "-ww", "-o", "args="])
        .output()
        .expect("`ps` runs; on Debian install it with `apt-get install procps`");
    let folder = folder.to_str().unwrap();
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| line.contains(folder))
        .map(str::to_owned)
        .collect()
}
