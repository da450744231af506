//! How a stack is made: stages around a service, each an async function that sees a request on its way in and the
//! response on its way out.

use std::{
    future::Future,
    pin::Pin,
    task::{Context as TaskContext, Poll},
};

use http::{Request, Response};
use tonic::body::Body;
use tower::{Layer, Service};

/// What a stage hands to the next one, and gets back.
pub(crate) type Reply<E> = Result<Response<Body>, E>;

/// One stage of a stack.
pub(crate) trait Stage<E>: Clone + Send + Sync + 'static {
    /// Handles one request. `next` is the rest of the stack.
    fn run(self, request: Request<Body>, next: impl Next<E>) -> impl Future<Output = Reply<E>> + Send;
}

/// The rest of a stack, good for one request.
pub(crate) trait Next<E>: Clone + Send + 'static {
    /// Passes the request on.
    fn go(self, request: Request<Body>) -> impl Future<Output = Reply<E>> + Send;
}

impl<S, E> Next<E> for S
where
    S: Service<Request<Body>, Response = Response<Body>, Error = E> + Clone + Send + 'static,
    S::Future: Send,
    E: Send,
{
    async fn go(mut self, request: Request<Body>) -> Reply<E> {
        std::future::poll_fn(|task| self.poll_ready(task)).await?;
        self.call(request).await
    }
}

/// Makes a tower layer of a stage.
pub(crate) fn stage<G>(stage: G) -> StageLayer<G> {
    StageLayer(stage)
}

/// See [`stage`].
#[derive(Clone)]
pub(crate) struct StageLayer<G>(G);

impl<G: Clone, S> Layer<S> for StageLayer<G> {
    type Service = Staged<G, S>;

    fn layer(&self, next: S) -> Self::Service {
        Staged { stage: self.0.clone(), next }
    }
}

/// A stage with what comes after it.
#[derive(Clone)]
pub(crate) struct Staged<G, S> {
    stage: G,
    next: S,
}

impl<G, S, E> Service<Request<Body>> for Staged<G, S>
where
    G: Stage<E>,
    S: Service<Request<Body>, Response = Response<Body>, Error = E> + Clone + Send + 'static,
    S::Future: Send,
    E: Send + 'static,
{
    type Response = Response<Body>;
    type Error = E;
    type Future = Pin<Box<dyn Future<Output = Reply<E>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), E>> {
        // Each request waits in its own clone of the stack, in `Next::go`.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.stage.clone().run(request, self.next.clone()))
    }
}
