//! The configuration file: a YAML mapping of long flag names to values.
//!
//! Its values become the defaults of the flags. So the environment overrides the file, and the command line overrides
//! both.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow, bail};
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::Value;

const CONFIG: &str = "config";

/// Returns the command with the defaults of the file that the arguments or the environment name.
///
/// # Errors
/// If the file can't be read, or contains a value that the subcommand refuses.
pub(super) fn with_file(command: Command, arguments: &[OsString]) -> anyhow::Result<Command> {
    // This pass only finds the file. The second pass checks the arguments, with all defaults.
    let matches = command.clone().ignore_errors(true).try_get_matches_from(arguments);
    let Some((subcommand, matches)) = matches.as_ref().ok().and_then(ArgMatches::subcommand) else {
        return Ok(command);
    };
    // Not every subcommand has this flag.
    let Ok(Some(path)) = matches.try_get_one::<PathBuf>(CONFIG) else { return Ok(command) };
    let settings = read(&command, subcommand, path)
        .with_context(|| format!("can't use the configuration file `{}`", path.display()))?;
    Ok(command.mut_subcommand(subcommand, |subcommand| {
        settings.into_iter().fold(subcommand, |subcommand, (id, values)| {
            subcommand.mut_arg(id, |arg| arg.default_values(values))
        })
    }))
}

/// Reads the values in the file, with the ids of their arguments.
fn read(command: &Command, subcommand: &str, path: &Path) -> anyhow::Result<Vec<(String, Vec<String>)>> {
    let text = fs::read_to_string(path).context("it can't be read")?;
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Vec::new());
    }
    let entries: BTreeMap<String, Value> =
        serde_saphyr::from_str(&text).context("it is not a YAML mapping of flags to values")?;
    let target = command.find_subcommand(subcommand).context("there is no such command")?;
    let mut settings = Vec::new();
    for (flag, value) in entries {
        let arg = find(target, &flag)?;
        let values = values(arg, &flag, &value)?;
        accepts(target, &flag, arg, &values)?;
        settings.push((arg.get_id().to_string(), values));
    }
    Ok(settings)
}

fn find<'a>(command: &'a Command, flag: &str) -> anyhow::Result<&'a Arg> {
    let mut flags: Vec<_> =
        command.get_arguments().filter(|arg| arg.get_long().is_some_and(|long| long != CONFIG)).collect();
    flags.sort_by_key(|arg| arg.get_long());
    flags.iter().find(|arg| arg.get_long() == Some(flag)).copied().ok_or_else(|| {
        let known: Vec<_> = flags.iter().filter_map(|arg| arg.get_long()).collect();
        anyhow!("there is no flag `{flag}`; use one of {}", known.join(", "))
    })
}

/// The values of an entry, in the form of the command line.
fn values(arg: &Arg, flag: &str, value: &Value) -> anyhow::Result<Vec<String>> {
    let scalar = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            Err(anyhow!("`{flag}` needs a string, a number, true or false"))
        }
    };
    match value {
        Value::Array(entries) if arg.get_value_delimiter().is_some() => entries.iter().map(scalar).collect(),
        Value::Array(_) => bail!("`{flag}` takes one value, not a list"),
        value => Ok(vec![scalar(value)?]),
    }
}

/// Checks that the command accepts these values. The environment is ignored, because it overrides the file.
fn accepts(command: &Command, flag: &str, arg: &Arg, values: &[String]) -> anyhow::Result<()> {
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        return match values {
            [value] if value == "true" || value == "false" => Ok(()),
            _ => Err(anyhow!("`{flag}` takes true or false")),
        };
    }
    let alone = command.clone().no_binary_name(true).mut_args(|arg| arg.env(None));
    let arguments = values.iter().map(|value| format!("--{flag}={value}"));
    match alone.try_get_matches_from(arguments) {
        Ok(_) => Ok(()),
        Err(error) => {
            let said = error.to_string();
            let said = said.lines().next().unwrap_or_default();
            Err(anyhow!("{}", said.strip_prefix("error: ").unwrap_or(said).to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsString, io::Write};

    use clap::CommandFactory;

    use super::*;
    use crate::{api::Duration, backend::Network, cli::Cli};

    #[test]
    fn what_a_file_says_is_the_default() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let content = "# ours\nconcurrency: 7\nlease-duration: 20s\nleader-elect: true\nallow-cidr: [10.0.0.0/8, 127.0.0.0/8]\n";
        file.write_all(content.as_bytes()).unwrap();
        let path = file.path().to_str().unwrap();
        for subcommand in ["run", "check"] {
            let arguments = ["servicekey-operator", subcommand, "--config", path, "--lease-duration=5s"]
                .map(OsString::from);
            let command = with_file(Cli::command(), &arguments).unwrap();
            let matches = command.try_get_matches_from(&arguments).unwrap();
            let run = matches.subcommand_matches(subcommand).unwrap();
            assert_eq!(run.get_one::<u16>("concurrency"), Some(&7));
            assert_eq!(
                run.get_one("lease_duration"),
                Some(&Duration::from_secs(5)),
                "the command line comes first"
            );
            assert_eq!(run.get_one("check_interval"), Some(&Duration::from_secs(600)));
            assert!(run.get_flag("leader_elect"));
            assert_eq!(run.get_many::<Network>("allow_cidr").unwrap().count(), 2);
        }
    }

    #[test]
    fn other_commands_have_no_file() {
        let arguments = ["servicekey-operator", "crds"].map(OsString::from);
        assert!(with_file(Cli::command(), &arguments).is_ok());
    }
}
