//! Pages in browsers: grpc-web beside gRPC, for the origins that `server.web_origins` lists and no others, and HTTP/1.1,
//! which is all that a browser speaks where there is no TLS.

mod origins;

use std::{convert::Infallible, io, time::Duration};

use http::{
    HeaderName, Method, Request, StatusCode, Version,
    header::{ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, CONTENT_TYPE, ORIGIN},
};
use hyper_util::{
    rt::{TokioExecutor, TokioTimer},
    server::conn::auto,
};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tonic::body::Body;
use tonic_web::GrpcWebLayer;
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_http::cors::CorsLayer;
use tracing::debug;

use crate::{
    header::{GRPC_STATUS, GRPC_TIMEOUT, PUSHBACK, REQUEST_ID, TENANT, TRACEPARENT, TRACESTATE},
    serve::shape,
    stack::{Next, Reply, Stage},
};

pub use origins::{OriginFaults, Origins};

/// How long a browser may go by what it was told of an origin: the longest that Chromium does.
const MAX_AGE: Duration = Duration::from_hours(2);
/// What a connection of HTTP/1.1 reads ahead: all headers of a request together must be in it, as in HTTP/2.
const AHEAD_BYTES: usize = 16 * 1024;

/// See the module.
#[derive(Clone)]
pub(crate) struct Web {
    origins: Origins,
    cors: CorsLayer,
}

impl Web {
    /// The stage for these origins; none where there are none.
    pub(crate) fn of(origins: &Origins) -> Option<Self> {
        let named = HeaderName::from_static;
        let cors = CorsLayer::new()
            .allow_origin(origins.list())
            .allow_methods([Method::POST])
            .allow_headers([
                CONTENT_TYPE,
                AUTHORIZATION,
                named("x-grpc-web"),
                named("x-user-agent"),
                GRPC_TIMEOUT.clone(),
                REQUEST_ID.clone(),
                TENANT.clone(),
                TRACEPARENT.clone(),
                TRACESTATE.clone(),
            ])
            .expose_headers([
                GRPC_STATUS.clone(),
                named("grpc-message"),
                named("grpc-status-details-bin"),
                PUSHBACK.clone(),
                REQUEST_ID.clone(),
            ])
            .max_age(MAX_AGE);
        (!origins.is_empty()).then(|| Self { origins: origins.clone(), cors })
    }
}

impl Stage<Infallible> for Web {
    async fn run(&self, request: &mut Request<Body>, next: &impl Next<Infallible>) -> Reply<Infallible> {
        let headers = request.headers();
        // A page may send a simple POST without asking first, and would only not be shown what came of it.
        if let Some(foreign) = headers.get_all(ORIGIN).iter().find(|origin| !self.origins.contains(origin)) {
            debug!("A page of {foreign:?} was refused: server.web_origins does not list it");
            return Ok(shape::refused(StatusCode::FORBIDDEN));
        }
        let from_page = headers.contains_key(ORIGIN);
        if request.version() == Version::HTTP_2 && !from_page && !shape::is_web(headers) {
            return next.go(request).await;
        }
        let asks_first =
            from_page && request.method() == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        match shape::web_fault(request.method(), headers) {
            Some(status) if !asks_first => Ok(shape::refused(status)),
            _ => {
                let rest = service_fn(|mut request| async move { next.go(&mut request).await });
                // On the heap, so that calls that come from no page are no larger for it.
                Box::pin(self.cors.layer(GrpcWebLayer::new().layer(rest)).oneshot(std::mem::take(request))).await
            }
        }
    }
}

/// Has connections speak HTTP/1.1, too, and lets go of those that say no whole request for so long.
pub(super) fn with_http1(
    mut settings: auto::Builder<TokioExecutor>,
    silence: Duration,
) -> auto::Builder<TokioExecutor> {
    settings.http1().timer(TokioTimer::new()).max_buf_size(AHEAD_BYTES).header_read_timeout(silence);
    settings
}

/// Has the system ask a caller that is silent this long whether it lives: HTTP/1.1 has no PING.
pub(super) fn keep_alive(socket: &TcpStream, silence: Duration, answer: Duration) -> io::Result<()> {
    SockRef::from(socket).set_tcp_keepalive(&TcpKeepalive::new().with_time(silence).with_interval(answer))
}
