//! The part of the template language that is admitted: all that makes text, nothing that makes lists and
//! maps.
//!
//! The engine's fuel pays for what a list holds, not for what its items hold in turn. `{% set x = [x, x] %}`,
//! forty times over, costs next to nothing and prints as a terabyte, and filters print before they ask for
//! fuel. Without a way to put one value twice into another, no value grows beyond what was paid for.

use minijinja::{
    Error,
    machinery::{Token, tokenize},
    syntax::SyntaxConfig,
};

/// Something that is not admitted.
pub(super) struct Refusal {
    /// The line, counted from 1.
    pub line: usize,
    /// What it is, and what to do.
    pub problem: String,
}

/// Words after which a parenthesis groups an expression, and is not the arguments of a call.
const KEYWORDS: [&str; 8] = ["and", "elif", "else", "if", "in", "is", "not", "or"];

/// Checks a template with the engine's own tokens.
///
/// # Errors
/// The first token that the engine does not know; the first refusal is the inner error.
pub(super) fn check(source: &str, syntax: &SyntaxConfig) -> Result<Result<(), Refusal>, Error> {
    let mut is_call = Vec::new();
    let mut after_callable = false;
    for token in tokenize(source, false, syntax.clone()) {
        let (token, span) = token?;
        let admitted = match token {
            Token::Plus | Token::Mul | Token::Pow => false,
            Token::Comma => is_call.last() == Some(&true),
            _ => true,
        };
        if !admitted {
            let problem = format!("{token} is not admitted here, templates make no lists, maps or sums");
            return Ok(Err(Refusal { line: span.start_line.into(), problem }));
        }
        match token {
            Token::ParenOpen => is_call.push(after_callable),
            Token::BracketOpen | Token::BraceOpen => is_call.push(false),
            Token::ParenClose | Token::BracketClose | Token::BraceClose => drop(is_call.pop()),
            _ => {}
        }
        after_callable = match token {
            Token::Ident(word) => !KEYWORDS.contains(&word),
            Token::ParenClose | Token::BracketClose => true,
            _ => false,
        };
    }
    Ok(Ok(()))
}
