//! Products in memory. A read that finds its product here does no I/O, and takes no lock that a writer could hold; one that
//! does not loads it once, however many ask at the same time.
//!
//! Loads and writes of one product go through the same per-key queue, and an entry is only ever replaced by one of a
//! higher version: a load that began before a write cannot put the old product back after it. What other replicas write
//! comes through the same queue, as soon as the follower tells: then the entry goes, unless it is as new.

use std::{
    collections::HashMap,
    hash::{Hash, Hasher},
    ops::Deref,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use mesh::{Slug, StoreError, Tenant};
use moka::{Equivalent, future::Cache as Moka, notification::RemovalCause, ops::compute::Op};
use prost_types::Struct;
use tokio::time::Instant;

use super::{Product, metadata};

/// How old the word of the follower may be that nothing has changed: within a second every replica answers with what was
/// written on any, or asks the store.
const LONGEST_SILENCE: Duration = Duration::from_secs(1);
/// What an entry weighs besides its texts: keys, pointers, moka's own records.
const OVERHEAD_BYTES: usize = 512;
/// How many times as much room metadata takes as its text does, once it was read: each value has a key and a node.
const METADATA_READ: usize = 8;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key(pub(super) Tenant, pub(super) Slug);

/// A key to look for, of which nothing is copied.
struct Sought<'a>(&'a Tenant, &'a Slug);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Sought(&self.0, &self.1).hash(state);
    }
}

impl Hash for Sought<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
        self.1.hash(state);
    }
}

impl Equivalent<Key> for Sought<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self.1 == key.1 && *self.0 == key.0
    }
}

/// A product in memory. Its metadata is read from its text once, not for every answer.
#[derive(Debug)]
pub(crate) struct Remembered {
    product: Product,
    read: OnceLock<Option<Struct>>,
}

impl Remembered {
    /// The metadata as the wire carries it.
    pub(super) fn metadata(&self) -> Option<Struct> {
        self.read.get_or_init(|| metadata::to_wire(&self.product.metadata)).clone()
    }
}

impl Deref for Remembered {
    type Target = Product;

    fn deref(&self) -> &Product {
        &self.product
    }
}

impl From<Product> for Remembered {
    fn from(product: Product) -> Self {
        Self { product, read: OnceLock::new() }
    }
}

/// What is known of a product id.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(super) product_id: Slug,
    pub(super) version: i64,
    /// `None`: there is no such product, or not any more.
    pub(crate) product: Option<Arc<Remembered>>,
}

impl Entry {
    /// A product that is there.
    pub(crate) fn present(product: Product) -> Self {
        let (product_id, version) = (product.product_id.clone(), product.version);
        Self { product_id, version, product: Some(Arc::new(product.into())) }
    }

    /// An id that nothing goes by. Whatever is written under it is newer.
    pub(crate) fn absent(product_id: Slug) -> Self {
        Self { product_id, version: 0, product: None }
    }

    /// A product that was there up to this version, as tests have it.
    #[cfg(test)]
    pub(crate) fn deleted(product: &Product) -> Self {
        Self { product_id: product.product_id.clone(), version: product.version, product: None }
    }

    pub(super) fn weight(&self) -> u32 {
        let texts = self.product.as_ref().map_or(0, |product| {
            product.name.len()
                + product.kind.len()
                + product.category_id.len()
                + product.description.len()
                // As a text, and read.
                + product.metadata.len() * METADATA_READ
        });
        u32::try_from(texts + self.product_id.as_str().len() * 2 + OVERHEAD_BYTES).unwrap_or(u32::MAX)
    }
}

/// How often the cache was of use to a tenant, since the process began.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) hits: AtomicI64,
    pub(super) misses: AtomicI64,
    pub(super) evictions: AtomicI64,
    /// Products that were answered for and could not be written.
    pub(super) failed_writes: AtomicI64,
}

/// What the cache keeps: an entry, with where its reads are counted, so that a hit looks nothing else up.
struct Held {
    entry: Entry,
    counts: Arc<Counts>,
}

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Cache {
    moka: Moka<Key, Arc<Held>>,
    counts: Arc<Mutex<HashMap<Tenant, Arc<Counts>>>>,
    begun: Instant,
    /// Until when what is here is known to be true: microseconds since it was begun; 0 before the follower's first word.
    true_until: Arc<AtomicU64>,
}

impl Cache {
    /// A cache of at most this many bytes.
    pub(crate) fn new(bytes: u64) -> Self {
        Self::begun_at(bytes, Instant::now())
    }

