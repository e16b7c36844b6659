//! Writes `docs/osb-conformance.md` from the outcomes.

use std::{env, fs, path::PathBuf};

use crate::{
    case::{Ask, Body, Broker, Call, Case, Outcome, Says, Shown},
    table::{Row, rows},
};

const FILE: &str = "docs/osb-conformance.md";
const UPDATE: &str = "UPDATE_DOCS=1 cargo test --test osb_conformance";

const INTRODUCTION: &str = include_str!("introduction.md");

pub struct Page(String);

impl Page {
    pub fn of(seen: &[(Case, Outcome)]) -> Self {
        let sections: Vec<_> = Call::ALL.into_iter().map(|call| section(call, seen)).collect();
        let introduction = INTRODUCTION.trim_end().replace("{cases}", &seen.len().to_string());
        Self(format!("{introduction}\n\n{}\n", sections.join("\n\n")))
    }

    /// Writes the file if `UPDATE_DOCS` is set, and otherwise fails if the file differs.
    pub fn check(&self) {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(FILE);
        if env::var_os("UPDATE_DOCS").is_some() {
            return fs::write(path, &self.0).unwrap();
        }
        let there = fs::read_to_string(path).unwrap_or_default();
        if let Some((line, old, new)) = first_difference(&there, &self.0) {
            panic!(
                "`{FILE}` differs from the outcomes; run `{UPDATE}`\n  line {line} is\n    {old}\n  but should be\n    {new}"
            );
        }
    }
}

/// The number of the first line that differs, and both of its versions.
fn first_difference<'a>(old: &'a str, new: &'a str) -> Option<(usize, &'a str, &'a str)> {
    let length = old.lines().count().max(new.lines().count());
    let lines = |text: &'a str| text.lines().chain(std::iter::repeat("(nothing)")).take(length);
    let pairs = lines(old).zip(lines(new));
    (1..).zip(pairs).find_map(|(number, (old, new))| (old != new).then_some((number, old, new)))
}

fn section(call: Call, seen: &[(Case, Outcome)]) -> String {
    let (title, text) = about(call);
    let seen: Vec<_> = seen.iter().filter(|(case, _)| case.call == call).collect();
    let columns = columns(call);
    let heads: Vec<_> = columns.iter().map(|column| column.head()).collect();
    let lines = rows(call).iter().map(|row| {
        let outcome = &seen.iter().find(|(case, _)| row.covers(case)).unwrap().1;
        line(columns.iter().map(|column| column.cell(row, outcome)))
    });
    let table: Vec<_> =
        [line(heads.iter().map(ToString::to_string)), line(heads.iter().map(|_| "---".to_owned()))]
            .into_iter()
            .chain(lines)
            .collect();
    format!("## {title}\n\n{text} {} cases.\n\n{}", seen.len(), table.join("\n"))
}

fn line(cells: impl Iterator<Item = String>) -> String {
    format!("| {} |", cells.collect::<Vec<_>>().join(" | "))
}

const fn about(call: Call) -> (&'static str, &'static str) {
    match call {
        Call::Bind => {
            ("Bind", "A user creates a ServiceKey, and the broker gives this answer to the first bind.")
        }
        Call::PollOfBind => (
            "Poll of a bind",
            "The broker creates the key in the background, and gives this answer to polls until the condition shows it. \
             It answers `failed` once.",
        ),
        Call::FetchOfMade => (
            "Fetch of a key that was created in the background",
            "The broker reports that it created the key, and gives this answer when the operator reads the credentials.",
        ),
        Call::FetchOfLost => (
            "Fetch of a key whose Secret was deleted",
            "A user deletes the Secret of a key, and the broker gives this answer when the operator reads the \
             credentials again.",
        ),
        Call::Unbind => (
            "Unbind",
            "A user deletes a ServiceKey, and the broker gives this answer to the first unbind of its key.",
        ),
        Call::PollOfUnbind => (
            "Poll of an unbind",
            "The broker revokes the key in the background, and gives this answer to polls until the condition shows it. \
             It answers `failed` once.",
        ),
    }
}

