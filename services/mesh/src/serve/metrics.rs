//! Counts and times every call: `rpc.server.call.duration`, by method and code.

use std::{convert::Infallible, sync::Arc, time::Instant};

use http::Request;
use tonic::body::Body;

use crate::{
    Context, Telemetry,
    serve::Serving,
    stack::{Next, Reply, Stage},
    telemetry::{code_of, rpc},
};

/// See the module.
#[derive(Clone)]
pub(crate) struct Metrics {
    role: &'static str,
    telemetry: Arc<Telemetry>,
}

impl Metrics {
    pub(crate) fn new(serving: &Serving) -> Self {
        Self { role: serving.role, telemetry: serving.telemetry.clone() }
    }
}

impl Stage<Infallible> for Metrics {
    async fn run(&self, request: &mut Request<Body>, next: &impl Next<Infallible>) -> Reply<Infallible> {
        // Only methods of the contract become a label: a caller cannot make new ones.
        let method = request.extensions().get::<Context>().and_then(|context| context.method);
        let method = method.map_or("other", |method| method.path);
        let began = Instant::now();
        let response = next.go(request).await?;
        let code = code_of(&response);
        self.telemetry
            .server_calls
            .record(began.elapsed().as_secs_f64(), &rpc::attributes((rpc::ROLE, self.role), method, code));
        Ok(response)
    }
}
