//! Telling everything again since a time, for a bus that lost its store: step by step, so that no step holds up those
//! who write.

use std::time::Duration;

use tokio::time::Instant;

use super::outbox;
use crate::{Context, Store, StoreError, Time};

/// Events that are taken back in one transaction.
const STEP: usize = 1_000;
/// How long one of these transactions may take to begin. The call as a whole has no end of its own.
const BUDGET: Duration = Duration::from_secs(10);

/// How far a replay is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) replayed: i64,
    pub(super) total: i64,
}

/// A replay under way. What is told for the first time meanwhile is no part of it.
pub(super) struct Replay {
    store: Store,
    context: Context,
    from: Time,
    progress: Progress,
    /// Up to which position it is done, and the last.
    stretch: (i64, i64),
}

impl Replay {
    /// Counts what there is to do.
    pub(super) async fn begin(store: Store, context: Context, from: Time) -> Result<Self, StoreError> {
        let past = outbox::past(store.reader(), from).await?;
        let progress = Progress { replayed: 0, total: past.total };
        let stretch = (past.first.unwrap_or(1) - 1, past.last.unwrap_or(0));
        Ok(Self { store, context, from, progress, stretch })
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress
    }

    /// Has the next events told again; `None` where there are no more.
    pub(super) async fn step(&mut self) -> Result<Option<Progress>, StoreError> {
        let context = Context { deadline: Instant::now() + BUDGET, ..self.context.clone() };
        let taken = self.store.unit(&context).run((self.from, self.stretch), |(from, stretch), transaction| {
            Box::pin(outbox::tell_again(transaction, *from, *stretch, STEP))
        });
        let taken = taken.await?;
        let Some(reached) = taken.last() else { return Ok(None) };
        self.stretch.0 = *reached;
        self.progress.replayed += i64::try_from(taken.len()).unwrap_or(0);
        Ok(Some(self.progress))
    }
}
