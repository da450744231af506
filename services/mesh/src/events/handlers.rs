//! What a service does about the events it hears: one small function for each type.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::BoxFuture;
use opentelemetry::trace::SpanContext;
use trivet_proto::Event;

use super::{CloudEvent, Origin};
use crate::{Clock, Slug, StoreError, Time, store::Transaction};

/// Whether an event had an effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It had.
    Felt,
    /// It came after a later one of its aggregate that had made it meaningless: it is recorded, and nothing else is.
    Stale,
}

/// Why an event was not felt. What the handler did is undone, and the event is tried again: eight times in all, with
/// growing waits, then it is a dead letter.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// A statement failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The data is not what the type promises; trying again is of no use.
    #[error("{0}")]
    Unreadable(String),
    /// The rule of the handler refuses it.
    #[error("{0}")]
    Refused(String),
}

/// What a handler answers.
pub type Handled<'a> = BoxFuture<'a, Result<Effect, HandlerError>>;

/// An event with the circumstances of its handling.
pub struct Heard<'a> {
    /// The event.
    pub event: &'a CloudEvent,
    /// Now.
    pub now: Time,
    clock: &'a Clock,
    trace: SpanContext,
}

impl<'a> Heard<'a> {
    pub(super) fn new(event: &'a CloudEvent, clock: &'a Clock, trace: SpanContext) -> Self {
        Self { event, now: clock.now(), clock, trace }
    }

    /// A fresh TypeID for something that the event makes.
    pub fn fresh(&self, prefix: &str) -> Slug {
        Slug::fresh(prefix, self.clock)
    }

    /// What the handler's own events come from: this one.
    pub fn origin(&self) -> Origin {
        Origin {
            tenant: self.event.tenant_id.clone(),
            time: self.now,
            trace: self.trace.clone(),
            causation_id: self.event.event_id.clone(),
            clock: self.clock.clone(),
        }
    }
}

type Handler = Box<dyn for<'a> Fn(&'a Heard<'a>, &'a Transaction) -> Handled<'a> + Send + Sync>;

/// The handlers of one service, by type of event.
#[derive(Default)]
pub struct Handlers(BTreeMap<&'static str, Handling>);

struct Handling {
    handler: Handler,
    /// Whether an event has a transaction to itself.
    alone: bool,
}

impl Handlers {
    /// Feels events of the message's type with this function. It runs in the transaction that records the event, so that
    /// its effect is there once, with the event's record, or not at all. It must do nothing that a rollback cannot undo.
    #[must_use]
    pub fn on<E, H>(self, handler: H) -> Self
    where
        E: Event + Send + Sync + 'static,
        H: for<'a> Fn(&'a Heard<'a>, &'a E, &'a Transaction) -> Handled<'a> + Send + Sync + 'static,
    {
        self.with(handler, false)
    }

    /// The same, with a transaction for each event: for a function that locks rows of several aggregates. It must lock
    /// them in the order in which others do, which events do not come in.
    #[must_use]
    pub fn on_alone<E, H>(self, handler: H) -> Self
    where
        E: Event + Send + Sync + 'static,
        H: for<'a> Fn(&'a Heard<'a>, &'a E, &'a Transaction) -> Handled<'a> + Send + Sync + 'static,
    {
        self.with(handler, true)
    }

    fn with<E, H>(mut self, handler: H, alone: bool) -> Self
    where
        E: Event + Send + Sync + 'static,
        H: for<'a> Fn(&'a Heard<'a>, &'a E, &'a Transaction) -> Handled<'a> + Send + Sync + 'static,
    {
        let handler = Arc::new(handler);
        let reading: Handler = Box::new(move |heard, transaction| {
            let handler = handler.clone();
            Box::pin(async move {
                let event: E = heard.event.read().map_err(HandlerError::Unreadable)?;
                handler(heard, &event, transaction).await
            })
        });
        self.0.insert(E::KIND.kind, Handling { handler: reading, alone });
        self
    }

    pub(super) fn of(&self, kind: &str) -> Option<&Handler> {
        self.0.get(kind).map(|handling| &handling.handler)
    }

    /// Whether an event of this type has a transaction to itself.
    pub(super) fn is_alone(&self, kind: &str) -> bool {
        self.0.get(kind).is_some_and(|handling| handling.alone)
    }
}
