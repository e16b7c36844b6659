//! Finds the end of a JSON value, its depth and its number of values, byte by byte and without recursion.

/// The state of a walk through one value. It does not check the grammar. `serde_json` does that once the value is known
/// to be small and shallow enough.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct JsonExtent {
    depth: usize,
    deepest: usize,
    parts: usize,
    string: Option<Escape>,
    begun: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    None,
    Next,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BytePosition {
    /// Inside the value.
    Inside,
    /// The last byte of the value.
    Last,
    /// The first byte after the value. A number or a word ends only where something else begins.
    Behind,
}

impl JsonExtent {
    /// Takes the next byte. It must not be called again after the last one.
    pub(super) fn push(&mut self, byte: u8) -> BytePosition {
        if let Some(escape) = self.string {
            self.string = match (escape, byte) {
                (Escape::Next, _) => Some(Escape::None),
                (Escape::None, b'\\') => Some(Escape::Next),
                (Escape::None, b'"') => None,
                (Escape::None, _) => Some(Escape::None),
            };
            return self.unless_at_the_end();
        }
        let first = !std::mem::replace(&mut self.begun, true);
        match byte {
            b'"' if self.depth == 0 && !first => BytePosition::Behind,
            b'"' => {
                self.string = Some(Escape::None);
                BytePosition::Inside
            }
            b'{' | b'[' if self.depth == 0 && !first => BytePosition::Behind,
            b'{' | b'[' => {
                self.depth += 1;
                self.deepest = self.deepest.max(self.depth);
                self.parts += 1;
                BytePosition::Inside
            }
            b'}' | b']' | b',' | b':' | b' ' | b'\t' | b'\r' | b'\n' if self.depth == 0 => {
                BytePosition::Behind
            }
            b'}' | b']' => {
                self.depth -= 1;
                self.unless_at_the_end()
            }
            b',' => {
                self.parts += 1;
                BytePosition::Inside
            }
            _ => BytePosition::Inside,
        }
    }

    const fn unless_at_the_end(&self) -> BytePosition {
        if self.depth == 0 && self.string.is_none() { BytePosition::Last } else { BytePosition::Inside }
    }

    /// The depth so far: 0 for a number, a word or a string, 1 for `{}`.
    pub(super) const fn levels(&self) -> usize {
        self.deepest
    }

    /// The number of values so far, including this one. An empty list or object counts as one with a single value.
    pub(super) const fn values(&self) -> usize {
        1 + self.parts
    }

    /// Whether the walk is in a string, in which a line break must stay.
    pub(super) const fn in_string(&self) -> bool {
        self.string.is_some()
    }
}

/// Measures a JSON text. It also returns a result for a text that is not JSON.
pub(super) fn measure(text: &[u8]) -> JsonExtent {
    let mut extent = JsonExtent::default();
    for byte in text.trim_ascii() {
        if extent.push(*byte) != BytePosition::Inside {
            break;
        }
    }
    extent
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("7", 0)]
    #[case(r#""[[[""#, 0)]
    #[case(r#""a\"[""#, 0)]
    #[case("{}", 1)]
    #[case(r#" {"a": [{}, 1], "b": "]"} "#, 3)]
    #[case("]", 0)]
    #[case("[[[", 3)]
    fn levels_are_counted(#[case] text: &str, #[case] expected: usize) {
        assert_eq!(measure(text.as_bytes()).levels(), expected);
    }

    #[test]
    fn a_million_levels_are_counted_without_a_stack() {
        assert_eq!(measure("[".repeat(1_000_000).as_bytes()).levels(), 1_000_000);
    }

    #[rstest]
    #[case("7", 1)]
    #[case("[]", 2)]
    #[case("[1,2]", 3)]
    #[case("[[], []]", 5)]
    #[case(r#"{"a,": "[{,", "b": {"c": null}}"#, 4)]
    fn values_are_counted(#[case] text: &str, #[case] expected: usize) {
        assert_eq!(measure(text.as_bytes()).values(), expected);
    }
}
