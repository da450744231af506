//! A stream ends with what its caller was let in by: an API key that was revoked or has expired, or a certificate that is
//! good no more. Calls that are short are not looked after: they end before.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    task::{Context as TaskContext, Poll},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Request};
use http_body::{Body as _, Frame};
use tonic::{Status, body::Body};

use super::{Credential, Identity, IdentityMode, refused};
use crate::{
    Context, Refusal,
    serve::complete::{Call, ended, refuse},
    stack::{Next, Reply},
};

/// Comes back once a caller would not be let in any more, with what it would be told.
pub(super) type Lapse = BoxFuture<'static, Refusal>;

impl Identity {
    /// What ends a call that may go on for long; `None` where nothing does. Where the mode is to audit it only says so.
    pub(super) fn lapse(&self, context: &Context, credential: &Credential<'_>) -> Option<Lapse> {
        let lapse: Lapse = match credential {
            Credential::Lasting => return None,
            Credential::Key(secret) => Box::pin(self.0.keys.as_ref()?.lapse(secret)),
            Credential::Certificate(until) => {
                let (clock, until) = (self.0.clock.clone(), *until);
                Box::pin(async move {
                    clock.reach(until).await;
                    expired()
                })
            }
        };
        let (identity, context) = (self.clone(), context.clone());
        Some(Box::pin(async move {
            let refusal = lapse.await;
            identity.note(&context, &refusal);
            if identity.0.mode == IdentityMode::Audit {
                return std::future::pending().await;
            }
            refusal
        }))
    }
}

/// What is said of a certificate that was good when its connection was opened.
pub(super) fn expired() -> Refusal {
    refused("the certificate of the connection has expired", "EXPIRED")
}

/// Passes a call on, and ends it with its caller's credential: before its answer begins, or amidst.
pub(super) async fn until(
    mut lapse: Lapse,
    request: &mut Request<Body>,
    next: &impl Next<Infallible>,
) -> Reply<Infallible> {
    let Some(context) = request.extensions().get::<Context>().cloned() else { return next.go(request).await };
    let reply = {
        let mut reply = pin!(next.go(request));
        tokio::select! {
            biased;
            refusal = &mut lapse => return Ok(refuse(&context.request_id, refusal)),
            reply = &mut reply => reply?,
        }
    };
    // A refusal is nothing but headers, and they say that nothing follows.
    let over = reply.body().is_end_stream();
    let call = Call::of(&context);
    Ok(if over { reply } else { reply.map(|body| Body::new(Lapsing { body, lapse: Some(lapse), call })) })
}

/// An answer up to the moment at which its caller would not be let in any more.
struct Lapsing {
    body: Body,
    /// `None` once it came to that.
    lapse: Option<Lapse>,
    call: Call,
}

impl http_body::Body for Lapsing {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Self { body, lapse, call } = &mut *self;
        let Some(lapses) = lapse else { return Poll::Ready(None) };
        let Poll::Ready(refusal) = lapses.as_mut().poll(task) else { return Pin::new(body).poll_frame(task) };
        (*lapse, *body) = (None, Body::empty());
        let mut trailers = HeaderMap::new();
        let said = ended(call, refusal.into()).add_header(&mut trailers);
        Poll::Ready(Some(said.map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.lapse.is_none() || self.body.is_end_stream()
    }
}
