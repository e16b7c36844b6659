//! The recipes of the `justfile` are the only definition of each check. `.ci/run` and the workflows call the same
//! recipes, and name the versions that the project pins elsewhere.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

/// The recipe that `.ci/run` calls.
const ALL: &str = "all";
/// The recipe that runs all tests in sequence, and the recipes that the workflow runs in parallel instead.
const TESTS: &str = "test";
const PARTS_OF_TESTS: [&str; 4] = ["integration", "kubernetes", "operator", "unit"];
/// The recipe that needs another toolchain: only the workflow runs it, not `.ci/run`.
const MSRV: &str = "msrv";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("can't read `{}`: {error}", path.display()))
}

fn yaml(path: impl AsRef<Path>) -> Value {
    serde_saphyr::from_str(&read(&path))
        .unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}

fn workflows() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(".github/workflows")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// A recipe of the `justfile`.
#[derive(Debug, Default)]
struct Recipe {
    /// The words after the colon: the recipes that it calls, whose names `just` itself checks, and operators.
    dependencies: Vec<String>,
    /// The line that `just --list` shows.
    comment: Option<String>,
}

/// All recipes by name. A recipe is a line without indentation, with a colon that is not part of `:=`.
fn recipes() -> BTreeMap<String, Recipe> {
    let mut recipes = BTreeMap::new();
    let mut comment = None;
    for line in read("justfile").lines() {
        if let Some(text) = line.strip_prefix("# ") {
            comment = Some(text.to_owned());
        }
        let is_head = line.starts_with(|first: char| first.is_ascii_lowercase() || first == '_');
        match line.split_once(':') {
            Some((head, rest)) if is_head && !rest.starts_with('=') => {
                let name = head.split_whitespace().next().unwrap().to_owned();
                // The word after the recipe in `(kubernetes "newest")` is an argument.
                let words = rest.split_whitespace().filter(|word| !word.starts_with('"'));
                let dependencies =
                    words.map(|word| word.trim_matches(|edge| "()".contains(edge)).to_owned()).collect();
                recipes.insert(name, Recipe { dependencies, comment: comment.take() });
            }
            _ if line.is_empty() => comment = None,
            _ => {}
        }
    }
    recipes
}

/// The words after each `just` in the commands of a script.
fn calls(script: &str) -> Vec<Vec<String>> {
    let mut calls = Vec::new();
    for line in script.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let mut words = line.split_whitespace();
        while let Some(word) = words.next() {
            if word == "just" || word.ends_with("/just") {
                calls.push(words.by_ref().map(str::to_owned).collect());
            }
        }
    }
    calls.retain(|call: &Vec<String>| call.first().is_some_and(|recipe| !recipe.starts_with('-')));
    calls
}

/// All strings under this key, anywhere in a document.
fn texts(document: &Value, key: &str) -> Vec<String> {
    match document {
        Value::Object(fields) => {
            let nested = |(name, value): (&String, &Value)| match value.as_str() {
                Some(text) if name == key => vec![text.to_owned()],
                _ => texts(value, key),
            };
            fields.iter().flat_map(nested).collect()
        }
        Value::Array(items) => items.iter().flat_map(|item| texts(item, key)).collect(),
        _ => Vec::new(),
    }
}

fn recipes_called_by(document: &Value, key: &str) -> BTreeSet<String> {
    texts(document, key).iter().flat_map(|script| calls(script)).map(|call| call[0].clone()).collect()
}

fn ci() -> Value {
    yaml(".github/workflows/ci.yml")
}

#[test]
fn every_recipe_that_is_called_exists() {
    let recipes = recipes();
    let mut called: BTreeSet<String> =
        workflows().iter().flat_map(|path| recipes_called_by(&yaml(path), "run")).collect();
    called.extend(recipes_called_by(&yaml(".pre-commit-config.yaml"), "entry"));
    called.extend(calls(&read(".ci/run")).into_iter().map(|call| call[0].clone()));
    assert!(called.len() >= 12, "only {called:?}");
    for name in called {
        assert!(recipes.contains_key(&name), "the `justfile` has no recipe `{name}`");
    }
}

