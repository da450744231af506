//! Products in memory. A read that finds its product here does no I/O; one that does not loads it once, however many
//! ask at the same time.
//!
//! Loads and writes of one product go through the same per-key queue, and an entry is only ever replaced by one of a
//! higher version: a load that began before a write cannot put the old product back after it. Another replica's write is
//! seen when the entry has aged, within a second.

use std::{sync::Arc, time::Duration};

use mesh::{Slug, StoreError, Tenant};
use moka::{future::Cache as Moka, ops::compute::Op};

use super::Product;

/// How old an entry may get: other replicas' writes are not heard of yet, and are to be seen within a second.
const LONGEST_AGE: Duration = Duration::from_secs(1);
/// What an entry weighs besides its texts: keys, pointers, moka's own records.
const OVERHEAD_BYTES: usize = 512;

type Key = (Tenant, Slug);

/// What is known of a product id.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    product_id: Slug,
    version: i64,
    /// `None`: there is no such product, or not any more.
    pub(crate) product: Option<Arc<Product>>,
}

impl Entry {
    /// A product that is there.
    pub(crate) fn present(product: Product) -> Self {
        Self { product_id: product.product_id.clone(), version: product.version, product: Some(Arc::new(product)) }
    }

    /// An id that nothing goes by. Whatever is written under it is newer.
    pub(crate) fn absent(product_id: Slug) -> Self {
        Self { product_id, version: 0, product: None }
    }

    /// A product that was there up to this version.
    pub(crate) fn deleted(product: &Product) -> Self {
        Self { product_id: product.product_id.clone(), version: product.version, product: None }
    }

    fn weight(&self) -> u32 {
        let texts = self.product.as_ref().map_or(0, |product| {
            product.name.len()
                + product.kind.len()
                + product.category_id.len()
                + product.description.len()
                + product.metadata.len()
        });
        u32::try_from(texts + self.product_id.as_str().len() * 2 + OVERHEAD_BYTES).unwrap_or(u32::MAX)
    }
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Cache(Moka<Key, Entry>);

impl Cache {
    /// A cache of at most this many bytes.
    pub(crate) fn new(bytes: u64) -> Self {
        let moka = Moka::builder().max_capacity(bytes).weigher(|_: &Key, entry: &Entry| entry.weight());
        Self(moka.time_to_live(LONGEST_AGE).build())
    }

    /// What is known of the id; what is not is loaded, once for all who ask.
    pub(crate) async fn get<L>(
        &self,
        tenant: &Tenant,
        product_id: &Slug,
        load: impl FnOnce() -> L,
    ) -> Result<Entry, StoreError>
    where
        L: Future<Output = Result<Entry, StoreError>>,
    {
        let key = (tenant.clone(), product_id.clone());
        if let Some(entry) = self.0.get(&key).await {
            return Ok(entry);
        }
        let computed = self.0.entry(key).and_try_compute_with(|known| async move {
            // Who waited in the queue finds what the first one loaded.
            if known.is_some() { Ok(Op::Nop) } else { load().await.map(Op::Put) }
        });
        computed
            .await?
            .into_entry()
            .map(moka::Entry::into_value)
            .ok_or(StoreError::Impossible("a loaded entry is not there"))
    }

    /// Takes in what was just written, unless something newer is here.
    pub(crate) async fn put(&self, tenant: &Tenant, entry: Entry) {
        let key = (tenant.clone(), entry.product_id.clone());
        let newer =
            |known: Option<moka::Entry<Key, Entry>>| known.is_some_and(|known| known.value().version > entry.version);
        let put = entry.clone();
        self.0
            .entry(key)
            .and_compute_with(|known| std::future::ready(if newer(known) { Op::Nop } else { Op::Put(put) }))
            .await;
    }
}
