//! Feeling events: a service's handlers, each event once, in the order of its aggregate, however often it is brought.
//!
//! What a bus brings is received in one transaction: the record in the inbox, the effect, and the effect's own events
//! (money.md, section E). Where one of them fails, each is received by itself, so that only what failed is left: it
//! becomes a letter, and what comes later of its aggregate waits behind it.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use tracing::{Instrument as _, warn};

use super::{
    CloudEvent, Effect, EventSettings, HandlerError, Handlers, Heard, Instruments,
    cloud::kind_of,
    inbox::{self, State},
    letters::{self, Letter, Standing},
};
use crate::{Clock, Context, Store, StoreError, Tenant, chain, store::Transaction};

/// Events received in one transaction: some hundreds of statements, so that rows are not locked for long.
pub(super) const BATCH: usize = 64;
/// How often an event is tried before it is a dead letter.
const TRIES: i64 = 8;
/// Letters tried again before the worker looks around.
const LETTERS: i64 = 64;
/// How long a transaction of events may take to begin.
const BUDGET: Duration = Duration::from_secs(10);

/// A service that hears events. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Consumer(Arc<Hearing>);

/// What a consumer is made of.
pub(super) struct Hearing {
    pub(super) name: &'static str,
    pub(super) store: Store,
    pub(super) handlers: Handlers,
    pub(super) clock: Clock,
    pub(super) settings: EventSettings,
    pub(super) instruments: Arc<Instruments>,
}

/// What is to be done with an event.
enum Concern {
    /// This service has a handler for it.
    Ours,
    /// It is known, and others feel it.
    Others,
    /// It cannot be felt, whoever it concerns.
    Faulty(String),
}

/// Events to be received in one transaction.
struct Batch {
    consumer: Arc<Hearing>,
    events: Vec<CloudEvent>,
}

/// What a transaction did, for the instruments.
#[derive(Default)]
struct Tally {
    felt: Vec<(CloudEvent, Effect)>,
    /// Events that are tried again.
    failed: Vec<CloudEvent>,
    dead: Vec<(CloudEvent, String)>,
}

impl Consumer {
    pub(super) fn new(hearing: Hearing) -> Self {
        Self(Arc::new(hearing))
    }

