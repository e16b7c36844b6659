//! One-time preparation, and the errors of a missing or failing tool. Stand-ins replace the tools.

use std::fs;

use super::*;

fn sources(cache: &Path, tools: &Path) -> Sources {
    Sources {
        cache: cache.to_owned(),
        python: tools.join("python3"),
        go: tools.join("go"),
        progress: Arc::new(|_: &Step| {}),
    }
}

/// A tool that runs the script. A separate process writes it: a test that forks at this moment would inherit an open
/// file, which then can't be executed.
fn stand_in(folder: &Path, name: &str, script: &str) {
    let status = std::process::Command::new("sh")
        .args(["-c", r#"printf '#!/bin/sh\n%s\n' "$2" >"$1" && chmod +x "$1""#, "write"])
        .arg(folder.join(name))
        .arg(script)
        .status()
        .unwrap();
    assert!(status.success());
}

/// A Python that counts its virtual environments in `runs`, and whose `pip` runs this script.
fn python_whose_pip(tools: &Path, does: &str) {
    let script = format!(
        r#"
case "$*" in
  *"-c import sys"*) echo /usr/bin/python3 3.11 ;;
  *"-m venv"*)
    for venv; do :; done
    echo venv >>{runs}; mkdir -p "$venv/bin"
    printf '#!/bin/sh\n{does}\n' >"$venv/bin/python"; chmod +x "$venv/bin/python" ;;
esac"#,
        runs = tools.join("runs").display(),
    );
    stand_in(tools, "python3", &script);
}

#[tokio::test]
async fn a_venv_is_made_once_for_all_that_wait() {
    let (cache, tools) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    python_whose_pip(tools.path(), "sleep 0.2");
    let [one, two] = [sources(cache.path(), tools.path()), sources(cache.path(), tools.path())];
    let (one, two) = tokio::join!(one.python(), two.python());
    let python = one.unwrap();
    assert_eq!(python, two.unwrap());
    assert!(python.is_file() && python.ends_with("venv/bin/python"));
    assert_eq!(fs::read_to_string(tools.path().join("runs")).unwrap(), "venv\n");
}

#[tokio::test]
async fn another_python_gets_another_venv() {
    let (cache, tools) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    python_whose_pip(tools.path(), "exit 0");
    let sources = sources(cache.path(), tools.path());
    let first = sources.python().await.unwrap();
    let python = tools.path().join("python3");
    let upgraded = fs::read_to_string(&python).unwrap().replace("3.11", "3.12");
    stand_in(tools.path(), "python3", &upgraded);
    assert_ne!(sources.python().await.unwrap(), first);
}

#[tokio::test]
async fn without_python_the_error_says_what_to_install() {
    let empty = tempfile::tempdir().unwrap();
    let error = sources(empty.path(), empty.path()).python().await.unwrap_err();
    assert!(error.to_string().ends_with("`apt-get install python3 python3-venv`"), "{error}");
}

#[tokio::test]
async fn a_python_without_venv_says_what_to_install_and_why() {
    let (cache, tools) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    stand_in(tools.path(), "python3", r#"case "$*" in *venv*) echo no ensurepip; exit 1 ;; esac"#);
    let error = sources(cache.path(), tools.path()).python().await.unwrap_err().to_string();
    assert!(error.contains("`apt-get install python3-venv`") && error.ends_with("\nno ensurepip"), "{error}");
}

#[tokio::test]
async fn a_library_that_can_not_be_installed_leaves_no_venv() {
    let (cache, tools) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    python_whose_pip(tools.path(), "echo no such host >&2; exit 1");
    let error = sources(cache.path(), tools.path()).python().await.unwrap_err().to_string();
    assert!(error.starts_with("`pip install`") && error.ends_with("\nno such host"), "{error}");
    let folder = fs::read_dir(cache.path()).unwrap().next().unwrap().unwrap().path();
    let left: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"]);
}

#[tokio::test]
async fn without_go_the_error_says_what_to_install() {
    let empty = tempfile::tempdir().unwrap();
    let error = sources(empty.path(), empty.path()).go_broker().await.unwrap_err().to_string();
    assert!(error.contains("install Go 1."), "{error}");
    assert!(error.ends_with("`apt-get install golang-go`"), "{error}");
}

#[test]
fn the_versions_are_read_from_what_pins_them() {
    assert!(pinned_version("openbrokerapi").starts_with("4."));
    assert!(required_version(GO_MOD, "code.cloudfoundry.org/brokerapi/v13").starts_with("v13."));
}
