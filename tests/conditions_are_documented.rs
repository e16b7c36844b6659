//! `docs/conditions.md` explains every reason with the words of the code.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{env, fs, path::Path};

use servicekey_operator::api::Reason;

const FILE: &str = "docs/conditions.md";
const UPDATE: &str = "UPDATE_DOCS=1 cargo test --test conditions_are_documented";

const INTRODUCTION: &str = "\
# What conditions mean, and what to do

`kubectl get skey` shows the condition `Ready` and its reason, and `kubectl describe skey NAME` shows the message. The
message names the failure, and quotes the remote side's answer if there is one. A provider has the same conditions.

| condition | `True` means |
| --- | --- |
| `Ready` | of a ServiceKey: the Secret contains credentials that work, even while other work is in progress or fails. Of a provider: the operator can reach the remote side with the login |
| `Reconciling` | the operator works towards the spec or waits for its next attempt. After a change of `parameters` it is `True` together with `Ready` until the Secret contains the requested key |
| `Rotating` | a new key is replacing the current one; the reason gives the stage, or the cause of a delay |
| `Stalled` | the operator makes no progress until a person changes something. `Ready` may be `True` at the same time: the current key works, and the requested one can't be created |

`kubectl wait --for=condition=Ready skey/NAME` waits for `Ready`; kstatus, and so Flux and Argo CD, read all of them.
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
    assert!(there == page, "`{FILE}` differs from `src/api/condition.rs`; run `{UPDATE}`");
}
