//! The ends of JSON Web Tokens (RFC 7519).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::lifecycle::{CredentialEnd, ExpirySource};

/// Limit in bytes. The operator does not read longer tokens.
const LONGEST_TOKEN: usize = 64 * 1024;

/// The end of the token at this JSON Pointer. The signature is not verified: only the service can do that.
pub(super) fn end(credentials: &Map<String, Value>, pointer: &str) -> CredentialEnd {
    let at = find(credentials, pointer).and_then(expiry);
    CredentialEnd { at, source: ExpirySource::Token(pointer.to_owned()) }
}

fn find<'a>(credentials: &'a Map<String, Value>, pointer: &str) -> Option<&'a str> {
    let pointer = pointer.strip_prefix('/')?;
    let (first, rest) = pointer.split_at(pointer.find('/').unwrap_or(pointer.len()));
    let member = credentials.get(&first.replace("~1", "/").replace("~0", "~"))?;
    member.pointer(rest)?.as_str()
}

fn expiry(text: &str) -> Option<Timestamp> {
    let token = text.trim().strip_prefix("Bearer ").unwrap_or(text).trim();
    let mut parts = token.split('.');
    let (_, Some(payload), Some(_), None) = (parts.next()?, parts.next(), parts.next(), parts.next()) else {
        return None;
    };
    if token.len() > LONGEST_TOKEN {
        return None;
    }
    let claims = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload).ok()?);
    let claims: Map<String, Value> = serde_json::from_slice(&claims).ok()?;
    // Seconds since 1970, also with a fraction (section 4.1.4).
    let exp = claims.get("exp")?.as_f64()?;
    #[expect(clippy::cast_possible_truncation, reason = "a number beyond the range becomes the nearest one")]
    let second = exp.floor() as i64;
    Timestamp::from_second(second).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn token(claims: &str) -> String {
        format!("eyJhbGciOiJub25lIn0.{}.c2ln", URL_SAFE_NO_PAD.encode(claims))
    }

    #[rstest]
    #[case::whole(r#"{"iss": "uaa", "exp": 1800000000}"#, Some(1_800_000_000))]
    #[case::with_a_fraction(r#"{"exp": 1800000000.75}"#, Some(1_800_000_000))]
    #[case::zero(r#"{"exp": 0}"#, Some(0))]
    #[case::none(r#"{"iss": "uaa"}"#, None)]
    #[case::text(r#"{"exp": "1800000000"}"#, None)]
    #[case::beyond_all_times(r#"{"exp": 1e300}"#, None)]
    #[case::no_object("[1800000000]", None)]
    #[case::no_json("exp", None)]
    fn the_end_of_a_token_is_its_claim(#[case] claims: &str, #[case] expected: Option<i64>) {
        for text in [token(claims), format!("Bearer {}", token(claims)), format!(" {}\n", token(claims))] {
            assert_eq!(expiry(&text).map(Timestamp::as_second), expected, "{text}");
        }
    }

    #[rstest]
    #[case::opaque("hunter2")]
    #[case::two_parts("a.b")]
    #[case::encrypted("a.b.c.d.e")]
    #[case::no_base64("a.%.c")]
    #[case::empty("")]
    #[case::huge(&format!("a.{}.c", URL_SAFE_NO_PAD.encode(format!(r#"{{"exp": 1{}}}"#, " ".repeat(LONGEST_TOKEN)))))]
    fn another_text_has_no_end(#[case] text: &str) {
        assert_eq!(expiry(text), None);
    }

    #[rstest]
    #[case::at_the_top("/token", true)]
    #[case::below("/uaa/tokens/0", true)]
    #[case::with_a_slash("/a~1b", true)]
    #[case::with_a_tilde("/a~0b", true)]
    #[case::missing("/other", false)]
    #[case::missing_below("/uaa/other", false)]
    #[case::no_text("/uaa", false)]
    #[case::no_pointer("token", false)]
    #[case::empty("", false)]
    fn a_token_is_found_by_its_pointer(#[case] pointer: &str, #[case] is_found: bool) {
        let token = token(r#"{"exp": 5}"#);
        let credentials = json!({"token": token, "uaa": {"tokens": [token]}, "a/b": token, "a~b": token});
        let end = end(credentials.as_object().unwrap(), pointer);
        assert_eq!(end.at.map(Timestamp::as_second), is_found.then_some(5));
        assert_eq!(end.source, ExpirySource::Token(pointer.to_owned()));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in ".*", pointer in ".*", claims in ".*") {
            let credentials = json!({"token": text, "": {"": text}, "a": token(&claims)});
            for pointer in [pointer.as_str(), "/token", "/a"] {
                let _ = end(credentials.as_object().unwrap(), pointer);
            }
        }
    }
}
