//! What the cache has, and how it is made to agree with the store.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

use mesh::{Context, Slug, StoreError, Tenant, Time};

use super::{Catalog, Cursor, Filter, behind::Backlog, cache::Entry, table};

/// Products read from the store at once.
const PAGE: usize = 500;

/// When each tenant's cache was last made to agree with the store. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Syncs(Arc<Mutex<HashMap<Tenant, Time>>>);

/// What is in memory.
pub(crate) struct Stats {
    pub(crate) entries: i64,
    pub(crate) bytes: i64,
    pub(crate) hits: i64,
    pub(crate) misses: i64,
    pub(crate) evictions: i64,
    pub(crate) entries_by_type: BTreeMap<String, i64>,
    pub(crate) pending_writes: i64,
    pub(crate) oldest_pending_age: Option<std::time::Duration>,
    pub(crate) failed_writes: i64,
    pub(crate) last_sync: Option<Time>,
}

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Synced {
    pub(crate) loaded: i64,
    pub(crate) refreshed: i64,
    pub(crate) removed: i64,
    pub(crate) flushed: i64,
    pub(crate) size: i64,
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn one_more(count: &mut i64) {
    *count = count.saturating_add(1);
}

impl Catalog {
    /// What this process has in memory of a tenant's products.
    pub(crate) fn stats(&self, context: &Context) -> Stats {
        let entries = self.cache.of(&context.tenant);
        let mut entries_by_type = BTreeMap::new();
        for product in entries.iter().filter_map(|entry| entry.product.as_ref()) {
            one_more(entries_by_type.entry(product.kind.clone()).or_default());
        }
        let bytes = entries.iter().map(|entry| i64::from(entry.weight())).fold(0_i64, i64::saturating_add);
        let Backlog { waiting, oldest } = self.behind.backlog(&context.tenant);
        let counts = self.cache.counts(&context.tenant);
        let syncs = self.syncs.0.lock().unwrap_or_else(PoisonError::into_inner);
        Stats {
            entries: number(entries.len()),
            bytes,
            hits: counts.hits.load(Ordering::Relaxed),
            misses: counts.misses.load(Ordering::Relaxed),
            evictions: counts.evictions.load(Ordering::Relaxed),
            entries_by_type,
            pending_writes: waiting,
            oldest_pending_age: oldest.map(|oldest| self.clock.now().since(oldest)),
            failed_writes: counts.failed_writes.load(Ordering::Relaxed),
            last_sync: syncs.get(&context.tenant).copied(),
        }
    }

    /// Writes what waits, and makes the cache agree with the store.
    pub(crate) async fn sync(&self, context: &Context) -> Result<Synced, StoreError> {
        let mut synced = Synced { flushed: self.behind.flush(context).await?, ..Synced::default() };
        self.compare(context, &mut synced).await?;
        self.load(context, &mut synced).await?;
        self.cache.settle().await;
        let present = self.cache.of(&context.tenant).into_iter().filter(|entry| entry.product.is_some());
        synced.size = number(present.count());
        let mut syncs = self.syncs.0.lock().unwrap_or_else(PoisonError::into_inner);
        syncs.insert(context.tenant.clone(), self.clock.now());
        Ok(synced)
    }

    /// Reads again what is here and changed, and takes out what is gone.
    async fn compare(&self, context: &Context, synced: &mut Synced) -> Result<(), StoreError> {
        let known: Vec<Entry> = self.cache.of(&context.tenant);
        for known in known.chunks(PAGE) {
            let ids: Vec<Slug> = known.iter().map(|entry| entry.product_id.clone()).collect();
            let rows = table::find_all(self.store.reader(), &context.tenant, &ids).await?;
            let mut rows: HashMap<Slug, _> = rows.into_iter().map(|row| (row.product_id.clone(), row)).collect();
            for entry in known {
                match rows.remove(&entry.product_id) {
                    Some(row) if row.version > entry.version => {
                        one_more(if entry.product.is_some() { &mut synced.refreshed } else { &mut synced.loaded });
                        // Read anew, in the queue of its product: what was read of many may be old by now.
                        self.cache.outdate(&context.tenant, entry.product_id.clone(), row.version).await;
                        self.find(context, &entry.product_id).await?.ok();
                    }
                    None if entry.product.is_some() => {
                        one_more(&mut synced.removed);
                        let newer = entry.version.saturating_add(1);
                        self.cache.outdate(&context.tenant, entry.product_id.clone(), newer).await;
                    }
                    Some(_) | None => {}
                }
            }
        }
        Ok(())
    }

    /// Loads what is missing, newest first, as far as there is room.
    async fn load(&self, context: &Context, synced: &mut Synced) -> Result<(), StoreError> {
        let here: std::collections::HashSet<Slug> = self
            .cache
            .of(&context.tenant)
            .into_iter()
            .filter(|entry| entry.product.is_some())
            .map(|entry| entry.product_id)
            .collect();
        let mut after: Option<Cursor> = None;
        loop {
            self.cache.settle().await;
            if !self.cache.has_room() {
                return Ok(());
            }
            let limit = u64::try_from(PAGE).unwrap_or(u64::MAX);
            let page = self.list(context, &Filter::default(), after.as_ref(), limit).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(Cursor::of(last));
            for product in page {
                if !here.contains(&product.product_id) && self.find(context, &product.product_id).await?.is_ok() {
                    one_more(&mut synced.loaded);
                }
            }
        }
    }
}
