//! Names a call and opens its span; the trace context goes along in `traceparent`, the request id and the tenant in
//! their own headers. Who watches sees the call, and who it is that calls.

use std::{sync::Arc, time::Instant};

use http::{HeaderValue, Request};
use tonic::{Status, body::Body};
use tracing::Instrument as _;

use crate::{
    Context, Telemetry,
    header::{CALLER, REQUEST_ID, TENANT},
    observe::{Key, Label, Place, View},
    stack::{Next, Reply, Stage},
    telemetry::{code_of, rpc, w3c},
};

/// See the module.
#[derive(Clone)]
pub(super) struct Trace {
    /// The role that calls, where one does.
    pub(super) caller: Option<Label>,
    pub(super) peer: &'static str,
    pub(super) telemetry: Arc<Telemetry>,
}

impl Stage<Status> for Trace {
    async fn run(&self, request: &mut Request<Body>, next: &impl Next<Status>) -> Reply<Status> {
        let began = Instant::now();
        let method = trivet_proto::method(request.uri().path()).map_or("other", |method| method.path);
        let (mut span, mut watch) = (tracing::Span::none(), None);
        if let Some(caller) = &self.caller {
            request.headers_mut().insert(&CALLER, caller.header.clone());
        }
        let (mut parts, body) = std::mem::take(request).into_parts();
        if let Some(context) = parts.extensions.get::<Context>() {
            let (opened, trace) = self.telemetry.client_span(self.peer, method.trim_start_matches('/'), &context.trace);
            span = opened;
            watch = self.caller.as_ref().and_then(|caller| {
                let key = Key { caller: caller.role, callee: self.peer, method, view: View::Caller };
                let (parent_id, request_id) = (context.trace.span_id(), &context.request_id);
                let place = Place { key, trace: &trace, parent_id, request_id };
                self.telemetry.observer.watch(parts.uri.path(), began, &place)
            });
            w3c::inject(&trace, &mut parts.headers);
            for (name, text) in [(&REQUEST_ID, &*context.request_id), (&TENANT, context.tenant.as_str())] {
                if let Ok(value) = HeaderValue::from_str(text) {
                    parts.headers.insert(name, value);
                }
            }
        }
        *request = Request::from_parts(parts, body);
        let reply = if span.is_none() {
            next.go(request).await
        } else {
            // On the heap, where it is no part of the way of all the others.
            Box::pin(next.go(request).instrument(span.clone())).await
        };
        let (code, took) = (reply.as_ref().map_or_else(Status::code, code_of), began.elapsed());
        rpc::record_client_code(&span, code);
        if let Some(watch) = watch {
            watch.end(code, took);
        }
        let attributes = rpc::attributes((rpc::PEER, self.peer), method, code);
        self.telemetry.client_calls.record(took.as_secs_f64(), &attributes);
        reply
    }
}
