//! Setup and limits of the template engine.

use std::{collections::BTreeMap, io};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use minijinja::{
    Environment, Error, ErrorKind, Output, State, Template, UndefinedBehavior, escape_formatter, filters,
    syntax::SyntaxConfig,
    tests,
    value::{Value, ValueKind},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};
use serde_json::Map;

use super::{
    ALL,
    containers::{CredentialList, CredentialMap},
};
use crate::secret::entries::{MAX_SIZE, is_exact};

/// The work that all templates of a Secret may do together. One unit is one instruction, or 64 bytes of data.
pub(super) const FUEL: u64 = 200_000;

/// The work of a template that runs only to find out what is wrong with it.
pub(super) const REHEARSAL_FUEL: u64 = 10_000;

/// All characters but the unreserved ones of RFC 3986. Jinja's own filter keeps `/`, and a password with a
/// `/` would then end the host part of a connection string.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The problem of a number that can't be written as the remote side sent it.
pub(super) const INEXACT: &str =
    "it uses a number beyond 64 bits, which can't be written without losing digits";

/// An engine with these filters and tests, and without functions. Each filter and test was checked against
/// the fuel and the limits.
pub(super) fn environment(fuel: u64) -> Environment<'static> {
    let mut env = Environment::empty();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    // It fails only for unusual delimiters, and these are the default ones.
    env.set_syntax(SyntaxConfig::builder().keep_trailing_newline(true).build().unwrap_or_default());
    env.set_formatter(format);
    env.set_fuel(Some(fuel));

    env.add_filter("b64encode", b64encode);
    env.add_filter("default", filters::default);
    env.add_filter("first", filters::first);
    env.add_filter("int", filters::int);
    env.add_filter("join", filters::join);
    env.add_filter("last", filters::last);
    env.add_filter("length", filters::length);
    env.add_filter("lower", filters::lower);
    env.add_filter("replace", filters::replace);
    env.add_filter("split", filters::split);
    env.add_filter("tojson", tojson);
    env.add_filter("trim", filters::trim);
    env.add_filter("upper", filters::upper);
    env.add_filter("urlencode", urlencode);

    env.add_test("defined", tests::is_defined);
    env.add_test("undefined", tests::is_undefined);
    env.add_test("string", tests::is_string);
    env.add_test("number", tests::is_number);
    env.add_test("mapping", tests::is_mapping);
    env.add_test("sequence", tests::is_sequence);
    env
}

/// The variables of a template: each credential under its own name, and all of them under [`ALL`].
pub(super) fn context(credentials: &Map<String, serde_json::Value>) -> Value {
    let mut variables: BTreeMap<String, Value> = credentials
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| (name.clone(), convert(value)))
        .collect();
    let all = Value::from(CredentialMap::new(variables.clone()));
    variables.insert(ALL.to_owned(), all);
    Value::from(variables)
}

pub(super) fn convert(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(flag) => Value::from(*flag),
        serde_json::Value::String(string) => Value::from(string.as_str()),
        serde_json::Value::Number(number) if !is_exact(number) => {
            Value::from(Error::new(ErrorKind::BadSerialization, INEXACT))
        }
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(integer), _) => Value::from(integer),
            (_, Some(integer)) => Value::from(integer),
            _ => number.as_f64().map_or_else(|| Value::from(()), Value::from),
        },
        serde_json::Value::Array(items) => CredentialList::new(items).into(),
        serde_json::Value::Object(members) => CredentialMap::from_json(members).into(),
    }
}

/// The output of a template.
pub(super) struct Rendered {
    pub(super) output: Vec<u8>,
    pub(super) fuel_left: u64,
}

/// Renders at most `limit` bytes. Beyond that, it returns an error of the kind [`ErrorKind::WriteFailure`].
pub(super) fn render(template: &Template<'_, '_>, context: Value, limit: usize) -> Result<Rendered, Error> {
    let mut output = Capped { bytes: Vec::new(), limit };
    let captured = template.render_captured_to(context, &mut output)?;
    let fuel_left = captured.state().fuel_levels().map_or(0, |(_, left)| left);
    Ok(Rendered { output: output.bytes, fuel_left })
}

/// Renders only for the error.
pub(super) fn rehearse(template: &Template<'_, '_>, context: Value) -> Result<(), Error> {
    render(template, context, MAX_SIZE).map(drop)
}

struct Capped {
    bytes: Vec<u8>,
    limit: usize,
}

impl io::Write for Capped {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + part.len() > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn urlencode(value: &Value) -> Result<String, Error> {
    Ok(percent_encode(&scalar(value)?, RESERVED).to_string())
}

fn b64encode(value: &Value) -> Result<String, Error> {
    Ok(STANDARD.encode(scalar(value)?))
}

/// Compact JSON, as in the layout without a template. The engine's own filter also escapes for HTML.
fn tojson(value: &Value) -> Result<String, Error> {
    if value.is_undefined() {
        return Err(ErrorKind::UndefinedError.into());
    }
    let mut json = Capped { bytes: Vec::new(), limit: MAX_SIZE };
    serde_json::to_writer(&mut json, value).map_err(|error| {
        let kind = if error.is_io() { ErrorKind::WriteFailure } else { ErrorKind::BadSerialization };
        Error::new(kind, "the value can't be written as JSON")
    })?;
    // The engine writes an invalid value as `null`. A value that fits the limit is small enough for another
    // walk.
    if holds_invalid(value) {
        return Err(Error::new(ErrorKind::BadSerialization, INEXACT));
    }
    Ok(String::from_utf8_lossy(&json.bytes).into_owned())
}

fn holds_invalid(value: &Value) -> bool {
    let item_holds = |key: Value| match value.kind() {
        ValueKind::Map => value.get_item(&key).is_ok_and(|item| holds_invalid(&item)),
        _ => holds_invalid(&key),
    };
    match value.kind() {
        ValueKind::Invalid => true,
        ValueKind::Map | ValueKind::Seq => value.try_iter().is_ok_and(|mut items| items.any(item_holds)),
        _ => false,
    }
}

/// Writes a value as the layout without a template does. The engine itself writes booleans and lists as
/// Python does.
fn format(output: &mut Output<'_>, state: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Bool | ValueKind::Map | ValueKind::Seq => Ok(output.write_str(&tojson(value)?)?),
        _ => escape_formatter(output, state, value),
    }
}

/// The bytes of a string, number or boolean. Objects and arrays have no unique text: `tojson` creates one.
fn scalar(value: &Value) -> Result<Vec<u8>, Error> {
    match value.kind() {
        ValueKind::Undefined => Err(ErrorKind::UndefinedError.into()),
        ValueKind::Bytes => Ok(value.as_bytes().unwrap_or_default().to_vec()),
        ValueKind::Bool | ValueKind::Number => Ok(tojson(value)?.into_bytes()),
        ValueKind::String => Ok(value.to_string().into_bytes()),
        kind => Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("the filter takes a string, number or boolean, not a {kind}; put `tojson` before it"),
        )),
    }
}
