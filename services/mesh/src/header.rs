//! The headers that calls carry beside their messages: gRPC's, W3C's and ours. They are looked up many times in every call,
//! so their names are made once.

use http::HeaderName;

/// How a call ended (gRPC over HTTP/2, "Responses").
pub(crate) static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// How long the caller waits, from now on (gRPC over HTTP/2, "Timeout").
pub(crate) static GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// How many attempts there were before this one (gRFC A6).
pub(crate) static PREVIOUS_ATTEMPTS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");
/// How long the server asks its caller to hold back (gRFC A6).
pub(crate) static PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");
/// The place of a call in a trace (W3C Trace Context, section 3.2), and what tracing systems say of it (section 3.3).
pub(crate) static TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) static TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// The call's id, both ways; the same on every hop.
pub(crate) static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The tenant that a call is made for, where its caller may act for several.
pub(crate) static TENANT: HeaderName = HeaderName::from_static("x-trivet-tenant");
/// Who calls, for whoever wants to know and for nobody who decides: `product@` and the mark of its process.
pub(crate) static CALLER: HeaderName = HeaderName::from_static("x-trivet-caller");
/// The word that roles of one process know each other by.
pub(crate) static PROCESS: HeaderName = HeaderName::from_static("x-trivet-process");
