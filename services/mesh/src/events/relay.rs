//! The relay: takes events out of a service's outbox, has the bus tell them, and notes that they were told.
//!
//! It reads what was not told yet, never just what comes after a position: positions are handed out before the commit, and a
//! row with a lower one can appear later (money.md, section E). Between two looks at all there is, it begins where
//! transactions that were under way may have written: an index keeps the entries of what was told until it is vacuumed, and
//! going through those of a busy day takes longer than the telling. It holds no transaction while it waits for the bus.

mod near;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use near::Near;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::{
    CloudEvent, EventSettings, Instruments,
    bus::{Bus, Fate},
    inbox,
    outbox::{self, Kept},
};
use crate::{Clock, Context, Store, StoreError, Tenant, chain};

/// Events told at once: what comes in [`PAUSE_OF_ONE_WRITER`] on a busy day.
const BATCH: u64 = 512;
/// Aggregates that may wait without anything else being told: if there are more, it is the bus that takes nothing.
const STUCK: usize = 16;
/// How often it looks without having been woken.
const POLL: Duration = Duration::from_secs(1);
/// Looks begin at most this often unless the one before found as much as it takes: telling has its own commit, and one for
/// each of a thousand commits a second would cost as much as they do.
const PAUSE: Duration = Duration::from_millis(10);
/// The same where there is one writer, whom calls wait for while it notes what was told.
const PAUSE_OF_ONE_WRITER: Duration = Duration::from_millis(50);
/// The wait after the first failure; it doubles with each that follows, up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(50);
/// The longest wait for a bus that is away.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// How long a transaction of the relay may take to begin.
const BUDGET: Duration = Duration::from_secs(10);

/// The relay of one service.
pub(super) struct Relay {
    pub(super) source: &'static str,
    pub(super) store: Store,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) clock: Clock,
    pub(super) settings: EventSettings,
    pub(super) instruments: Arc<Instruments>,
}

/// A look at what waits.
struct Look {
    pass: Pass,
    /// The last position that it saw; where it began if there was none.
    last: i64,
    /// The first event that the bus refused.
    refused: Option<i64>,
}

/// How one look at the outbox ended.
enum Pass {
    /// As many were told as are at once: there is more.
    Full,
    /// Some were told; there may be more by now.
    Some,
    /// There is nothing to tell.
    Done,
    /// The bus does not take all of it now.
    Later(String),
}

