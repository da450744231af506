//! Writing behind: products that are answered for before they are on disk. One after the other, in the order in which they
//! came, retried until the database takes them, and written before the process goes. What was not when it is killed is lost.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use mesh::{Context, Parts, RequestId, Slug, Store, StoreError, Tenant, Time, chain, claim::Claim};
use tokio::sync::{OwnedMutexGuard, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use super::{
    Making, Product, Refused,
    cache::{Cache, Entry},
};

/// Products that wait to be written: a second or two of a database's work. Who comes when there are more waits for the disk.
const WAITING: usize = 1_000;
/// How much time there is for one try.
const BUDGET: Duration = Duration::from_secs(5);
/// The waits between tries: from the first to the longest, each twice the one before.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// So many that two who make different products seldom wait for each other.
const TURNS: usize = 256;
/// Tries of one product when the process goes: a database that is away must not hold it up for ever.
const LAST_TRIES: u32 = 3;

/// A product that waits to be written.
#[derive(Clone)]
struct Pending {
    product: Product,
    claim: Option<Claim>,
    since: Time,
    /// Closed once it is written, or given up.
    done: watch::Receiver<()>,
}

struct Shared {
    pending: Mutex<HashMap<(Tenant, Slug), Pending>>,
    turns: [Turn; TURNS],
    hasher: RandomState,
}

/// Held by who makes a product, from the look at what there is to the word that it is made.
type Turn = Arc<tokio::sync::Mutex<()>>;

/// What waits to be written. Cheap to clone.
#[derive(Clone)]
pub(super) struct Behind {
    shared: Arc<Shared>,
    queue: mpsc::Sender<(Making, watch::Sender<()>)>,
    cache: Cache,
}

/// What waits of one tenant.
pub(super) struct Backlog {
    pub(super) waiting: i64,
    pub(super) oldest: Option<Time>,
}

impl Shared {
    fn pending(&self) -> std::sync::MutexGuard<'_, HashMap<(Tenant, Slug), Pending>> {
        // Nothing that is done under it can panic half way.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Behind {
    /// Starts to write behind, until the process goes and nothing waits any more.
    pub(super) fn start(parts: &Parts, cache: Cache) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
        let shared = Shared {
            pending: Mutex::default(),
            turns: std::array::from_fn(|_| Turn::default()),
            hasher: RandomState::new(),
        };
        let shared = Arc::new(shared);
        let writer = Writer { store: parts.store.clone(), shared: shared.clone(), cache: cache.clone() };
        parts.background.spawn(|end| writer.run(waiting, end));
        Self { shared, queue, cache }
    }

    /// Lets nobody else of this process make a product under the same request id or product id until the guards go: what
    /// was looked at is still so when the product is taken in.
    pub(super) async fn turn(&self, making: &Making) -> Vec<OwnedMutexGuard<()>> {
        let (tenant, hasher) = (&making.context.tenant, &self.shared.hasher);
        let names = [
            Some(hasher.hash_one((tenant, "product", making.product.product_id.as_str()))),
            making.claim.as_ref().map(|claim| hasher.hash_one((tenant, "request", claim.id().1.as_str()))),
        ];
        // One byte of the hash, of which there are as many as turns.
        let place = |[place, ..]: [u8; 8]| usize::from(place);
        let places: BTreeSet<usize> = names.into_iter().flatten().map(|name| place(name.to_be_bytes())).collect();
        let mut guards = Vec::with_capacity(places.len());
        // In the order of their places: two who want the same ones wait, and never for each other.
        for turn in places.into_iter().filter_map(|place| self.shared.turns.get(place)) {
            guards.push(turn.clone().lock_owned().await);
        }
        guards
    }

    /// Takes a product in, to be read at once and written soon; false where too much waits already.
    pub(super) async fn take(&self, making: &Making) -> bool {
        let Ok(room) = self.queue.try_reserve() else { return false };
        let (written, done) = watch::channel(());
        let (tenant, product) = (making.context.tenant.clone(), making.product.clone());
        let pending =
            Pending { product: product.clone(), claim: making.claim.clone(), since: product.create_time, done };
        {
            let mut all = self.shared.pending();
            // Somebody was faster with the same id: the store decides between the two.
            if all.contains_key(&(tenant.clone(), product.product_id.clone())) {
                return false;
            }
            all.insert((tenant.clone(), product.product_id.clone()), pending);
        }
        self.cache.put(&tenant, Entry::present(product)).await;
        room.send((making.clone(), written));
        true
    }

    /// The product with this id, if it waits to be written.
    pub(super) fn pending(&self, tenant: &Tenant, product_id: &Slug) -> Option<Product> {
        let pending = self.shared.pending();
        if pending.is_empty() {
            return None;
        }
        pending.get(&(tenant.clone(), product_id.clone())).map(|pending| pending.product.clone())
    }

    pub(super) fn is_pending(&self, tenant: &Tenant, product_id: &Slug) -> bool {
        self.pending(tenant, product_id).is_some()
    }

    /// What was answered under a request id whose product waits to be written.
    pub(super) fn answered(&self, claim: &Claim) -> Option<Result<Product, Refused>> {
        let of_same_id = |pending: &&Pending| -> bool {
            let id: Option<(&Tenant, &RequestId)> = pending.claim.as_ref().map(Claim::id);
            id == Some(claim.id())
        };
        let pending = self.shared.pending().values().find(of_same_id).cloned()?;
        let differs = pending.claim.and_then(|first| claim.differs_from(&first));
        Some(differs.map_or(Ok(pending.product), |taken| Err(taken.into())))
    }

    /// Waits until a product is written, where it waits to be.
    pub(super) async fn written(&self, context: &Context, product_id: &Slug) -> Result<(), StoreError> {
        let key = (context.tenant.clone(), product_id.clone());
        let Some(pending) = self.shared.pending().get(&key).cloned() else { return Ok(()) };
        wait(context, pending.done).await
    }

    /// Waits until everything is written that waits now; says how much that was.
    pub(super) async fn flush(&self, context: &Context) -> Result<i64, StoreError> {
        let waiting: Vec<_> = {
            let pending = self.shared.pending();
            let own = pending.iter().filter(|((tenant, _), _)| *tenant == context.tenant);
            own.map(|(_, pending)| pending.done.clone()).collect()
        };
        let mut flushed = 0_i64;
        for done in waiting {
            wait(context, done).await?;
            flushed = flushed.saturating_add(1);
        }
        Ok(flushed)
    }

    /// What waits of a tenant's.
    pub(super) fn backlog(&self, tenant: &Tenant) -> Backlog {
        let pending = self.shared.pending();
        let own: Vec<Time> =
            pending.iter().filter(|((whose, _), _)| whose == tenant).map(|(_, pending)| pending.since).collect();
        let waiting = i64::try_from(own.len()).unwrap_or(i64::MAX);
        Backlog { waiting, oldest: own.into_iter().min() }
    }
}