    /// Its name, which is that of its service.
    pub(super) fn name(&self) -> &'static str {
        self.0.name
    }

    pub(super) fn store(&self) -> &Store {
        &self.0.store
    }

    /// Receives events in this order. Afterwards each is felt, or kept as a letter, or was before, or is none of ours;
    /// and that is durable. An error says that the database cannot be had: the same events again, later.
    pub(super) async fn receive(&self, events: &[CloudEvent]) -> Result<(), StoreError> {
        let concerns = |event: &&CloudEvent| !matches!(self.0.concern(event), Concern::Others);
        let mut seen = HashSet::new();
        let events = events.iter().filter(concerns).filter(|event| seen.insert(event.event_id.as_str()));
        let events: Vec<CloudEvent> = events.cloned().collect();
        for batch in batches(&events, |event| self.0.handlers.is_alone(&event.kind)) {
            match self.receive_at_once(batch.to_vec()).await {
                Ok(()) => {}
                Err(error) if is_the_databases(&error) => return Err(error),
                // Something among them fails, or is in somebody's way.
                Err(_) => {
                    for event in batch {
                        self.receive_alone(event).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn receive_at_once(&self, events: Vec<CloudEvent>) -> Result<(), StoreError> {
        let batch = Batch { consumer: self.0.clone(), events };
        let tally = self.unit(batch, |batch, transaction| Box::pin(batch.receive(transaction))).await?;
        self.0.note(&tally);
        Ok(())
    }

    async fn receive_alone(&self, event: &CloudEvent) -> Result<(), StoreError> {
        let error = match self.receive_at_once(vec![event.clone()]).await {
            Ok(()) => return Ok(()),
            Err(error) if is_the_databases(&error) => return Err(error),
            Err(error) => error,
        };
        let standing = self.0.after_failure(1, &error);
        let input = (self.0.clone(), event.clone(), standing);
        let tally = self.unit(input, |(consumer, event, standing), transaction| {
            Box::pin(async move {
                let now = consumer.clock.now();
                let mut tally = Tally::default();
                if !inbox::receive(transaction, &[event], now).await?.is_empty() {
                    consumer.keep(transaction, event, standing, &mut tally).await?;
                    consumer.count(transaction, &[event], &tally).await?;
                }
                Ok(tally)
            })
        });
        self.0.note(&tally.await?);
        Ok(())
    }

    /// Tries the letters whose time has come, and what waits behind them. True where there may be more.
    pub(super) async fn try_letters(&self) -> Result<bool, StoreError> {
        let due = letters::due(self.0.store.reader(), self.0.clock.now(), LETTERS).await?;
        let some = !due.is_empty();
        for letter in due {
            self.try_letter(letter).await?;
        }
        Ok(some)
    }

    async fn try_letter(&self, letter: Letter) -> Result<(), StoreError> {
        let input = (self.0.clone(), letter.event.clone());
        let felt = self.unit(input, |(consumer, event), transaction| {
            Box::pin(async move {
                let mut tally = Tally::default();
                if !letters::take(transaction, &event.event_id).await? {
                    return Ok(tally);
                }
                let effect = match consumer.concern(event) {
                    Concern::Faulty(cause) => return Err(StoreError::GivenUp { cause, for_good: true }),
                    // A later release knows the type, and that it is nothing to this service.
                    Concern::Others => Effect::Stale,
                    Concern::Ours => consumer.feel(event, transaction).await?,
                };
                let state = if effect == Effect::Felt { State::Felt } else { State::Stale };
                inbox::set_state(transaction, &event.event_id, state).await?;
                letters::remove(transaction, &event.event_id).await?;
                tally.felt.push((event.clone(), effect));
                consumer.count(transaction, &[], &tally).await?;
                Ok(tally)
            })
        });
        let error = match felt.await {
            Ok(tally) => {
                self.0.note(&tally);
                return Ok(());
            }
            Err(error) if is_the_databases(&error) => return Err(error),
            Err(error) => error,
        };
        let standing = self.0.after_failure(letter.attempts + 1, &error);
        let input = (self.0.clone(), letter.event, standing);
        let tally = self.unit(input, |(consumer, event, standing), transaction| {
            Box::pin(async move {
                let mut tally = Tally::default();
                if letters::take(transaction, &event.event_id).await? {
                    letters::restand(transaction, &event.event_id, standing, consumer.clock.now()).await?;
                    tally.stood(event, standing);
                    consumer.count(transaction, &[], &tally).await?;
                }
                Ok(tally)
            })
        });
        self.0.note(&tally.await?);
        Ok(())
    }

    async fn unit<I: Send + Sync + 'static>(
        &self,
        input: I,
        work: crate::store::Work<I, Tally>,
    ) -> Result<Tally, StoreError> {
        let context = Context::own(Tenant::default_tenant(), BUDGET);
        // Whatever it does begins with the inbox or ends with the letter: run again after an unclear COMMIT, it finds
        // out what happened.
        self.0.store.unit(&context).claimed().run(input, work).await
    }
}

/// What is received in one transaction each, in order: an event that must be alone is.
fn batches<E>(events: &[E], is_alone: impl Fn(&E) -> bool) -> impl Iterator<Item = &[E]> {
    let together = events.chunk_by(move |event, next| !is_alone(event) && !is_alone(next));
    together.flat_map(|events| events.chunks(BATCH))
}

/// Whether an error says something of the database alone, so that the same events are to come again. A row that stays
/// locked does not: whoever waits for it must not keep all others waiting.
fn is_the_databases(error: &StoreError) -> bool {
    error.is_passing() && !matches!(error, StoreError::Conflict(_) | StoreError::Held(_))
}

impl Batch {
    async fn receive(&self, transaction: &Transaction) -> Result<Tally, StoreError> {
        let consumer = &self.consumer;
        let all: Vec<&CloudEvent> = self.events.iter().collect();
        let new: HashSet<String> = inbox::receive(transaction, &all, consumer.clock.now()).await?.into_iter().collect();
        let new: Vec<&CloudEvent> = all.into_iter().filter(|event| new.contains(&event.event_id)).collect();
        let keys: BTreeSet<_> = new.iter().map(|event| event.aggregate_key()).collect();
        let keys: Vec<_> = keys.into_iter().collect();
        let mut blocked: BTreeSet<_> = letters::blocked(transaction, &keys).await?.into_iter().collect();
        let mut tally = Tally::default();
        for event in &new {
            if blocked.contains(&event.aggregate_key()) {
                consumer.keep(transaction, event, &Standing::Behind, &mut tally).await?;
                continue;
            }
            match consumer.concern(event) {
                Concern::Faulty(cause) => {
                    let standing = Standing::Dead { attempts: 1, cause };
                    consumer.keep(transaction, event, &standing, &mut tally).await?;
                    blocked.insert(event.aggregate_key());
                }
                Concern::Ours | Concern::Others => {
                    let effect = consumer.feel(event, transaction).await?;
                    if effect == Effect::Stale {
                        inbox::set_state(transaction, &event.event_id, State::Stale).await?;
                    }
                    tally.felt.push(((*event).clone(), effect));
                }
            }
        }
        consumer.count(transaction, &new, &tally).await?;
        Ok(tally)
    }
}

impl Hearing {
    fn concern(&self, event: &CloudEvent) -> Concern {
        if !event.fault.is_empty() {
            return Concern::Faulty(event.fault.clone());
        }
        if self.handlers.of(&event.kind).is_some() {
            let (size, limit) = (event.data.len(), self.settings.max_bytes);
            return if size > limit {
                Concern::Faulty(format!("its data has {size} bytes, at most {limit} are read (events.max_bytes)"))
            } else {
                Concern::Ours
            };
        }
        match kind_of(&event.kind) {
            Some(_) => Concern::Others,
            None => Concern::Faulty(format!("its type {:?} is not known to this release", event.kind)),
        }
    }

    /// Calls the handler.
    async fn feel(&self, event: &CloudEvent, transaction: &Transaction) -> Result<Effect, StoreError> {
        let handler = self.handlers.of(&event.kind).ok_or(StoreError::Impossible("an event has no handler"))?;
        let (span, trace) = self.instruments.consumer_span(self.name, event);
        let heard = Heard::new(event, &self.clock, trace);
        let felt = handler(&heard, transaction).instrument(span).await;
        felt.map_err(|error| match error {
            HandlerError::Store(error) => error,
            HandlerError::Unreadable(cause) => StoreError::GivenUp { cause, for_good: true },
            HandlerError::Refused(cause) => StoreError::GivenUp { cause, for_good: false },
        })
    }

    /// How an event stands after it failed.
    fn after_failure(&self, attempts: i64, error: &StoreError) -> Standing {
        let cause = chain(error);
        if attempts >= TRIES || matches!(error, StoreError::GivenUp { for_good: true, .. }) {
            return Standing::Dead { attempts, cause };
        }
        let doublings = u32::try_from(attempts - 1).unwrap_or(0);
        let wait = Duration::from_millis(self.settings.retry_ms).saturating_mul(2_u32.saturating_pow(doublings));
        Standing::Failed { attempts, cause, retry_time: self.clock.now().plus(wait) }
    }

    /// Makes a letter of an event.
    async fn keep(
        &self,
        transaction: &Transaction,
        event: &CloudEvent,
        standing: &Standing,
        tally: &mut Tally,
    ) -> Result<(), StoreError> {
        letters::keep(transaction, event, standing, self.clock.now()).await?;
        inbox::set_state(transaction, &event.event_id, State::Waiting).await?;
        tally.stood(event, standing);
        Ok(())
    }

    /// Writes the counts down, the last thing in a transaction: others who count the same types wait for its end.
    async fn count(
        &self,
        transaction: &Transaction,
        received: &[&CloudEvent],
        tally: &Tally,
    ) -> Result<(), StoreError> {
        let mut counts: BTreeMap<(Tenant, String, &'static str), i64> = BTreeMap::new();
        let mut add = |event: &CloudEvent, what| {
            *counts.entry((event.tenant_id.clone(), event.kind.clone(), what)).or_default() += 1;
        };
        for event in received {
            add(event, inbox::RECEIVED);
        }
        for (event, _) in &tally.felt {
            add(event, inbox::FELT);
        }
        for event in &tally.failed {
            add(event, inbox::RETRIED);
        }
        let counts: Vec<_> = counts.into_iter().map(|((tenant, kind, what), n)| (tenant, kind, what, n)).collect();
        inbox::count(transaction, &counts).await
    }

    /// Says what a transaction did, once it is committed.
    fn note(&self, tally: &Tally) {
        for (event, effect) in &tally.felt {
            self.instruments.felt(self.name, event, *effect, self.clock.now());
        }
        for event in &tally.failed {
            self.instruments.retried(self.name, event);
        }
        for (event, cause) in &tally.dead {
            self.instruments.dead(self.name, event);
            warn!(
                event.id = event.event_id,
                event.r#type = event.kind,
                "{} gave up event {} ({}): {cause}",
                self.name,
                event.event_id,
                event.kind
            );
        }
    }
}

impl Tally {
    fn stood(&mut self, event: &CloudEvent, standing: &Standing) {
        match standing {
            Standing::Behind => {}
            Standing::Failed { .. } => self.failed.push(event.clone()),
            Standing::Dead { cause, .. } => self.dead.push((event.clone(), cause.clone())),
        }
    }
}

#[cfg(test)]
mod tests;
