//! The list of all attacks, as `docs/security.md` shows it.

use std::{collections::BTreeSet, env, fmt, fs, path::Path};

use super::{
    addresses, adoption, bounds, cloud_identity, fairness, identity, implied_rights, limits, logs, memory,
    names, padding, parsing, policies, sidecars, templates,
};

const FILE: &str = "docs/security.md";
const UPDATE: &str = "UPDATE_DOCS=1 cargo test --test operator tenants::abuse";
const BEGIN: &str =
    "<!-- The table is written by `UPDATE_DOCS=1 cargo test --test operator tenants::abuse`. -->\n";
const END: &str = "<!-- The end of the table. -->\n";

/// The topics in the order of the page, each with its attacks.
const TOPICS: &[(&str, &[Abuse])] = &[
    ("identity", identity::ABUSES),
    ("adoption", adoption::ABUSES),
    ("names", names::ABUSES),
    ("memory", memory::ABUSES),
    ("parsing", parsing::ABUSES),
    ("padding", padding::ABUSES),
    ("logs", logs::ABUSES),
    ("cloud identity", cloud_identity::ABUSES),
    ("fairness", fairness::ABUSES),
    ("templates", templates::ABUSES),
    ("implied rights", implied_rights::ABUSES),
    ("policies", policies::ABUSES),
    ("addresses", addresses::ABUSES),
    ("limits", limits::ABUSES),
    ("bounds", bounds::ABUSES),
    ("sidecars", sidecars::ABUSES),
];

/// One attack and its outcome, which the test asserts.
#[derive(Debug)]
pub struct Abuse {
    /// The name of the test.
    pub test: &'static str,
    pub by: Actor,
    /// The attempt, as a sentence without a subject: "annotates its Secret with the id of another tenant's key".
    pub tried: &'static str,
    /// What the test saw: "the Secret is repaired with the tenant's own credentials".
    pub happened: &'static str,
}

/// Who attacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A tenant with the aggregated role `edit` in one namespace, which the ClusterKeyProvider admits.
    Editor,
    /// A tenant that may write ServiceKeys and KeyProviders in one namespace, and nothing else: no Secrets.
    KeyWriter,
    /// A tenant with the role `edit` in a namespace that the ClusterKeyProvider does not admit.
    Outsider,
    /// The remote side that a tenant's KeyProvider names.
    RemoteSide,
    /// A container beside the operator's, in the same pod.
    Sidecar,
}

impl fmt::Display for Actor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Editor => "editor",
            Self::KeyWriter => "key writer",
            Self::Outsider => "outsider",
            Self::RemoteSide => "remote side",
            Self::Sidecar => "sidecar",
        })
    }
}

/// A row of the table. The first argument is the test itself, so that no row stands without one.
macro_rules! abuse {
    ($test:ident, $by:expr, $tried:expr, $happened:expr $(,)?) => {{
        let _: fn() = $test;
        $crate::tenants::abuse::Abuse { test: stringify!($test), by: $by, tried: $tried, happened: $happened }
    }};
}

#[test]
fn the_table_shows_every_attack() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) =
        page.split_once(BEGIN).unwrap_or_else(|| panic!("`{FILE}` has no start of the table"));
    let (_, after) = rest.split_once(END).unwrap_or_else(|| panic!("the table in `{FILE}` has no end"));
    let expected = format!("{before}{BEGIN}{}{END}{after}", table());
    if env::var_os("UPDATE_DOCS").is_some() {
        return fs::write(path, expected).unwrap();
    }
    assert!(page == expected, "the table in `{FILE}` differs from the tests; run `{UPDATE}`");
}

#[test]
fn each_attack_has_a_name_of_its_own() {
    let mut seen = BTreeSet::new();
    for abuse in TOPICS.iter().flat_map(|(_, abuses)| abuses.iter()) {
        assert!(seen.insert(abuse.test), "`{}` is listed twice", abuse.test);
    }
}

fn table() -> String {
    let mut rows = String::from(
        "\n| topic | who | what was tried | what happened | test |\n| --- | --- | --- | --- | --- |\n",
    );
    for (topic, abuses) in TOPICS {
        for (number, Abuse { test, by, tried, happened }) in (1..).zip(abuses.iter()) {
            rows += &format!("| {topic} {number} | {by} | {tried} | {happened} | `{test}` |\n");
        }
    }
    rows + "\n"
}
