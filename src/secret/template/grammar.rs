//! The part of the template language that is admitted: all that makes text, nothing that makes lists and
//! maps.
//!
//! The engine's fuel pays for what a list holds, not for what its items hold in turn. `{% set x = [x, x] %}`,
//! forty times over, costs next to nothing and prints as a terabyte, and filters print before they ask for
//! fuel. Without a way to put one value twice into another, no value grows beyond what was paid for.
//!
//! The engine also folds constants while it compiles, before there is any fuel, and does so again at each level of an
//! expression. What that can cost grows with the square of an expression's length, which is therefore limited.

use minijinja::{
    Error,
    machinery::{Token, tokenize},
    syntax::SyntaxConfig,
};

/// Tokens of one expression, which is what stands between `{{` and `}}`, or between `{%` and `%}`.
pub(super) const MAX_EXPRESSION: usize = 256;

/// Parentheses, brackets and braces within one another.
pub(super) const MAX_NESTING: usize = 32;

/// Tokens of one template.
pub(super) const MAX_TOKENS: usize = 4096;

/// Something that is not admitted.
pub(super) struct TemplateRefusal {
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
pub(super) fn check(source: &str, syntax: &SyntaxConfig) -> Result<Result<(), TemplateRefusal>, Error> {
    let mut is_call = Vec::new();
    let mut after_callable = false;
    let mut expression: usize = 0;
    for (count, token) in (1..).zip(tokenize(source, false, syntax.clone())) {
        let (token, span) = token?;
        expression = match token {
            Token::VariableStart | Token::BlockStart | Token::TemplateData(_) => 0,
            _ => expression + 1,
        };
        let limit = [
            (expression > MAX_EXPRESSION, "an expression has more than 256 words and signs; split it"),
            (is_call.len() > MAX_NESTING, "parentheses and brackets are nested more than 32 deep"),
            (count > MAX_TOKENS, "the template has more than 4096 words and signs; shorten it"),
        ];
        if let Some((_, problem)) = limit.into_iter().find(|(exceeded, _)| *exceeded) {
            return Ok(Err(TemplateRefusal { line: span.start_line.into(), problem: problem.to_owned() }));
        }
        let admitted = match token {
            Token::Plus | Token::Mul | Token::Pow => false,
            Token::Comma => is_call.last() == Some(&true),
            _ => true,
        };
        if !admitted {
            let problem = format!("{token} is not admitted here, templates make no lists, maps or sums");
            return Ok(Err(TemplateRefusal { line: span.start_line.into(), problem }));
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
