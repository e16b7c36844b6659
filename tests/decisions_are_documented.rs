//! `docs/design.md` lists the checks of `src/lifecycle/` in their order, as the code declares them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{env, fs, path::Path};

use servicekey_operator::testing::{DecisionList, order_of_decisions};

const FILE: &str = "docs/design.md";
const UPDATE: &str = "UPDATE_DOCS=1 cargo test --test decisions_are_documented";
const BEGIN: &str =
    "<!-- The lists are written by `UPDATE_DOCS=1 cargo test --test decisions_are_documented`. -->\n";
const END: &str = "<!-- The end of the lists. -->\n";

#[test]
fn every_check_is_documented_in_its_order() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) =
        page.split_once(BEGIN).unwrap_or_else(|| panic!("`{FILE}` has no comment where the lists begin"));
    let (_, after) =
        rest.split_once(END).unwrap_or_else(|| panic!("`{FILE}` has no comment where the lists end"));
    let lists: String = order_of_decisions().iter().map(section).collect();
    let expected = format!("{before}{BEGIN}{lists}\n{END}{after}");
    if env::var_os("UPDATE_DOCS").is_some() {
        return fs::write(path, expected).unwrap();
    }
    assert!(page == expected, "the lists in `{FILE}` differ from `src/lifecycle/`; run `{UPDATE}`");
}

fn section(DecisionList { title, about, checks }: &DecisionList) -> String {
    let rows = (1..).zip(checks).map(|(place, (check, why))| format!("| {place} | `{check}` | {why} |\n"));
    format!(
        "\n#### {title}\n\n{about}\n\n| | check | why |\n| --- | --- | --- |\n{}",
        rows.collect::<String>()
    )
}
