//! Calling: the stack that every call to another service passes, from the generated client to the socket. Read
//! [`Peer::called_by`] from top to bottom.

mod attempt;
mod balance;
mod breaker;
mod budget;
mod connection;
mod deadline;
mod discover;
mod ewma;
mod hedge;
mod retry;
mod trace;

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Request, Response};
use tonic::{Status, body::Body};
use tower::{Service, ServiceBuilder};

use crate::{
    Context, Reason, Refusal, Telemetry, Toward,
    header::PROCESS,
    observe::Label,
    serve::ProcessWord,
    stack::{Stack, Way, stage},
};

pub(crate) use attempt::is_illness;
use attempt::{Failure, Reach};
pub(crate) use balance::lock;
pub use discover::{Lookup, Target, TargetFault};

/// How a peer is called. The defaults are those of every mesh call.
#[derive(Clone, Copy, Debug)]
pub struct CallSettings {
    /// How long a call may take that is part of no other.
    pub default_deadline: Duration,
    /// What is kept of the incoming deadline, so that our own answer still gets back in time.
    pub margin: Duration,
    /// How long opening a connection may take.
    pub connect_timeout: Duration,
    /// The longest wait before another attempt to connect, after several that failed.
    pub longest_wait: Duration,
    /// Connections to one endpoint at most: one HTTP/2 connection is one lock for all of its streams.
    pub connections: usize,
    /// Failures in a row that take an endpoint out; `u32::MAX`: none ever does. An endpoint that failed more often than not
    /// over ten seconds with twenty calls is taken out, too.
    pub breaker_failures: u32,
    /// How long it stays out before one call probes it.
    pub breaker_open: Duration,
    /// Whether a read that takes longer than 95 of 100 is asked of a second endpoint at the same time; whichever answers
    /// first counts.
    pub hedge: bool,
}

impl Default for CallSettings {
    fn default() -> Self {
        Self {
            default_deadline: Duration::from_secs(10),
            margin: Duration::from_millis(2),
            connect_timeout: Duration::from_secs(1),
            longest_wait: Duration::from_secs(10),
            connections: std::thread::available_parallelism().map_or(1, |threads| threads.get().min(4)),
            breaker_failures: 5,
            breaker_open: Duration::from_mins(1),
            hedge: false,
        }
    }
}

/// Another service, ready to be called: a channel for generated clients. Cheap to clone.
#[derive(Clone)]
pub struct Peer {
    name: &'static str,
    /// The word that a role of this process knows us by, where no certificate does.
    word: Option<HeaderValue>,
    stack: Stack<Status>,
}

/// Who calls, and how they are known.
#[derive(Clone, Default)]
pub(crate) struct Calling {
    /// The role of this process that calls; `None` where it is none of ours.
    pub(crate) role: Option<Label>,
    /// Toward whom it is encrypted.
    pub(crate) tls: Option<Toward>,
}

impl Peer {
    /// A service that is called in plaintext by somebody who is no role of ours.
    pub fn new(name: &'static str, target: &Target, telemetry: Arc<Telemetry>, settings: CallSettings) -> Self {
        Self::over(None, name, target, telemetry, settings)
    }

    /// The same, over TLS where `tls` says toward whom.
    pub fn over(
        tls: Option<Toward>,
        name: &'static str,
        target: &Target,
        telemetry: Arc<Telemetry>,
        settings: CallSettings,
    ) -> Self {
        Self::called_by(Calling { tls, ..Calling::default() }, name, target, telemetry, settings)
    }

    /// The whole way of a call out of the process, by one of its roles or by nobody in particular. The target's endpoints
    /// are looked up as they are needed.
    pub(crate) fn called_by(
        calling: Calling,
        name: &'static str,
        target: &Target,
        telemetry: Arc<Telemetry>,
        settings: CallSettings,
    ) -> Self {
        let Calling { role: caller, tls } = calling;
        let endpoints = balance::Endpoints::new(name, target.clone(), telemetry.clone(), settings, tls);
        let role = caller.as_ref().map(|caller| caller.role);
        if let Some(role) = role {
            telemetry.observer.watch_breakers(role, name, &endpoints);
        }
        let budget = budget::Budget::default();
        let stack = ServiceBuilder::new()
            // One span for the call, however many attempts it takes; the schema says what may be tried again.
            .layer(stage(trace::Trace { caller, peer: name, telemetry: telemetry.clone() }))
            // The caller's deadline less a margin; what is late is not begun.
            .layer(stage(deadline::Deadline { peer: name, settings }))
            // Tries again what the schema says can be tried again, and what was never sent; and asks for what is slow a
            // second time beside the first.
            .layer(stage(retry::Retry {
                role,
                peer: name,
                hedge: hedge::Hedge::new(settings.hedge, telemetry.clone(), budget.clone()),
                telemetry,
                budget,
            }))
            // The least loaded endpoint whose breaker lets the call through, then its connection.
            .service(balance::Balance(endpoints));
        Self { name, word: None, stack: Stack::new(stack) }
    }

    /// The same for a role of this process, which is told by which word it knows us.
    #[must_use]
    pub(crate) fn saying(self, word: &ProcessWord) -> Self {
        Self { word: word.header(), ..self }
    }

    /// The service's name, `account`.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl Service<Request<Body>> for Peer {
    type Response = Response<Body>;
    type Error = Status;
    type Future = Way<Status>;

    fn poll_ready(&mut self, task: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Status>> {
        self.stack.poll_ready(task)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(word) = &self.word {
            request.headers_mut().insert(&PROCESS, word.clone());
        }
        self.stack.call(request)
    }
}

/// What our caller gets when a peer that the answer depends on could not be asked: UNAVAILABLE, whatever it was, unless
/// the caller's own time is up. Never the peer's own refusal: what that means only the rule can know.
pub fn unanswered(context: &Context, peer: &'static str, status: &Status) -> Refusal {
    use tonic_types::StatusExt as _;

    /// With less than this left, the answer would come too late anyway.
    const NOTHING: Duration = Duration::from_millis(10);
    if context.remaining() < NOTHING {
        return Refusal::new(Reason::DeadlineExceeded, format!("{peer} did not answer in time")).with("peer", peer);
    }
    let cause = status.get_details_error_info().map_or_else(|| format!("{:?}", status.code()), |info| info.reason);
    let reason = match Reason::from_name(&cause) {
        Some(Reason::CircuitOpen) => Reason::CircuitOpen,
        _ => Reason::DependencyUnavailable,
    };
    let delay = status.get_details_retry_info().and_then(|info| info.retry_delay).unwrap_or(retry::FIRST_WAIT);
    Refusal::new(reason, format!("{peer} cannot be asked ({cause}); nothing was done"))
        .with("peer", peer)
        .with("cause", cause)
        .retry_after(delay)
        .because(status.clone())
}