    pub(super) fn begun_at(bytes: u64, begun: Instant) -> Self {
        let moka = Moka::builder()
            .max_capacity(bytes)
            .weigher(|_: &Key, held: &Arc<Held>| held.entry.weight())
            .eviction_listener(|_, held: Arc<Held>, cause| {
                if cause == RemovalCause::Size {
                    held.counts.evictions.fetch_add(1, Ordering::Relaxed);
                }
            });
        Self { moka: moka.build(), counts: Arc::default(), begun, true_until: Arc::default() }
    }

    /// Notes that everything that was told before this moment is known here.
    pub(super) fn is_true_as_of(&self, moment: Instant) {
        self.true_until.store(self.micros(moment + LONGEST_SILENCE), Ordering::Release);
    }

    /// Whether what is here is what every replica has written up to a second ago.
    pub(super) fn is_true(&self) -> bool {
        self.micros(Instant::now()) < self.true_until.load(Ordering::Acquire)
    }

    fn micros(&self, moment: Instant) -> u64 {
        u64::try_from(moment.saturating_duration_since(self.begun).as_micros()).unwrap_or(u64::MAX)
    }

    /// Where it is counted how often the cache was of use to a tenant.
    pub(super) fn counts(&self, tenant: &Tenant) -> Arc<Counts> {
        // Nothing that is done under it can panic half way.
        let mut all = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(tenant).cloned().unwrap_or_else(|| all.entry(tenant.clone()).or_default().clone())
    }

    /// The product with the id, if there is one; what is not known is loaded, once for all who ask.
    pub(crate) async fn get<L>(
        &self,
        tenant: &Tenant,
        product_id: &Slug,
        load: impl FnOnce() -> L,
    ) -> Result<Option<Arc<Remembered>>, StoreError>
    where
        L: Future<Output = Result<Entry, StoreError>>,
    {
        if let Some(held) = self.moka.get(&Sought(tenant, product_id)).await {
            held.counts.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(held.entry.product.clone());
        }
        let counts = self.counts(tenant);
        counts.misses.fetch_add(1, Ordering::Relaxed);
        let computed =
            self.moka.entry(Key(tenant.clone(), product_id.clone())).and_try_compute_with(|known| async move {
                // Who waited in the queue finds what the first one loaded.
                if known.is_some() {
                    return Ok(Op::Nop);
                }
                load().await.map(|entry| Op::Put(Arc::new(Held { entry, counts })))
            });
        let held = computed.await?.into_entry().ok_or(StoreError::Impossible("a loaded entry is not there"))?;
        Ok(held.into_value().entry.product.clone())
    }

    /// Takes in what was just written or read, unless something as new is here.
    pub(crate) async fn put(&self, tenant: &Tenant, entry: Entry) {
        let key = Key(tenant.clone(), entry.product_id.clone());
        let put = Arc::new(Held { entry, counts: self.counts(tenant) });
        let version = put.entry.version;
        let newer = |known: Option<moka::Entry<Key, Arc<Held>>>| {
            known.is_some_and(|known| known.value().entry.version > version)
        };
        self.moka
            .entry(key)
            .and_compute_with(|known| std::future::ready(if newer(known) { Op::Nop } else { Op::Put(put) }))
            .await;
    }

    /// Forgets what is older than this version. A load that is under way is waited for: it may have read the old one.
    pub(super) async fn outdate(&self, tenant: &Tenant, product_id: Slug, version: i64) {
        let older = |known: Option<moka::Entry<Key, Arc<Held>>>| {
            known.is_some_and(|known| known.value().entry.version < version)
        };
        self.moka
            .entry(Key(tenant.clone(), product_id))
            .and_compute_with(|known| std::future::ready(if older(known) { Op::Remove } else { Op::Nop }))
            .await;
    }

    /// Everything of a tenant that is here.
    pub(super) fn of(&self, tenant: &Tenant) -> Vec<Entry> {
        self.moka.iter().filter(|(key, _)| key.0 == *tenant).map(|(_, held)| held.entry.clone()).collect()
    }

    /// Whether more fits in without driving anything out.
    pub(super) fn has_room(&self) -> bool {
        let capacity = self.moka.policy().max_capacity().unwrap_or(u64::MAX);
        self.moka.weighted_size() < capacity.saturating_sub(u64::from(u32::MAX >> 15))
    }

    /// Has moka count what it was given, for who wants to know how much room there is.
    pub(super) async fn settle(&self) {
        self.moka.run_pending_tasks().await;
    }
}