#[test]
fn every_recipe_says_what_it_does() {
    for (name, recipe) in recipes().iter().filter(|(name, _)| !name.starts_with('_')) {
        assert!(recipe.comment.is_some(), "`{name}` has no comment for `just --list`");
    }
}

#[test]
fn the_script_and_the_workflow_run_the_same_recipes() {
    assert_eq!(calls(&read(".ci/run")), [[ALL]]);
    assert!(
        read("justfile").contains("    cargo test --locked\n")
            && read("README.md").contains("\ncargo test\n")
    );
    let mut by_script: BTreeSet<_> = recipes()[ALL].dependencies.iter().cloned().collect();
    assert!(by_script.remove(TESTS), "the script does not run the README's test command");
    by_script.extend(PARTS_OF_TESTS.map(str::to_owned));
    let mut by_workflow = recipes_called_by(&ci(), "run");
    assert!(by_workflow.remove(MSRV), "the workflow does not check the oldest Rust");
    assert_eq!(by_script, by_workflow);
}

#[test]
fn every_job_waits_for_lint() {
    let ci = ci();
    let jobs = ci["jobs"].as_object().unwrap();
    assert!(jobs.len() >= 8, "{:?}", jobs.keys());
    for (name, job) in jobs.iter().filter(|(name, _)| *name != "lint") {
        assert_eq!(job["needs"], "lint", "the job `{name}`");
    }
}

#[test]
fn the_parts_of_the_operators_tests_are_all_of_them() {
    let ci = ci();
    let parts = ci["jobs"]["operator"]["strategy"]["matrix"]["include"].as_array().unwrap();
    let [first, second] = parts.as_slice() else { panic!("{parts:?}") };
    let filters = |part: &Value| part["filters"].as_str().unwrap().to_owned();
    let skips: Vec<_> = filters(first).split(' ').map(|filter| format!("--skip {filter}")).collect();
    assert_eq!(filters(second), skips.join(" "));
}

#[test]
fn the_oldest_rust_is_that_of_the_manifest() {
    let manifest = read("Cargo.toml");
    let line = manifest.lines().find_map(|line| line.strip_prefix("rust-version = ")).unwrap();
    assert_eq!(ci()["jobs"][MSRV]["name"], format!("Rust {}", line.trim_matches('"')));
}

#[test]
fn the_versions_of_kubernetes_are_those_of_the_test_kit() {
    let pinned = |folder: &str| {
        let module = read(format!("testkit/{folder}/go.mod"));
        let version = module.split("k8s.io/kubernetes v").nth(1).unwrap();
        version.split_whitespace().next().unwrap().to_owned()
    };
    let ci = ci();
    let versions: Vec<_> = ci["jobs"]["kubernetes"]["strategy"]["matrix"]["include"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["which"].as_str().unwrap(), entry["version"].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(versions, [("oldest", pinned("controlplane-oldest")), ("newest", pinned("controlplane"))]);
}

#[test]
fn actions_are_pinned_to_a_full_version() {
    let actions = [root().join(".github/actions/prepare/action.yml")];
    let used: Vec<_> =
        workflows().iter().chain(&actions).flat_map(|path| texts(&yaml(path), "uses")).collect();
    assert!(used.len() >= 10, "{used:?}");
    for action in used.iter().filter(|action| !action.starts_with("./")) {
        let version = action.split_once("@v").map_or("", |(_, version)| version);
        let numbers: Vec<_> = version.split('.').map(str::parse::<u32>).collect();
        assert!(numbers.len() == 3 && numbers.iter().all(Result::is_ok), "`{action}`");
    }
}

#[test]
fn a_missing_tool_is_named_with_its_package() {
    let output = Command::new("bash")
        .args(["-c", "PATH=/nowhere; source .ci/need musl-gcc go"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "error: `musl-gcc` is missing; install it with `apt-get install musl-tools`\n\
         error: `go` is missing; install it with `apt-get install golang-go`\n"
    );
}
