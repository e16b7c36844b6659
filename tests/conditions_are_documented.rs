//! `docs/conditions.md` explains every reason as the code does.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{env, fs, path::Path};

use servicekey_operator::api::Reason;

const FILE: &str = "docs/conditions.md";
const UPDATE: &str = "UPDATE_DOCS=1 cargo test --test conditions_are_documented";

const INTRODUCTION: &str = "\
# What conditions say, and what to do

`kubectl get skey` shows the condition `Ready` and its reason, and `kubectl describe skey NAME` the message, which
says what failed, in the remote side's own words where it has any. A provider has the same conditions.

| condition | `True` means |
| --- | --- |
| `Ready` | of a ServiceKey: the Secret holds credentials that work, whatever else is going on. Of a provider: the remote side can be reached with the login |
| `Reconciling` | the operator works towards what the spec asks for, or waits to try again. After a change of `parameters` it is `True` beside `Ready` until the Secret holds the key that was asked for |
| `Rotating` | a new key is replacing the current one; its reason tells the stage, or what keeps it |
| `Stalled` | nothing more will happen until a person changes something. `Ready` may be `True` beside it: the key that is there works, and the one that was asked for can't be made |

`kubectl wait --for=condition=Ready skey/NAME` waits for the first; kstatus, and so Flux and Argo CD, read all of them.
These are the reasons:";

#[test]
fn every_reason_is_explained_as_the_code_explains_it() {
    let sections: Vec<_> = Reason::ALL
        .iter()
        .map(|reason| {
            let help: Vec<_> = reason.help().iter().map(|line| line.trim()).collect();
            format!("## {reason}\n\n{}\n", help.join("\n"))
        })
        .collect();
    let page = format!("{INTRODUCTION}\n\n{}", sections.join("\n"));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    if env::var_os("UPDATE_DOCS").is_some() {
        return fs::write(path, page).unwrap();
    }
    let there = fs::read_to_string(path).unwrap_or_default();
    assert!(there == page, "`{FILE}` is not what `src/api/condition.rs` says; run `{UPDATE}`");
}
