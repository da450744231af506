//! Work of many callers, committed together (money.md, section D4). Whoever comes while a commit is under way is part of
//! the next one; nobody ever waits for company. A caller that goes away changes nothing for the others: what was handed in
//! ends whole.
//!
//! PostgreSQL commits on several connections at once: items go by lanes there, those of one key (a wallet, say) always by
//! the same, so that they keep their order and no two lanes want the same rows. SQLite has one writer, and one lane.

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hash, Hasher as _},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Background, Context, Reason, Refusal, Store, StoreError, Tenant,
    store::{Session, Transaction},
};

/// How much a lane takes, by weight.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Of one commit: enough that its cost is shared, little enough that nobody waits long for the others. The last item may
    /// exceed it.
    batch: u32,
    /// What waits. It is dealt with in a second or two, well within any deadline; more would grow old here.
    waiting: u32,
}

/// On PostgreSQL.
const OF_LANES: Limits = Limits { batch: 2_000, waiting: 4_096 };
/// On SQLite, whose commit writes whole pages, however many items change each: three times as many take a fifth less time
/// each.
const OF_ONE_WRITER: Limits = Limits { batch: 6_000, waiting: 12_288 };
/// Lanes on PostgreSQL: enough that one decides while another one's rows are written.
const LANES: usize = 3;
/// How much time there is for one commit.
const BUDGET: Duration = Duration::from_secs(10);
/// When to try again where too much waits.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// What is handed in.
pub trait Item: Send + Sync + 'static {
    /// What it must keep its order with, as a [`hash`].
    fn key(&self) -> u64;

    /// How many times as much work as a small item it is.
    fn weight(&self) -> u32 {
        1
    }
}

/// What became of each item of a batch, in their order: its answer, or why nothing was done of it although the others were
/// committed.
pub type Answers<A> = Vec<Result<A, StoreError>>;

/// What is decided and written together.
pub type Together<S, I, A> =
    for<'a> fn(&'a Arc<Batch<S, I>>, &'a Transaction) -> BoxFuture<'a, Result<Answers<A>, StoreError>>;

/// How an item that has no company is dealt with by one statement, where that does; see [`crate::store::AtOnce`].
pub type AtOnce<S, I, A> =
    for<'a> fn(&'a Arc<Batch<S, I>>, &'a Session) -> BoxFuture<'a, Result<Option<Answers<A>>, StoreError>>;

/// How an item is dealt with that has no company, if that is another way, and how all others are.
pub type Ways<S, I, A> = (Option<AtOnce<S, I, A>>, Together<S, I, A>);

/// Items with what they share. The work may run again from the start.
pub struct Batch<S, I> {
    /// What all batches share: a clock, say.
    pub shared: S,
    /// In the order in which they came.
    pub items: Vec<Arc<I>>,
}

/// Where callers hand their items in. Cheap to clone.
pub struct Coalescer<I, A> {
    lanes: Arc<[Lane<I, A>]>,
}

struct Lane<I, A> {
    limits: Limits,
    room: Arc<Semaphore>,
    queue: mpsc::UnboundedSender<Queued<I, A>>,
}

/// The hash of a key.
pub fn hash(key: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

impl<I, A> Clone for Coalescer<I, A> {
    fn clone(&self) -> Self {
        Self { lanes: self.lanes.clone() }
    }
}

struct Waiting<I, A> {
    item: Arc<I>,
    deadline: Instant,
    answer: oneshot::Sender<Result<A, StoreError>>,
}

/// What waits, and the room that it takes until it is dealt with.
type Queued<I, A> = (Waiting<I, A>, OwnedSemaphorePermit);

/// An item that was handed in: what will be answered.
pub struct Pending<A>(oneshot::Receiver<Result<A, StoreError>>);

impl<A> Pending<A> {
    /// The answer, once the commit is done. Who does not wait for it changes nothing.
    pub async fn answer(self) -> Result<A, StoreError> {
        self.0.await.unwrap_or(Err(StoreError::Closed))
    }
}

/// Why an item was not taken. Nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// Too much waits.
    #[error("as much waits already as can be dealt with in time")]
    Full,
    /// The process is going away.
    #[error("the process is going away")]
    Closed,
}

impl From<TryAcquireError> for NotTaken {
    fn from(error: TryAcquireError) -> Self {
        match error {
            TryAcquireError::NoPermits => Self::Full,
            TryAcquireError::Closed => Self::Closed,
        }
    }
}

impl From<AcquireError> for NotTaken {
    fn from(_: AcquireError) -> Self {
        Self::Closed
    }
}

impl From<NotTaken> for Refusal {
    fn from(not_taken: NotTaken) -> Self {
        let reason = match not_taken {
            NotTaken::Full => Reason::Overloaded,
            NotTaken::Closed => Reason::Draining,
        };
        Self::new(reason, not_taken).retry_after(RETRY_AFTER)
    }
}

impl From<NotTaken> for tonic::Status {
    fn from(not_taken: NotTaken) -> Self {
        Refusal::from(not_taken).into()
    }
}

