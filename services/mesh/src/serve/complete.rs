//! Completes what a handler answers: a panic becomes INTERNAL, every error has a reason and the request id, and a cause
//! that only we can mend is logged once, here.

use std::{convert::Infallible, panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt as _;
use http::{Request, Response};
use opentelemetry::trace::TraceId;
use tonic::{Code, Status, body::Body};
use tonic_types::{StatusExt as _, pb};
use tracing::{error, warn};

use crate::{
    Context, Reason, Refusal,
    refusal::{any, with_details},
    stack::{Next, Reply, Stage},
    telemetry::chain,
};

/// See the module.
#[derive(Clone)]
pub(crate) struct Complete;

/// What the log says of a call that fails.
pub(crate) struct Call {
    method: &'static str,
    request_id: Arc<str>,
    trace_id: TraceId,
}

impl Call {
    pub(crate) fn of(context: &Context) -> Self {
        let (method, trace_id) = (context.method.map_or("other", |method| method.path), context.trace.trace_id());
        Self { method, request_id: context.request_id.clone(), trace_id }
    }
}

impl Stage<Infallible> for Complete {
    async fn run(&self, request: &mut Request<Body>, next: &impl Next<Infallible>) -> Reply<Infallible> {
        let Some(call) = request.extensions().get().map(Call::of) else { return next.go(request).await };
        let Ok(reply) = AssertUnwindSafe(next.go(request)).catch_unwind().await else {
            let Call { method, request_id, trace_id } = &call;
            error!(rpc.method = %method, request.id = %request_id, trace.id = %trace_id, "The handler of {method} panicked");
            let message = "something went wrong on our side; quote the request id";
            return Ok(refuse(request_id, Refusal::new(Reason::Internal, message)));
        };
        let mut response = reply?;
        // An unknown rpc of a known service is a code in a header and no more: tonic generates it so.
        let bare = |head: &_| Status::from_header_map(head).filter(|status| status.code() != Code::Ok);
        Ok(match response.extensions_mut().remove::<Status>().or_else(|| bare(response.headers())) {
            Some(status) => {
                let status = reasoned(status);
                log_cause(&call, &status);
                completed(&call.request_id, status).into_http()
            }
            None => response,
        })
    }
}

/// A refusal of one of our own stages, as it goes over the wire.
pub(crate) fn refuse(request_id: &str, refusal: Refusal) -> Response<Body> {
    completed(request_id, refusal.into()).into_http()
}

/// The same of any status, which gets a reason.
pub(crate) fn refuse_with(request_id: &str, status: Status) -> Response<Body> {
    completed(request_id, reasoned(status)).into_http()
}

/// What ends a stream that has begun, as it goes over the wire: the stage saw no more than its beginning.
pub(crate) fn ended(call: &Call, status: Status) -> Status {
    let status = reasoned(status);
    log_cause(call, &status);
    completed(&call.request_id, status)
}

fn log_cause(Call { method, request_id, trace_id }: &Call, status: &Status) {
    let Some(cause) = std::error::Error::source(status).map(chain) else { return };
    match status.code() {
        Code::Internal | Code::Unknown | Code::DataLoss => {
            error!(rpc.method = %method, request.id = %request_id, trace.id = %trace_id, "{method} failed: {cause}");
        }
        _ => {
            warn!(rpc.method = %method, request.id = %request_id, trace.id = %trace_id, "{method} was not done: {cause}");
        }
    }
}

/// The status with a reason, whoever made it.
fn reasoned(status: Status) -> Status {
    if status.get_details_error_info().is_some() { status } else { of_tonic(&status).into() }
}

/// The status with the id of the request.
fn completed(request_id: &str, status: Status) -> Status {
    let info = pb::RequestInfo { request_id: request_id.to_owned(), serving_data: String::new() };
    with_details(status, vec![any("google.rpc.RequestInfo", &info)])
}

/// How tonic 0.14 begins what it says of a message that it cannot read. Any other INTERNAL is somebody's mistake.
const UNREADABLE: [&str; 6] = [
    "failed to decode Protobuf message",
    "protocol error: ",
    "Unexpected EOF decoding stream",
    "Missing request message",
    "Error decompressing",
    "tonic-web: ",
];

/// What tonic itself answers, in our words. It calls a message that it cannot decode INTERNAL, and one that is too
/// large OUT_OF_RANGE.
fn of_tonic(status: &Status) -> Refusal {
    let message = status.message();
    match status.code() {
        Code::Unimplemented if message.is_empty() => {
            Refusal::new(Reason::MethodNotFound, "there is no such rpc on this port")
        }
        Code::Unimplemented => Refusal::new(Reason::EncodingNotSupported, message),
        Code::OutOfRange | Code::ResourceExhausted => Refusal::new(Reason::TooLarge, message),
        Code::Internal if UNREADABLE.iter().any(|start| message.starts_with(start)) => {
            Refusal::new(Reason::InvalidFields, format!("the request is not a message of this rpc: {message}"))
        }
        Code::InvalidArgument => Refusal::new(Reason::InvalidFields, message),
        // A request that breaks off in the middle is UNKNOWN to tonic.
        Code::Cancelled | Code::Unknown => Refusal::new(Reason::Cancelled, "the caller went away"),
        Code::DeadlineExceeded => Refusal::new(Reason::DeadlineExceeded, message),
        Code::Unavailable => Refusal::new(Reason::DependencyUnavailable, message),
        _ => Refusal::internal(status.clone()),
    }
}
