//! Explores a key in every kind of trouble. No order of events may break a rule of the decisions.

#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

use rstest::rstest;

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lifecycle-models")).args(arguments).output().unwrap()
}

#[rstest]
#[case::plain("plain")]
#[case::rotating("rotating")]
#[case::rotating_edited_twice("rotating-edited-twice")]
#[case::restarting("restarting")]
#[case::proving("proving")]
#[case::proving_edited("proving-edited")]
#[case::verifying("verifying")]
#[case::following_parameters("following-parameters")]
#[case::revoked_first("revoked-first")]
#[case::found_again("found-again")]
#[case::lost("lost")]
#[case::wavering_user("wavering-user")]
#[case::forged_marks("forged-marks")]
#[case::forged_marks_and_found_again("forged-marks-and-found-again")]
#[case::namespace_never_admitted("namespace-never-admitted")]
#[case::status_from_backup("status-from-backup")]
fn a_key_lives_and_dies_by_the_rules(#[case] exploration: &str) {
    let Output { status, stdout, stderr } = run(&[exploration]);
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{stderr}");
    assert!(
        stdout.starts_with(&format!("{exploration}: ")) && stdout.contains("no rule is broken"),
        "{stdout}"
    );
}

#[test]
fn every_exploration_is_tested() {
    let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
    let listed = help.split_once("possible values: ").unwrap().1.split_once(']').unwrap().0;
    let listed: Vec<_> = listed.split(',').map(|name| name.split_whitespace().collect::<String>()).collect();
    let source = include_str!("every_life.rs");
    for name in &listed {
        assert!(source.contains(&format!("(\"{name}\")]")), "`{name}` has no case");
    }
    assert_eq!(source.matches("#[case::").count() - 1, listed.len());
}
