//! Logs: their format, and their filter, which may change while the operator runs.

use std::{
    fmt,
    io::{self, IsTerminal},
    str::FromStr,
    sync::Arc,
};

use clap::ValueEnum;
use parking_lot::Mutex;
use tracing::Metadata;
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{LevelFilter, filter_fn},
    layer::SubscriberExt,
    reload::{self, Handle},
    util::SubscriberInitExt,
};

/// The highest level of each crate, whatever the filter says. Other crates log data that they send and receive, which
/// may contain secrets. A crate that is not in this list has [`MOST_OF_OTHERS`], so that a new dependency, or a new
/// version of one, logs no secrets.
const MOST: &[(&str, LevelFilter)] = &[
    ("servicekey_operator", LevelFilter::TRACE),
    // Logs whole answers: refusals, and those that it can't parse.
    ("kube_client::client", LevelFilter::OFF),
    ("kube_client::client::auth", MOST_OF_OTHERS),
    // Logs the method, the path and the status of each request.
    ("kube_client::client::builder", LevelFilter::DEBUG),
    ("kube_client::client::tls", MOST_OF_OTHERS),
    // At more verbose levels it logs errors of the client, which quote answers.
    ("kube_runtime", MOST_OF_OTHERS),
    // At this level they log connections, frames and handshakes, but no contents.
    ("h2", LevelFilter::DEBUG),
    ("hyper", LevelFilter::DEBUG),
    ("hyper_util", LevelFilter::DEBUG),
    ("reqwest", LevelFilter::DEBUG),
    ("rustls", LevelFilter::DEBUG),
];
const MOST_OF_OTHERS: LevelFilter = LevelFilter::INFO;

/// Whether an event or span may be logged at all.
fn is_known_to_be_harmless(metadata: &Metadata<'_>) -> bool {
    *metadata.level() <= most(metadata.target())
}

/// The highest level of a module: that of its nearest parent in the list.
fn most(target: &str) -> LevelFilter {
    let parents =
        std::iter::successors(Some(target), |part| part.rsplit_once("::").map(|(parent, _)| parent));
    let listed = |part: &str| MOST.iter().find(|(listed, _)| *listed == part).map(|(_, most)| *most);
    parents.into_iter().find_map(listed).unwrap_or(MOST_OF_OTHERS)
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// `pretty` on a terminal, otherwise `json`.
    Auto,
    /// One JSON object per line.
    Json,
    /// Text for people, with colours only on a terminal.
    Pretty,
}

/// A log filter: a level, or levels by module, such as `info,servicekey_operator::backend=debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFilter(String);

/// A text that is not a [`LogFilter`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a valid log filter ({why}); use a level, or levels by module, such as `info,kube=debug`"
)]
pub struct InvalidLogFilter {
    text: String,
    why: String,
}

impl LogFilter {
    /// The filter that applies unless the user sets one.
    pub const DEFAULT: &str = "info,kube_runtime=warn";

    fn compile(&self) -> Result<EnvFilter, InvalidLogFilter> {
        let invalid = |why: String| InvalidLogFilter { text: self.0.clone(), why };
        if self.0.trim().is_empty() {
            return Err(invalid("it is empty".to_owned()));
        }
        EnvFilter::builder().parse(&self.0).map_err(|error| invalid(error.to_string()))
    }
}

impl FromStr for LogFilter {
    type Err = InvalidLogFilter;

