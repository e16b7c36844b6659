//! Traces: each reconcile with its steps and calls. The operator sends them by OTLP over http to the collector that the
//! environment variables of the OpenTelemetry specification name, such as `OTEL_EXPORTER_OTLP_ENDPOINT`.

use std::{env, sync::OnceLock};

use anyhow::Context;
use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracer, SdkTracerProvider},
};
use tracing::Subscriber;
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::registry::LookupSpan;

const SERVICE: &str = env!("CARGO_PKG_NAME");
/// Either of them names a collector.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// The exporter of this process.
static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// Returns the layer that sends spans. `None` if the environment names no collector.
///
/// # Errors
/// If the address of the collector is invalid.
pub(super) fn layer<S>() -> anyhow::Result<Option<OpenTelemetryLayer<S, SdkTracer>>>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let named = |name: &&str| env::var(name).is_ok_and(|value| !value.is_empty());
    if !ENDPOINTS.iter().any(named) {
        return Ok(None);
    }
    // The exporter's client needs a default provider. If there is one already, it stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let exporter = SpanExporter::builder().with_http().build();
    let exporter =
        exporter.with_context(|| format!("can't send traces to the collector in `{}`", ENDPOINTS[1]))?;
    let resource = Resource::builder()
        .with_service_name(SERVICE)
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    let provider =
        SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build();
    let tracer = PROVIDER.get_or_init(|| provider).tracer(SERVICE);
    Ok(Some(tracing_opentelemetry::layer().with_tracer(tracer)))
}

/// Sends the remaining spans at the end of the process.
pub(crate) fn finish_traces() {
    if let Some(Err(error)) = PROVIDER.get().map(SdkTracerProvider::shutdown) {
        tracing::warn!(%error, "can't send the last traces");
    }
}
