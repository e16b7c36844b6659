//! A Prometheus that scrapes one target, and answers queries.

use std::{collections::BTreeMap, fmt, fs, net::SocketAddr, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::PrometheusError;
use crate::{FileError, Stderr, go_tool::GoTool, process::Process, scratch::Scratch};

/// What Prometheus says before the address that it listens on.
const LISTENS: &str = "msg=\"Listening on\"";
/// The longest that it may take for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running Prometheus; dropping it ends it.
pub struct Prometheus {
    // Dropped in this order: the server, then its folder.
    _process: Process,
    _scratch: Scratch,
    url: String,
    client: reqwest::Client,
}

/// One series of an answer.
#[derive(Clone, Debug, Deserialize)]
pub struct Series {
    /// Its labels.
    #[serde(rename = "metric")]
    pub labels: BTreeMap<String, String>,
    /// Its values, each at its time in seconds since 1970; Prometheus sends them as text, because they may be no number.
    pub values: Vec<(f64, String)>,
}

#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Series>,
}

impl Prometheus {
    /// Starts one that scrapes this address every `interval`, at least a second, and puts the label `namespace` on what
    /// it finds.
    ///
    /// # Errors
    /// [`PrometheusError`] says what is missing, how the build ended, or why it does not start.
    pub async fn scraping(
        target: SocketAddr,
        interval: Duration,
        namespace: &str,
    ) -> Result<Self, PrometheusError> {
        let program = GoTool::prometheus().await?;
        let scratch = Scratch::new("Prometheus", Arc::new(Stderr))?;
        let interval = format!("{}s", interval.as_secs().max(1));
        let scrape = json!({
            "job_name": "servicekey-operator",
            "scrape_interval": interval,
            "scrape_timeout": interval,
            "static_configs": [{"targets": [target.to_string()], "labels": {"namespace": namespace}}],
        });
        let configuration = scratch.path().join("prometheus.yml");
        // JSON is YAML.
        fs::write(&configuration, json!({"scrape_configs": [scrape]}).to_string())
            .map_err(FileError::of("write", &configuration))?;
        let option = |name: &str, value: &std::path::Path| format!("--{name}={}", value.display()).into();
        let arguments = [
            option("config.file", &configuration),
            option("storage.tsdb.path", &scratch.path().join("data")),
            "--web.listen-address=127.0.0.1:0".into(),
        ];
        let log = scratch.path().join("prometheus.log");
        let mut process = Process::start("prometheus", program.path(), &arguments, log)?;
        let address = process.until_logged(address).await?;
        // The client needs it even where it speaks plain http.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build();
        let client = client.map_err(failed("the client"))?;
        Ok(Self { _process: process, _scratch: scratch, url: format!("http://{address}"), client })
    }

    /// The values of a query from one time to another, one for each step.
    ///
    /// # Errors
    /// Where the query is refused, or not answered.
    pub async fn query_range(
        &self,
        query: &str,
        (start, end): (Timestamp, Timestamp),
        step: Duration,
    ) -> Result<Vec<Series>, PrometheusError> {
        let form = [
            ("query", query.to_owned()),
            ("start", start.to_string()),
            ("end", end.to_string()),
            ("step", step.as_secs_f64().to_string()),
        ];
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(&form).finish();
        let asked = self
            .client
            .post(format!("{}/api/v1/query_range", self.url))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body);
        let answer = asked.send().await.and_then(reqwest::Response::error_for_status);
        let answer: Answer = answer.map_err(failed(query))?.json().await.map_err(failed(query))?;
        Ok(answer.data.result)
    }
}

impl fmt::Debug for Prometheus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prometheus").field("url", &self.url).finish_non_exhaustive()
    }
}

fn failed(query: &str) -> impl FnOnce(reqwest::Error) -> PrometheusError {
    let query = query.to_owned();
    |source| PrometheusError::Query { query, source }
}

/// The address in a log, once its line is complete.
fn address(log: &str) -> Option<SocketAddr> {
    let complete = &log[..log.rfind('\n')?];
    let line = complete.lines().find(|line| line.contains(LISTENS))?;
    line.split(' ').find_map(|field| field.strip_prefix("address=")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_a_complete_line() {
        let line = "time=2026-01-01T00:00:00.000Z level=INFO source=tls_config.go:354 msg=\"Listening on\" address=127.0.0.1:4711";
        assert_eq!(address(line), None);
        assert_eq!(address(&format!("other\n{line}\n")), Some(([127, 0, 0, 1], 4711).into()));
    }
}
