//! Following: what a service tells, heard by every process of its own, without a bus. A cache is kept true by it: one
//! process carries the events of a service, and each has a cache.

use super::outbox;
use crate::{Store, StoreError, Tenant, store::Row};

/// Events read at once.
const PAGE: u64 = 1_000;

/// That something has changed: what was told, of what, and its version since.
#[derive(Clone, Debug, PartialEq, Eq, Row)]
pub struct Change {
    /// The place of the event: of nothing else.
    position: i64,
    commit_order: i64,
    /// The event's type.
    pub kind: String,
    /// Whose it is.
    pub tenant_id: Tenant,
    /// The id of the aggregate.
    pub subject: String,
    /// Its version once the event had happened.
    pub aggregate_version: i64,
}

/// Reads what a service tells, from now on.
pub struct Follower {
    store: Store,
    kinds: &'static [&'static str],
    /// Nothing committed by then is read again; `None` at first.
    from: Option<outbox::Place>,
}

impl Follower {
    /// Follows events of these types.
    pub fn new(store: Store, kinds: &'static [&'static str]) -> Self {
        Self { store, kinds, from: None }
    }

    /// What has changed since the call before; at first, nothing. Each change comes at least once, and sooner than a
    /// transaction that is still under way ends: what was committed while it was is read again until then.
    pub async fn changes(&mut self) -> Result<Vec<Change>, StoreError> {
        let reader = self.store.reader();
        // Taken before the reading: what is committed later than this is read by the next call.
        let present = outbox::present(reader).await?;
        let mut changes: Vec<Change> = Vec::new();
        if let Some(from) = self.from {
            let mut after = from;
            loop {
                let page = outbox::changes(reader, self.kinds, after, PAGE).await?;
                let whole = u64::try_from(page.len()).is_ok_and(|found| found < PAGE);
                if let Some(last) = page.last() {
                    after = outbox::Place { commit_order: last.commit_order, position: last.position };
                }
                changes.extend(page);
                if whole {
                    break;
                }
            }
        }
        self.from = Some(present);
        Ok(changes)
    }
}
