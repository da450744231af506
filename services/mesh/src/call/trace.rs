//! Names a call and opens its span; the trace context goes along in `traceparent`, the request id and the tenant in
//! their own headers.

use std::sync::Arc;

use http::{HeaderValue, Request};
use tonic::{Status, body::Body};
use tracing::Instrument as _;

use crate::{
    Context, Telemetry,
    serve::{REQUEST_ID, TENANT},
    stack::{Next, Reply, Stage},
    telemetry::{code_of, inject, rpc},
};

/// See the module.
#[derive(Clone)]
pub(super) struct Trace {
    pub(super) peer: &'static str,
    pub(super) telemetry: Arc<Telemetry>,
}

impl Stage<Status> for Trace {
    async fn run(self, mut request: Request<Body>, next: impl Next<Status>) -> Reply<Status> {
        let method = trivet_proto::method(request.uri().path()).map_or("other", |method| method.path);
        let mut span = tracing::Span::none();
        if let Some(context) = request.extensions().get::<Context>().cloned() {
            let (opened, trace) = self.telemetry.client_span(self.peer, method.trim_start_matches('/'), &context.trace);
            span = opened;
            let headers = request.headers_mut();
            inject(&trace, headers);
            for (name, value) in [(REQUEST_ID, &*context.request_id), (TENANT, context.tenant.as_str())] {
                if let Ok(value) = HeaderValue::from_str(value) {
                    headers.insert(name, value);
                }
            }
        }
        let began = std::time::Instant::now();
        let reply = next.go(request).instrument(span.clone()).await;
        let code = reply.as_ref().map_or_else(Status::code, code_of);
        rpc::record_client_code(&span, code);
        self.telemetry
            .client_calls
            .record(began.elapsed().as_secs_f64(), &rpc::attributes((rpc::PEER, self.peer), method, code));
        reply
    }
}
