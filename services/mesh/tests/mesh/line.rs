//! A bare HTTP/2 connection, to say what no well-behaved client would, and to see what really comes back.

use std::{net::SocketAddr, task::Poll};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Status, body::Body};
use tonic_types::StatusExt as _;

use crate::house::{get, in_time};

pub(crate) const GET_ACCOUNT: &str = "/trivet.account.v1.AccountService/GetAccount";
pub(crate) const CHECK_AVAILABILITY: &str = "/trivet.product.v1.CatalogService/CheckAvailability";

/// One connection. Clones share it.
#[derive(Clone)]
pub(crate) struct Line {
    sender: SendRequest<Body>,
    address: SocketAddr,
}

/// What came back: the head, the bytes, and the status out of headers or trailers.
pub(crate) struct Answer {
    pub(crate) http: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) status: Option<Status>,
}

impl Line {
    pub(crate) async fn to(address: SocketAddr) -> Self {
        Self::try_to(address).await.unwrap()
    }

    pub(crate) async fn try_to(address: SocketAddr) -> Result<Self, String> {
        Self::over(TcpStream::connect(address).await.map_err(|error| error.to_string())?, address).await
    }

    /// Over a socket that is there already, encrypted for one.
    pub(crate) async fn over<S>(socket: S, address: SocketAddr) -> Result<Self, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(socket));
        let (sender, driver) = handshake.await.map_err(|error| error.to_string())?;
        tokio::spawn(driver);
        Ok(Self { sender, address })
    }

    /// Asks for an account.
    pub(crate) async fn get(&self, user_id: &str, headers: &[(&str, &str)]) -> Answer {
        self.post(GET_ACCOUNT, headers, frame(&get(user_id))).await
    }

    /// Posts these bytes as a gRPC request.
    pub(crate) async fn post(&self, path: &str, headers: &[(&str, &str)], body: Bytes) -> Answer {
        let grpc = [("content-type", "application/grpc"), ("te", "trailers")];
        let headers = [&grpc, headers].concat();
        self.send(&Method::POST, path, &headers, body).await.unwrap()
    }

    /// Sends a request as it is.
    pub(crate) async fn send(
        &self,
        method: &Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Answer, hyper::Error> {
        let mut request = Request::builder().method(method).uri(self.uri(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::new(Full::new(body))).unwrap();
        in_time(path, async {
            let mut sender = self.sender.clone();
            sender.ready().await?;
            let (head, body) = sender.send_request(request).await?.into_parts();
            let body = body.collect().await?;
            let trailers = body.trailers().cloned().unwrap_or_default();
            let status = Status::from_header_map(&head.headers).or_else(|| Status::from_header_map(&trailers));
            Ok(Answer { http: head.status, headers: head.headers, body: body.to_bytes(), status })
        })
        .await
    }

    fn uri(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// So that a generated client can speak over it, with nothing of ours in between.
impl tower::Service<Request<Body>> for Line {
    type Response = Response<Body>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, hyper::Error>>;

    fn poll_ready(&mut self, task: &mut std::task::Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.sender.poll_ready(task)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        *request.uri_mut() = self.uri(request.uri().path()).parse().unwrap();
        let reply = self.sender.send_request(request);
        Box::pin(async { Ok(reply.await?.map(Body::new)) })
    }
}

impl Answer {
    /// The code and the reason, `NotFound ACCOUNT_NOT_FOUND`; `Ok` where it went well.
    pub(crate) fn told(&self) -> String {
        told(self.status.as_ref().unwrap_or_else(|| panic!("no gRPC status, HTTP {}", self.http)))
    }

    /// `x-request-id` of the response.
    pub(crate) fn request_id(&self) -> &str {
        self.headers["x-request-id"].to_str().unwrap()
    }

    /// The request id in the details of an error.
    pub(crate) fn quoted_request_id(&self) -> String {
        self.status.as_ref().unwrap().get_details_request_info().unwrap().request_id
    }
}

/// The code and the reason of a status, `NotFound ACCOUNT_NOT_FOUND`.
pub(crate) fn told(status: &Status) -> String {
    if status.code() == tonic::Code::Ok {
        return "Ok".to_owned();
    }
    let Some(info) = status.get_details_error_info() else { panic!("an error without ErrorInfo: {status:?}") };
    assert_eq!(info.domain, mesh::refusal::DOMAIN);
    format!("{:?} {}", status.code(), info.reason)
}

/// The same of a call through a generated client.
pub(crate) fn outcome<T>(reply: &Result<T, Status>) -> String {
    reply.as_ref().map_or_else(told, |_| "Ok".to_owned())
}

/// A message as gRPC frames it.
pub(crate) fn frame(message: &impl Message) -> Bytes {
    frame_of(&message.encode_to_vec())
}

/// Any bytes as gRPC frames them.
pub(crate) fn frame_of(bytes: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(bytes.len().try_into().unwrap());
    frame.put_slice(bytes);
    frame.freeze()
}

/// Fetches a page over HTTP/1.1, as a probe of the platform does: its status and its text.
pub(crate) async fn fetch(address: SocketAddr, path: &str) -> (u16, String) {
    let reading = async {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut page = String::new();
        socket.read_to_string(&mut page).await.unwrap();
        page
    };
    let page = in_time(path, reading).await;
    let (head, text) = page.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), text.to_owned())
}
