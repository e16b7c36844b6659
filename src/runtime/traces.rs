//! Traces: each reconcile with its steps and calls, sent to a collector that speaks OTLP over http, where the environment
//! names one as the specification of OpenTelemetry has it (`OTEL_EXPORTER_OTLP_ENDPOINT` and so on).

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

/// What sends the traces of this process.
static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// Sends what happens; `None` where the environment names no collector.
///
/// # Errors
/// What it names can't be used.
pub(super) fn layer<S>() -> anyhow::Result<Option<OpenTelemetryLayer<S, SdkTracer>>>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let named = |name: &&str| env::var(name).is_ok_and(|value| !value.is_empty());
    if !ENDPOINTS.iter().any(named) {
        return Ok(None);
    }
    // The exporter's client needs it; whoever was first is right.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let exporter = SpanExporter::builder().with_http().build();
    let exporter = exporter.with_context(|| format!("can't send traces to what `{}` names", ENDPOINTS[1]))?;
    let resource = Resource::builder()
        .with_service_name(SERVICE)
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    let provider =
        SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build();
    let tracer = PROVIDER.get_or_init(|| provider).tracer(SERVICE);
    Ok(Some(tracing_opentelemetry::layer().with_tracer(tracer)))
}

/// Sends what was not sent yet, at the end of the process.
pub(crate) fn finish_traces() {
    if let Some(Err(error)) = PROVIDER.get().map(SdkTracerProvider::shutdown) {
        tracing::warn!(%error, "the last traces could not be sent");
    }
}
