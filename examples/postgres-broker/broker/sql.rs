//! Quoted names and values in the text of a statement.
//!
//! A query has parameters for its values. Statements such as `CREATE ROLE` have none, so input of a caller must be
//! quoted. Only this module quotes, and its types enforce that.

use std::fmt;

use postgres_protocol::escape::{escape_identifier, escape_literal};

/// The maximum length of a name in bytes. PostgreSQL truncates a longer one without an error, so two names could
/// collide.
const LONGEST: usize = 63;

/// The name of a role or a database. It prints quoted, as statements need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// # Errors
    /// If PostgreSQL would change or refuse the name.
    pub fn new(name: impl Into<String>) -> Result<Self, BadName> {
        let name = name.into();
        if name.is_empty() {
            Err(BadName::Empty)
        } else if name.contains('\0') {
            Err(BadName::Nul)
        } else if name.len() > LONGEST {
            Err(BadName::Long)
        } else {
            Ok(Self(name))
        }
    }

    /// The bare name, for parameters and people.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape_identifier(&self.0))
    }
}

/// A string as a value. It prints quoted.
pub struct Literal<'a>(pub &'a str);

impl fmt::Display for Literal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&escape_literal(self.0))
    }
}

/// The reason why a text is not a valid name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    #[error("it is empty")]
    Empty,
    #[error("it contains a NUL character")]
    Nul,
    #[error("it needs a name of more than {LONGEST} bytes, which PostgreSQL would truncate")]
    Long,
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::plain("key-1", r#""key-1""#)]
    #[case::keyword("select", r#""select""#)]
    #[case::quotes(r#"a"b""c"#, r#""a""b""""c""#)]
    #[case::injection(r#"x"; DROP ROLE "postgres"; --"#, r#""x""; DROP ROLE ""postgres""; --""#)]
    #[case::backslash(r"a\", r#""a\""#)]
    #[case::other_quotes("it's $$ `it`", r#""it's $$ `it`""#)]
    #[case::not_ascii("größe 🗝", r#""größe 🗝""#)]
    fn a_name_is_quoted(#[case] name: &str, #[case] quoted: &str) {
        let name = Name::new(name).unwrap();
        assert_eq!(name.to_string(), quoted);
    }

    #[rstest]
    #[case::plain("word", "'word'")]
    #[case::quotes("it''s", "'it''''s'")]
    #[case::injection("x'; DROP ROLE postgres; --", "'x''; DROP ROLE postgres; --'")]
    // This is right for any `standard_conforming_strings`. The space separates the E from a word before it.
    #[case::backslash(r"a\'b", r" E'a\\''b'")]
    fn a_literal_is_quoted(#[case] value: &str, #[case] quoted: &str) {
        assert_eq!(Literal(value).to_string(), quoted);
    }

    #[rstest]
    #[case::empty(String::new(), BadName::Empty)]
    #[case::nul("a\0b".to_owned(), BadName::Nul)]
    #[case::long("x".repeat(64), BadName::Long)]
    #[case::long_in_bytes("ü".repeat(32), BadName::Long)]
    fn what_postgresql_would_change_is_no_name(#[case] name: String, #[case] why: BadName) {
        assert_eq!(Name::new(name), Err(why));
    }
}
