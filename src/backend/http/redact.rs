//! Redacts and shortens the remote side's messages for a status, which many people may read.

use std::{fmt, ops::Range};

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::encoding::{Abandoned, ReadableText, SearchBudget, in_base64, replace};

/// The most characters of a remote side's message that the operator's own message repeats.
const LONGEST_QUOTE: usize = 300;
/// The most bytes of a remote side's message that are searched for secrets. Anything after them is not shown.
const LONGEST_TEXT: usize = 4 << 10;
/// The most secrets to search for. Searching takes time, and a tenant chooses the text and the secrets.
const MOST_SECRETS: usize = 1000;
/// The most work for one search: some ten milliseconds. A thousand secrets in a text of 4 KiB take less, unless a
/// tenant crafts them to take more.
const MOST_WORK: usize = 2 << 20;
const REDACTED: &str = "[redacted]";

/// Redacts the secrets that the operator sent to a remote side from the messages of that remote side.
#[derive(Clone, Default)]
pub(in crate::backend) struct Redactor {
    secrets: Vec<SecretString>,
    /// Whether some secrets are missing from `secrets`.
    incomplete: bool,
}

impl Redactor {
    pub(in crate::backend) fn hiding(secrets: impl IntoIterator<Item = SecretString>) -> Self {
        Self::default().and(secrets)
    }

    pub(in crate::backend) fn and(mut self, secrets: impl IntoIterator<Item = SecretString>) -> Self {
        self.secrets.extend(secrets.into_iter().filter(|secret| !secret.expose_secret().trim().is_empty()));
        self.secrets.sort_unstable_by(|one, other| one.expose_secret().cmp(other.expose_secret()));
        self.secrets.dedup_by(|one, other| one.expose_secret() == other.expose_secret());
        self
    }

    /// Hides every string in these parameters that is long enough to be a secret. Hiding shorter ones would shred whole
    /// sentences without hiding anything.
    pub(in crate::backend) fn and_strings_of<'a>(self, values: impl IntoIterator<Item = &'a Value>) -> Self {
        let mut found = Vec::new();
        let mut pending: Vec<&Value> = values.into_iter().collect();
        while let Some(value) = pending.pop() {
            match value {
                Value::String(text) if text.chars().count() > 3 => found.push(text.as_str().into()),
                Value::Array(entries) => pending.extend(entries),
                Value::Object(entries) => pending.extend(entries.values()),
                _ => {}
            }
        }
        self.and(found)
    }

    /// Shows no message at all: some of the secrets can't be read now.
    pub(in crate::backend) fn incomplete(self) -> Self {
        Self { incomplete: true, ..self }
    }

    /// Quotes the body of an error: its description, or else which kind of body it is.
    pub(in crate::backend) fn quote(&self, body: &[u8]) -> String {
        match serde_json::from_slice(body) {
            Ok(Value::Object(fields)) => match words(&fields) {
                Some(text) => self.sanitize(text),
                None => "no description".to_owned(),
            },
            Ok(_) => "no description".to_owned(),
            Err(_) if body.trim_ascii().is_empty() => "an empty body".to_owned(),
            Err(_) if is_web_page(body) => "an HTML page".to_owned(),
            Err(_) => "a body that is not JSON".to_owned(),
        }
    }

    /// The description in the body of an answer, if it has one.
    pub(in crate::backend) fn description(&self, body: &[u8]) -> Option<String> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let text = body.get("description")?.as_str().filter(|text| !text.trim().is_empty())?;
        Some(self.sanitize(text))
    }

    /// Redacts the secrets and well-known patterns, joins the text to one line, and truncates it.
    pub(in crate::backend) fn sanitize(&self, text: &str) -> String {
        if self.incomplete {
            return "a message that is not shown, because the secrets to redact in it can't be read now"
                .to_owned();
        }
        if self.secrets.len() > MOST_SECRETS {
            return "a message that is not shown, because there are too many secrets to search for"
                .to_owned();
        }
        let end = text.char_indices().map(|(end, _)| end).find(|end| *end >= LONGEST_TEXT);
        let Ok(text) = self.hide(&text[..end.unwrap_or(text.len())], &mut SearchBudget::at_most(MOST_WORK))
        else {
            return "a message that is not shown, because searching it for secrets takes too long".to_owned();
        };
        let text = one_line(&text);
        cut(without_named(&without_logins(&without_data(&text))).trim_end_matches('.'))
    }

    /// Replaces all secrets in the text at once, so that the replacements are not searched.
    ///
    /// # Errors
    /// If the search needs more work than the budget allows.
    fn hide(&self, text: &str, work: &mut SearchBudget) -> Result<String, Abandoned> {
        let mut hidden = vec![false; text.len()];
        let line = SingleLine::new(text);
        let (as_it_is, on_one_line) = (ReadableText::new(text), ReadableText::new(&line.text));
        for secret in self.secrets.iter().map(ExposeSecret::expose_secret) {
            as_it_is.find(secret, work, |range| hidden[range].fill(true))?;
            for encoded in in_base64(secret) {
                as_it_is.find(&encoded, work, |range| hidden[range].fill(true))?;
            }
            // A secret that the text breaks over several lines.
            let on_a_line = Zeroizing::new(one_line(secret));
            if line.text != text || *on_a_line != secret {
                on_one_line.find(&on_a_line, work, |range| hidden[line.origin(range)].fill(true))?;
            }
        }
        Ok(replace(text, &hidden, REDACTED))
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Redactor({} secrets)", self.secrets.len())
    }
}

