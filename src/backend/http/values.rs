//! Counts the values of a JSON text without parsing it: once parsed, `[[],[],[]…` takes fifty times its size in memory.

/// The additional values that an object counts as: its memory is that of so many values.
const OBJECT: usize = 5;

/// Whether the text contains at most `most` values, where each object counts as six.
pub(super) fn at_most(most: usize, text: &[u8]) -> bool {
    let Counted { values, objects } = count(text);
    values + OBJECT * objects <= most
}

/// Counts the values. Each `[`, `{` and `,` outside of a string begins one. The count of a text that is not JSON has no
/// meaning.
#[must_use]
pub(crate) fn count_values(text: &[u8]) -> usize {
    count(text).values
}

struct Counted {
    values: usize,
    objects: usize,
}

fn count(text: &[u8]) -> Counted {
    let (mut in_string, mut escaped) = (false, false);
    let mut counted = Counted { values: 1, objects: 0 };
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' | b',' if !in_string => {
                counted.values += 1;
                counted.objects += usize::from(*byte == b'{');
            }
            _ => {}
        }
    }
    counted
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    #[rstest]
    #[case("", 1, 0)]
    #[case("[]", 2, 0)]
    #[case("[1,2]", 3, 0)]
    #[case(r#"{"a":[],"b":"[,{\",["}"#, 4, 1)]
    #[case(r#"[{"a":{}}]"#, 4, 2)]
    #[case(r#""a\\",["#, 3, 0)]
    fn counts(#[case] text: &str, #[case] values: usize, #[case] objects: usize) {
        assert_eq!(count_values(text.as_bytes()), values);
        let most = values + OBJECT * objects;
        assert!(at_most(most, text.as_bytes()));
        assert!(!at_most(most - 1, text.as_bytes()));
    }

    fn count_in(value: &Value) -> usize {
        1 + match value {
            Value::Array(items) => items.iter().map(count_in).sum(),
            Value::Object(members) => members.values().map(count_in).sum(),
            _ => 0,
        }
    }

    proptest! {
        #[test]
        fn nothing_is_missed(texts in proptest::collection::vec(".*", 0..8), empty in 0_usize..3) {
            let value = json!([texts, {"a": texts}, vec![Vec::<u8>::new(); empty], {}, null, 1.5]);
            prop_assert!(count_values(value.to_string().as_bytes()) >= count_in(&value));
        }
    }
}
