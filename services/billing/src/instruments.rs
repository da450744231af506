//! What is counted and timed of money.

use std::{sync::Arc, time::Duration};

use mesh::Telemetry;
use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Histogram},
};

/// Seconds that a request takes: from a fraction of a commit up to the longest deadline.
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// The instruments of this service.
pub(crate) struct Instruments {
    duplicates: Counter<u64>,
    duration: Histogram<f64>,
    imbalance: Gauge<u64>,
}

impl Instruments {
    pub(crate) fn new(telemetry: &Arc<Telemetry>) -> Self {
        let meter = telemetry.meter();
        Self {
            duplicates: meter.u64_counter("billing.duplicate_requests").build(),
            duration: meter.f64_histogram("billing.duration").with_unit("s").with_boundaries(SECONDS.to_vec()).build(),
            imbalance: meter.u64_gauge("billing.ledger.imbalance").build(),
        }
    }

    /// Counts requests whose ids had been answered before.
    pub(crate) fn repeated(&self, method: &'static str, requests: usize) {
        if let Some(requests) = u64::try_from(requests).ok().filter(|requests| *requests > 0) {
            self.duplicates.add(requests, &[KeyValue::new("method", method)]);
        }
    }

    /// Notes how long it took to move money, to refuse to, or to fail.
    pub(crate) fn took(&self, method: &'static str, outcome: &'static str, duration: Duration) {
        self.duration
            .record(duration.as_secs_f64(), &[KeyValue::new("method", method), KeyValue::new("outcome", outcome)]);
    }

    /// Sets what the last look at the ledger found: how much does not add up.
    pub(crate) fn imbalance(&self, findings: u64) {
        self.imbalance.record(findings, &[]);
    }
}
