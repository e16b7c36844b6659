//! Length limits for parts of answers. Longer parts fail to parse before they are stored.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::http::one_line;

/// The most bytes of an id, a name, or another word. CRNs are the longest, with some 250.
const LONGEST_WORD: usize = 1024;

/// How many names a message lists.
const NAMES_SHOWN: usize = 10;

/// The most characters of a name that a message shows.
const LONGEST_SHOWN_NAME: usize = 100;

/// The most bytes of a link to the next page: what routers pass on, twice.
const LONGEST_LINK: usize = 16 << 10;

/// Passes the items of a JSON array to `take`, one by one, without keeping them. Returns their number.
///
/// # Errors
/// If an item is not of this type, or if there are more than `most`.
pub(super) fn each<'de, T: Deserialize<'de>>(
    array: &'de RawValue,
    most: usize,
    take: impl FnMut(T),
) -> Result<usize, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(array.get());
    let count = json.deserialize_seq(Each { most, take, of: PhantomData })?;
    json.end().map(|()| count)
}

struct Each<T, F> {
    most: usize,
    take: F,
    of: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>, F: FnMut(T)> Visitor<'de> for Each<T, F> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {} items", self.most)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut count = 0;
        while let Some(item) = items.next_element()? {
            if count == self.most {
                return Err(A::Error::custom(format_args!("more than {} items", self.most)));
            }
            count += 1;
            (self.take)(item);
        }
        Ok(count)
    }
}

/// A list of at most `N` items.
#[derive(Debug)]
pub(super) struct AtMost<const N: usize, T>(pub(super) Vec<T>);

impl<const N: usize, T> Default for AtMost<N, T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, const N: usize, T: Deserialize<'de>> Deserialize<'de> for AtMost<N, T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ItemVisitor(PhantomData))
    }
}

struct ItemVisitor<const N: usize, T>(PhantomData<T>);

impl<'de, const N: usize, T: Deserialize<'de>> Visitor<'de> for ItemVisitor<N, T> {
    type Value = AtMost<N, T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {N} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
        let mut found = Vec::new();
        Each { most: N, take: |item| found.push(item), of: PhantomData }.visit_seq(items)?;
        Ok(AtMost(found))
    }
}

/// A text, or an optional text.
pub(super) trait Text {
    fn text(&self) -> Option<&str>;
}

impl Text for String {
    fn text(&self) -> Option<&str> {
        Some(self)
    }
}

impl Text for Option<String> {
    fn text(&self) -> Option<&str> {
        self.as_deref()
    }
}

/// Reads an id, a name, or another word.
///
/// # Errors
/// If it is longer than [`LONGEST_WORD`].
pub(super) fn word<'de, T: Text + Deserialize<'de>, D: Deserializer<'de>>(de: D) -> Result<T, D::Error> {
    at_most(LONGEST_WORD, de)
}

/// Reads a link to the next page.
///
/// # Errors
/// If it is longer than [`LONGEST_LINK`].
pub(super) fn link<'de, T: Text + Deserialize<'de>, D: Deserializer<'de>>(de: D) -> Result<T, D::Error> {
    at_most(LONGEST_LINK, de)
}

fn at_most<'de, T: Text + Deserialize<'de>, D: Deserializer<'de>>(
    longest: usize,
    de: D,
) -> Result<T, D::Error> {
    let value = T::deserialize(de)?;
    if value.text().is_some_and(|text| text.len() > longest) {
        return Err(D::Error::custom(format_args!("a text of more than {longest} bytes")));
    }
    Ok(value)
}

/// Reads an id that becomes a path segment.
///
/// # Errors
/// If it is longer than any id, or if its path would be that of another object.
pub(super) fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let id = String::deserialize(deserializer)?;
    if is_id(&id) { Ok(id) } else { Err(D::Error::custom("an id is empty, too long, or dots only")) }
}

/// Whether this can be an id in a path. With an empty id or with dots, the path would be that of a parent.
pub(super) fn is_id(text: &str) -> bool {
    is_word(text) && !matches!(text, "" | "." | "..")
}

/// A name in the form that messages show.
pub(super) fn shown_name(name: &str) -> String {
    let name = one_line(name);
    let cut = name.char_indices().nth(LONGEST_SHOWN_NAME);
    cut.map_or_else(|| format!("`{name}`"), |(end, _)| format!("`{}…`", &name[..end]))
}

/// The first of many names, for a list in a message.
pub(super) fn shown_names(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut names = names.into_iter();
    let mut shown: Vec<_> = names.by_ref().take(NAMES_SHOWN).collect();
    shown.extend(names.next().map(|_| "…".to_owned()));
    shown
}

/// Whether the text is short enough to be an id or a name.
pub(super) const fn is_word(text: &str) -> bool {
    text.len() <= LONGEST_WORD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct NamedItem {
        #[serde(deserialize_with = "word")]
        name: String,
    }

    #[test]
    fn lists_have_an_end() {
        let read = |text: &str| serde_json::from_str::<AtMost<2, u8>>(text).map(|items| items.0);
        assert_eq!(read("[1,2]").unwrap(), [1, 2]);
        assert!(read("[1,2,3]").unwrap_err().to_string().contains("more than 2 items"));
    }

    #[test]
    fn items_are_read_one_by_one() {
        let array: &RawValue = serde_json::from_str("[1,2,3]").unwrap();
        let mut sum = 0;
        assert_eq!(each(array, 3, |item: u8| sum += item).unwrap(), 3);
        assert_eq!(sum, 6);
        assert!(each(array, 2, |_: u8| {}).is_err());
        let object: &RawValue = serde_json::from_str("{}").unwrap();
        assert!(each(object, 2, |_: u8| {}).is_err());
    }

    #[test]
    fn no_id_leads_to_what_is_above_it() {
        assert!(is_id("a") && is_id("..."));
        for text in ["", ".", "..", &"x".repeat(LONGEST_WORD + 1)] {
            assert!(!is_id(text), "{text}");
        }
    }

    #[test]
    fn names_are_shown_on_one_line_and_cut() {
        assert_eq!(shown_name("a\n\u{202e}b"), "`a b`");
        assert_eq!(shown_name(&"é".repeat(101)), format!("`{}…`", "é".repeat(100)));
    }

    #[test]
    fn a_message_lists_ten_names() {
        let names = |count: usize| shown_names((0..count).map(|number| number.to_string()));
        assert_eq!(names(10).len(), 10);
        assert_eq!(names(100_000).join(" "), "0 1 2 3 4 5 6 7 8 9 …");
    }

    #[test]
    fn words_are_short() {
        let read =
            |length| serde_json::from_str::<NamedItem>(&format!(r#"{{"name": "{}"}}"#, "x".repeat(length)));
        assert_eq!(read(LONGEST_WORD).unwrap().name.len(), LONGEST_WORD);
        assert!(read(LONGEST_WORD + 1).is_err());
    }
}