/// Redacts these secrets and makes the text fit for a status.
#[must_use]
pub(crate) fn without_secrets(text: &str, secrets: impl IntoIterator<Item = SecretString>) -> String {
    Redactor::hiding(secrets).sanitize(text)
}

/// Whether this is a web page, as gateways send.
pub(in crate::backend) fn is_web_page(body: &[u8]) -> bool {
    body.trim_ascii_start().starts_with(b"<")
}

/// Whether the body contains a message that could be shown.
pub(in crate::backend) fn has_words(body: &[u8]) -> bool {
    serde_json::from_slice(body).is_ok_and(|fields| words(&fields).is_some())
}

fn words(fields: &Map<String, Value>) -> Option<&str> {
    let text = |name: &str| fields.get(name).and_then(Value::as_str).filter(|text| !text.trim().is_empty());
    ["description", "error_description", "errorMessage", "message", "error"].into_iter().find_map(text)
}

/// Joins the text to one line: control characters, invisible characters and runs of white space become one space.
pub(in crate::backend) fn one_line(text: &str) -> String {
    SingleLine::new(text).text
}

struct SingleLine {
    text: String,
    /// The position of each byte in the original text, and the end of the last one.
    origins: Vec<usize>,
}

impl SingleLine {
    fn new(text: &str) -> Self {
        let mut line = Self { text: String::with_capacity(text.len()), origins: Vec::new() };
        let mut end = 0;
        for (at, character) in text.char_indices() {
            if is_blank(character) {
                continue;
            }
            if at > end && end > 0 {
                line.text.push(' ');
                line.origins.push(end);
            }
            line.text.push(character);
            end = at + character.len_utf8();
            line.origins.extend(at..end);
        }
        line.origins.push(end);
        line
    }

    /// The part of the original text that became this part of the line.
    fn origin(&self, part: Range<usize>) -> Range<usize> {
        self.origins[part.start]..self.origins[part.end]
    }
}

