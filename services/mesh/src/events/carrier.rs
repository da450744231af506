//! Everything that has to go on so that the events of one service are told and felt: done by one process for each
//! database, the one that leads.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Consumer, Instruments, bus::Bus, inbox, letters, outbox, relay::Relay};
use crate::{Clock, Context, Store, StoreError, Tenant, chain, store::Lead};

/// What the lead is for, in the name of the lock.
const PURPOSE: &str = "events";
/// How often a process that does not lead tries to.
const CANDIDACY: Duration = Duration::from_secs(1);
/// A process that does not lead wakes the one that does at most this often.
const WAKING: Duration = Duration::from_millis(5);
/// How often letters are looked for that nobody woke the worker for.
const POLL: Duration = Duration::from_secs(1);
/// The least time between two looks for letters.
const PAUSE: Duration = Duration::from_millis(100);
/// How often it looks how far telling and feeling are behind.
const LOOK: Duration = Duration::from_secs(1);
/// How often what is too old is forgotten.
const PURGE: Duration = Duration::from_mins(1);
/// How long after it happened the outbox keeps an event that is done with: for this long it can be told again.
const OUTBOX_KEPT: Duration = Duration::from_hours(30 * 24);
/// How long the inbox remembers what was felt: longer than outbox and stream together can repeat it.
const INBOX_KEPT: Duration = Duration::from_hours(90 * 24);
/// How long a process that goes away still tells what it has to tell. Less than a drain grants work in the background.
const LAST_WORDS: Duration = Duration::from_secs(4);
/// How long a transaction may take to begin.
const BUDGET: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct Carrier {
    pub(super) name: &'static str,
    pub(super) store: Store,
    pub(super) relay: Relay,
    pub(super) consumer: Consumer,
    pub(super) bus: Arc<dyn Bus>,
    pub(super) clock: Clock,
    pub(super) instruments: Arc<Instruments>,
}

impl Carrier {
    /// Leads whenever it can, until `end`, and tells what is left then.
    pub(super) async fn carry(self, end: CancellationToken) {
        let mut candidate = self.store.candidate(PURPOSE);
        while !end.is_cancelled() {
            let lead = tokio::select! {
                lead = self.lead(&mut candidate) => lead,
                () = end.cancelled() => break,
            };
            debug!("This process carries the events of {}", self.name);
            tokio::select! {
                () = lead.lost() => {
                    warn!("Somebody else may carry the events of {} now", self.name);
                    self.instruments.nothing(self.name);
                }
                () = self.relay.run() => {}
                () = self.bus.bring(&self.consumer) => {}
                () = self.try_letters() => {}
                () = self.look_after() => {}
                () = end.cancelled() => return self.last_words(lead, LAST_WORDS).await,
            }
        }
        // A process that was told to go before it had the lead may be the only one there is.
        let late = tokio::time::timeout(LAST_WORDS / 2, candidate.lead());
        if let Ok(Ok(Some(lead))) = late.await {
            self.last_words(lead, LAST_WORDS / 2).await;
        }
    }

    /// Tells what is left, as far as there is time.
    async fn last_words(&self, _: Lead, time: Duration) {
        match tokio::time::timeout(time, self.relay.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => info!("Events of {} are told by the next process: {}", self.name, chain(&error)),
            Err(_) => info!("Events of {} that are left are told by the next process", self.name),
        }
    }

    /// Waits for the lead; until then, whoever has it is woken for what is committed here.
    async fn lead(&self, candidate: &mut crate::store::Candidate) -> Lead {
        let mut committed = self.store.committed();
        let mut failures = 0_u32;
        loop {
            match candidate.lead().await {
                Ok(Some(lead)) => return lead,
                Ok(None) => failures = 0,
                Err(error) => {
                    if failures == 0 {
                        warn!("Nobody can tell yet who carries the events of {}: {}", self.name, chain(&error));
                    }
                    failures = failures.saturating_add(1);
                }
            }
            let _ = tokio::time::timeout(CANDIDACY, async {
                while committed.changed().await.is_ok() {
                    if let Err(error) = self.store.wake_leader(PURPOSE).await {
                        debug!("Nobody was woken for events of {}: {}", self.name, chain(&error));
                    }
                    tokio::time::sleep(WAKING).await;
                }
            })
            .await;
        }
    }

    /// Tries letters again when their time has come.
    async fn try_letters(&self) {
        let mut committed = self.consumer.store().committed();
        loop {
            committed.mark_unchanged();
            match self.consumer.try_letters().await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => warn!("Letters of {} wait: {}", self.name, chain(&error)),
            }
            // Not after each of a thousand commits a second: looking for what is due has its price, too.
            tokio::time::sleep(PAUSE).await;
            let _ = tokio::time::timeout(POLL, committed.changed()).await;
        }
    }

    /// Says how far behind it is, and forgets what is too old.
    async fn look_after(&self) {
        let mut rounds = 0_u64;
        loop {
            let looked = async {
                self.look().await?;
                if rounds.is_multiple_of(PURGE.as_secs() / LOOK.as_secs()) { self.purge().await } else { Ok(()) }
            };
            if let Err(error) = looked.await {
                debug!("The events of {} cannot be looked after: {}", self.name, chain(&error));
            }
            rounds += 1;
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn look(&self) -> Result<(), StoreError> {
        let reader = self.store.reader();
        let backlog = outbox::backlog(reader).await?;
        let age = backlog.oldest.map_or(Duration::ZERO, |oldest| self.clock.now().since(oldest));
        self.instruments.backlog(self.name, backlog.waiting, age);
        let pile = letters::pile(reader).await?;
        self.instruments.pile(self.name, pile.waiting, pile.dead);
        if let Some(pending) = self.bus.pending(self.name).await {
            self.instruments.behind(self.name, pending);
        }
        Ok(())
    }

    async fn purge(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let context = || Context::own(Tenant::default_tenant(), BUDGET);
        while self
            .store
            .unit(&context())
            .run(now.minus(OUTBOX_KEPT), |horizon, transaction| Box::pin(outbox::purge(transaction, *horizon)))
            .await?
            > 0
        {}
        while self
            .store
            .unit(&context())
            .run(now.minus(INBOX_KEPT), |horizon, transaction| Box::pin(inbox::purge(transaction, *horizon)))
            .await?
            > 0
        {}
        Ok(())
    }
}