#[derive(Clone, Copy)]
enum Column {
    Says,
    Body,
    Broker,
    Ready,
    Mitigation,
    Next,
}

const fn columns(call: Call) -> &'static [Column] {
    use Column::{Body, Broker, Mitigation, Next, Ready, Says};
    match call {
        Call::Bind => &[Says, Body, Broker, Ready, Mitigation, Next],
        Call::PollOfBind => &[Says, Body, Ready, Mitigation, Next],
        Call::Unbind => &[Says, Body, Broker, Ready, Next],
        Call::FetchOfMade | Call::FetchOfLost | Call::PollOfUnbind => &[Says, Body, Ready, Next],
    }
}

impl Column {
    const fn head(self) -> &'static str {
        match self {
            Self::Says => "Answer",
            Self::Body => "Body",
            Self::Broker => "Broker works",
            Self::Ready => "`Ready` meanwhile",
            Self::Mitigation => "Orphan mitigation",
            Self::Next => "Next, the operator",
        }
    }

    fn cell(self, row: &Row, outcome: &Outcome) -> String {
        match self {
            Self::Says => list(row.says, says),
            Self::Body => bodies(row.bodies),
            Self::Broker => match row.brokers {
                [Broker::Sync] => "at once".to_owned(),
                [Broker::Async] => "in the background".to_owned(),
                _ => "either way".to_owned(),
            },
            Self::Ready if outcome.shown.is_empty() => "—".to_owned(),
            Self::Ready => list(&outcome.shown, shown),
            Self::Mitigation => if outcome.mitigated { "**yes**" } else { "no" }.to_owned(),
            Self::Next if outcome.next.is_empty() => "makes no further call".to_owned(),
            Self::Next => outcome.next.iter().map(|ask| asks(*ask)).collect::<Vec<_>>().join(", then "),
        }
    }
}

fn list<T: Copy>(entries: &[T], words: impl Fn(T) -> String) -> String {
    let words: Vec<_> = entries.iter().map(|entry| words(*entry)).collect();
    // A comma would not separate long entries clearly.
    let separator = if words.iter().any(|word| word.len() > 40) { "; " } else { ", " };
    words.join(separator)
}

fn says(says: Says) -> String {
    match says {
        Says::Status(status) => format!("{status}"),
        Says::Code(code) => format!("422 `{code}`"),
        Says::State(state) => format!("200 `{state}`"),
        Says::NoEnd => "200 `in progress` until the plan's `maximum_polling_duration` has passed".to_owned(),
        Says::CutBefore => "none: connection closed before the broker acted".to_owned(),
        Says::CutAfter => "none: connection closed after the broker acted".to_owned(),
        Says::CutInBody => "correct answer with half of its body".to_owned(),
        Says::Hangs => "none until the deadline, after the broker acted".to_owned(),
    }
}

fn bodies(bodies: &[Body]) -> String {
    let all = [Body::WellFormed, Body::Malformed, Body::Empty, Body::Html];
    if all.iter().all(|body| bodies.contains(body)) {
        return "any".to_owned();
    }
    list(bodies, |body| {
        match body {
            Body::WellFormed => "well-formed",
            Body::Bare => "`{}`",
            Body::Malformed => "malformed",
            Body::Empty => "empty",
            Body::Html => "HTML",
            Body::Absent => "—",
        }
        .to_owned()
    })
}

fn shown(shown: Shown) -> String {
    let Shown { reason, stalled } = shown;
    format!("`False`, `{reason}`{}", if stalled { "; `Stalled`" } else { "" })
}

const fn asks(ask: Ask) -> &'static str {
    match ask {
        Ask::Bind => "requests the same key again",
        Ask::BindNext => "requests the next key",
        Ask::Poll => "polls",
        Ask::Fetch => "reads the key",
        Ask::Unbind => "revokes the key",
    }
}
