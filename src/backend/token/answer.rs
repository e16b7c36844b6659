//! Reads the answers of a token endpoint tolerantly (RFC 6749, sections 5.1 and 5.2).

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::{backend::http::Request, wipe::SecretMap};

/// The assumed life of a token if its server reports none, or one that makes no sense. A wrong assumption costs one
/// refused call.
const ASSUMED_LIFE: Duration = Duration::from_secs(600);
/// The longest life of a token, even if its server reports a longer one.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);

/// A bearer token (RFC 6750).
#[derive(Debug)]
pub(in crate::backend) struct Token {
    secret: SecretString,
    authorization: HeaderValue,
    /// The life of the token from its arrival.
    pub(super) life: Duration,
}

impl Token {
    /// # Errors
    /// The problem with the token, without quoting it.
    pub(super) fn new(secret: SecretString, life: Duration) -> Result<Self, &'static str> {
        let header = Zeroizing::new(format!("Bearer {}", secret.expose_secret()));
        let mut authorization = HeaderValue::from_str(&header)
            .map_err(|_| "contains an `access_token` that can't be sent in a header")?;
        authorization.set_sensitive(true);
        Ok(Self { secret, authorization, life })
    }

    /// Adds this token to the request as its login.
    pub(in crate::backend) fn sign(&self, request: Request) -> Request {
        request.header(AUTHORIZATION, self.authorization.clone())
    }

    /// The token itself, to redact it. It must never be shown.
    pub(in crate::backend) fn secret(&self) -> SecretString {
        self.secret.clone()
    }
}

/// The token in a success.
///
/// # Errors
/// The problem with the answer, without quoting it.
pub(super) fn token(body: &[u8]) -> Result<Token, &'static str> {
    let body = serde_json::from_slice(body).map(SecretMap::new).map_err(|_| "is not a JSON object")?;
    let body = body.expose();
    let secret = text(body, "access_token").ok_or("contains no `access_token`")?;
    // Servers that omit the type mean `bearer`, the only one in use.
    let bearer = match body.get("token_type") {
        None | Some(Value::Null) => true,
        Some(Value::String(kind)) => kind.eq_ignore_ascii_case("bearer"),
        Some(_) => false,
    };
    if !bearer {
        return Err("contains a `token_type` other than `bearer`, which the operator does not support");
    }
    Token::new(secret.into(), life(body.get("expires_in")))
}

/// The refresh token in the answer, if any (section 6).
pub(super) fn refresh_token(body: &[u8]) -> Option<SecretString> {
    let body = SecretMap::new(serde_json::from_slice(body).ok()?);
    text(body.expose(), "refresh_token").map(SecretString::from)
}

/// The error code of a refusal.
pub(super) fn error_code(body: &[u8]) -> Option<String> {
    let body = serde_json::from_slice(body).ok()?;
    // IBM Cloud's IAM uses its own name for the code.
    text(&body, "error").or_else(|| text(&body, "errorCode")).map(str::to_owned)
}

/// The description of a refusal, for people (section 5.2).
pub(super) fn description(body: &[u8]) -> Option<String> {
    let body = serde_json::from_slice(body).ok()?;
    text(&body, "error_description").map(str::to_owned)
}

fn text<'a>(body: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    body.get(name)?.as_str().filter(|text| !text.trim().is_empty())
}

/// The life in seconds, which some servers send as text. Less than one second means nothing: servers that mean "for
/// ever" send 0 or -1.
fn life(expires_in: Option<&Value>) -> Duration {
    let seconds = match expires_in {
        Some(Value::Number(seconds)) => seconds.as_f64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        _ => None,
    };
    seconds
        .filter(|seconds: &f64| *seconds >= 1.0)
        .map_or(ASSUMED_LIFE, |seconds| Duration::from_secs_f64(seconds.min(LONGEST_LIFE.as_secs_f64())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::Method;
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    const DAY: u64 = 24 * 3600;

    #[rstest]
    #[case(json!(3600), 3600)]
    #[case(json!(1), 1)]
    #[case(json!(86_400), DAY)]
    #[case(json!(1_000_000_000_000_u64), DAY)]
    #[case(json!(1e300), DAY)]
    #[case(json!("3600"), 3600)]
    #[case(json!(" 3600 "), 3600)]
    #[case(json!("1000000000000000000000000"), DAY)]
    #[case(json!(0), 600)]
    #[case(json!(0.5), 600)]
    #[case(json!(-1), 600)]
    #[case(json!("0"), 600)]
    #[case(json!("-3600"), 600)]
    #[case(json!("soon"), 600)]
    #[case(json!("NaN"), 600)]
    #[case(json!(""), 600)]
    #[case(json!(null), 600)]
    #[case(json!([3600]), 600)]
    fn lives_are_sane(#[case] expires_in: Value, #[case] seconds: u64) {
        let body = json!({"access_token": "t", "token_type": "bearer", "expires_in": expires_in});
        assert_eq!(token(body.to_string().as_bytes()).unwrap().life, Duration::from_secs(seconds));
    }

    #[test]
    fn a_life_may_be_left_out() {
        let token = token(br#"{"access_token": "t", "token_type": "bearer"}"#).unwrap();
        assert_eq!(token.life, ASSUMED_LIFE);
    }

    proptest! {
        #[test]
        fn every_life_has_bounds(seconds in proptest::num::f64::ANY) {
            for written in [json!(seconds), json!(seconds.to_string())] {
                let life = life(Some(&written));
                prop_assert!((Duration::from_secs(1)..=LONGEST_LIFE).contains(&life), "{written}: {life:?}");
            }
        }
    }

    #[rstest]
    #[case(r#"{"access_token": "t", "token_type": "bearer"}"#, Ok(()))]
    #[case(r#"{"access_token": "t", "token_type": "BEARER", "scope": ["odd"]}"#, Ok(()))]
    #[case(r#"{"access_token": "t"}"#, Ok(()))]
    #[case(
        r#"{"access_token": "t", "token_type": "mac"}"#,
        Err("contains a `token_type` other than `bearer`")
    )]
    #[case(r#"{"access_token": "t", "token_type": 7}"#, Err("contains a `token_type` other than `bearer`"))]
    #[case(r#"{"access_token": "a\nb"}"#, Err("contains an `access_token` that can't be sent in a header"))]
    #[case(r#"{"access_token": " "}"#, Err("contains no `access_token`"))]
    #[case(r#"{"access_token": 7}"#, Err("contains no `access_token`"))]
    #[case("{}", Err("contains no `access_token`"))]
    #[case("[]", Err("is not a JSON object"))]
    #[case("<html>", Err("is not a JSON object"))]
    #[case("", Err("is not a JSON object"))]
    fn reads_tokens(#[case] body: &str, #[case] expected: Result<(), &str>) {
        match (token(body.as_bytes()), expected) {
            (Ok(_), Ok(())) => {}
            (Err(what), Err(words)) => assert!(what.starts_with(words), "{what}"),
            (outcome, _) => panic!("{outcome:?}"),
        }
    }

    #[test]
    fn a_token_is_sent_and_not_shown() {
        let token = Token::new("hunter2".into(), ASSUMED_LIFE).unwrap();
        let request = token.sign(Request::new(Method::GET, "/", "https://broker".parse().unwrap()));
        assert_eq!(request.header_value(&AUTHORIZATION).unwrap(), "Bearer hunter2");
        assert!(!format!("{token:?} {request:?}").contains("hunter2"));
    }
}
