//! A page in a browser, as the server sees it: HTTP/1.1, an origin, and grpc-web (PROTOCOL-WEB.md).

use std::net::SocketAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Buf as _, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::Status;

use crate::{
    house::in_time,
    line::{frame, told},
};

/// The origin that may call.
pub(crate) const SHOP: &str = "https://shop.example";
/// Says in the flags of a frame that it holds trailers.
const TRAILERS: u8 = 0x80;

/// One connection of a page.
pub(crate) struct Page {
    sender: SendRequest<Full<Bytes>>,
}

/// What came back: the head, the messages, and the status out of headers or of the frame of trailers.
pub(crate) struct Shown {
    pub(crate) http: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) messages: Vec<Bytes>,
    pub(crate) status: Option<Status>,
}

impl Page {
    pub(crate) async fn at(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        let (sender, driver) = http1::handshake(TokioIo::new(socket)).await.unwrap();
        tokio::spawn(driver);
        Self { sender }
    }

    /// Whether the other side has ended the connection.
    pub(crate) fn is_over(&self) -> bool {
        self.sender.is_closed()
    }

    /// Begins a request, and comes back with the head of its answer.
    pub(crate) async fn begin(
        &mut self,
        method: &Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Response<Incoming>, hyper::Error> {
        let mut request = Request::builder().method(method).uri(path).header("host", "trivet.example");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).unwrap();
        in_time(path, async {
            self.sender.ready().await?;
            self.sender.send_request(request).await
        })
        .await
    }

    /// Sends a request as it is, and reads the whole answer.
    pub(crate) async fn send(&mut self, method: &Method, path: &str, headers: &[(&str, &str)], body: Bytes) -> Shown {
        let (head, body) = self.begin(method, path, headers, body).await.unwrap().into_parts();
        let body = in_time("the answer", body.collect()).await.unwrap().to_bytes();
        shown(head.status, head.headers, body)
    }

    /// Calls from the origin that may, in this encoding.
    pub(crate) async fn call(&mut self, path: &str, content_type: &str, message: &impl prost::Message) -> Shown {
        let message = frame(message);
        let body = if content_type.contains("text") { STANDARD.encode(message).into() } else { message };
        self.post(path, &[("origin", SHOP), ("content-type", content_type), ("accept", content_type)], body).await
    }

    pub(crate) async fn post(&mut self, path: &str, headers: &[(&str, &str)], body: Bytes) -> Shown {
        self.send(&Method::POST, path, headers, body).await
    }
}

impl Shown {
    /// The code and the reason, `NotFound ACCOUNT_NOT_FOUND`; `Ok` where it went well.
    pub(crate) fn told(&self) -> String {
        told(self.status.as_ref().unwrap_or_else(|| panic!("no gRPC status, HTTP {}", self.http)))
    }
}

/// Takes an answer apart.
pub(crate) fn shown(http: StatusCode, headers: HeaderMap, body: Bytes) -> Shown {
    let is_text =
        headers.get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc-web-text"));
    let mut body = if is_text { decode(&body) } else { body };
    let (mut messages, mut trailers) = (Vec::new(), None);
    while body.has_remaining() {
        assert!(trailers.is_none(), "trailers come last");
        let (flags, length) = (body.get_u8(), body.get_u32());
        let content = body.split_to(length.try_into().unwrap());
        if flags == TRAILERS { trailers = Some(read_trailers(&content)) } else { messages.push(content) }
    }
    let status = Status::from_header_map(&headers).or_else(|| Status::from_header_map(&trailers?));
    Shown { http, headers, messages, status }
}

/// Reads base64 that was padded wherever something was sent.
fn decode(text: &[u8]) -> Bytes {
    text.chunks(4).flat_map(|four| STANDARD.decode(four).unwrap()).collect()
}

fn read_trailers(text: &[u8]) -> HeaderMap {
    let lines = std::str::from_utf8(text).unwrap().lines();
    let field = |line: &str| {
        let (name, value) = line.split_once(':').unwrap();
        (name.parse::<HeaderName>().unwrap(), value.trim().parse::<HeaderValue>().unwrap())
    };
    lines.map(field).collect()
}