impl Relay {
    /// Tells whatever there is to tell, for as long as it is polled.
    pub(super) async fn run(&self) {
        let mut committed = self.store.committed();
        let mut failures = 0_u32;
        let pause = if self.store.has_one_writer() { PAUSE_OF_ONE_WRITER } else { PAUSE };
        // The next look at all that waits is made when it is due, the others begin near the end.
        let (mut near, mut due) = (Near::default(), Instant::now());
        loop {
            // Before looking: what is committed from now on is looked for again.
            committed.mark_unchanged();
            let began = Instant::now();
            let looked = async {
                let sight = outbox::sight(self.store.reader()).await?;
                let after = if began >= due { 0 } else { near.after(sight) };
                if after == 0 {
                    due = began + POLL;
                }
                Ok::<_, StoreError>((sight, self.pass(after).await?))
            };
            let looked = looked.await;
            match &looked {
                // What was not told may be anywhere.
                Ok((_, Look { pass: Pass::Later(_), .. })) | Err(_) => near = Near::default(),
                Ok((sight, look)) => near.note(*sight, look),
            }
            let trouble = match looked.map(|(_, look)| look.pass) {
                Ok(Pass::Full) => None,
                Ok(Pass::Some) => {
                    tokio::time::sleep_until(began + pause).await;
                    None
                }
                Ok(Pass::Done) => {
                    // The sender lives as long as the store that the relay holds.
                    let _ = tokio::time::timeout(POLL, committed.changed()).await;
                    None
                }
                Ok(Pass::Later(cause)) => Some(cause),
                Err(error) => Some(chain(&error)),
            };
            match trouble {
                Some(cause) => {
                    if failures == 0 {
                        warn!("Events of {} wait in the outbox: {cause}", self.source);
                    }
                    let wait = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST_WAIT);
                    failures = failures.saturating_add(1);
                    tokio::time::sleep(wait).await;
                    // Rather now than when the wait is over; but a bus that is away cannot hold the relay for ever.
                    let _ = tokio::time::timeout(POLL, self.bus.recovered()).await;
                }
                None if failures > 0 => {
                    info!("Events of {} are told again", self.source);
                    failures = 0;
                }
                None => {}
            }
        }
    }

    /// Comes back when everything is told. A bus that takes nothing for now is asked again and again.
    pub(super) async fn flush(&self) -> Result<(), StoreError> {
        loop {
            match self.pass(0).await?.pass {
                Pass::Full | Pass::Some => {}
                Pass::Done => return Ok(()),
                Pass::Later(cause) => {
                    debug!("Events of {} are not told yet: {cause}", self.source);
                    tokio::time::sleep(FIRST_WAIT).await;
                    self.bus.recovered().await;
                }
            }
        }
    }

    /// Tells what there is after a position. Within the pass the position only moves on to see past aggregates that wait.
    async fn pass(&self, mut after: i64) -> Result<Look, StoreError> {
        let mut stuck = BTreeSet::new();
        let mut later = None;
        let mut first_refused = None;
        let ended = |pass, last, refused| Ok(Look { pass, last, refused });
        loop {
            let kept = outbox::unsent(self.store.reader(), self.source, after, BATCH).await?;
            let Some(last) = kept.last() else {
                return ended(later.map_or(Pass::Done, Pass::Later), after, first_refused);
            };
            let full = u64::try_from(kept.len()).is_ok_and(|kept| kept == BATCH);
            after = last.position;
            let free = |kept: &Kept| !stuck.contains(&kept.event.aggregate_key());
            let kept: Vec<Kept> = kept.into_iter().filter(free).collect();
            let fates = self.tell(&kept).await;
            let mut told = Vec::new();
            let mut refused = Vec::new();
            for (kept, fate) in kept.into_iter().zip(fates) {
                match fate {
                    Fate::Told => told.push(kept),
                    Fate::Refused(cause) => refused.push((kept, cause)),
                    Fate::Later(cause) => {
                        stuck.insert(kept.event.aggregate_key());
                        later = Some(cause);
                    }
                }
            }
            let idle = told.is_empty() && refused.is_empty();
            first_refused = first_refused.or(refused.first().map(|(kept, _)| kept.position));
            self.settle(told, refused).await?;
            match &later {
                None => return ended(if full { Pass::Full } else { Pass::Some }, after, first_refused),
                Some(cause) if idle && (stuck.len() > STUCK || self.bus.is_away()) => {
                    return ended(Pass::Later(cause.clone()), after, first_refused);
                }
                Some(_) => {}
            }
        }
    }

    /// Has the bus tell these; those that are too large for any bus are refused, and hold up what is behind them.
    async fn tell(&self, kept: &[Kept]) -> Vec<Fate> {
        let limit = self.settings.max_bytes;
        let too_large = |kept: &Kept| kept.event.data.len() > limit;
        if !kept.iter().any(too_large) {
            let events: Vec<CloudEvent> = kept.iter().map(|kept| kept.event.clone()).collect();
            return self.bus.tell(&events).await;
        }
        let mut refused = BTreeSet::new();
        let mut fates = Vec::new();
        let mut rest = Vec::new();
        for kept in kept {
            let size = kept.event.data.len();
            if refused.contains(&kept.event.aggregate_key()) {
                // The next look passes it over, for as long as the one before it is refused.
                fates.push(Some(Fate::Later("it waits behind a refused event".to_owned())));
            } else if size > limit {
                refused.insert(kept.event.aggregate_key());
                let cause = format!("its data has {size} bytes, at most {limit} are told (events.max_bytes)");
                fates.push(Some(Fate::Refused(cause)));
            } else {
                fates.push(None);
                rest.push(kept.event.clone());
            }
        }
        let mut told = self.bus.tell(&rest).await.into_iter();
        let missing = || Fate::Later("the bus does not say".to_owned());
        fates.into_iter().map(|fate| fate.unwrap_or_else(|| told.next().unwrap_or_else(missing))).collect()
    }

    /// Notes what was told and what will never be.
    async fn settle(&self, told: Vec<Kept>, refused: Vec<(Kept, String)>) -> Result<(), StoreError> {
        if told.is_empty() && refused.is_empty() {
            return Ok(());
        }
        let mut counts: BTreeMap<(Tenant, String), i64> = BTreeMap::new();
        for Kept { event, .. } in &told {
            *counts.entry((event.tenant_id.clone(), event.kind.clone())).or_default() += 1;
        }
        let counts = counts.into_iter().map(|((tenant, kind), n)| (tenant, kind, inbox::TOLD, n)).collect::<Vec<_>>();
        let positions: Vec<i64> = told.iter().map(|kept| kept.position).collect();
        let refusals: Vec<_> = refused.iter().map(|(kept, cause)| (kept.position, cause.clone())).collect();
        let input = (positions, refusals, counts, self.clock.now());
        let context = Context::own(Tenant::default_tenant(), BUDGET);
        let noted = self.store.unit(&context).run(input, |(positions, refusals, counts, now), transaction| {
            Box::pin(async move {
                outbox::mark_told(transaction, positions).await?;
                for (position, cause) in refusals {
                    outbox::mark_refused(transaction, *position, cause, *now).await?;
                }
                inbox::count(transaction, counts).await
            })
        });
        noted.await?;
        for Kept { event, .. } in &told {
            self.instruments.told(self.source, event);
        }
        for (Kept { event, .. }, cause) in &refused {
            self.instruments.dead("bus", event);
            warn!(
                event.id = event.event_id,
                event.r#type = event.kind,
                "The bus does not take event {} ({}): {cause}",
                event.event_id,
                event.kind
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
