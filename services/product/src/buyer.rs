//! Buyers: how the users of account stand, as far as this service knows by itself. Account's events say so, and so do its
//! answers when it is asked; a word is good for as long as it is young.

mod events;
mod rpc;
mod table;
#[cfg(test)]
mod tests;

use std::{future::Future, pin::pin, time::Duration};

use mesh::{Clock, Context, Parts, Store, Tenant, Time, UserId, chain, store::Row, text_enum};
use tokio::sync::mpsc;
use tracing::debug;

pub(crate) use {
    events::{handlers, user_deleted},
    rpc::Accounts,
    table::find,
};

/// How old a word of account may be that an answer is given on: how long somebody who was suspended can go on at most
/// while events do not arrive.
const FRESH: Duration = Duration::from_secs(30);
/// Answers of account that wait to be written down. One that finds no room is forgotten, and account is asked again.
const WAITING: usize = 256;
/// How much time there is to begin writing one down. Less than a drain grants work in the background.
const BUDGET: Duration = Duration::from_secs(3);

text_enum! {
    /// How a user stands.
    pub(crate) enum Status {
        /// In good standing.
        Active = "ACTIVE",
        /// Stopped by an operator for a while.
        Suspended = "SUSPENDED",
        /// Deleted; can be restored.
        Deleted = "DELETED",
        /// Gone for good.
        Erased = "ERASED",
    }
}

/// The last word on a user.
#[derive(Clone, Debug, PartialEq, Eq, Row)]
pub(crate) struct Buyer {
    status: Status,
    /// The version of the account that it is about.
    version: i64,
    /// Until when nothing newer had happened, as far as is known.
    as_of_time: Time,
}

/// What an answer is given on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// Whether the user has an account that may act.
    pub(crate) active: bool,
    /// How old the word is that says so.
    pub(crate) staleness: Duration,
}

/// What account says of a user when it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// `None`: there is no such account.
    pub(crate) status: Option<Status>,
    /// The version of the account that it is about.
    pub(crate) version: i64,
}

impl Asked {
    /// The answer, or what is known by now where that is newer.
    pub(crate) fn or_later(self, known: Option<Buyer>) -> Self {
        match known.filter(|known| known.version > self.version) {
            Some(known) => Self { status: Some(known.status), version: known.version },
            None => self,
        }
    }
}

/// What a user is in an organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Membership {
    Member,
    Stranger,
    NoOrganization,
}

/// The rule of freshness: what a word is good for now, if for anything.
fn known(buyer: &Buyer, now: Time) -> Option<Known> {
    // Of what is still to come, by a clock that was ahead, nobody can tell the age.
    let staleness = (buyer.as_of_time <= now).then(|| now.since(buyer.as_of_time))?;
    (staleness <= FRESH).then_some(Known { active: buyer.status == Status::Active, staleness })
}

/// An answer of account about a user.
#[derive(Debug)]
struct Said {
    tenant: Tenant,
    user_id: UserId,
    buyer: Buyer,
}

/// The users that this service knows of. Cheap to clone.
#[derive(Clone)]
struct Buyers {
    store: Store,
    clock: Clock,
    said: mpsc::Sender<Said>,
}

impl Buyers {
    fn new(parts: &Parts) -> Self {
        let (said, waiting) = mpsc::channel(WAITING);
        let store = parts.store.clone();
        parts.background.spawn(|end| write_down(store, waiting, end.cancelled_owned()));
        Self { store: parts.store.clone(), clock: parts.clock.clone(), said }
    }

    /// What is known of a user, if it is young enough.
    async fn known(&self, context: &Context, user_id: &UserId) -> Option<Known> {
        match table::find(self.store.reader(), &context.tenant, user_id).await {
            Ok(buyer) => buyer.and_then(|buyer| known(&buyer, self.clock.now())),
            // Account may know all the same.
            Err(error) => {
                debug!(user.id = %user_id, "What is known of {user_id} cannot be read: {}", chain(&error));
                None
            }
        }
    }

    /// Has an answer of account written down, soon: nobody waits for it.
    fn note(&self, context: &Context, user_id: &UserId, buyer: Buyer) {
        let said = Said { tenant: context.tenant.clone(), user_id: user_id.clone(), buyer };
        if self.said.try_send(said).is_err() {
            debug!(user.id = %user_id, "What account said of {user_id} is not written down: too much waits for that");
        }
    }
}

/// Writes down what account said until `end`. One at a time: a transaction that locks a single row never waits for one
/// that waits for it, as those of events lock many.
async fn write_down(store: Store, mut waiting: mpsc::Receiver<Said>, end: impl Future<Output = ()>) {
    let mut end = pin!(end);
    loop {
        let said = tokio::select! {
            () = &mut end => return,
            Some(said) = waiting.recv() => said,
        };
        let context = Context::own(said.tenant.clone(), BUDGET);
        let unit = store.unit(&context);
        let written = unit.run(said, |said, transaction| {
            Box::pin(table::refresh(transaction, &said.tenant, &said.user_id, &said.buyer))
        });
        if let Err(error) = written.await {
            debug!("What account said of a user is not written down: {}", chain(&error));
        }
    }
}
