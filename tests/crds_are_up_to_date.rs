//! The definitions in `crds/` are generated from the current `src/api`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{collections::BTreeMap, fs, path::Path, process::Command};

const REGENERATE: &str = "cargo run -- crds --output-dir crds";

#[test]
fn the_directory_crds_is_what_the_command_writes() {
    let fresh = tempfile::tempdir().unwrap();
    let status = operator().args(["crds", "--output-dir"]).arg(fresh.path()).status().unwrap();
    assert!(status.success(), "`servicekey-operator crds` failed: {status}");

    let committed = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("crds"));
    let generated = files(fresh.path());
    let names = |files: &BTreeMap<String, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&committed), names(&generated), "`crds/` contains other files; run `{REGENERATE}`");
    for (name, text) in &generated {
        let (line, there, here) = match first_difference(&committed[name], text) {
            Some(difference) => difference,
            None => continue,
        };
        panic!(
            "`crds/{name}` differs from `src/api`; run `{REGENERATE}`\n  line {line} is\n    {there}\n  but should be\n    {here}"
        );
    }
}

#[test]
fn the_command_prints_service_key_first_and_then_the_providers() {
    let output = operator().arg("crds").output().unwrap();
    assert!(output.status.success());
    let printed = String::from_utf8(output.stdout).unwrap();
    let names: Vec<_> = printed.split("\n---\n").map(|document| field(document, "  name: ")).collect();
    assert_eq!(
        names,
        [
            "servicekeys.servicekeys.dev",
            "keyproviders.servicekeys.dev",
            "clusterkeyproviders.servicekeys.dev"
        ]
    );
}

fn operator() -> Command {
    Command::new(env!("CARGO_BIN_EXE_servicekey-operator"))
}

fn files(directory: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("can't read `{}`: {error}; run `{REGENERATE}`", directory.display()));
    entries
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(&path).unwrap())
        })
        .collect()
}

/// The number of the first line that differs, and both versions of it.
fn first_difference<'a>(old: &'a str, new: &'a str) -> Option<(usize, &'a str, &'a str)> {
    let length = old.lines().count().max(new.lines().count());
    let lines = |text: &'a str| text.lines().chain(std::iter::repeat("(nothing)")).take(length);
    (1..)
        .zip(lines(old).zip(lines(new)))
        .find_map(|(number, (old, new))| (old != new).then_some((number, old, new)))
}

fn field<'a>(document: &'a str, prefix: &str) -> &'a str {
    document.lines().find_map(|line| line.strip_prefix(prefix)).expect("every definition has a name")
}
