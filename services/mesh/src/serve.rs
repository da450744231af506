//! Serving: the stack that every request passes, from the socket to the handler. Read [`stack`] from top to bottom.

pub(crate) mod accept;
mod allow;
mod complete;
mod deadline;
mod fault;
mod identity;
mod limit;
mod rate;
mod shape;
mod streams;
mod trace;
mod web;

use std::{convert::Infallible, sync::Arc, time::Duration};

use tonic::service::Routes;
use tower::ServiceBuilder;

use crate::{
    Telemetry,
    stack::{Innermost, Stack, stage},
};

pub(crate) use deadline::write as write_timeout;
pub use fault::{FaultFault, Faults};
pub(crate) use identity::{Identity, Known, ProcessWord, Workloads};
pub use identity::{IdentityMode, IdentitySettings};
pub(crate) use rate::Rate;
pub use streams::{Answers, Streams};
pub use web::{OriginFaults, Origins};

/// Bytes of the largest request: a batch of 1,000 ids of 128 bytes, and room.
pub const REQUEST_BYTES: usize = 256 * 1024;
/// The largest request message that holds a batch.
pub const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// What the stages of one role share.
#[derive(Clone)]
pub(crate) struct Serving {
    /// The role's name, `billing`.
    pub(crate) role: &'static str,
    /// Spans and instruments.
    pub(crate) telemetry: Arc<Telemetry>,
    /// Makes request ids.
    pub(crate) clock: crate::Clock,
    /// How long a call may take whose caller does not say.
    pub(crate) default_deadline: Duration,
    /// What goes wrong on purpose.
    pub(crate) faults: Faults,
    /// The origins whose pages may call.
    pub(crate) origins: Origins,
    /// Who may call.
    pub(crate) identity: Identity,
    /// How often.
    pub(crate) rate: Rate,
}

/// The whole way of a request through the process.
///
/// Above it stands [`accept`]: connections, their limits, and their end.
pub(crate) fn stack(serving: &Serving, routes: Routes) -> Stack<Infallible> {
    let stages = ServiceBuilder::new()
        // What comes from a page: refused but for the origins of the settings, and turned from grpc-web into gRPC.
        .layer(stage(web::Web::of(&serving.origins)))
        // What is not gRPC is refused in HTTP's own words, before anything is spent on it.
        .layer(stage(shape::Shape))
        // The call gets its name: request id, W3C trace context, and a span where it is sampled. From here on it is observed,
        // counted and timed, whatever becomes of it.
        .layer(stage(trace::Trace::new(serving)))
        // From here on there is an end: grpc-timeout, or our own default.
        .layer(stage(deadline::Deadline { default: serving.default_deadline }))
        // Who calls, for which tenant, and whether they may: default deny as soon as callers have identities.
        .layer(stage(serving.identity.clone()))
        // How often they may.
        .layer(stage(serving.rate.clone()))
        // What is too much to be done in time is refused at once.
        .layer(stage(limit::Limit::default()))
        // What goes wrong on purpose, where the settings say so.
        .layer(stage(fault::Inject(serving.faults.clone())))
        // A panic becomes INTERNAL, and every error gets its reason and its request id.
        .layer(stage(complete::Complete))
        // The handlers, health and reflection.
        .service(Innermost(routes));
    Stack::new(stages)
}
