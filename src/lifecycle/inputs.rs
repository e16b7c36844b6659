//! Digests of everything that a key is created from. The operator replaces a key whose inputs differ from the desired
//! ones.

use std::fmt;

/// Separator before the digest of the parameters. None of the separators occurs in a hex digest.
const PARAMETERS: char = '~';
/// Separator before the digest of the request.
const REQUEST: char = '+';
/// Separator between the id of the key of a digest, and the digest.
const KEY_ID: char = '.';

/// The digest of the fields of the spec, of the content of `parametersFrom`, and of the user's last request for another
/// key. Statuses, marks and remote sides store it as text: `fields`, `fields~parameters`, `fields+request` or
/// `fields~parameters+request`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Inputs {
    fields: String,
    /// Absent if the user wants no rotation when the content changes, or if it was not read yet.
    parameters: Option<Box<ParametersDigest>>,
    request: Option<String>,
}

/// A keyed digest of the content of `parametersFrom`, and the id of its key and of the entries. Digests with different
/// ids can't be compared. Its text is `id.digest`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ParametersDigest {
    /// The id of the key and of the entries.
    pub key_id: String,
    /// The digest.
    pub digest: String,
}

impl Inputs {
    /// The desired inputs. Without a current request, a known request with the same fields stays, because removing the
    /// annotation does not request another key. The same applies to parameters that were not read yet.
    #[must_use]
    pub(crate) fn new(
        fields: String,
        parameters: Option<ParametersDigest>,
        request: Option<String>,
        known: impl IntoIterator<Item = Self>,
    ) -> Self {
        let known = known.into_iter().find(|known| known.fields == fields);
        let (known_parameters, known_request) =
            known.map(|known| (known.parameters, known.request)).unwrap_or_default();
        Self {
            fields,
            parameters: parameters.map(Box::new).or(known_parameters),
            request: request.or(known_request),
        }
    }

    /// The same inputs with these parameters, if they were read.
    #[must_use]
    pub(crate) fn with_parameters(self, parameters: Option<ParametersDigest>) -> Self {
        Self { parameters: parameters.map(Box::new).or(self.parameters), ..self }
    }

    /// The same inputs without the parameters.
    #[must_use]
    pub(crate) fn without_parameters(self) -> Self {
        Self { parameters: None, ..self }
    }

    /// The id of the parameters' digest.
    #[must_use]
    pub(crate) fn parameters_key_id(&self) -> Option<&str> {
        self.parameters.as_ref().map(|parameters| parameters.key_id.as_str())
    }

    /// The digest of the user's request for another key.
    pub(super) fn request(&self) -> Option<&str> {
        self.request.as_deref()
    }

    /// Whether the user changed a field of the spec, or requested another key.
    pub(super) fn has_other_fields_than(&self, key: &Self) -> bool {
        (&self.fields, &self.request) != (&key.fields, &key.request)
    }

    /// Whether the content of `parametersFrom` is known to differ.
    pub(super) fn has_other_parameters_than(&self, key: &Self) -> bool {
        let pair = self.parameters.as_ref().zip(key.parameters.as_ref());
        pair.is_some_and(|(wanted, had)| wanted.key_id == had.key_id && wanted.digest != had.digest)
    }

    /// Whether a key of these inputs is the wanted one.
    pub(crate) fn is_fulfilled_by(&self, key: &Self) -> bool {
        !self.has_other_fields_than(key) && !self.has_other_parameters_than(key)
    }

    /// Whether a key of these inputs is the wanted one, but its parameters can't be compared with the present ones. Then
    /// changes count from the present ones on.
    pub(super) fn is_new_baseline_for(&self, key: &Self) -> bool {
        let has_other_key = self.parameters.is_some() && self.parameters_key_id() != key.parameters_key_id();
        has_other_key && !self.has_other_fields_than(key)
    }
}

impl fmt::Display for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fields)?;
        if let Some(ParametersDigest { key_id, digest }) = self.parameters.as_deref() {
            write!(f, "{PARAMETERS}{key_id}{KEY_ID}{digest}")?;
        }
        match &self.request {
            Some(request) => write!(f, "{REQUEST}{request}"),
            None => Ok(()),
        }
    }
}

/// Reads what [`Display`](fmt::Display) writes. Any other text is the digest of unknown fields.
impl From<&str> for Inputs {
    fn from(text: &str) -> Self {
        let (rest, request) = match text.split_once(REQUEST) {
            Some((rest, request)) => (rest, Some(request.to_owned())),
            None => (text, None),
        };
        let parameters = rest.split_once(PARAMETERS).and_then(|(fields, parameters)| {
            let (key_id, digest) = parameters.split_once(KEY_ID)?;
            let parameters = ParametersDigest { key_id: key_id.to_owned(), digest: digest.to_owned() };
            Some((fields, parameters))
        });
        let (fields, parameters) =
            parameters.map_or((rest, None), |(fields, parameters)| (fields, Some(Box::new(parameters))));
        Self { fields: fields.to_owned(), parameters, request }
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
        let inputs = Inputs::new("fields".to_owned(), None, request.map(str::to_owned), known);
        assert_eq!(inputs.to_string(), expected);
    }

    #[rstest]
    //                          read       known                  wanted
    #[case::read(               "k.new",   "fields~k.old+one",    "fields~k.new+one")]
    #[case::read_first(         "k.new",   "fields+one",          "fields~k.new+one")]
    #[case::not_read(           "",        "fields~k.old+one",    "fields~k.old+one")]
    #[case::of_other_fields(    "",        "others~k.old+one",    "fields")]
    #[rustfmt::skip]
    fn parameters_that_were_not_read_stay(#[case] read: &str, #[case] known: &str, #[case] wanted: &str) {
        let read = read.split_once('.');
        let read = read.map(|(key_id, digest)| ParametersDigest { key_id: key_id.into(), digest: digest.into() });
        assert_eq!(Inputs::new("fields".into(), read, None, [known.into()]).to_string(), wanted);
    }

    #[rstest]
    //                          wanted         key              another key   comparable
    #[case::the_same(           "f~k.a+r",     "f~k.a+r",       false,        true)]
    #[case::other_content(      "f~k.b",       "f~k.a",         true,         true)]
    #[case::other_key(          "f~l.b",       "f~k.a",         false,        false)]
    #[case::never_read(         "f~k.b",       "f",             false,        false)]
    #[case::no_longer_followed( "f",           "f~k.a",         false,        true)]
    #[case::other_fields(       "g~k.a",       "f~k.a",         true,         true)]
    #[case::other_request(      "f~k.a+s",     "f~k.a+r",       true,         true)]
    #[rustfmt::skip]
    fn digests_of_one_key_are_compared(
        #[case] wanted: &str,
        #[case] key: &str,
        #[case] another: bool,
        #[case] comparable: bool,
    ) {
        let (wanted, key) = (Inputs::from(wanted), Inputs::from(key));
        assert_eq!((!wanted.is_fulfilled_by(&key), !wanted.is_new_baseline_for(&key)), (another, comparable));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(text in ".{0,80}") {
            prop_assert_eq!(Inputs::from(text.as_str()).to_string(), text);
        }
    }
}
