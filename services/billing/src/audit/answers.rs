//! Whether every request was answered with what it did, and did what it was answered with: looked at beside the chains, in the order in which changes were
//! made. In the order of wallets each change would lie on another page of the disk, and its request on two more.

use mesh::StoreError;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    Audits,
    table::{self, Forgotten, Unanswered, Whose},
};

/// Changes that are looked at with one statement.
const PAGE: usize = 20_000;

/// A look under way, which ends when nobody waits for it any more.
pub(super) struct Answers {
    look: JoinHandle<Result<Found, StoreError>>,
    _end: DropGuard,
}

/// What the look came to.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The first changes whose requests were not answered with them.
    pub(super) unanswered: Vec<Unanswered>,
    /// How many more there are.
    pub(super) more: i64,
    /// The first requests that were carried out, and of which there is no transaction.
    pub(super) forgotten: Vec<Forgotten>,
}

impl Answers {
    /// Begins to look at all of a tenant's changes, and tells of up to `limit`.
    pub(super) fn look(audits: &Audits, whose: &Whose, limit: usize) -> Self {
        let end = CancellationToken::new();
        let look = tokio::spawn(look(audits.clone(), whose.clone(), limit, end.clone()));
        Self { look, _end: end.drop_guard() }
    }

    /// What it came to, once it is done.
    pub(super) async fn found(self) -> Result<Found, StoreError> {
        self.look.await.map_err(StoreError::Panicked)?
    }
}

async fn look(audits: Audits, whose: Whose, limit: usize, end: CancellationToken) -> Result<Found, StoreError> {
    let mut found = Found::default();
    let mut after = String::new();
    while !end.is_cancelled() {
        let (last, unanswered) = table::unanswered(audits.books.store.reader(), &whose, &after, PAGE).await?;
        for change in unanswered {
            if found.unanswered.len() < limit {
                found.unanswered.push(change);
            } else {
                found.more = found.more.saturating_add(1);
            }
        }
        match last {
            // An id that is damaged is behind all others, and may be read again and again; its chain names it.
            Some(last) if last > after => after = last,
            _ => break,
        }
    }
    if !end.is_cancelled() {
        let (forgotten, more) = table::forgotten(audits.books.store.reader(), &whose, limit).await?;
        (found.forgotten, found.more) = (forgotten, found.more.saturating_add(more));
    }
    Ok(found)
}
