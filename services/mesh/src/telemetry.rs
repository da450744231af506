//! What can be seen of a running process: logs, spans, metrics. Spans leave it over OTLP where an endpoint is set;
//! metrics are read from the admin port.

pub(crate) mod rpc;
pub(crate) mod w3c;

use std::{error::Error, io::IsTerminal as _};

use http::{HeaderMap, Response};
use opentelemetry::{
    Context as OtelContext,
    metrics::{Counter, Histogram, MeterProvider as _},
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceState, TracerProvider as _},
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{
    Resource,
    metrics::SdkMeterProvider,
    trace::{IdGenerator as _, RandomIdGenerator, SdkTracerProvider},
};
use prometheus::{Encoder as _, Registry, TextEncoder};
use serde::{Deserialize, Serialize};
use tonic::Code;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::{
    EnvFilter, Layer as _, filter::filter_fn, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::{header::GRPC_STATUS, observe::Observer};

/// Spans that are exported carry this target.
pub(crate) const SPAN_TARGET: &str = "mesh::rpc";
/// From ten microseconds, because a cached read takes some tens, to ten seconds.
const SECONDS: [f64; 19] = [
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
    0.5, 1.0, 2.5, 5.0, 10.0,
];

/// Settings of logs, spans and metrics.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TelemetrySettings {
    /// Which log lines are written: `info`, or a filter such as `info,sqlx=warn`.
    pub log: String,
    /// `text`, `json`, or `auto`: text on a terminal, JSON otherwise.
    pub log_format: LogFormat,
    /// Where spans go: an OTLP collector over gRPC, such as `http://127.0.0.1:4317`. Empty: nowhere.
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` is honoured where this is not set.
    pub otlp_endpoint: String,
    /// The share of calls that are traced, 0 to 1, where the caller has not decided.
    pub sample_ratio: f64,
    /// How many bytes of recent calls are remembered for `trivet trace` and ListCalls, sampled or not: a call takes some two
    /// hundred on either side. 0: none.
    pub recent_bytes: usize,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self {
            log: "info".to_owned(),
            log_format: LogFormat::Auto,
            otlp_endpoint: String::new(),
            sample_ratio: 1.0,
            recent_bytes: 8 * 1024 * 1024,
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Telemetry that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log filter does not parse.
    #[error("telemetry.log is not a filter")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// The OTLP exporter refused its endpoint.
    #[error("telemetry.otlp_endpoint cannot be used")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// Prometheus refused the exporter.
    #[error("metrics cannot be exported")]
    Metrics(#[source] Box<dyn Error + Send + Sync>),
    /// Logs go somewhere already.
    #[error("a log subscriber is there already")]
    Subscriber(#[from] tracing_subscriber::util::TryInitError),
}

/// The instruments of one process.
pub struct Telemetry {
    tracer_provider: Option<SdkTracerProvider>,
    meter_provider: SdkMeterProvider,
    registry: Registry,
    sample_ratio: f64,
    /// What is seen of calls, sampled or not.
    pub(crate) observer: Observer,
    /// `rpc.server.call.duration`, in seconds.
    pub(crate) server_calls: Histogram<f64>,
    /// `rpc.client.call.duration`, in seconds.
    pub(crate) client_calls: Histogram<f64>,
    /// `grpc.client.call.retries` (gRFC A96).
    pub(crate) client_retries: Counter<u64>,
    /// Attempts beside one that was slow.
    pub(crate) client_hedges: Counter<u64>,
    /// `trivet.breaker.opened`: how often an endpoint was taken out.
    pub(crate) breaker_opened: Counter<u64>,
}

impl Telemetry {
    /// Metrics only: no logs, no spans. For tests, and for commands that are soon over.
    pub fn quiet() -> Result<Self, TelemetryError> {
        let settings = TelemetrySettings { sample_ratio: 0.0, ..TelemetrySettings::default() };
        Self::with(None, &settings, Resource::builder().with_service_name("trivet").build())
    }

    /// Sets up the process: logs to standard error, spans to the collector if there is one.
    pub fn install(settings: &TelemetrySettings, service: &str) -> Result<Self, TelemetryError> {
        let resource = Resource::builder().with_service_name(service.to_owned()).build();
        let tracer_provider = exporter(&settings.otlp_endpoint, resource.clone())?;
        let spans = tracer_provider.as_ref().map(|provider| {
            let tracer = provider.tracer("trivet");
            let ours = filter_fn(|metadata| metadata.is_span() && metadata.target() == SPAN_TARGET);
            tracing_opentelemetry::layer().with_tracer(tracer).with_filter(ours)
        });
        let json = match settings.log_format {
            LogFormat::Auto => !std::io::stderr().is_terminal(),
            LogFormat::Text => false,
            LogFormat::Json => true,
        };
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let lines = if json { lines.json().boxed() } else { lines.boxed() };
        let lines = lines.with_filter(settings.log.parse::<EnvFilter>()?);
        tracing_subscriber::registry().with(spans).with(lines).try_init()?;
        Self::with(tracer_provider, settings, resource)
    }

    fn with(
        tracer_provider: Option<SdkTracerProvider>,
        settings: &TelemetrySettings,
        resource: Resource,
    ) -> Result<Self, TelemetryError> {
        let registry = Registry::new();
        let reader = opentelemetry_prometheus::exporter().with_registry(registry.clone()).build();
        let reader = reader.map_err(|error| TelemetryError::Metrics(error.into()))?;
        let meter_provider = SdkMeterProvider::builder().with_reader(reader).with_resource(resource).build();
        let meter = meter_provider.meter("trivet");
        let seconds = |name| meter.f64_histogram(name).with_unit("s").with_boundaries(SECONDS.to_vec()).build();
        Ok(Self {
            server_calls: seconds("rpc.server.call.duration"),
            client_calls: seconds("rpc.client.call.duration"),
            client_retries: meter.u64_counter("grpc.client.call.retries").build(),
            client_hedges: meter.u64_counter("grpc.client.call.hedges").build(),
            breaker_opened: meter.u64_counter("trivet.breaker.opened").build(),
            tracer_provider,
            meter_provider,
            registry,
            sample_ratio: settings.sample_ratio,
            observer: Observer::new(settings.recent_bytes),
        })
    }

    /// A meter for instruments of a service's own.
    pub fn meter(&self) -> opentelemetry::metrics::Meter {
        self.meter_provider.meter("trivet")
    }

    /// All metrics in Prometheus' text format.
    pub fn prometheus(&self) -> Result<String, TelemetryError> {
        let mut text = Vec::new();
        TextEncoder::new()
            .encode(&self.registry.gather(), &mut text)
            .map_err(|error| TelemetryError::Metrics(error.into()))?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Sends what has not been sent yet. Blocks: call it where that is no harm.
    pub fn flush(&self) {
        let ended = self.tracer_provider.as_ref().map(SdkTracerProvider::shutdown);
        if let Some(Err(error)) = ended {
            tracing::warn!(error = %error, "Spans were left behind: {error}");
        }
    }

    /// The span of a call that came in, its place in the trace, and the span that it is a part of. Whether it is sampled is
    /// decided before any span is made: by the caller, else by `sample_ratio`. A call that is not sampled costs no span
    /// and still has ids, by which it is found in the memory of the process.
    pub(crate) fn server_span(
        &self,
        role: &str,
        method: &str,
        request_id: &str,
        headers: &HeaderMap,
    ) -> (Span, SpanContext, SpanId) {
        let parent = w3c::extract(headers);
        let parent_id = parent.span_id();
        let sampled = self.tracer_provider.is_some() && self.is_sampled(&parent);
        if !sampled {
            return (Span::none(), unsampled(&parent), parent_id);
        }
        let span = rpc::server_span(role, method, request_id);
        // A parent that there is not would count as one that is not sampled.
        if parent.is_valid()
            && let Err(error) = span.set_parent(OtelContext::new().with_remote_span_context(parent))
        {
            tracing::debug!(error = %error, "A span has no place for its parent");
        }
        let trace = span.context().span().span_context().clone();
        (span, trace, parent_id)
    }

    /// The span of a call that goes out as part of `trace`, or begins one, and what to tell the other side.
    pub(crate) fn client_span(&self, peer: &str, method: &str, trace: &SpanContext) -> (Span, SpanContext) {
        if self.tracer_provider.is_none() || !self.is_sampled(trace) {
            return (Span::none(), unsampled(trace));
        }
        let span = rpc::client_span(peer, method);
        let trace = span.context().span().span_context().clone();
        (span, trace)
    }

    /// The span of feeling an event that `producer` made, and the trace that goes on from there. It is a trace of its own
    /// with a link to the other, since they can be hours apart; of an event that was not sampled there is no span.
    pub(crate) fn consumer_span(
        &self,
        consumer: &str,
        kind: &str,
        event_id: &str,
        producer: &SpanContext,
    ) -> (Span, SpanContext) {
        if self.tracer_provider.is_none() || !producer.is_sampled() {
            return (Span::none(), producer.clone());
        }
        let span = rpc::consumer_span(consumer, kind, event_id);
        span.add_link(producer.clone());
        let trace = span.context().span().span_context().clone();
        (span, trace)
    }

    fn is_sampled(&self, parent: &SpanContext) -> bool {
        if parent.is_valid() { parent.is_sampled() } else { rand::random::<f64>() < self.sample_ratio }
    }
}

/// The exporter, where an endpoint is set. The decision to sample was made before a span gets there.
fn exporter(endpoint: &str, resource: Resource) -> Result<Option<SdkTracerProvider>, TelemetryError> {
    if endpoint.is_empty() {
        return Ok(None);
    }
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build()?;
    Ok(Some(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build()))
}

/// A span that is sent to no collector, as a part of this trace, or of a fresh one where it is none. What the caller
/// decided goes on with it.
fn unsampled(parent: &SpanContext) -> SpanContext {
    let ids = RandomIdGenerator::default();
    let span_id = ids.new_span_id();
    if parent.is_valid() {
        let (flags, state) = (parent.trace_flags(), parent.trace_state().clone());
        return SpanContext::new(parent.trace_id(), span_id, flags, false, state);
    }
    SpanContext::new(ids.new_trace_id(), span_id, TraceFlags::NOT_SAMPLED, false, TraceState::NONE)
}

/// The code that a response carries in its headers. One that has none yet is going well.
pub(crate) fn code_of<B>(response: &Response<B>) -> Code {
    response.headers().get(&GRPC_STATUS).map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()))
}

/// An error and everything behind it, as one line.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(behind) = cause {
        line.push_str(": ");
        line.push_str(&behind.to_string());
        cause = behind.source();
    }
    line
}
