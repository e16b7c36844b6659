//! The command line from the user's side: flags, environment and file are equivalent, and invalid input is refused with
//! a clear message.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    collections::BTreeSet,
    io::Write,
    process::{Command, Output},
};

use tempfile::NamedTempFile;

/// The command without the environment of the tests' process, and without a cluster.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_servicekey-operator"));
    command.args(arguments).env_clear().env("KUBECONFIG", "/nonexistent");
    command
}

fn file(content: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(content.as_bytes()).unwrap();
    file
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The message with which `run` refuses this file, before it looks for a cluster.
fn refusal(content: &str) -> String {
    let file = file(content);
    let output = command(&["run", "--config", file.path().to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    let start = format!("error: can't use the configuration file `{}`: ", file.path().display());
    said.strip_prefix(&start).unwrap_or_else(|| panic!("{said}")).trim_end().to_owned()
}

#[test]
fn the_environment_comes_before_the_file_and_the_command_line_before_both() {
    let file = file("concurrency: 7\n");
    let path = file.path().to_str().unwrap();
    let run = |flags: &[&str], variable: &str| {
        let arguments: Vec<_> = ["run", "--config", path].iter().chain(flags).copied().collect();
        let output = command(&arguments).env("CONCURRENCY", variable).output().unwrap();
        (output.status.code(), said(&output))
    };
    // `run` refuses a bad value, so a refusal proves that it read the value.
    let (code, words) = run(&[], "0");
    assert_eq!(code, Some(2));
    assert!(words.contains("invalid value '0' for '--concurrency <N>'"), "{words}");
    for (flags, variable) in [(&[][..], "9"), (&["--concurrency", "8"][..], "0")] {
        let (code, words) = run(flags, variable);
        assert_eq!(code, Some(1), "{words}");
        assert!(words.starts_with("error: can't find a cluster: set KUBECONFIG"), "{words}");
    }
}

#[test]
fn nonsense_in_a_file_is_refused_in_words() {
    let unknown = refusal("concurency: 7\n");
    assert!(unknown.starts_with("there is no flag `concurency`; use one of allow-cidr, "), "{unknown}");
    assert!(!unknown.contains("config"), "{unknown}");
    assert_eq!(
        refusal("concurrency: 0\n"),
        "invalid value '0' for '--concurrency <N>': 0 is not in 1..=1024"
    );
    assert_eq!(refusal("concurrency: [1, 2]\n"), "`concurrency` takes one value, not a list");
    assert_eq!(refusal("concurrency:\n"), "`concurrency` needs a string, a number, true or false");
    assert_eq!(refusal("leader-elect: yes please\n"), "`leader-elect` takes true or false");
    assert!(
        refusal("check-interval: 5 minutes\n").contains("`5 minutes` is not a duration; write whole numbers")
    );
    assert!(
        refusal("allow-cidr: [everybody]\n").contains("invalid value 'everybody' for '--allow-cidr <CIDR>'")
    );
    assert!(refusal("- concurrency\n").starts_with("it is not a YAML mapping of flags to values"));
    assert!(refusal("concurrency: 1\nconcurrency: 2\n").starts_with("it is not a YAML mapping"));
    assert!(refusal("config: other.yaml\n").starts_with("there is no flag `config`"));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let output = command(&["run", "--config", "/nonexistent/config.yaml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = said(&output);
    assert!(
        said.starts_with("error: can't use the configuration file `/nonexistent/config.yaml`: "),
        "{said}"
    );
}

#[test]
fn an_empty_file_says_nothing() {
    let file = file("# nothing yet\n\n");
    let output = command(&["run", "--config", file.path().to_str().unwrap()]).output().unwrap();
    assert!(said(&output).starts_with("error: can't find a cluster"), "{}", said(&output));
}

#[test]
fn nonsense_on_the_command_line_is_refused_in_words() {
    for (arguments, words) in [
        (&["run", "--concurrency", "0"][..], "0 is not in 1..=1024"),
        (&["run", "--check-interval", "500ms"], "`500ms` is too short; use at least `1s`"),
        (
            &["run", "--lease-duration", "1s"],
            "`1s` is not a valid lease duration; use whole seconds, at least `3s`",
        ),
        (&["run", "--lease-duration", "15500ms"], "`15500ms` is not a valid lease duration"),
        (&["run", "--http-addr", "8080"], "invalid socket address"),
        (&["run", "--allow-cidr", "10.0.0.0"], "invalid"),
        (&["runn"], "a similar subcommand exists: 'run'"),
    ] {
        let output = command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(said(&output).contains(words), "{arguments:?}: {}", said(&output));
    }
}

#[test]
fn every_flag_is_documented() {
    let output = command(&["run", "--help"]).output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    // The description of a flag is indented further, and may begin a line with the name of another flag.
    let flags = help.lines().filter_map(|line| line.strip_prefix("      --"));
    let flags = flags.map(|line| line.split([' ', '=']).next().unwrap());
    let flags: BTreeSet<_> = flags.filter(|flag| *flag != "help").collect();
    let page = include_str!("../docs/operating.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `--")?.split('`').next());
    assert_eq!(rows.collect::<BTreeSet<_>>(), flags);
}
