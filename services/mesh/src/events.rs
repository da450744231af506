//! Events: what a service tells the others, written in the transaction that makes it true (money.md, section E).
//!
//! An event is a message of the contract with `option (trivet.mesh.v1.event_type)`. [`publish`] puts it into the outbox
//! of the service's own database; nothing else ever publishes, so that no event is lost and none is told of what did not
//! happen.

mod outbox;

use opentelemetry::trace::SpanContext;
use trivet_proto::Event;

pub use outbox::MIGRATION;

use crate::{Clock, Context, StoreError, Tenant, Time, id, store::Transaction};

/// What makes events happen: a call, whose rows they are of, when, and in which trace.
#[derive(Clone)]
pub struct Origin {
    tenant: Tenant,
    time: Time,
    trace: SpanContext,
    /// The event whose handling it is; empty for a call.
    causation_id: String,
    clock: Clock,
}

impl Origin {
    /// This call, now.
    pub fn of(context: &Context, clock: &Clock) -> Self {
        Self {
            tenant: context.tenant.clone(),
            time: clock.now(),
            trace: context.trace.clone(),
            causation_id: String::new(),
            clock: clock.clone(),
        }
    }

    /// The W3C `traceparent` of the call; empty where it has no trace.
    fn traceparent(&self) -> String {
        if !self.trace.is_valid() {
            return String::new();
        }
        let Self { trace, .. } = self;
        format!("00-{}-{}-{:02x}", trace.trace_id(), trace.span_id(), trace.trace_flags().to_u8())
    }
}

/// What an event is about. Events of one aggregate are told in the order of its versions.
#[derive(Clone, Copy, Debug)]
pub struct Aggregate<'a> {
    /// What sort of thing, `user`.
    pub kind: &'static str,
    /// Its id, which is the event's CloudEvents `subject`.
    pub id: &'a str,
    /// Its version once the event has happened.
    pub version: i64,
}

/// Writes an event down, to be told once the transaction is committed. It must hold the lock of the aggregate's row, so
/// that the outbox has the aggregate's events in the order of their commits.
pub async fn publish<E: Event>(
    transaction: &Transaction,
    origin: &Origin,
    aggregate: Aggregate<'_>,
    event: &E,
) -> Result<(), StoreError> {
    let row = outbox::Row {
        event_id: id::fresh("evt", &origin.clock),
        kind: E::KIND.kind,
        data_schema: E::KIND.message,
        data: event.encode_to_vec(),
    };
    outbox::insert(transaction, origin, aggregate, row).await
}
