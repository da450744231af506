//! Refuses what is not a gRPC request: tonic would run a GET, or a request of any content type.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context as TaskContext, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body::Frame;
use tonic::{Status, body::Body};

use crate::stack::{Next, Reply, Stage};

/// See the module.
#[derive(Clone)]
pub(crate) struct Shape;

impl Stage<Infallible> for Shape {
    async fn run(&self, request: &mut Request<Body>, next: &impl Next<Infallible>) -> Reply<Infallible> {
        if let Some(status) = fault(request.method(), request.headers()) {
            return Ok(refused(status));
        }
        if trivet_proto::method(request.uri().path()).is_some_and(|method| method.unary) {
            let body = std::mem::take(request.body_mut());
            *request.body_mut() = Body::new(OneMessage::new(body));
        }
        next.go(request).await
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

/// Content types of grpc-web: exactly those that are translated.
const WEB: [&[u8]; 4] = [
    b"application/grpc-web",
    b"application/grpc-web+proto",
    b"application/grpc-web-text",
    b"application/grpc-web-text+proto",
];

/// Whether the content type is one of grpc-web's.
pub(super) fn is_web(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|content_type| WEB.contains(&content_type.as_bytes()))
}

/// Which status of HTTP a request deserves that must be grpc-web, if any.
pub(super) fn web_fault(method: &Method, headers: &HeaderMap) -> Option<StatusCode> {
    if method != Method::POST {
        return Some(StatusCode::METHOD_NOT_ALLOWED);
    }
    (!is_web(headers)).then_some(StatusCode::UNSUPPORTED_MEDIA_TYPE)
}

/// A body that breaks off where more follows than the one message of a unary call. tonic reads to the end before it
/// calls the handler, so that nothing is begun.
struct OneMessage {
    body: Body,
    prefix: [u8; Self::PREFIX],
    seen: usize,
}

impl OneMessage {
    /// A flag, and the length of the message in four bytes.
    const PREFIX: usize = 5;

    fn new(body: Body) -> Self {
        Self { body, prefix: [0; Self::PREFIX], seen: 0 }
    }

    /// Whether these bytes go beyond the one message.
    fn goes_beyond(&mut self, data: &[u8]) -> bool {
        let missing = self.prefix.iter_mut().skip(self.seen);
        missing.zip(data).for_each(|(place, byte)| *place = *byte);
        self.seen = self.seen.saturating_add(data.len());
        let [_, length @ ..] = self.prefix;
        let whole = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX).saturating_add(Self::PREFIX);
        self.seen >= Self::PREFIX && self.seen > whole
    }
}

impl http_body::Body for OneMessage {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(task));
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref())
            && self.goes_beyond(data)
        {
            return Poll::Ready(Some(Err(Status::invalid_argument("a unary call carries one message"))));
        }
        Poll::Ready(frame)
    }
}

pub(super) fn refused(status: StatusCode) -> Response<Body> {
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

    fn headers(content_type: Option<&'static str>) -> HeaderMap {
        let content_type = content_type.map(http::HeaderValue::from_static);
        content_type.map(|content_type| (header::CONTENT_TYPE, content_type)).into_iter().collect()
    }

    fn check(method: &Method, content_type: Option<&'static str>, expected: Option<u16>) {
        let status = fault(method, &headers(content_type)).map(|status| status.as_u16());
        assert_eq!(status, expected, "{method} {content_type:?}");
    }

    fn check_web(method: &Method, content_type: Option<&'static str>, expected: Option<u16>) {
        let status = web_fault(method, &headers(content_type)).map(|status| status.as_u16());
        assert_eq!(status, expected, "{method} {content_type:?}");
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
    #[test]
    fn of_a_page_only_a_post_of_grpc_web_passes() {
        for content_type in WEB {
            check_web(&Method::POST, Some(std::str::from_utf8(content_type).unwrap()), None);
        }
        check_web(&Method::GET, Some("application/grpc-web"), Some(405));
        check_web(&Method::OPTIONS, None, Some(405));
        check_web(&Method::POST, Some("application/grpc"), Some(415));
        check_web(&Method::POST, Some("application/grpc-web+json"), Some(415));
        check_web(&Method::POST, Some("text/plain"), Some(415));
        check_web(&Method::POST, None, Some(415));
    }
}
