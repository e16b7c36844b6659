//! Digests of everything that a key is created from. The operator replaces a key whose inputs differ from the desired
//! ones.

use std::fmt;

/// Separator between the two digests. It never occurs in a hex digest.
const SEPARATOR: char = '+';

/// The digest of the fields of the spec, and of the user's last request for another key. Statuses, marks and remote
/// sides store it as text: `fields`, or `fields+request`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Inputs {
    fields: String,
    request: Option<String>,
}

impl Inputs {
    /// The desired inputs. Without a current request, a known request with the same fields stays, because removing the
    /// annotation does not request another key.
    #[must_use]
    pub(crate) fn new(
        fields: String,
        request: Option<String>,
        known: impl IntoIterator<Item = Self>,
    ) -> Self {
        let same_fields = |known: &Self| known.fields == fields;
        match request {
            Some(_) => Self { fields, request },
            None => known.into_iter().find(same_fields).unwrap_or(Self { fields, request }),
        }
    }

    /// The digest of the user's request for another key.
    pub(super) fn request(&self) -> Option<&str> {
        self.request.as_deref()
    }
}

impl fmt::Display for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fields)?;
        match &self.request {
            Some(request) => write!(f, "{SEPARATOR}{request}"),
            None => Ok(()),
        }
    }
}

/// Reads what [`Display`](fmt::Display) writes. Any other text is the digest of unknown fields.
impl From<&str> for Inputs {
    fn from(text: &str) -> Self {
        match text.split_once(SEPARATOR) {
            Some((fields, request)) => Self { fields: fields.to_owned(), request: Some(request.to_owned()) },
            None => Self { fields: text.to_owned(), request: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::no_request_ever(None, &["fields"], "fields")]
    #[case::the_first_request(Some("one"), &["fields"], "fields+one")]
    #[case::the_same_request(Some("one"), &["fields+one"], "fields+one")]
    #[case::another_request(Some("two"), &["fields+one"], "fields+two")]
    #[case::a_request_that_was_taken_away(None, &["fields+one"], "fields+one")]
    #[case::taken_away_while_it_is_carried_out(None, &["fields+two", "fields+one"], "fields+two")]
    #[case::taken_away_with_other_fields(None, &["others+one"], "fields")]
    #[case::no_key_yet(None, &[], "fields")]
    fn another_request_asks_for_another_key(
        #[case] request: Option<&str>,
        #[case] known: &[&str],
        #[case] expected: &str,
    ) {
        let known = known.iter().map(|known| Inputs::from(*known));
        let inputs = Inputs::new("fields".to_owned(), request.map(str::to_owned), known);
        assert_eq!(inputs.to_string(), expected);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(text in ".{0,80}") {
            prop_assert_eq!(Inputs::from(text.as_str()).to_string(), text);
        }
    }
}
