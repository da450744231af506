//! One attempt of a call, and what is known when it fails.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use http::{Extensions, HeaderValue, Request, request::Parts};
use http_body::Frame;
use http_body_util::{BodyExt as _, BodyStream, Full, StreamBody};
use smallvec::SmallVec;
use tokio::time::Instant;
use tonic::{Code, Status, body::Body};

use super::lock;
use crate::header::PREVIOUS_ATTEMPTS;

/// A message is kept for another attempt up to this size: one frame of a unary call.
const REPLAY_BYTES: usize = 64 * 1024;

/// What all attempts of a call share. It rides in their requests.
#[derive(Clone, Debug)]
pub(super) struct Course {
    /// When the call must be over; the connection writes it into `grpc-timeout`.
    pub(super) deadline: Instant,
    /// The endpoints that it was tried at, which another attempt leaves out while there are others.
    pub(super) tried: Arc<Mutex<Endpoints>>,
}

/// Some endpoints, mostly one.
pub(super) type Endpoints = SmallVec<[SocketAddr; 2]>;

impl Course {
    /// The course of a call that must be over by then.
    pub(super) fn until(deadline: Instant) -> Self {
        Self { deadline, tried: Arc::default() }
    }
}

/// A call of one message, which is kept so that it can be sent as often as it takes.
pub(super) struct Call {
    head: Parts,
    /// What the caller hung on it. It goes along with the first attempt: nobody on the way out has use for it.
    extensions: Mutex<Extensions>,
    pub(super) message: Bytes,
    pub(super) course: Course,
}

/// What was kept of a call.
pub(super) enum Kept {
    Whole(Call),
    /// More than is kept for another attempt; it passes through.
    TooLong(Request<Body>),
}

impl Call {
    /// Reads a call whole.
    pub(super) async fn keep(course: Course, request: Request<Body>) -> Result<Kept, Status> {
        let (mut head, mut body) = request.into_parts();
        let mut message = Bytes::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            message = if message.is_empty() { data } else { joined(message, &data) };
            if message.len() > REPLAY_BYTES {
                let begun = stream::once(std::future::ready(Ok(Frame::data(message))));
                let body = Body::new(StreamBody::new(begun.chain(BodyStream::new(body))));
                return Ok(Kept::TooLong(Request::from_parts(head, body)));
            }
        }
        let extensions = Mutex::new(std::mem::take(&mut head.extensions));
        Ok(Kept::Whole(Self { head, extensions, message, course }))
    }

    /// The request of another attempt, after so many.
    pub(super) fn request(&self, previous: u32) -> Request<Body> {
        let mut request = Request::new(Body::new(Full::new(self.message.clone())));
        *request.method_mut() = self.head.method.clone();
        *request.uri_mut() = self.head.uri.clone();
        *request.version_mut() = self.head.version;
        *request.headers_mut() = self.head.headers.clone();
        *request.extensions_mut() = std::mem::take(&mut lock(&self.extensions));
        if request.extensions().is_empty() {
            request.extensions_mut().insert(self.course.clone());
        }
        if previous > 0 {
            request.headers_mut().insert(&PREVIOUS_ATTEMPTS, HeaderValue::from(previous));
        }
        request
    }
}

fn joined(begun: Bytes, more: &[u8]) -> Bytes {
    let mut joined = BytesMut::from(begun);
    joined.extend_from_slice(more);
    joined.freeze()
}

/// Why an attempt failed: the status that the caller would see, and what is known of what happened.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// For the caller.
    pub(crate) status: Status,
    /// How far it got.
    pub(crate) reach: Reach,
    /// Whether it says anything of the endpoint that was not known: a connection that ends is one mishap, however many calls
    /// it carried.
    pub(crate) news: bool,
}

/// How far a failed attempt got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The breaker did not let it through, and would not in a moment either.
    Shut,
    /// It was held back here: nothing was tried, nothing was learnt. Another endpoint may take it.
    HeldBack,
    /// There was no connection to be had: trying elsewhere at once is safe, whatever the rpc.
    Unsent,
    /// There was a connection, and nobody at its other end has looked at it: trying again is as safe.
    Overtaken,
    /// The connection ended under it: it was sent, and may have been carried out. So did every other call on it.
    Broken,
    /// It was sent, and may have been carried out.
    Unclear,
}

impl Failure {
    /// An attempt that got so far.
    pub(crate) fn new(reach: Reach, status: impl Into<Status>) -> Self {
        Self { status: status.into(), reach, news: !matches!(reach, Reach::HeldBack | Reach::Overtaken) }
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let mut status = failure.status;
        status.set_source(Arc::new(Reached(failure.reach)));
        status
    }
}

/// Rides in a status from the connection up to the retries.
#[derive(Debug, thiserror::Error)]
#[error("the call got as far as {0:?}")]
struct Reached(Reach);

/// How far the attempt got that ended in this status; `None` where the other side made it.
pub(crate) fn reach(status: &Status) -> Option<Reach> {
    std::error::Error::source(status)?.downcast_ref::<Reached>().map(|reached| reached.0)
}

/// Whether an outcome says that the endpoint is ill. A refusal such as NOT_FOUND says that it is well.
pub(crate) fn is_illness(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::DeadlineExceeded | Code::Internal | Code::DataLoss | Code::Unknown)
}
