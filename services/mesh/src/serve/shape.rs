//! Refuses what is not a gRPC request: tonic would run a GET, or a request of any content type.

use std::convert::Infallible;

use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use tonic::body::Body;

use crate::stack::{Next, Reply, Stage};

/// See the module.
#[derive(Clone)]
pub(crate) struct Shape;

impl Stage<Infallible> for Shape {
    async fn run(self, request: Request<Body>, next: impl Next<Infallible>) -> Reply<Infallible> {
        match fault(request.method(), request.headers()) {
            Some(status) => Ok(refused(status)),
            None => next.go(request).await,
        }
    }
}

/// Which status of HTTP the request deserves, if any (gRPC over HTTP/2, "Requests").
fn fault(method: &Method, headers: &HeaderMap) -> Option<StatusCode> {
    if method != Method::POST {
        return Some(StatusCode::METHOD_NOT_ALLOWED);
    }
    let content_type = headers.get(header::CONTENT_TYPE).map(http::HeaderValue::as_bytes).unwrap_or_default();
    let is_grpc = content_type == b"application/grpc"
        || content_type.starts_with(b"application/grpc+proto")
        || content_type.starts_with(b"application/grpc;");
    (!is_grpc).then_some(StatusCode::UNSUPPORTED_MEDIA_TYPE)
}

fn refused(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    if status == StatusCode::METHOD_NOT_ALLOWED {
        response.headers_mut().insert(header::ALLOW, http::HeaderValue::from_static("POST"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &Method, content_type: Option<&'static str>, expected: Option<u16>) {
        let mut headers = HeaderMap::new();
        if let Some(content_type) = content_type {
            headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(content_type));
        }
        assert_eq!(fault(method, &headers).map(|status| status.as_u16()), expected, "{method} {content_type:?}");
    }

    #[test]
    fn only_a_post_of_grpc_passes() {
        check(&Method::POST, Some("application/grpc"), None);
        check(&Method::POST, Some("application/grpc+proto"), None);
        check(&Method::POST, Some("application/grpc; charset=utf-8"), None);
        check(&Method::GET, Some("application/grpc"), Some(405));
        check(&Method::POST, Some("text/html"), Some(415));
        check(&Method::POST, Some("application/grpc+json"), Some(415));
        check(&Method::POST, Some("application/grpc-web"), Some(415));
        check(&Method::POST, None, Some(415));
    }
}
