//! How a stack is made: stages around a service, each an async function that sees a request on its way in and the
//! response on its way out.
//!
//! A stack is built once, with tower's [`ServiceBuilder`](tower::ServiceBuilder), and lent to every call; so is the request
//! to every stage, up to the one that sends it or has it handled and takes it. So the whole way of a call is one small
//! future, put on the heap once, and nothing is moved or cloned from stage to stage.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
};

use http::{Request, Response};
use tonic::body::Body;
use tower::{Layer, Service};

/// What a stage hands to the next one, and gets back.
pub(crate) type Reply<E> = Result<Response<Body>, E>;

/// One stage of a stack.
pub(crate) trait Stage<E>: Send + Sync + 'static {
    /// Handles one request. `next` is the rest of the stack.
    fn run(&self, request: &mut Request<Body>, next: &impl Next<E>) -> impl Future<Output = Reply<E>> + Send;
}

/// A stage that may be left out.
impl<G: Stage<E>, E: Send> Stage<E> for Option<G> {
    async fn run(&self, request: &mut Request<Body>, next: &impl Next<E>) -> Reply<E> {
        match self {
            Some(stage) => stage.run(request, next).await,
            None => next.go(request).await,
        }
    }
}

/// The rest of a stack.
pub(crate) trait Next<E>: Send + Sync + 'static {
    /// Passes the request on. It may be taken: what is left of it then says nothing.
    fn go(&self, request: &mut Request<Body>) -> impl Future<Output = Reply<E>> + Send;
}

/// Makes a tower layer of a stage.
pub(crate) fn stage<G>(stage: G) -> StageLayer<G> {
    StageLayer(stage)
}

/// See [`stage`].
pub(crate) struct StageLayer<G>(G);

impl<G: Clone, S> Layer<S> for StageLayer<G> {
    type Service = Staged<G, S>;

    fn layer(&self, next: S) -> Self::Service {
        Staged { stage: self.0.clone(), next }
    }
}

/// A stage with what comes after it.
pub(crate) struct Staged<G, S> {
    stage: G,
    next: S,
}

impl<G: Stage<E>, S: Next<E>, E: Send> Next<E> for Staged<G, S> {
    fn go(&self, request: &mut Request<Body>) -> impl Future<Output = Reply<E>> + Send {
        self.stage.run(request, &self.next)
    }
}

/// A tower service at the end of a stack.
pub(crate) struct Innermost<S>(pub(crate) S);

impl<S, E> Next<E> for Innermost<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = E> + Clone + Send + Sync + 'static,
    S::Future: Send,
    E: Send,
{
    async fn go(&self, request: &mut Request<Body>) -> Reply<E> {
        let mut service = self.0.clone();
        std::future::poll_fn(|task| service.poll_ready(task)).await?;
        service.call(std::mem::take(request)).await
    }
}

/// The way of one request.
pub(crate) type Way<E> = Pin<Box<dyn Future<Output = Reply<E>> + Send>>;

/// A whole stack, whichever its stages are.
pub(crate) trait Whole<E>: Send + Sync {
    /// Begins the way of a request.
    fn send(self: Arc<Self>, request: Request<Body>) -> Way<E>;
}

impl<N: Next<E>, E: Send + 'static> Whole<E> for N {
    fn send(self: Arc<Self>, mut request: Request<Body>) -> Way<E> {
        Box::pin(async move { self.go(&mut request).await })
    }
}

/// A whole stack as the tower service that it is to everybody else. Cheap to clone.
pub(crate) struct Stack<E>(Arc<dyn Whole<E>>);

impl<E: Send + 'static> Stack<E> {
    /// The stack that begins with this stage.
    pub(crate) fn new(first: impl Next<E>) -> Self {
        Self(Arc::new(first))
    }
}

impl<E> Clone for Stack<E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<E> Service<Request<Body>> for Stack<E> {
    type Response = Response<Body>;
    type Error = E;
    type Future = Way<E>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), E>> {
        // Each request waits for itself, on its way.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Way<E> {
        self.0.clone().send(request)
    }
}
