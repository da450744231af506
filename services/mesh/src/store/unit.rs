//! The unit of work: one transaction that belongs to a task, not to a request (money.md, section C).
//!
//! tonic drops a handler's future at its deadline and when the client goes away. A future dropped inside sqlx's
//! `begin()` leaves the pooled connection inside a transaction, and the next caller's acknowledged write is lost. So
//! the whole transaction runs in a task of its own: whoever waits for it may go, and it still ends whole.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::{Session, Store, StoreError, Transaction};
use crate::Context;

/// With less time than this before the deadline, nothing is begun.
const LEAST_BUDGET: Duration = Duration::from_millis(20);
/// How often a transaction that collides with others is tried.
const TRIES: u32 = 3;
/// The longest wait before another try; the wait is random, so that those who collided do not meet again.
const LONGEST_WAIT_MS: u64 = 30;

/// What is done inside of the transaction. It may run again from the start, so that it takes its input by reference.
pub type Work<I, T> = for<'a> fn(&'a I, &'a Transaction) -> BoxFuture<'a, Result<T, StoreError>>;

/// Work that one statement does, which is a transaction in itself: a way to the database and back rather than four.
/// `None` where it does not do, and then nothing was written; an unclear outcome must be told as
/// [`StoreError::OutcomeUnknown`].
pub type AtOnce<I, T> = for<'a> fn(&'a I, &'a Session) -> BoxFuture<'a, Result<Option<T>, StoreError>>;

/// A unit of work about to run. It ends in COMMIT where the work answers `Ok`, else in ROLLBACK.
#[must_use]
pub struct Unit<'s> {
    store: &'s Store,
    context: &'s Context,
    rehearsal: bool,
    repeatable: bool,
}

impl<'s> Unit<'s> {
    pub(super) fn new(store: &'s Store, context: &'s Context) -> Self {
        Self { store, context, rehearsal: false, repeatable: false }
    }

    /// The work claims a request id first, so that running it again after an unclear COMMIT finds out what happened.
    pub fn claimed(self) -> Self {
        Self { repeatable: true, ..self }
    }

    /// Computes everything and keeps nothing: `validate_only`.
    pub fn rehearsal(self, rehearsal: bool) -> Self {
        Self { rehearsal, ..self }
    }

    /// Runs the work. Once begun it ends whole, whether or not anybody still waits for this future.
    pub async fn run<I, T>(self, input: I, work: Work<I, T>) -> Result<T, StoreError>
    where
        I: Send + Sync + 'static,
        T: Send + 'static,
    {
        self.run_how(input, None, work).await
    }

    /// Runs the work with one statement where that does, on PostgreSQL; else as [`Unit::run`] does.
    pub async fn run_at_once<I, T>(self, input: I, at_once: AtOnce<I, T>, work: Work<I, T>) -> Result<T, StoreError>
    where
        I: Send + Sync + 'static,
        T: Send + 'static,
    {
        self.run_how(input, Some(at_once), work).await
    }

    async fn run_how<I, T>(self, input: I, at_once: Option<AtOnce<I, T>>, work: Work<I, T>) -> Result<T, StoreError>
    where
        I: Send + Sync + 'static,
        T: Send + 'static,
    {
        let inner = &self.store.0;
        let permit = inner.permits.clone().acquire_owned().await.map_err(|_| StoreError::Closed)?;
        if self.context.remaining() < LEAST_BUDGET {
            return Err(StoreError::OutOfTime);
        }
        let (rehearsal, repeatable, deadline) = (self.rehearsal, self.repeatable, self.context.deadline);
        let store = self.store.clone();
        let at_once = at_once.filter(|_| !rehearsal && repeatable && !store.has_one_writer());
        let task = async move {
            let _permit = permit;
            store.until_clear(&input, (at_once, work), Terms { rehearsal, repeatable, deadline }).await
        };
        inner.units.spawn(task.in_current_span()).await.map_err(StoreError::Panicked)?
    }
}

#[derive(Clone, Copy)]
struct Terms {
    rehearsal: bool,
    repeatable: bool,
    deadline: Instant,
}

impl Store {
    /// Runs the transaction until its outcome is known, as far as the deadline lets it.
    async fn until_clear<I, T>(
        &self,
        input: &I,
        (mut at_once, work): (Option<AtOnce<I, T>>, Work<I, T>),
        terms: Terms,
    ) -> Result<T, StoreError> {
        let mut collisions = 0;
        let mut unclear = None;
        loop {
            let done = match at_once.take() {
                Some(at_once) => self.at_once(input, at_once).await.transpose(),
                None => Some(self.once(input, work, terms.rehearsal).await),
            };
            let error = match done {
                Some(Ok(value)) => {
                    self.0.committed.send_replace(());
                    return Ok(value);
                }
                Some(Err(error)) => error,
                None => continue,
            };
            match error {
                StoreError::OutcomeUnknown(_) if terms.repeatable => unclear = Some(error),
                // The database is still away; what the lost COMMIT did is not known yet.
                StoreError::Unavailable(_) if unclear.is_some() => {}
                StoreError::Conflict(_) | StoreError::Held(_) if collisions + 1 < TRIES => collisions += 1,
                other => return Err(unclear.unwrap_or(other)),
            }
            let wait = Duration::from_millis(rand::random_range(1..=LONGEST_WAIT_MS));
            if Instant::now() + wait + LEAST_BUDGET > terms.deadline {
                return Err(unclear.unwrap_or(StoreError::OutOfTime));
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn at_once<I, T>(&self, input: &I, at_once: AtOnce<I, T>) -> Result<Option<T>, StoreError> {
        let session = self.0.sessions.take().await?;
        let done = at_once(input, &session).await;
        match &done {
            Ok(_) => self.0.sessions.give_back(session),
            Err(StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_)) => session.give_up(),
            // Its pool looks at it.
            Err(_) => {}
        }
        done
    }

    async fn once<I, T>(&self, input: &I, work: Work<I, T>, rehearsal: bool) -> Result<T, StoreError> {
        let transaction = self.0.sessions.take().await?.begin().await?;
        let value = match work(input, &transaction).await {
            Ok(value) if !rehearsal => value,
            // A server that can do nothing at present is not to be met again; the transaction ends with the session.
            Err(error @ StoreError::Unavailable(_)) => return Err(error),
            ended => {
                match transaction.rollback().await {
                    Ok(session) => self.0.sessions.give_back(session),
                    // A transaction that cannot be rolled back has ended, or does with its session.
                    Err(error) => tracing::debug!(error = %error, "A transaction could not be rolled back"),
                }
                return ended;
            }
        };
        let session = transaction.commit().await.map_err(|error| match error {
            StoreError::Unavailable(cause) => StoreError::OutcomeUnknown(cause),
            other => other,
        })?;
        self.0.sessions.give_back(session);
        Ok(value)
    }
}
