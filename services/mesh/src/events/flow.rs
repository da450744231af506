//! The flow of events as one service knows it: what became of those that it tells and of those that it hears, by type.

use std::collections::BTreeMap;

use super::{inbox, letters, outbox};
use crate::{Store, StoreError, Tenant, Time, store::Row};

/// Types of which the flow is told, the first by name: ours are some dozens, and what a stranger on the bus calls his
/// events must not fill an answer.
const TYPES: usize = 500;
/// Counts that a type has at most: told, received, felt, retried.
const COUNTS: usize = 4;

/// One count that a service keeps.
#[derive(Row)]
pub(super) struct Count {
    pub(super) kind: String,
    /// One of those in [`inbox`].
    pub(super) what: String,
    pub(super) n: i64,
}

/// What is left to do about the events of one type.
#[derive(Row)]
pub(super) struct Pending {
    pub(super) kind: String,
    /// Given up.
    pub(super) dead: i64,
    pub(super) waiting: i64,
    /// When the oldest that waits happened.
    pub(super) oldest: Option<Time>,
}

/// What became of the events of one type.
#[derive(Default)]
pub(super) struct Flow {
    pub(super) published: i64,
    pub(super) delivered: i64,
    pub(super) retried: i64,
    pub(super) dead: i64,
    pub(super) lag: i64,
    /// When the oldest that waits happened.
    pub(super) oldest: Option<Time>,
}

/// What a service tells, and what it hears, by type.
#[derive(Default)]
pub(super) struct Flows {
    pub(super) told: BTreeMap<String, Flow>,
    pub(super) heard: BTreeMap<String, Flow>,
}

impl Flows {
    /// The flow of a tenant's events.
    pub(super) async fn of(store: &Store, tenant: &Tenant) -> Result<Self, StoreError> {
        let reader = store.reader();
        let mut flows = Self::default();
        for Count { kind, what, n } in inbox::counts(reader, tenant, TYPES * COUNTS).await? {
            match what.as_str() {
                inbox::TOLD => {
                    let told = flows.told.entry(kind).or_default();
                    (told.published, told.delivered) = (n, n);
                }
                inbox::RECEIVED => flows.heard.entry(kind).or_default().published = n,
                inbox::FELT => flows.heard.entry(kind).or_default().delivered = n,
                inbox::RETRIED => flows.heard.entry(kind).or_default().retried = n,
                _ => return Err(StoreError::Impossible("a count is of something that nobody counts")),
            }
        }
        for pending in outbox::pending(reader, tenant, TYPES).await? {
            flows.told.entry(pending.kind.clone()).or_default().wait(&pending);
        }
        for pending in letters::pending(reader, tenant, TYPES).await? {
            flows.heard.entry(pending.kind.clone()).or_default().wait(&pending);
        }
        Ok(flows)
    }
}

impl Flow {
    fn wait(&mut self, pending: &Pending) {
        (self.dead, self.lag, self.oldest) = (pending.dead, pending.waiting, pending.oldest);
    }
}
