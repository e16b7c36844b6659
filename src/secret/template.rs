//! Templates of entries: minijinja over the credentials, strict about undefined values.
//!
//! An error of the template engine may quote the values that it worked on. So the operator never passes on
//! the engine's words about a render with credentials. It finds the problem by a second render, with
//! placeholders instead of the values.

mod containers;
mod deep_stack;
mod engine;
mod grammar;
mod stand_in;

use std::collections::{BTreeMap, BTreeSet};

use minijinja::{Environment, Error, ErrorKind, Template};
use serde_json::{Map, Value};

use super::{Entries, MAX_SIZE, RenderError, entry_name, error::Quoted};

/// The variable that contains all credentials, for names that are not identifiers:
/// `{{ credentials["user-name"] }}`.
const ALL: &str = "credentials";

/// The longest template, in bytes.
const MAX_SOURCE: usize = 16 * 1024;

/// Limit of templated entries, as in the definition of ServiceKeys.
const MAX_ENTRIES: usize = 64;

/// Limit of all templates of a Secret together, in bytes.
const MAX_TOTAL: usize = 128 * 1024;

/// Checks everything that can be checked without credentials: sizes, names of entries, syntax, and the names
/// of filters and tests.
///
/// # Errors
/// The first problem.
pub(super) fn validate(templates: &BTreeMap<String, String>) -> Result<(), RenderError> {
    check_sizes(templates)?;
    deep_stack::run(|| templates.iter().try_for_each(|(entry, source)| validate_one(entry, source)))
        .unwrap_or(Err(RenderError::NoThread))
}

fn check_sizes(templates: &BTreeMap<String, String>) -> Result<(), RenderError> {
    if templates.len() > MAX_ENTRIES {
        return Err(RenderError::TooManyTemplates { count: templates.len() });
    }
    let length = templates.values().map(String::len).sum();
    if length > MAX_TOTAL { Err(RenderError::TemplatesTooLong { length }) } else { Ok(()) }
}

fn validate_one(entry: &str, source: &str) -> Result<(), RenderError> {
    let env = engine::environment(engine::REHEARSAL_FUEL);
    let template = parse(&env, entry, source)?;
    match engine::rehearse(&template, stand_in::anything()) {
        Err(error) if matches!(error.kind(), ErrorKind::UnknownFilter | ErrorKind::UnknownTest) => {
            Err(wrong(entry, &error, words(&error)))
        }
        _ => Ok(()),
    }
}

/// Renders all templates with the credentials. A null credential counts as absent.
///
/// # Errors
/// The first template that fails, or an output beyond [`MAX_SIZE`].
pub(super) fn render(
    templates: &BTreeMap<String, String>,
    credentials: &Map<String, Value>,
) -> Result<Entries, RenderError> {
    check_sizes(templates)?;
    deep_stack::run(|| render_all(templates, credentials)).unwrap_or(Err(RenderError::NoThread))
}

fn render_all(
    templates: &BTreeMap<String, String>,
    credentials: &Map<String, Value>,
) -> Result<Entries, RenderError> {
    let context = engine::context(credentials);
    let mut entries = BTreeMap::new();
    let (mut left, mut fuel) = (MAX_SIZE, engine::FUEL);
    for (entry, source) in templates {
        let env = engine::environment(fuel);
        let template = parse(&env, entry, source)?;
        let rendered = engine::render(&template, context.clone(), left)
            .map_err(|error| explain(entry, &template, credentials, &error))?;
        left -= rendered.output.len();
        fuel = rendered.fuel_left;
        entries.insert(entry.clone(), rendered.output);
    }
    Entries::new(entries)
}

fn parse<'env>(
    env: &'env Environment<'_>,
    entry: &'env str,
    source: &'env str,
) -> Result<Template<'env, 'env>, RenderError> {
    if !entry_name::is_valid(entry) {
        return Err(RenderError::InvalidEntry { entry: entry.to_owned() });
    }
    if source.len() > MAX_SOURCE {
        return Err(RenderError::TemplateTooLong { entry: entry.to_owned(), length: source.len() });
    }
    let malformed = |error: Error| wrong(entry, &error, words(&error));
    grammar::check(source, env.syntax()).map_err(malformed)?.map_err(|refusal| RenderError::Template {
        entry: entry.to_owned(),
        line: refusal.line,
        problem: refusal.problem,
    })?;
    env.template_from_named_str(entry, source).map_err(malformed)
}

/// Describes the failure of a render with credentials. It uses nothing from the error but its kind and line.
fn explain(
    entry: &str,
    template: &Template<'_, '_>,
    credentials: &Map<String, Value>,
    error: &Error,
) -> RenderError {
    match error.kind() {
        ErrorKind::WriteFailure => RenderError::TooLarge { size: MAX_SIZE + 1 },
        ErrorKind::OutOfFuel => wrong(entry, error, "it does too much work; make it simpler".to_owned()),
        ErrorKind::UndefinedError => RenderError::Undefined {
            entry: entry.to_owned(),
            line: error.line().unwrap_or(1),
            missing: missing(template, credentials),
            present: present(credentials).cloned().collect(),
        },
        ErrorKind::BadSerialization => wrong(entry, error, engine::INEXACT.to_owned()),
        kind => {
            let rehearsal = engine::rehearse(template, stand_in::for_credentials(credentials));
            let problem = match rehearsal {
                Err(harmless) if harmless.kind() == kind => words(&harmless),
                _ => kind.to_string(),
            };
            wrong(entry, error, problem)
        }
    }
}

fn wrong(entry: &str, error: &Error, problem: String) -> RenderError {
    RenderError::Template { entry: entry.to_owned(), line: error.line().unwrap_or(1), problem }
}

/// The engine's words, for an error without credentials.
fn words(error: &Error) -> String {
    error.detail().map_or_else(|| error.kind().to_string(), |detail| format!("{}: {detail}", error.kind()))
}

fn present(credentials: &Map<String, Value>) -> impl Iterator<Item = &String> {
    credentials.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name)
}

/// The undefined variables that the template reads, as far as its source shows them.
fn missing(template: &Template<'_, '_>, credentials: &Map<String, Value>) -> String {
    let present: BTreeSet<&str> = present(credentials).map(String::as_str).collect();
    let below_all =
        |name: &str| name.strip_prefix(ALL).and_then(|rest| rest.strip_prefix('.').map(str::to_owned));
    let variables: BTreeSet<String> = template.undeclared_variables(true).into_iter().collect();
    let names: Vec<_> = variables
        .iter()
        .map(|path| below_all(path).unwrap_or_else(|| path.clone()))
        .filter(|path| {
            let root = path.split('.').next().unwrap_or(path);
            root != ALL && !present.contains(path.as_str()) && !present.contains(root)
        })
        .map(|path| Quoted(&path).to_string())
        .collect();
    if names.is_empty() { "a value".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests;