    fn from_str(text: &str) -> Result<Self, InvalidLogFilter> {
        let filter = Self(text.trim().to_owned());
        filter.compile().map(|_| filter)
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The current log filter of this process. Clones share it.
#[derive(Clone, Debug)]
pub struct LogLevel {
    current: Arc<Mutex<LogFilter>>,
    handle: Handle<EnvFilter, Registry>,
}

impl LogLevel {
    #[must_use]
    pub fn get(&self) -> LogFilter {
        self.current.lock().clone()
    }

    /// Sets the filter.
    ///
    /// # Errors
    /// If the text is not a valid filter. The filter then stays as it is.
    pub fn set(&self, text: &str) -> Result<(), InvalidLogFilter> {
        let filter: LogFilter = text.parse()?;
        let compiled = filter.compile()?;
        let mut current = self.current.lock();
        // It fails only if the process has no subscriber.
        if self.handle.reload(compiled).is_ok() {
            *current = filter;
        }
        Ok(())
    }
}

/// Starts to log to standard error, and to send traces if the environment names a collector.
///
/// # Errors
/// If the process has a subscriber already, or the collector's address is invalid.
pub fn start_logging(format: LogFormat, filter: &LogFilter) -> anyhow::Result<LogLevel> {
    let (layer, level) = level(filter)?;
    let (lines, terminal) =
        (tracing_subscriber::fmt::layer().with_writer(io::stderr), io::stderr().is_terminal());
    let lines = match format {
        LogFormat::Pretty => lines.with_ansi(terminal).boxed(),
        LogFormat::Auto if terminal => lines.boxed(),
        // The list of spans contains the current span.
        LogFormat::Auto | LogFormat::Json => lines.json().with_current_span(false).boxed(),
    };
    let registry =
        tracing_subscriber::registry().with(layer).with(filter_fn(is_known_to_be_harmless)).with(lines);
    #[cfg(feature = "otlp")]
    let registry = registry.with(super::traces::layer()?);
    registry.try_init()?;
    Ok(level)
}

fn level(filter: &LogFilter) -> Result<(reload::Layer<EnvFilter, Registry>, LogLevel), InvalidLogFilter> {
    let (layer, handle) = reload::Layer::new(filter.compile()?);
    Ok((layer, LogLevel { current: Arc::new(Mutex::new(filter.clone())), handle }))
}

#[cfg(test)]
pub(super) mod tests {
    use rstest::rstest;

    use super::*;

    /// A filter without a subscriber. It can be changed until the layer is dropped.
    pub(in crate::runtime) fn detached() -> (reload::Layer<EnvFilter, Registry>, LogLevel) {
        level(&LogFilter::DEFAULT.parse().unwrap()).unwrap()
    }

    #[rstest]
    #[case("debug")]
    #[case(" info,kube=trace ")]
    #[case("warn,servicekey_operator[reconcile{namespace=training}]=debug")]
    fn filters_are_levels_by_part(#[case] text: &str) {
        assert_eq!(text.parse::<LogFilter>().unwrap().to_string(), text.trim());
    }

    #[rstest]
    #[case("")]
    #[case("loud=louder")]
    #[case("info,[")]
    fn what_makes_no_sense_is_refused_and_changes_nothing(#[case] text: &str) {
        let (_layer, level) = detached();
        let said = level.set(text).unwrap_err().to_string();
        assert!(said.starts_with(&format!("`{text}` is not a valid log filter (")), "{said}");
        assert_eq!(level.get().to_string(), LogFilter::DEFAULT);
    }

    #[rstest]
    #[case("servicekey_operator", LevelFilter::TRACE)]
    #[case("servicekey_operator::backend::http", LevelFilter::TRACE)]
    #[case("servicekey_operator_of_others", LevelFilter::INFO)]
    #[case("kube_client::client", LevelFilter::OFF)]
    #[case("kube_client::client::new_part", LevelFilter::OFF)]
    #[case("kube_client::client::builder", LevelFilter::DEBUG)]
    #[case("kube_client::api::entry", LevelFilter::INFO)]
    #[case("kube_runtime::watcher", LevelFilter::INFO)]
    #[case("h2::codec::framed_read", LevelFilter::DEBUG)]
    #[case("some_new_crate", LevelFilter::INFO)]
    #[case("log", LevelFilter::INFO)]
    fn other_crates_stay_quiet(#[case] target: &str, #[case] expected: LevelFilter) {
        assert_eq!(most(target), expected);
    }

    #[test]
    fn clones_change_the_same() {
        let (layer, level) = detached();
        level.clone().set("debug").unwrap();
        assert_eq!(level.get().to_string(), "debug");
        drop(layer);
        level.set("trace").unwrap();
        assert_eq!(level.get().to_string(), "debug", "changed without a layer");
    }
}
