//! What a call carries besides its message: whose it is, how long it may take, and the trace it is part of.

use std::{fmt, sync::Arc, time::Duration};

use opentelemetry::trace::SpanContext;
use tokio::time::Instant;
use tonic::Request;
use trivet_proto::Method;

use crate::{Tenant, identity::SpiffeId};

/// One call as the serving stack opened it. Handlers pass it on to the store and, through [`Context::onward`], to other
/// services, so that deadline, trace and request id travel with the work.
#[derive(Clone, Debug)]
pub struct Context {
    /// Whose rows the call sees.
    pub tenant: Tenant,
    /// Who makes it.
    pub caller: Caller,
    /// `x-request-id`: the caller's, or one of ours. The same on every hop.
    pub request_id: Arc<str>,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// The span of this call, W3C Trace Context.
    pub trace: SpanContext,
    /// Which rpc of the contract it is, where it is one.
    pub method: Option<&'static Method>,
}

/// Who makes a call, as histories name them. Never a person's name: an identity that an operator gave out.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Caller {
    /// Anybody, where callers have no credentials.
    Operator,
    /// The process itself.
    Itself,
    /// Another service of the house.
    Service(&'static str),
    /// A program with a certificate.
    Workload(SpiffeId),
    /// A program with an API key: the key's id.
    Key(Arc<str>),
}

impl fmt::Display for Caller {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Operator => formatter.write_str("operator"),
            Self::Itself => formatter.write_str("trivet"),
            Self::Service(name) => formatter.write_str(name),
            Self::Workload(id) => id.fmt(formatter),
            Self::Key(key_id) => formatter.write_str(key_id),
        }
    }
}

impl Context {
    /// A context of nobody's call: for work that a process does of itself, and for tests.
    pub fn own(tenant: Tenant, budget: Duration) -> Self {
        Self {
            tenant,
            caller: Caller::Itself,
            request_id: Arc::from("own"),
            deadline: Instant::now() + budget,
            trace: SpanContext::NONE,
            method: None,
        }
    }

    /// The same call with half of its time: for asking others what the answer can do without.
    #[must_use]
    pub fn halved(&self) -> Self {
        Self { deadline: Instant::now() + self.remaining() / 2, ..self.clone() }
    }

    /// The same call with this much time from now on: for one of many things that it does for as long as it is open.
    #[must_use]
    pub fn within(&self, budget: Duration) -> Self {
        Self { deadline: Instant::now() + budget, ..self.clone() }
    }

    /// How much time is left.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// A request to another service as part of this call.
    pub fn onward<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        request.extensions_mut().insert(self.clone());
        request
    }
}

/// Takes a request apart: the call's context, as the serving stack put it there, and the message.
pub fn open<M>(mut request: Request<M>) -> Result<(Context, M), tonic::Status> {
    let context = request.extensions_mut().remove::<Context>();
    let context = context.ok_or_else(|| tonic::Status::internal("the service stands outside of mesh::serve"))?;
    Ok((context, request.into_inner()))
}