impl<I: Item, A: Send + 'static> Coalescer<I, A> {
    /// Starts to do this work for whoever hands items in, until the background ends.
    pub fn start<S>(store: &Store, background: &Background, shared: S, work: Together<S, I, A>) -> Self
    where
        S: Clone + Send + Sync + 'static,
    {
        Self::start_both(store, background, shared, (None, work))
    }

    /// The same, with another way for an item that has no company.
    pub fn start_both<S>(store: &Store, background: &Background, shared: S, (alone, work): Ways<S, I, A>) -> Self
    where
        S: Clone + Send + Sync + 'static,
    {
        let (lanes, limits) = if store.has_one_writer() { (1, OF_ONE_WRITER) } else { (LANES, OF_LANES) };
        let lane = |_| {
            let (queue, waiting) = mpsc::unbounded_channel();
            let room = Arc::new(Semaphore::new(usize::try_from(limits.waiting).unwrap_or(Semaphore::MAX_PERMITS)));
            let (store, shared, batch) = (store.clone(), shared.clone(), limits.batch);
            let worker = Worker { store, shared, batch, alone, work, room: room.clone() };
            background.spawn(|end| worker.run(waiting, end));
            Lane { limits, room, queue }
        };
        Self { lanes: (0..lanes).map(lane).collect() }
    }

    fn lane(&self, item: &I) -> Result<&Lane<I, A>, NotTaken> {
        let lanes = u64::try_from(self.lanes.len()).unwrap_or(u64::MAX);
        let place = item.key().checked_rem(lanes).and_then(|place| usize::try_from(place).ok());
        place.and_then(|place| self.lanes.get(place)).ok_or(NotTaken::Closed)
    }

    /// Hands an item in, unless too much waits already.
    pub fn submit(&self, context: &Context, item: I) -> Result<Pending<A>, NotTaken> {
        let lane = self.lane(&item)?;
        let room = lane.room.clone().try_acquire_many_owned(lane.room_for(&item))?;
        lane.put(context, item, room)
    }

    /// Hands an item in as soon as there is room: how a stream feels that it is faster than the database.
    pub async fn submit_with_room(&self, context: &Context, item: I) -> Result<Pending<A>, NotTaken> {
        let lane = self.lane(&item)?;
        let room = lane.room.clone().acquire_many_owned(lane.room_for(&item)).await?;
        lane.put(context, item, room)
    }
}

impl<I: Item, A> Lane<I, A> {
    /// What is heavier than the whole lane waits for all of it.
    fn room_for(&self, item: &I) -> u32 {
        item.weight().min(self.limits.waiting)
    }

    fn put(&self, context: &Context, item: I, room: OwnedSemaphorePermit) -> Result<Pending<A>, NotTaken> {
        let (answer, pending) = oneshot::channel();
        let waiting = Waiting { item: Arc::new(item), deadline: context.deadline, answer };
        self.queue.send((waiting, room)).map_err(|_| NotTaken::Closed)?;
        Ok(Pending(pending))
    }
}

struct Worker<S, I, A> {
    store: Store,
    shared: S,
    batch: u32,
    alone: Option<AtOnce<S, I, A>>,
    work: Together<S, I, A>,
    room: Arc<Semaphore>,
}

impl<S, I, A> Drop for Worker<S, I, A> {
    /// Whoever waits for room has waited in vain.
    fn drop(&mut self) {
        self.room.close();
    }
}

impl<S, I, A> Worker<S, I, A>
where
    S: Clone + Send + Sync + 'static,
    I: Item,
    A: Send + 'static,
{
    async fn run(self, mut waiting: mpsc::UnboundedReceiver<Queued<I, A>>, end: CancellationToken) {
        loop {
            let first = tokio::select! {
                biased;
                first = waiting.recv() => first,
                // What came before the end was taken by the branch above.
                () = end.cancelled() => None,
            };
            let Some((first, room)) = first else { return };
            drop(room);
            let mut weight = first.item.weight();
            let mut batch = vec![first];
            while weight < self.batch
                && let Ok((next, _)) = waiting.try_recv()
            {
                weight = weight.saturating_add(next.item.weight());
                batch.push(next);
            }
            self.settle(batch).await;
        }
    }

    /// Answers every item. Where one of them makes the commit fail, halves are tried, so that it fails alone.
    async fn settle(&self, batch: Vec<Waiting<I, A>>) {
        let now = Instant::now();
        // For whom nobody waits any more, nothing is begun.
        let (batch, late): (Vec<_>, Vec<_>) = batch.into_iter().partition(|waiting| waiting.deadline > now);
        for waiting in late {
            let _ = waiting.answer.send(Err(StoreError::OutOfTime));
        }
        let mut parts = VecDeque::from([batch]);
        while let Some(mut part) = parts.pop_front() {
            if part.is_empty() {
                continue;
            }
            match self.commit(&part).await {
                Ok(answers) => {
                    for (waiting, answer) in part.into_iter().zip(answers) {
                        // Who went away does not hear it.
                        let _ = waiting.answer.send(answer);
                    }
                }
                Err(error) if part.len() == 1 || error.is_passing() => {
                    let error = Arc::new(error);
                    for waiting in part {
                        let _ = waiting.answer.send(Err(StoreError::Together(error.clone())));
                    }
                }
                Err(_) => {
                    let rest = part.split_off(part.len() / 2);
                    // In front, so that items keep the order in which they came.
                    parts.push_front(rest);
                    parts.push_front(part);
                }
            }
        }
    }

    async fn commit(&self, part: &[Waiting<I, A>]) -> Result<Answers<A>, StoreError> {
        let items = part.iter().map(|waiting| waiting.item.clone()).collect();
        let batch = Arc::new(Batch { shared: self.shared.clone(), items });
        let context = Context::own(Tenant::default_tenant(), BUDGET);
        let unit = self.store.unit(&context).claimed();
        let answers = match self.alone.filter(|_| part.len() == 1) {
            Some(alone) => unit.run_at_once(batch, alone, self.work).await?,
            None => unit.run(batch, self.work).await?,
        };
        if answers.len() == part.len() { Ok(answers) } else { Err(StoreError::Impossible("an item has no answer")) }
    }
}

#[cfg(test)]
mod tests;
