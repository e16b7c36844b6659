//! Why credentials can't become a Secret. No message ever holds the value of a credential.

use std::fmt;

use thiserror::Error;

use super::{entries::MAX_SIZE, entry_name::MAX_LENGTH};

/// Why a layout, or credentials in that layout, make no Secret.
///
/// The messages may name credentials and quote the template; they are fit for status, events and logs.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RenderError {
    /// The remote side gave no credentials, or nothing but nulls.
    #[error("the remote side returned no credentials, so the Secret would have no entries")]
    NoCredentials,
    /// The name of a credential is longer than the name of an entry may be.
    #[error(
        "the credential {} has a name of {length} bytes, an entry may have {MAX_LENGTH}; \
         name it differently with `spec.secret.template.data`", Quoted(.name)
    )]
    NameTooLong {
        name: String,
        /// The length of its name, in bytes.
        length: usize,
    },
    /// Two credentials have the same name once it is made valid.
    #[error(
        "the credentials {} and {} would both become the entry `{entry}`; \
         name them differently with `spec.secret.template.data`", Quoted(.first), Quoted(.second)
    )]
    Collision { entry: String, first: String, second: String },
    /// A number that lost digits when it was read.
    #[error(
        "the credential {} holds a number beyond 64 bits, which can't be written without losing digits; \
         have the remote side send a string, or leave it out with `spec.secret.template.data`",
        Quoted(.name)
    )]
    InexactNumber {
        /// The top-level credential that holds the number.
        name: String,
    },
    /// All values together are more than a Secret may hold.
    #[error(
        "the entries hold {size} bytes or more, a Secret may hold {MAX_SIZE}; pick fewer with `spec.secret.template.data`"
    )]
    TooLarge {
        /// The bytes counted so far.
        size: usize,
    },
    /// An entry whose name leaves no room for that of the previous key's.
    #[error(
        "the entry {} can't be there for two keys, as `spec.secret.previous: Include` wants it: names begin with \
         `previous.` then, and have at most {MAX_LENGTH} bytes; name it differently with `spec.secret.template.data`",
        Quoted(.entry)
    )]
    NoRoomForPrevious { entry: String },
    /// The template names an entry that the API server would refuse.
    #[error(
        "the entry {} of `spec.secret.template.data` is no valid name; \
         use at most {MAX_LENGTH} letters, digits, `-`, `_` and `.`, not beginning with `..`", Quoted(.entry)
    )]
    InvalidEntry { entry: String },
    /// The template of an entry is wrong, or fails on these credentials.
    #[error("the template of entry `{entry}` fails on line {line}: {problem}")]
    Template {
        entry: String,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong, in words without values.
        problem: String,
    },
    /// The template of an entry uses something that the credentials don't hold.
    #[error(
        "the template of entry `{entry}` uses {missing} on line {line}, \
         which is not among the credentials {}", ShownNames(.present)
    )]
    Undefined {
        entry: String,
        /// The line, counted from 1.
        line: usize,
        /// The names that are missing, in words.
        missing: String,
        /// The names that are there.
        present: Vec<String>,
    },
    /// A template is longer than is good for it.
    #[error("the template of entry `{entry}` has {length} bytes; shorten it to 16 KiB")]
    TemplateTooLong {
        entry: String,
        /// Its length in bytes.
        length: usize,
    },
    /// There are more templates than are good for a Secret.
    #[error("`spec.secret.template.data` has {count} entries; use at most 64")]
    TooManyTemplates { count: usize },
    /// All templates together are longer than is good for a Secret.
    #[error(
        "the templates of `spec.secret.template.data` have {length} bytes together; shorten them to 128 KiB"
    )]
    TemplatesTooLong {
        /// Their length in bytes.
        length: usize,
    },
    /// The templates took too long to check or to render, each time that this was tried.
    #[error("the templates of `spec.secret.template.data` take too long; make them simpler")]
    TooSlow,
    /// The templates took too long this time.
    #[error("the templates of `spec.secret.template.data` were not finished in time; trying again")]
    Unfinished,
    /// There was no thread to run the templates on.
    #[error("the operator has no thread to render the template on; give its pod more memory or processes")]
    NoThread,
    /// The Secret's type demands entries that are not there, or is not for this operator to write.
    #[error("a Secret of type `{type_}` {problem}")]
    Type {
        type_: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// A label or annotation that can't be written.
    #[error("`spec.secret.{field}` has the key {}, which {problem}", Quoted(.key))]
    Metadata {
        /// `labels` or `annotations`.
        field: &'static str,
        key: String,
        /// What is wrong with it, and what to do.
        problem: &'static str,
    },
}

impl RenderError {
    /// Whether the same credentials may fit the same layout the next time.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        match self {
            // A machine that is busy now may be idle then.
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

/// A name from outside, in backticks: without control characters, and cut where it is long.
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

/// A list of names, cut where it is long.
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