/// Waits until it is written, for as long as the caller does.
async fn wait(context: &Context, mut done: watch::Receiver<()>) -> Result<(), StoreError> {
    let closed = async { while done.changed().await.is_ok() {} };
    tokio::time::timeout_at(context.deadline, closed).await.map_err(|_| StoreError::OutOfTime)
}

struct Writer {
    store: Store,
    shared: Arc<Shared>,
    cache: Cache,
}

impl Writer {
    async fn run(self, mut waiting: mpsc::Receiver<(Making, watch::Sender<()>)>, end: CancellationToken) {
        loop {
            let next = tokio::select! {
                biased;
                next = waiting.recv() => next,
                // What came before the end was taken by the branch above.
                () = end.cancelled() => None,
            };
            let Some((making, written)) = next else { return };
            self.write(&making, &end).await;
            let key = (making.context.tenant.clone(), making.product.product_id.clone());
            self.shared.pending().remove(&key);
            drop(written);
        }
    }

    /// Writes a product, however long it takes; or, when the process goes, as long as there is any sense in it.
    async fn write(&self, making: &Making, end: &CancellationToken) {
        let (mut wait, mut last) = (FIRST_WAIT, 0);
        loop {
            let context = Context::own(making.context.tenant.clone(), BUDGET);
            let now = Making { context, ..making.clone() };
            match now.write(&self.store).await {
                // Maybe before: a try that ended unclear was carried out.
                Ok((Ok(written), _)) if written.product_id == making.product.product_id => return,
                Ok((Ok(written), _)) => {
                    let cause = format!("another replica made {} under its request id", written.product_id);
                    return self.give_up(making, &cause).await;
                }
                Ok((Err(refused), _)) => return self.give_up(making, &refused.to_string()).await,
                Err(error) if !error.is_passing() => return self.give_up(making, &chain(&error)).await,
                Err(error) if end.is_cancelled() && last >= LAST_TRIES => {
                    return self.give_up(making, &chain(&error)).await;
                }
                Err(error) => debug!("A product waits to be written: {}", chain(&error)),
            }
            if end.is_cancelled() {
                last = last.saturating_add(1);
            }
            tokio::time::sleep(wait).await;
            wait = LONGEST_WAIT.min(wait.saturating_mul(2));
        }
    }

    /// Drops a product that nobody will ever be able to read from disk.
    async fn give_up(&self, making: &Making, cause: &str) {
        let (tenant, id) = (&making.context.tenant, &making.product.product_id);
        self.cache.counts(tenant).failed_writes.fetch_add(1, Ordering::Relaxed);
        error!(product.id = %id, "Product {id} was answered for and cannot be written: {cause}");
        // Whatever the store has under the id is read by who asks next.
        self.cache.outdate(tenant, id.clone(), i64::MAX).await;
    }
}
