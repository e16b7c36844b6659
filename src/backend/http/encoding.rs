//! Finds a secret in a text in whatever way it is written there: as it is, with percent signs as in URLs and forms, with
//! backslashes as in JSON, in base64, or partly so and partly otherwise.

use std::collections::BTreeSet;

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD},
};
use secrecy::SecretString;

/// Shorter secrets, in bytes, are not searched for in base64: a few letters would be found anywhere.
const SHORTEST_IN_BASE64: usize = 6;

/// The fewest bytes of a secret that are hidden at the end of a text that ends within it.
const SHORTEST_START: usize = 8;

/// The text with each occurrence of the secret replaced.
pub(super) fn replace(text: &str, secret: &str, by: &str) -> String {
    if secret.is_empty() {
        return text.to_owned();
    }
    let mut replaced = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        if let Some(length) = length_of(secret.as_bytes(), rest.as_bytes()) {
            replaced.push_str(by);
            rest = &rest[length..];
        } else {
            replaced.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    replaced
}

/// The secret in base64, in both alphabets, with padding and without.
pub(super) fn in_base64(secret: &str) -> Vec<SecretString> {
    if secret.len() < SHORTEST_IN_BASE64 {
        return Vec::new();
    }
    [BASE64_STANDARD, BASE64_URL_SAFE, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD]
        .map(|engine| engine.encode(secret).into())
        .into()
}

/// How many bytes the secret takes at the start of the text, if it stands there; the longest way to read it counts. The
/// text may end within a long secret, because somebody cut it.
fn length_of(secret: &[u8], text: &[u8]) -> Option<usize> {
    // Almost all places of a text end here, before anything is allocated.
    if !readings(text).into_iter().flatten().any(|(bytes, _)| secret.starts_with(bytes.as_bytes())) {
        return None;
    }
    // Where the text may be read in more than one way, such as a secret with a percent sign, all are followed: each place
    // is how far the secret and the text are read.
    let mut seen = BTreeSet::from([(0, 0)]);
    let mut places = vec![(0, 0)];
    let mut longest = None;
    while let Some((read, at)) = places.pop() {
        if read == secret.len() || at == text.len() && read >= SHORTEST_START {
            longest = longest.max(Some(at));
            continue;
        }
        for (bytes, length) in readings(&text[at..]).into_iter().flatten() {
            let next = (read + bytes.as_bytes().len(), at + length);
            if secret[read..].starts_with(bytes.as_bytes()) && seen.insert(next) {
                places.push(next);
            }
        }
    }
    // It may end within a character that the text has as it is.
    longest.filter(|length| text.get(*length).is_none_or(|byte| byte & 0b1100_0000 != 0b1000_0000))
}

/// Some bytes of the secret.
#[derive(Clone, Copy)]
struct Bytes([u8; 4], usize);

impl Bytes {
    fn as_bytes(&self) -> &[u8] {
        &self.0[..self.1]
    }

    const fn one(byte: u8) -> Self {
        Self([byte, 0, 0, 0], 1)
    }

    fn of(character: char) -> Self {
        let mut bytes = [0; 4];
        let length = character.encode_utf8(&mut bytes).len();
        Self(bytes, length)
    }
}

/// The ways to read the start of the text, each with its length there: as it is, and as what it stands for.
fn readings(text: &[u8]) -> [Option<(Bytes, usize)>; 2] {
    let Some(first) = text.first() else { return [None, None] };
    let encoded = match first {
        b'%' => {
            hex(text.get(1..3)).and_then(|byte| u8::try_from(byte).ok()).map(|byte| (Bytes::one(byte), 3))
        }
        b'+' => Some((Bytes::one(b' '), 1)),
        b'\\' => escaped(text),
        _ => None,
    };
    [Some((Bytes::one(*first), 1)), encoded]
}

/// What an escape of JSON stands for.
fn escaped(text: &[u8]) -> Option<(Bytes, usize)> {
    let simple = |byte| Some((Bytes::one(byte), 2));
    match text.get(1)? {
        b'n' => simple(b'\n'),
        b'r' => simple(b'\r'),
        b't' => simple(b'\t'),
        b'b' => simple(0x08),
        b'f' => simple(0x0c),
        b'u' => {
            let unit = hex(text.get(2..6))?;
            if let Some(character) = char::from_u32(unit) {
                return Some((Bytes::of(character), 6));
            }
            let low = text.get(6..8).filter(|next| *next == b"\\u").and_then(|_| hex(text.get(8..12)))?;
            let pair = [u16::try_from(unit).ok()?, u16::try_from(low).ok()?];
            let character = char::decode_utf16(pair).next()?.ok()?;
            Some((Bytes::of(character), 12))
        }
        other => simple(*other),
    }
}

fn hex(digits: Option<&[u8]>) -> Option<u32> {
    let digits = digits.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;
    use rstest::rstest;
    use secrecy::ExposeSecret;

    use super::*;

    const SECRET: &str = "p%41ss/w\"ö+r d\\🔑";

    #[rstest]
    #[case::as_it_is(SECRET)]
    #[case::in_a_url("p%2541ss%2Fw%22%C3%B6%2Br%20d%5C%F0%9F%94%91")]
    #[case::in_small_hex("p%2541ss%2fw%22%c3%b6%2br%20d%5c%f0%9f%94%91")]
    #[case::in_a_form("p%2541ss%2Fw%22%C3%B6%2Br+d%5C%F0%9F%94%91")]
    #[case::partly_in_a_url("p%41ss/w%22ö%2br%20d\\🔑")]
    #[case::in_json(r#"p%41ss/w\"ö+r d\\🔑"#)]
    #[case::in_json_by_go(r#"p%41ss\/w\"\u00f6+r d\\\uD83D\uDD11"#)]
    #[case::each_character(r"\u0070\u0025\u0034\u0031\u0073\u0073\u002F\u0077\u0022\u00F6\u002b\u0072\u0020\u0064\u005c\ud83d\udd11")]
    fn a_secret_is_found(#[case] written: &str) {
        assert_eq!(replace(&format!("a{written}b{written}"), SECRET, "…"), "a…b…");
    }

    #[rstest]
    #[case("p%41ss", "p%41s", "p%41s")]
    #[case("abc", "ab%", "ab%")]
    #[case("abc", "ab%6", "ab%6")]
    #[case("abc", "ab\\", "ab\\")]
    #[case("abc", "ab\\u006", "ab\\u006")]
    #[case("abc", "\\ud83dabc", "\\ud83d…")]
    #[case("ab", "ababab", "………")]
    #[case("correct horse", "a correct", "a correct")]
    #[case("correct horse", "a correct%20h", "a …")]
    fn what_is_not_there_stays(#[case] secret: &str, #[case] text: &str, #[case] expected: &str) {
        assert_eq!(replace(text, secret, "…"), expected);
    }

    proptest! {
        #[test]
        fn no_encoding_hides_a_secret(secret in ".{1,30}", before in "[a-z<> ]{0,9}", after in "[a-z<> ]{0,9}") {
            let in_url = utf8_percent_encode(&secret, NON_ALPHANUMERIC).to_string();
            let in_form: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
            let in_json = serde_json::Value::from(secret.as_str()).to_string();
            let in_json = in_json.trim_matches('"').to_owned();
            let units: String = secret.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
            for written in [&secret, &in_url, &in_url.to_lowercase(), &in_form, &units] {
                let lowered = written == &in_url.to_lowercase() && secret.chars().any(char::is_uppercase);
                let text = replace(&format!("{before}{written}{after}"), &secret, "\u{1}");
                prop_assert!(lowered || text.contains('\u{1}'), "{:?} as {:?}", secret, written);
            }
            if in_json.len() + 2 == serde_json::Value::from(secret.as_str()).to_string().len() {
                let text = replace(&in_json, &secret, "\u{1}");
                prop_assert!(text.contains('\u{1}'), "{:?} as {:?}", secret, in_json);
            }
        }

        #[test]
        fn nothing_panics(secret in ".{0,9}", text in "[%\\\\u0-9a-fé+🔑 ]{0,60}") {
            let _ = replace(&text, &secret, "…");
        }
    }

    #[test]
    fn base64_is_known_with_and_without_padding() {
        let encoded = in_base64("hunter2?>~");
        let encoded: Vec<_> = encoded.iter().map(ExposeSecret::expose_secret).collect();
        assert_eq!(encoded, ["aHVudGVyMj8+fg==", "aHVudGVyMj8-fg==", "aHVudGVyMj8+fg", "aHVudGVyMj8-fg"]);
        assert!(in_base64("abc").is_empty());
    }
}
