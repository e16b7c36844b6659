//! The search for binaries, and the preparation of missing ones. Stand-ins replace Go, and no archive can be reached.

use std::{
    fs::{self, File},
    path::Path,
    sync::Mutex,
    time::Duration,
};

use super::*;

fn sources(assets: Option<&Path>, cache: &Path) -> Sources {
    Sources {
        assets: assets.map(Path::to_owned),
        cache: cache.to_owned(),
        // No server listens there.
        archive_index: "http://127.0.0.1:1/index".to_owned(),
        go: PathBuf::from("/nowhere/go"),
        progress: Arc::new(|_: &Step| {}),
    }
}

fn folder_with(files: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in files {
        File::create(folder.path().join(file)).unwrap();
    }
    folder
}

#[tokio::test]
async fn the_folder_that_the_user_names_comes_first() {
    let assets = folder_with(&["etcd", "kube-apiserver"]);
    let cache = folder_with(&["etcd", "kube-apiserver", "kube-controller-manager"]);
    let found = sources(Some(assets.path()), cache.path()).find(true).await.unwrap();
    assert_eq!(found.etcd, assets.path().join("etcd"));
    assert_eq!(found.api_server, assets.path().join("kube-apiserver"));
    assert_eq!(found.controller_manager, Some(cache.path().join("kube-controller-manager")));
}

#[tokio::test]
async fn a_named_folder_without_the_servers_is_an_error() {
    let assets = folder_with(&["etcd"]);
    let cache = folder_with(&["etcd", "kube-apiserver"]);
    let error = sources(Some(assets.path()), cache.path()).find(false).await.unwrap_err();
    assert!(error.to_string().contains("does not contain `kube-apiserver`"));
}

#[tokio::test]
async fn what_the_cache_holds_is_neither_downloaded_nor_built() {
    let cache = folder_with(&["etcd", "kube-apiserver"]);
    let found = sources(None, cache.path()).find(false).await.unwrap();
    assert_eq!(found.etcd, cache.path().join("etcd"));
    assert_eq!(found.controller_manager, None);
    assert!(!cache.path().join("lock").exists());
}

/// A `go` that runs `script`; `$OUT` is the file to build. A separate process writes it: a test that forks at this
/// moment would inherit an open file, which then can't be executed.
fn stand_in(folder: &Path, script: &str) -> PathBuf {
    let path = folder.join("go");
    let script = format!("#!/bin/sh\nfor last; do OUT=$file; file=$last; done\n{script}\n");
    let status = std::process::Command::new("sh")
        .args(["-c", r#"printf %s "$2" >"$1" && chmod +x "$1""#, "write"])
        .arg(&path)
        .arg(script)
        .status()
        .unwrap();
    assert!(status.success());
    path
}

#[tokio::test]
async fn what_no_archive_supplies_is_built_once_for_all_that_wait() {
    let cache = tempfile::tempdir().unwrap();
    let tools = tempfile::tempdir().unwrap();
    let runs = tools.path().join("runs");
    let script = format!("echo \"$file\" >>{}; sleep 0.2; echo built >\"$OUT\"", runs.display());
    let go = stand_in(tools.path(), &script);
    let find = || async {
        let sources = Sources { go: go.clone(), ..sources(None, &cache.path().join("new")) };
        sources.find(true).await.unwrap()
    };
    let (one, two) = tokio::join!(find(), find());
    assert_eq!(fs::read_to_string(&one.etcd).unwrap(), "built\n");
    assert_eq!(one.controller_manager, two.controller_manager);
    assert_eq!(
        fs::read_to_string(runs).unwrap(),
        "go.etcd.io/etcd/server/v3\nk8s.io/kubernetes/cmd/kube-apiserver\nk8s.io/kubernetes/cmd/kube-controller-manager\n"
    );
    let mut left: Vec<_> =
        fs::read_dir(cache.path().join("new")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["etcd", "kube-apiserver", "kube-controller-manager", "lock"]);
}

#[tokio::test]
async fn each_long_step_is_told() {
    let cache = folder_with(&["etcd"]);
    let tools = tempfile::tempdir().unwrap();
    let told = Arc::new(Mutex::new(Vec::new()));
    let listener = Arc::clone(&told);
    let sources = Sources {
        go: stand_in(tools.path(), "echo built >\"$OUT\""),
        progress: Arc::new(move |step: &Step| listener.lock().unwrap().push(step.to_string())),
        ..sources(None, cache.path())
    };
    sources.find(false).await.unwrap();
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].contains("http://127.0.0.1:1/index"), "{told:?}");
    let version = pinned::kubernetes_version();
    assert!(told[1].starts_with(&format!("building `kube-apiserver` {version} with go (about")), "{told:?}");
    assert_eq!(told[2], "built `kube-apiserver` in 0 s");
}

#[tokio::test]
async fn without_go_the_error_says_what_to_install() {
    let cache = folder_with(&["etcd", "kube-apiserver"]);
    let error = sources(None, cache.path()).find(true).await.unwrap_err();
    let message = error.to_string();
    assert!(message.contains("`kube-controller-manager` v1."), "{message}");
    assert!(message.contains("install Go 1."), "{message}");
}

#[tokio::test]
async fn a_failed_build_says_what_go_said_and_leaves_nothing() {
    let cache = tempfile::tempdir().unwrap();
    let tools = tempfile::tempdir().unwrap();
    let go = stand_in(tools.path(), "echo half >\"$OUT\"; echo no such host >&2; exit 1");
    let sources = Sources { go, ..sources(None, cache.path()) };
    let error = sources.find(false).await.unwrap_err();
    assert!(error.to_string().ends_with("\nno such host"), "{error}");
    let left: Vec<_> = fs::read_dir(cache.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"]);
}

/// With the real Go, and the smallest of the three servers.
#[tokio::test]
#[ignore = "needs Go, the Go module proxy and some 15 s to minutes"]
async fn etcd_builds_from_the_public_modules() {
    let cache = tempfile::tempdir().unwrap();
    build::build(Path::new("go"), Binary::Etcd, cache.path(), &crate::control_plane::Stderr).await.unwrap();
    let etcd = cache.path().join("etcd");
    let output = tokio::process::Command::new(etcd).arg("--version").output();
    let output = tokio::time::timeout(Duration::from_secs(10), output).await.unwrap().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let version = pinned::etcd_version().trim_start_matches('v');
    assert!(said.contains(&format!("etcd Version: {version}")), "{said}");
}
