//! Reasons why credentials can't become a Secret. No message contains the value of a credential.

use std::fmt;

use thiserror::Error;

use super::{entries::MAX_SIZE, entry_name::MAX_LENGTH};

/// Reason why a layout, or the credentials in that layout, can't become a Secret.
///
/// The messages may name credentials and quote the template; they are fit for status, events and logs.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RenderError {
    /// The remote side returned no credentials, or only nulls.
    #[error("the remote side returned no credentials, so the Secret would have no entries")]
    NoCredentials,
    /// The name of a credential is longer than the name of an entry may be.
    #[error(
        "the name of the credential {} has {length} bytes, but the name of an entry may have at most {MAX_LENGTH}; \
         name it differently with `spec.secret.template.data`", Quoted(.name)
    )]
    NameTooLong {
        name: String,
        /// The length of the name, in bytes.
        length: usize,
    },
    /// Two credentials have the same entry name after the operator replaces invalid characters.
    #[error(
        "the credentials {} and {} would both become the entry `{entry}`; \
         name them differently with `spec.secret.template.data`", Quoted(.first), Quoted(.second)
    )]
    Collision { entry: String, first: String, second: String },
    /// A number that lost digits when the operator parsed it.
    #[error(
        "the credential {} contains a number beyond 64 bits, which would lose digits; \
         have the remote side send a string, or omit it with `spec.secret.template.data`",
        Quoted(.name)
    )]
    InexactNumber {
        /// The top-level credential that contains the number.
        name: String,
    },
    /// The entries together are larger than a Secret may be.
    #[error(
        "the entries have {size} bytes or more, but a Secret may have at most {MAX_SIZE}; \
         select fewer with `spec.secret.template.data`"
    )]
    TooLarge {
        /// The bytes counted so far.
        size: usize,
    },
    /// An entry whose name leaves no space for the prefix of the previous key's entry.
    #[error(
        "the entry {} can't be written for two keys, as `spec.secret.previous: Include` requires: its name must not \
         begin with `previous.`, and with this prefix it may have at most {MAX_LENGTH} bytes; name it differently with \
         `spec.secret.template.data`",
        Quoted(.entry)
    )]
    NoRoomForPrevious { entry: String },
    /// The template contains an entry name that the API server would refuse.
    #[error(
        "the entry {} of `spec.secret.template.data` is not a valid name; \
         use at most {MAX_LENGTH} letters, digits, `-`, `_` and `.`, not beginning with `..`", Quoted(.entry)
    )]
    InvalidEntry { entry: String },
    /// The template of an entry is invalid, or fails with these credentials.
    #[error("the template of entry `{entry}` fails on line {line}: {problem}")]
    Template {
        entry: String,
        /// The line, counted from 1.
        line: usize,
        /// The problem in words, without values.
        problem: String,
    },
    /// The template of an entry uses a name that the credentials don't contain.
    #[error(
        "the template of entry `{entry}` uses {missing} on line {line}, \
         which is not among the credentials {}", ShownNames(.present)
    )]
    Undefined {
        entry: String,
        /// The line, counted from 1.
        line: usize,
        /// The missing names, in words.
        missing: String,
        /// The names of the credentials.
        present: Vec<String>,
    },
    /// A template exceeds the limit.
    #[error("the template of entry `{entry}` has {length} bytes; shorten it to 16 KiB")]
    TemplateTooLong {
        entry: String,
        /// Length of the template, in bytes.
        length: usize,
    },
    /// The spec has more templates than the limit.
    #[error("`spec.secret.template.data` has {count} entries; use at most 64")]
    TooManyTemplates { count: usize },
    /// The templates together exceed the limit.
    #[error(
        "the templates of `spec.secret.template.data` have {length} bytes together; shorten them to 128 KiB"
    )]
    TemplatesTooLong {
        /// Length of all templates, in bytes.
        length: usize,
    },
    /// Checking or rendering the templates exceeded the time limit at every attempt.
    #[error("the templates of `spec.secret.template.data` take too long; make them simpler")]
    TooSlow,
    /// Checking or rendering the templates exceeded the time limit at this attempt.
    #[error("the templates of `spec.secret.template.data` did not finish in time; trying again")]
    Unfinished,
    /// The operator could not start a thread for the templates.
    #[error("the operator has no thread to render the template on; give its pod more memory or processes")]
    NoThread,
    /// The Secret's type requires entries that are missing, or the operator may not write this type.
    #[error("a Secret of type `{type_}` {problem}")]
    Type {
        type_: String,
        /// The problem, and what to do.
        problem: String,
    },
    /// A label or annotation that is invalid, too large, reserved for the operator, or not admitted by its flags.
    #[error("`spec.secret.{field}` has the key {}, which {problem}", Quoted(.key))]
    Metadata {
        /// `labels` or `annotations`.
        field: &'static str,
        key: String,
        /// The problem, and what to do.
        problem: &'static str,
    },
}

impl RenderError {
    /// Whether the same credentials may fit the same layout at the next attempt.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            // A busy machine may be idle at the next attempt.
            Self::NoThread | Self::Unfinished => true,
            Self::NoCredentials
            | Self::TooSlow
            | Self::NameTooLong { .. }
            | Self::Collision { .. }
            | Self::InexactNumber { .. }
            | Self::TooLarge { .. }
            | Self::NoRoomForPrevious { .. }
            | Self::InvalidEntry { .. }
            | Self::Template { .. }
            | Self::Undefined { .. }
            | Self::TemplateTooLong { .. }
            | Self::TooManyTemplates { .. }
            | Self::TemplatesTooLong { .. }
            | Self::Type { .. }
            | Self::Metadata { .. } => false,
        }
    }
}

/// A name from outside, in backticks: control characters escaped, and long names cut.
pub(super) struct Quoted<'a>(pub &'a str);

impl Quoted<'_> {
    const MAX_CHARS: usize = 64;
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.chars();
        let start: String = rest.by_ref().take(Self::MAX_CHARS).collect();
        let cut = if rest.next().is_some() { "…" } else { "" };
        write!(f, "`{}{cut}`", start.escape_debug())
    }
}

/// A list of names, cut after [`MAX`](Self::MAX).
struct ShownNames<'a>(&'a [String]);

impl ShownNames<'_> {
    const MAX: usize = 20;
}

impl fmt::Display for ShownNames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<_> = self.0.iter().take(Self::MAX).map(|name| Quoted(name).to_string()).collect();
        write!(f, "({}", shown.join(", "))?;
        match self.0.len().saturating_sub(Self::MAX) {
            0 => f.write_str(")"),
            more => write!(f, " and {more} more)"),
        }
    }
}
