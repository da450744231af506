//! The names of OpenTelemetry's conventions for RPC spans and metrics, in one place because they are still moving
//! (<https://opentelemetry.io/docs/specs/semconv/rpc/grpc/>).

use opentelemetry::KeyValue;
use tonic::Code;
use tracing::{Span, field::Empty, info_span};

use super::SPAN_TARGET;

/// The span of a call that came in.
pub(crate) fn server_span(role: &str, method: &str, request_id: &str) -> Span {
    info_span!(
        target: SPAN_TARGET, "rpc", otel.name = method, otel.kind = "server", otel.status_code = Empty,
        rpc.system.name = "grpc", rpc.method = method, rpc.response.status_code = Empty,
        trivet.role = role, request.id = request_id,
    )
}

/// The span of a call that goes out, attempts and all.
pub(crate) fn client_span(peer: &str, method: &str) -> Span {
    info_span!(
        target: SPAN_TARGET, "rpc", otel.name = method, otel.kind = "client", otel.status_code = Empty,
        rpc.system.name = "grpc", rpc.method = method, rpc.response.status_code = Empty, trivet.peer = peer,
    )
}

/// The span of feeling an event (<https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/>).
pub(crate) fn consumer_span(consumer: &str, kind: &str, event_id: &str) -> Span {
    info_span!(
        target: SPAN_TARGET, parent: None, "event", otel.name = format!("process {kind}"), otel.kind = "consumer",
        otel.status_code = Empty, messaging.system = "trivet", messaging.operation.r#type = "process",
        messaging.destination.name = kind, messaging.message.id = event_id, trivet.role = consumer,
    )
}

/// Notes how a call ended on our side. Only codes that say that the server failed make the span an error:
/// INSUFFICIENT_FUNDS wakes nobody up.
pub(crate) fn record_server_code(span: &Span, code: Code) {
    span.record("rpc.response.status_code", name(code));
    let failed = matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    );
    if failed {
        span.record("otel.status_code", "ERROR");
    }
}

/// Notes how a call ended on the other side.
pub(crate) fn record_client_code(span: &Span, code: Code) {
    span.record("rpc.response.status_code", name(code));
    if code != Code::Ok {
        span.record("otel.status_code", "ERROR");
    }
}

/// Who served a call.
pub(crate) const ROLE: &str = "trivet.role";
/// Who was called.
pub(crate) const PEER: &str = "trivet.peer";

/// What a call is counted under. `method` is a path of the contract, or `other`; `side` is [`ROLE`] or [`PEER`] and its
/// name.
pub(crate) fn attributes(side: (&'static str, &'static str), method: &'static str, code: Code) -> [KeyValue; 4] {
    [
        KeyValue::new("rpc.system.name", "grpc"),
        KeyValue::new("rpc.method", method.trim_start_matches('/')),
        KeyValue::new("rpc.response.status_code", name(code)),
        KeyValue::new(side.0, side.1),
    ]
}

/// A code as gRPC spells it.
pub const fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