fn is_blank(character: char) -> bool {
    character.is_whitespace()
        || character.is_control()
        // Zero-width characters, and characters that change the direction of writing.
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// Hides data in the message: it may be the new key, whose secrets the operator does not know yet. It hides from the
/// first brace to the last one, because a secret may contain braces too.
fn without_data(text: &str) -> String {
    let Some((before, data)) = text.split_once('{') else { return text.to_owned() };
    let after = data.rsplit_once('}').map_or("", |(_, after)| after);
    format!("{before}{{…}}{after}")
}

fn without_logins(line: &str) -> String {
    let hide = |word: &str| match word.split_once("://").map(|(scheme, rest)| (scheme, rest.rsplit_once('@')))
    {
        Some((scheme, Some((_, host)))) => format!("{scheme}://{REDACTED}@{host}"),
        Some((_, None)) | None => word.to_owned(),
    };
    line.split(' ').map(hide).collect::<Vec<_>>().join(" ")
}

/// Hides values that are named a password or a token, in the usual notations: `DB_PASSWORD=…`, `"password": "…"`. It
/// keeps the text after `token:`, because that is also ordinary prose.
fn without_named(line: &str) -> String {
    let mut hides_next = false;
    let hide = |word: &str| {
        if std::mem::take(&mut hides_next) {
            return REDACTED.to_owned();
        }
        let Some((end, _)) = word.char_indices().find(|(end, c)| names_a_secret(&word[..*end], *c)) else {
            return word.to_owned();
        };
        let name = &word[..=end];
        hides_next = name == word;
        if hides_next { name.to_owned() } else { format!("{name}{REDACTED}") }
    };
    line.split(' ').map(hide).collect::<Vec<_>>().join(" ")
}

fn names_a_secret(before: &str, separator: char) -> bool {
    let name = before.trim_end_matches(['"', '\'', '`']).to_ascii_lowercase();
    let ends = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending));
    let password = || ends(&["password", "passwd", "passphrase", "pwd"]);
    match separator {
        '=' => password() || ends(&["secret", "token", "apikey", "api_key", "api-key"]),
        ':' => password(),
        _ => false,
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST_QUOTE) {
        None => text.to_owned(),
        Some(_) => text.chars().take(LONGEST_QUOTE - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn redactor() -> Redactor {
        Redactor::hiding(["hunter2".into(), "two  words".into(), "".into()])
            .and_strings_of([&json!({"deep": [{"er": "hunter2-and-more"}], "short": "abc", "number": 12345})])
    }

    #[rstest]
    #[case(r#"{"description": "no such plan."}"#, "no such plan")]
    #[case(r#"{"error": "AsyncRequired", "description": "ask later"}"#, "ask later")]
    #[case(r#"{"error": "AsyncRequired"}"#, "AsyncRequired")]
    #[case(r#"{"error": "invalid_client", "error_description": "bad"}"#, "bad")]
    #[case(r#"{"description": " ", "message": "m"}"#, "m")]
    #[case(r#"{"description": 7}"#, "no description")]
    #[case("[]", "no description")]
    #[case("", "an empty body")]
    #[case("  \n", "an empty body")]
    #[case("<!doctype html><p>hunter2", "an HTML page")]
    #[case("\n <html>", "an HTML page")]
    #[case("upstream connect error", "a body that is not JSON")]
    #[case(r#"{"description": "is hunter2 right?"}"#, "is [redacted] right?")]
    #[case(r#"{"description": "hunter2-and-more"}"#, "[redacted]")]
    #[case(r#"{"description": "two\n words"}"#, "[redacted]")]
    #[case(r#"{"description": "a\u0000b\r\n\tc\u202ed"}"#, "a b c d")]
    #[case(r#"{"description": "abc 12345"}"#, "abc 12345")]
    #[case(r#"{"description": "can't save {\"password\": \"a}b{c\"} now"}"#, "can't save {…} now")]
    #[case(r#"{"description": "can't save {\"password\": \"abc"}"#, "can't save {…}")]
    #[case(r#"{"description": "} and {"}"#, "} and {…}")]
    #[case(
        r#"{"description": "no way to amqp://me:a@b@host:1/x and https://host/@ from me@here"}"#,
        "no way to amqp://[redacted]@host:1/x and https://[redacted]@ from me@here"
    )]
    #[case(
        r#"{"description": "PGPASSWORD=abc, Password: abc."}"#,
        "PGPASSWORD=[redacted] Password: [redacted]"
    )]
    #[case(
        r#"{"description": "\"password\": \"abc\", `pwd`:abc"}"#,
        "\"password\": [redacted] `pwd`:[redacted]"
    )]
    #[case(
        r#"{"description": "GET https://host/?access_token=abc&x=1 failed"}"#,
        "GET https://host/?access_token=[redacted] failed"
    )]
    #[case(r#"{"description": "bad token: it has expired; x=1"}"#, "bad token: it has expired; x=1")]
    #[case(r#"{"description": "password="}"#, "password=")]
    fn quotes(#[case] body: &str, #[case] words: &str) {
        assert_eq!(redactor().quote(body.as_bytes()), words);
    }

    #[test]
    fn cuts_after_hiding() {
        let text = format!("{}hunter2", "é".repeat(LONGEST_QUOTE - 4));
        let quote = redactor().quote(json!({"description": text}).to_string().as_bytes());
        assert_eq!(quote.chars().count(), LONGEST_QUOTE);
        assert!(quote.ends_with("[re…"), "{quote}");
    }

    /// Replacements are not searched for the next secret, and no secret is searched for twice.
    #[test]
    fn a_text_does_not_grow_by_what_is_hidden() {
        let secrets = json!(["reda", "cted", "[red", "acte"].repeat(100));
        let redactor = Redactor::default().and_strings_of([&secrets]);
        assert_eq!(format!("{redactor:?}"), "Redactor(4 secrets)");
        assert_eq!(
            redactor.sanitize("it is reda, cted or redacted"),
            "it is [redacted], [redacted] or [redacted]"
        );
        let hidden = redactor.hide(&"reda ".repeat(800), &mut SearchBudget::at_most(MOST_WORK)).unwrap();
        assert!(hidden == "[redacted] ".repeat(800), "{} bytes", hidden.len());
    }

    #[test]
    fn a_thousand_secrets_are_found() {
        let sentence = "the binding of the service can't be created because its plan is not bindable; ";
        let text = format!("hunter2 {}", sentence.repeat(LONGEST_TEXT / sentence.len()));
        let secrets = (0..MOST_SECRETS - 1).map(|number| format!("the secret of binding {number}").into());
        let redactor = Redactor::hiding(secrets).and(["hunter2".into()]);
        assert!(redactor.sanitize(&text).starts_with("[redacted] the binding of"));
    }

    /// Each of these secrets can be encoded in many ways.
    #[test]
    fn what_takes_too_long_is_not_shown() {
        let secrets = (0..40).map(|number| format!("{}{number}", "\\".repeat(4000)).into());
        let redactor = Redactor::hiding(secrets);
        let said = redactor.sanitize(&format!("hunter2 {}", "\\".repeat(4000)));
        assert_eq!(said, "a message that is not shown, because searching it for secrets takes too long");
    }

    #[test]
    fn nesting_without_end_is_no_json() {
        assert_eq!(redactor().quote("[".repeat(1_000_000).as_bytes()), "a body that is not JSON");
        let deep = format!("{{\"description\":{}1{}}}", "[".repeat(200), "]".repeat(200));
        assert_eq!(redactor().quote(deep.as_bytes()), "a body that is not JSON");
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", redactor()), "Redactor(3 secrets)");
    }

    proptest! {
        #[test]
        fn no_secret_and_no_second_line_gets_through(before in ".{0,400}", after in ".{0,400}") {
            let body = json!({"description": format!("{before}hunter2{after}")}).to_string();
            let quote = redactor().quote(body.as_bytes());
            prop_assert!(!quote.contains("hunter2"));
            prop_assert!(quote.chars().count() <= LONGEST_QUOTE);
            prop_assert!(!quote.contains(char::is_control));
        }
    }
}
