//! Dead letters: events that a service gave up, because it could not feel them or because no bus takes them, and what a
//! person does about them.

use serde::{Deserialize, Serialize};

use super::{
    inbox::{self, State},
    letters, outbox,
};
use crate::{Clock, Context, Store, StoreError, Tenant, Time, store::Row};

/// Who gave up an event that could not be told.
pub(super) const BUS: &str = "bus";

/// An event that was given up.
#[derive(Row)]
pub(super) struct DeadLetter {
    pub(super) position: i64,
    /// The service that could not feel it, or [`BUS`].
    pub(super) consumer: String,
    pub(super) event_id: String,
    pub(super) kind: String,
    pub(super) source: String,
    pub(super) subject: String,
    pub(super) aggregate_version: i64,
    pub(super) time: Time,
    pub(super) attempts: i64,
    pub(super) cause: String,
    pub(super) fail_time: Time,
    /// Later events of the same aggregate that wait behind it.
    pub(super) waiting: i64,
}

/// A place in the list of dead letters, which is that of letters and that of refused events in one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Cursor {
    fail_time: Time,
    /// Of those of one time, letters come first.
    refused: bool,
    position: i64,
}

impl Cursor {
    pub(super) fn of(letter: &DeadLetter) -> Self {
        Self { fail_time: letter.fail_time, refused: letter.consumer == BUS, position: letter.position }
    }

    /// The beginning of the list.
    const FIRST: Self = Self { fail_time: Time::from_micros(i64::MIN), refused: false, position: 0 };

    /// The place among the letters.
    fn in_letters(self) -> (Time, i64) {
        (self.fail_time, if self.refused { i64::MAX } else { self.position })
    }

    /// The place among the refused events.
    fn in_outbox(self) -> (Time, i64) {
        (self.fail_time, if self.refused { self.position } else { 0 })
    }
}

/// No dead letter goes by this event's id.
#[derive(Debug, thiserror::Error)]
#[error("there is no dead letter of an event {0:?}")]
pub(super) struct NotDead(pub(super) String);

/// What is done about a dead letter.
#[derive(Clone, Copy)]
pub(super) enum Remedy {
    /// It is tried again, as if for the first time.
    Replay,
    /// It is given up for good.
    Discard,
}

/// One event, and what to do about it.
struct Treatment {
    tenant: Tenant,
    event_id: String,
    remedy: Remedy,
    now: Time,
}

/// The dead letters of one service.
#[derive(Clone)]
pub(super) struct DeadLetters {
    pub(super) name: &'static str,
    pub(super) store: Store,
    pub(super) clock: Clock,
}

impl DeadLetters {
    /// Those after a place, oldest first.
    pub(super) async fn list(
        &self,
        tenant: &Tenant,
        after: Option<Cursor>,
        limit: u64,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let reader = self.store.reader();
        let after = after.unwrap_or(Cursor::FIRST);
        let mut dead = letters::dead(reader, self.name, tenant, after.in_letters(), limit).await?;
        dead.extend(outbox::dead(reader, self.name, tenant, after.in_outbox(), limit).await?);
        dead.sort_unstable_by_key(Cursor::of);
        dead.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(dead)
    }

    /// Does something about one of them. What waits behind it follows by itself.
    pub(super) async fn treat(
        &self,
        context: &Context,
        event_id: String,
        remedy: Remedy,
    ) -> Result<Result<(), NotDead>, StoreError> {
        let now = self.clock.now();
        let treatment = Treatment { tenant: context.tenant.clone(), event_id: event_id.clone(), remedy, now };
        let found = self.store.unit(context).run(treatment, |treatment, transaction| {
            Box::pin(async move {
                let Treatment { tenant, event_id, remedy, now } = treatment;
                match remedy {
                    Remedy::Replay => {
                        let letter = letters::retry(transaction, tenant, event_id, *now).await?;
                        Ok(outbox::retry(transaction, tenant, event_id).await? || letter)
                    }
                    Remedy::Discard => {
                        let letter = letters::discard(transaction, tenant, event_id).await?;
                        if letter {
                            inbox::set_state(transaction, event_id, State::Discarded).await?;
                        }
                        Ok(outbox::discard(transaction, tenant, event_id).await? || letter)
                    }
                }
            })
        });
        Ok(if found.await? { Ok(()) } else { Err(NotDead(event_id)) })
    }
}
