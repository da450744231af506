//! Opens a call: its request id, its place in a trace, and, where it is sampled, its span. Sampled or not, it is observed,
//! counted and timed: `rpc.server.call.duration`, by method and code.

use std::{convert::Infallible, sync::Arc};

use http::{HeaderMap, HeaderValue, Request};
use tokio::time::Instant;
use tonic::body::Body;
use tracing::Instrument as _;

use crate::{
    Caller, Clock, Context, Telemetry, Tenant,
    header::REQUEST_ID,
    id,
    observe::{Key, Kind, Place, View},
    serve::{Identity, Serving},
    stack::{Next, Reply, Stage},
    telemetry::{code_of, rpc},
};

/// See the module.
#[derive(Clone)]
pub(crate) struct Trace {
    role: &'static str,
    telemetry: Arc<Telemetry>,
    clock: Clock,
    identity: Identity,
}

/// Who calls without a name of ours.
const ANYBODY: &str = "operator";

impl Trace {
    pub(crate) fn new(serving: &Serving) -> Self {
        let Serving { role, telemetry, clock, identity, .. } = serving.clone();
        Self { role, telemetry, clock, identity }
    }
}

impl Stage<Infallible> for Trace {
    async fn run(&self, request: &mut Request<Body>, next: &impl Next<Infallible>) -> Reply<Infallible> {
        let began = Instant::now();
        let (path, headers) = (request.uri().path(), request.headers());
        let method = trivet_proto::method(path);
        let (id, request_id) = request_id(headers, &self.clock);
        let Telemetry { observer, server_calls, .. } = &*self.telemetry;
        let (span, trace, parent_id) =
            self.telemetry.server_span(self.role, path.trim_start_matches('/'), &request_id, headers);
        let (caller, view) = observer
            .caller(headers)
            .filter(|(name, _)| self.identity.believes(name, request))
            .unwrap_or((ANYBODY, View::Callee));
        // Only methods of the contract become a label: a caller cannot make new ones.
        let label = method.map_or("other", |method| method.path);
        let place = Place {
            key: Key { caller, callee: self.role, method: label, view },
            trace: &trace,
            parent_id,
            request_id: &request_id,
        };
        let watch = observer.watch(path, began.into_std(), &place);
        request.extensions_mut().insert(Context {
            tenant: Tenant::default_tenant(),
            // As is everybody until the identity stage knows better.
            caller: Caller::Operator,
            request_id: request_id.clone(),
            // The deadline stage adds how long it may take.
            deadline: began,
            trace,
            method,
        });
        let mut response = if span.is_none() {
            next.go(request).await?
        } else {
            // On the heap, where it is no part of the way of all the others.
            Box::pin(next.go(request).instrument(span.clone())).await?
        };
        let (code, took) = (code_of(&response), began.elapsed());
        rpc::record_server_code(&span, code);
        if let Some(mut watch) = watch {
            if let Some(kind) = response.extensions_mut().remove::<Kind>() {
                watch.by(kind);
            }
            watch.end(code, took);
        }
        server_calls.record(took.as_secs_f64(), &rpc::attributes((rpc::ROLE, self.role), label, code));
        if let Some(id) = id {
            response.headers_mut().insert(&REQUEST_ID, id);
        }
        Ok(response)
    }
}

/// The caller's request id where it is a good one, 1 to 128 visible ASCII characters, else one of ours; as it is sent, too.
fn request_id(headers: &HeaderMap, clock: &Clock) -> (Option<HeaderValue>, Arc<str>) {
    let good = |id: &&str| (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    if let Some(given) = headers.get(&REQUEST_ID)
        && let Some(id) = given.to_str().ok().filter(good)
    {
        return (Some(given.clone()), id.into());
    }
    let made = id::fresh("req", clock);
    (HeaderValue::from_str(&made).ok(), made.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: &[u8], echoed: bool) {
        let mut headers = HeaderMap::new();
        headers.insert(&REQUEST_ID, HeaderValue::from_bytes(given).unwrap());
        let (sent, id) = request_id(&headers, &Clock::system());
        assert_eq!(sent.unwrap().as_bytes(), id.as_bytes());
        assert_eq!(id.as_bytes() == given, echoed, "{id}");
        assert!(echoed || id.starts_with("req_"), "{id}");
    }

    #[test]
    fn a_good_request_id_is_echoed_and_any_other_replaced() {
        check(b"checkout-42/a", true);
        check(&[b'x'; 128], true);
        check(&[b'x'; 129], false);
        check(b"", false);
        check(b"two words", false);
        check("naïve".as_bytes(), false);
    }
}
