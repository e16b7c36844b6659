//! The allowed part of the template language: everything that creates text, and nothing that creates lists
//! and maps.
//!
//! The engine's fuel pays for the items of a list, but not for their content. Forty repetitions of
//! `{% set x = [x, x] %}` cost almost nothing and print a terabyte, and filters print before they consume fuel.
//! Without a way to put one value twice into another, no value grows beyond what the fuel paid for.
//!
//! The engine also folds constants while it compiles, before fuel applies, and again at each level of an
//! expression. The cost of that grows with the square of an expression's length, which is therefore limited.

use minijinja::{
    Error,
    machinery::{Token, tokenize},
    syntax::SyntaxConfig,
};

/// Limit of tokens in one expression, the part between `{{` and `}}`, or between `{%` and `%}`.
pub(super) const MAX_EXPRESSION: usize = 256;

/// Limit of nested parentheses, brackets and braces.
pub(super) const MAX_NESTING: usize = 32;

/// Limit of tokens in one template.
pub(super) const MAX_TOKENS: usize = 4096;

/// A part of a template that is not allowed.
pub(super) struct TemplateRefusal {
    /// The line, counted from 1.
    pub line: usize,
    /// The problem, and what to do.
    pub problem: String,
}

/// Words after which a parenthesis groups an expression instead of starting the arguments of a call.
const KEYWORDS: [&str; 8] = ["and", "elif", "else", "if", "in", "is", "not", "or"];

/// Checks a template with the engine's own tokens.
///
/// # Errors
/// The first token that the engine does not know. The inner error is the first refusal.
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
            let problem = format!("{token} is not allowed here: templates can't create lists, maps or sums");
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
