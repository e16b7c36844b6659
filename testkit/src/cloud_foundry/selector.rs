//! Label selectors, by the API's documentation (section Labels and selectors).

use std::{collections::BTreeMap, iter::Peekable, vec::IntoIter};

type Labels = BTreeMap<String, String>;

/// A list of requirements, all of which labels have to meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    Exists(String),
    Missing(String),
    In(String, Vec<String>),
    /// Labels without the key match too.
    NotIn(String, Vec<String>),
}

impl Selector {
    /// Reads a selector; the error says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = tokens(text)?.into_iter().peekable();
        let mut requirements = vec![Requirement::parse(&mut tokens)?];
        while let Some(token) = tokens.next() {
            if token != Token::Comma {
                return Err(format!("expecting a ',' or end, got {token:?}"));
            }
            requirements.push(Requirement::parse(&mut tokens)?);
        }
        Ok(Self(requirements))
    }

    pub(super) fn selects(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.is_met_by(labels))
    }
}

type Tokens = Peekable<IntoIter<Token>>;

impl Requirement {
    fn parse(tokens: &mut Tokens) -> Result<Self, String> {
        let key = match tokens.next() {
            Some(Token::Not) => return Ok(Self::Missing(word(tokens)?)),
            Some(Token::Word(key)) => key,
            other => return Err(format!("expecting a key or '!', got {other:?}")),
        };
        match tokens.peek() {
            None | Some(Token::Comma) => Ok(Self::Exists(key)),
            Some(Token::Equal) => {
                tokens.next();
                Ok(Self::In(key, vec![word(tokens)?]))
            }
            Some(Token::NotEqual) => {
                tokens.next();
                Ok(Self::NotIn(key, vec![word(tokens)?]))
            }
            Some(Token::Word(operator)) if operator == "in" => {
                tokens.next();
                Ok(Self::In(key, set(tokens)?))
            }
            Some(Token::Word(operator)) if operator == "notin" => {
                tokens.next();
                Ok(Self::NotIn(key, set(tokens)?))
            }
            Some(other) => Err(format!("expecting a ',', operator, or end, got {other:?}")),
        }
    }

    fn is_met_by(&self, labels: &Labels) -> bool {
        match self {
            Self::Exists(key) => labels.contains_key(key),
            Self::Missing(key) => !labels.contains_key(key),
            Self::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Self::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
        }
    }
}

fn word(tokens: &mut Tokens) -> Result<String, String> {
    match tokens.next() {
        Some(Token::Word(word)) => Ok(word),
        other => Err(format!("expecting a key or value, got {other:?}")),
    }
}

fn set(tokens: &mut Tokens) -> Result<Vec<String>, String> {
    match tokens.next() {
        Some(Token::Open) => {}
        other => return Err(format!("expecting a '(', got {other:?}")),
    }
    let mut values = vec![word(tokens)?];
    loop {
        match tokens.next() {
            Some(Token::Comma) => values.push(word(tokens)?),
            Some(Token::Close) => return Ok(values),
            other => return Err(format!("expecting a ',' or ')', got {other:?}")),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Comma,
    Open,
    Close,
    Equal,
    NotEqual,
    Not,
    /// A key or a value: letters, digits, `-`, `_`, `.`, and one `/` at most.
    Word(String),
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let token = match character {
            ',' => Token::Comma,
            '(' => Token::Open,
            ')' => Token::Close,
            '=' => {
                characters.next_if_eq(&'=');
                Token::Equal
            }
            '!' if characters.next_if_eq(&'=').is_some() => Token::NotEqual,
            '!' => Token::Not,
            character if character.is_whitespace() => continue,
            character if is_of_a_word(character) => {
                let mut word = String::from(character);
                while let Some(next) = characters.next_if(|next| is_of_a_word(*next) || *next == '/') {
                    word.push(next);
                }
                if word.matches('/').count() > 1 || word.ends_with('/') {
                    return Err(format!("disallowed character(s) in `{word}`"));
                }
                Token::Word(word)
            }
            character => return Err(format!("disallowed character(s), got `{character}`")),
        };
        tokens.push(token);
    }
    Ok(tokens)
}

fn is_of_a_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selects(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Selector::parse(selector).unwrap().selects(&labels)
    }

    #[test]
    fn each_kind_of_requirement_selects_what_the_documentation_says() {
        let labels = [("env", "dev"), ("example.com/tier", "web")];
        let selecting = [
            "env",
            "!region",
            "env=dev",
            "env==dev",
            "env!=prod",
            "region!=eu",
            "env in (prod,dev)",
            "env in(dev)",
            "env notin (prod, test)",
            "region notin (eu)",
            "example.com/tier=web,env,!region",
            " env = dev , example.com/tier ",
        ];
        for selector in selecting {
            assert!(selects(selector, &labels), "{selector}");
        }
        let others = [
            "region",
            "!env",
            "env=prod",
            "env!=dev",
            "region=eu",
            "env in (prod,test)",
            "env notin (prod,dev)",
            "region in (eu)",
            "env=dev,region",
        ];
        for selector in others {
            assert!(!selects(selector, &labels), "{selector}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        let wrong = [
            "",
            ",",
            "env,",
            "env=",
            "=dev",
            "!=dev",
            "!",
            "env in",
            "env in dev",
            "env in ()",
            "env in (dev",
            "env in (dev,)",
            "env dev",
            "env=dev prod",
            "env=d*v",
            "a/b/c",
            "a/",
            "env=\u{e4}",
        ];
        for selector in wrong {
            assert!(Selector::parse(selector).is_err(), "{selector}");
        }
    }

    #[test]
    fn in_is_a_key_and_a_value_like_any_other() {
        assert!(selects("in", &[("in", "in")]));
        assert!(selects("in in (in)", &[("in", "in")]));
    }
}
