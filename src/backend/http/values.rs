//! How many values a JSON text holds, without reading it: `[[],[],[]…` takes fifty times its size in memory once it is.

/// Whether there are at most so many.
pub(super) fn at_most(most: usize, text: &[u8]) -> bool {
    count_values(text) <= most
}

/// How many there are. Each `[`, `{` and `,` outside of a string begins one; what is no JSON is counted in some way.
#[must_use]
pub fn count_values(text: &[u8]) -> usize {
    let (mut in_string, mut escaped, mut values) = (false, false, 1);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' | b',' if !in_string => values += 1,
            _ => {}
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    #[rstest]
    #[case("", 1)]
    #[case("[]", 2)]
    #[case("[1,2]", 3)]
    #[case(r#"{"a":[],"b":"[,{\",["}"#, 4)]
    #[case(r#""a\\",["#, 3)]
    fn counts(#[case] text: &str, #[case] values: usize) {
        assert!(at_most(values, text.as_bytes()));
        assert!(!at_most(values - 1, text.as_bytes()));
    }

    fn count(value: &Value) -> usize {
        1 + match value {
            Value::Array(items) => items.iter().map(count).sum(),
            Value::Object(members) => members.values().map(count).sum(),
            _ => 0,
        }
    }

    proptest! {
        #[test]
        fn nothing_is_missed(texts in proptest::collection::vec(".*", 0..8), empty in 0_usize..3) {
            let value = json!([texts, {"a": texts}, vec![Vec::<u8>::new(); empty], {}, null, 1.5]);
            prop_assert!(!at_most(count(&value) - 1, value.to_string().as_bytes()));
        }
    }
}
