//! Tailing: what a service tells, in the order of its commits, one event after the other for as long as somebody asks.
//!
//! It is asked for the next event and reads a page when it has none left: a caller who is slow to ask holds up nobody,
//! and costs a page of memory.

use std::{collections::VecDeque, time::Duration};

use tokio::sync::watch;

use super::{
    CloudEvent,
    outbox::{self, Place, Stretch},
};
use crate::{Store, StoreError, Tenant};

/// Events read at once.
const PAGE: usize = 64;
/// How often it looks without having been woken: other processes commit too, and wake nobody here.
const POLL: Duration = Duration::from_millis(250);
/// It looks at most this often, however much is committed: a look costs the database two statements.
const LEAST_WAIT: Duration = Duration::from_millis(10);

/// What to show.
pub(super) struct Wanted {
    pub(super) tenant: Tenant,
    /// None means all.
    pub(super) kinds: Vec<String>,
    /// Empty means any.
    pub(super) subject: String,
    /// The event after which to begin; what is told from now on where there is none.
    pub(super) after: Option<String>,
}

/// The outbox does not have the event after which to begin.
#[derive(Debug, thiserror::Error)]
#[error("there is no event {0:?} in the outbox: it was never there, or for longer than 30 days")]
pub(super) struct Unknown(pub(super) String);

/// Where a tail is.
pub(super) struct Tail {
    source: &'static str,
    store: Store,
    wanted: Wanted,
    place: Place,
    page: VecDeque<CloudEvent>,
    committed: watch::Receiver<()>,
}

impl Tail {
    /// Finds the place to begin at.
    pub(super) async fn begin(
        source: &'static str,
        store: Store,
        wanted: Wanted,
    ) -> Result<Result<Self, Unknown>, StoreError> {
        let place = match &wanted.after {
            None => outbox::present(store.reader()).await?,
            Some(event_id) => match outbox::place(store.reader(), &wanted.tenant, event_id).await? {
                Some(place) => place,
                None => return Ok(Err(Unknown(event_id.clone()))),
            },
        };
        let committed = store.committed();
        Ok(Ok(Self { source, store, wanted, place, page: VecDeque::new(), committed }))
    }

    /// The next event, however long that takes.
    pub(super) async fn next(&mut self) -> Result<CloudEvent, StoreError> {
        loop {
            if let Some(event) = self.page.pop_front() {
                return Ok(event);
            }
            // Before looking: what is committed from now on is looked for again.
            self.committed.mark_unchanged();
            self.look().await?;
            if self.page.is_empty() {
                tokio::time::sleep(LEAST_WAIT).await;
                // The sender lives as long as the store that the tail holds.
                let _ = tokio::time::timeout(POLL, self.committed.changed()).await;
            }
        }
    }

    async fn look(&mut self) -> Result<(), StoreError> {
        let reader = self.store.reader();
        let until = outbox::present(reader).await?;
        let Wanted { tenant, kinds, subject, .. } = &self.wanted;
        let stretch = Stretch { tenant, after: self.place, until, kinds, subject };
        let told = outbox::told(reader, self.source, &stretch, PAGE).await?;
        self.place = match told.last() {
            Some(last) if told.len() == PAGE => last.place(),
            // All of the stretch was seen: nobody looks at what others told in it again.
            _ => self.place.max(until),
        };
        self.page.extend(told.into_iter().map(|kept| kept.event));
        Ok(())
    }
}
