//! Opens a call: its request id, its place in a trace, and, where it is sampled, its span. Sampled or not, it is observed.

use std::{convert::Infallible, sync::Arc};

use http::{HeaderMap, HeaderValue, Request};
use tokio::time::Instant;
use tonic::body::Body;
use tracing::Instrument as _;

use crate::{
    Caller, Clock, Context, Telemetry, Tenant, id,
    observe::{Key, Kind, Place, View},
    serve::{Identity, Serving},
    stack::{Next, Reply, Stage},
    telemetry::{code_of, rpc},
};

/// Carries the call's id, both ways.
pub(crate) const REQUEST_ID: &str = "x-request-id";

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
        let (path, headers) = (request.uri().path(), request.headers());
        let method = trivet_proto::method(path);
        let request_id = request_id(headers, &self.clock);
        let Telemetry { observer, .. } = &*self.telemetry;
        let (span, trace, parent_id) =
            self.telemetry.server_span(self.role, path.trim_start_matches('/'), &request_id, headers);
        let (caller, view) = observer
            .caller(headers)
            .filter(|(name, _)| self.identity.believes(name, request))
            .unwrap_or((ANYBODY, View::Callee));
        let key = Key { caller, callee: self.role, method: method.map_or("other", |method| method.path), view };
        let watch = observer.watch(path, &Place { key, trace: &trace, parent_id, request_id: &request_id });
        request.extensions_mut().insert(Context {
            tenant: Tenant::default_tenant(),
            // As is everybody until the identity stage knows better.
            caller: Caller::Operator,
            request_id: request_id.clone(),
            // The deadline stage knows better.
            deadline: Instant::now(),
            trace,
            method,
        });
        let mut response = next.go(request).instrument(span.clone()).await?;
        let code = code_of(&response);
        rpc::record_server_code(&span, code);
        if let Some(mut watch) = watch {
            if let Some(kind) = response.extensions_mut().remove::<Kind>() {
                watch.by(kind);
            }
            watch.end(code);
        }
        if let Ok(value) = HeaderValue::from_str(&request_id) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        Ok(response)
    }
}

/// The caller's request id where it is a good one, 1 to 128 visible ASCII characters, else one of ours.
fn request_id(headers: &HeaderMap, clock: &Clock) -> Arc<str> {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    match given {
        Some(given) if (1..=128).contains(&given.len()) && given.bytes().all(|byte| byte.is_ascii_graphic()) => {
            given.into()
        }
        _ => id::fresh("req", clock).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: &[u8], echoed: bool) {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_bytes(given).unwrap());
        let id = request_id(&headers, &Clock::system());
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
