//! What can be counted of events, for `/metrics`, and the span of feeling one.

use std::{sync::Arc, time::Duration};

use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Histogram},
    trace::SpanContext,
};
use tracing::Span;

use super::{CloudEvent, Effect};
use crate::{Telemetry, Time};

/// From a millisecond, which is a bus inside of the process, to the hour that a bus was away.
const SECONDS: [f64; 13] = [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 60.0, 600.0, 3_600.0];

/// The instruments of a process, shared by its services.
pub(super) struct Instruments {
    telemetry: Arc<Telemetry>,
    told: Counter<u64>,
    felt: Counter<u64>,
    retried: Counter<u64>,
    dead: Counter<u64>,
    lag: Histogram<f64>,
    unsent: Gauge<i64>,
    unsent_age: Gauge<f64>,
    behind: Gauge<u64>,
    waiting: Gauge<i64>,
    dead_letters: Gauge<i64>,
}

impl Instruments {
    pub(super) fn new(telemetry: Arc<Telemetry>) -> Self {
        let meter = telemetry.meter();
        Self {
            told: meter.u64_counter("trivet.events.published").build(),
            felt: meter.u64_counter("trivet.events.delivered").build(),
            retried: meter.u64_counter("trivet.events.retries").build(),
            dead: meter.u64_counter("trivet.events.dead").build(),
            lag: meter.f64_histogram("trivet.events.lag").with_unit("s").with_boundaries(SECONDS.to_vec()).build(),
            unsent: meter.i64_gauge("trivet.outbox.unsent").build(),
            unsent_age: meter.f64_gauge("trivet.outbox.oldest_age").with_unit("s").build(),
            behind: meter.u64_gauge("trivet.bus.pending").build(),
            waiting: meter.i64_gauge("trivet.inbox.waiting").build(),
            dead_letters: meter.i64_gauge("trivet.inbox.dead_letters").build(),
            telemetry,
        }
    }

    /// The span of feeling an event, linked to the span that made it, and the trace that its own events are part of.
    pub(super) fn consumer_span(&self, consumer: &'static str, event: &CloudEvent) -> (Span, SpanContext) {
        self.telemetry.consumer_span(consumer, &event.kind, &event.event_id, &event.trace())
    }

    pub(super) fn told(&self, source: &'static str, event: &CloudEvent) {
        self.told.add(1, &[source_of(source), kind(event)]);
    }

    pub(super) fn felt(&self, name: &'static str, event: &CloudEvent, effect: Effect, now: Time) {
        let effect = if effect == Effect::Felt { "felt" } else { "stale" };
        self.felt.add(1, &[consumer(name), kind(event), KeyValue::new("effect", effect)]);
        self.lag.record(now.since(event.time).as_secs_f64(), &[consumer(name), kind(event)]);
    }

    pub(super) fn retried(&self, name: &'static str, event: &CloudEvent) {
        self.retried.add(1, &[consumer(name), kind(event)]);
    }

    pub(super) fn dead(&self, name: &'static str, event: &CloudEvent) {
        self.dead.add(1, &[consumer(name), kind(event)]);
    }

    /// What this process does not lead for is for another one to say.
    pub(super) fn nothing(&self, name: &'static str) {
        self.backlog(name, 0, Duration::ZERO);
        self.pile(name, 0, 0);
        self.behind(name, 0);
    }

    /// How far a service is behind with telling.
    pub(super) fn backlog(&self, source: &'static str, waiting: i64, oldest_age: Duration) {
        self.unsent.record(waiting, &[source_of(source)]);
        self.unsent_age.record(oldest_age.as_secs_f64(), &[source_of(source)]);
    }

    /// How many events the bus has not brought yet.
    pub(super) fn behind(&self, name: &'static str, events: u64) {
        self.behind.record(events, &[consumer(name)]);
    }

    /// How many letters a service has.
    pub(super) fn pile(&self, name: &'static str, waiting: i64, dead: i64) {
        self.waiting.record(waiting, &[consumer(name)]);
        self.dead_letters.record(dead, &[consumer(name)]);
    }
}

fn source_of(source: &'static str) -> KeyValue {
    KeyValue::new("source", source)
}

fn consumer(name: &'static str) -> KeyValue {
    KeyValue::new("consumer", name)
}

/// The type, if the contract has it: what a stranger calls his events must not make series.
fn kind(event: &CloudEvent) -> KeyValue {
    KeyValue::new("type", super::cloud::kind_of(&event.kind).map_or("other", |known| known.kind))
}
