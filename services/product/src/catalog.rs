//! The catalog: products are made once, read from memory, and listed page by page.

mod cache;
mod follow;

mod behind;
mod sync;

mod change;

mod events;
mod metadata;
mod rpc;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use mesh::{
    Clock, Context, Parts, RequestId, Slug, Store, StoreError, Tenant, Time,
    claim::{self, Claim, Taken},
    events::Origin,
    store::{Row, Transaction},
    text_enum,
};
use money::{Currency, Quantity};
use serde::{Deserialize, Serialize};

use crate::{pricing, usage::Standing};
use behind::Behind;
use cache::{Cache, Entry, Remembered};
pub(crate) use rpc::{server, word};
use sync::Syncs;
pub(crate) use table::{find_all, keys, lock, statuses};

text_enum! {
    /// How a product stands.
    pub(crate) enum Status {
        /// On sale.
        Active = "ACTIVE",
        /// Still sold; new users should look elsewhere.
        Deprecated = "DEPRECATED",
        /// Not sold any more.
        Retired = "RETIRED",
    }
}

/// A product, as its row holds it.
#[derive(Clone, Debug, PartialEq, Eq, Row, Serialize, Deserialize)]
pub(crate) struct Product {
    pub(crate) product_id: Slug,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) category_id: String,
    pub(crate) description: String,
    /// A JSON object.
    pub(crate) metadata: String,
    pub(crate) status: Status,
    pub(crate) version: i64,
    pub(crate) create_time: Time,
    pub(crate) update_time: Time,
    pub(crate) delete_time: Option<Time>,
}

/// When a write is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Before the answer.
    Durable,
    /// Soon after it.
    WriteBehind,
}

/// A product that should be sold.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) request_id: Option<RequestId>,
    pub(crate) product_id: Option<Slug>,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) category_id: Option<Slug>,
    pub(crate) description: String,
    pub(crate) metadata: String,
}

impl Draft {
    fn claim(&self, tenant: &Tenant) -> Option<Claim> {
        let optional = |slug: &Option<Slug>| slug.as_ref().map_or_else(String::new, ToString::to_string);
        let (product_id, category_id) = (optional(&self.product_id), optional(&self.category_id));
        let fields = [
            ("product_id", product_id.as_str()),
            ("name", &self.name),
            ("type", &self.kind),
            ("category_id", &category_id),
            ("description", &self.description),
            ("metadata", if self.metadata == metadata::EMPTY { "" } else { &self.metadata }),
        ];
        self.request_id.as_ref().map(|request_id| Claim::new(tenant, request_id, "CreateProduct", &fields))
    }

    fn product(&self, clock: &Clock) -> Product {
        let now = clock.now();
        Product {
            product_id: self.product_id.clone().unwrap_or_else(|| Slug::fresh("prod", clock)),
            name: self.name.clone(),
            kind: self.kind.clone(),
            category_id: self.category_id.clone().map(Slug::into_string).unwrap_or_default(),
            description: self.description.clone(),
            metadata: self.metadata.clone(),
            status: Status::Active,
            version: 1,
            create_time: now,
            update_time: now,
            delete_time: None,
        }
    }
}

/// Which products a list holds. All of them are part of its page tokens.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Filter {
    pub(crate) kind: Option<String>,
    pub(crate) category_id: Option<Slug>,
    pub(crate) status: Option<Status>,
    /// A part of the name, in lower case.
    pub(crate) query: String,
}

/// The place of a product in a list, newest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Cursor(Time, Slug);

impl Cursor {
    pub(crate) fn of(product: &Product) -> Self {
        Self(product.create_time, product.product_id.clone())
    }
}

/// Why a product is not made or found, in order of precedence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum Refused {
    #[error(transparent)]
    RequestId(#[from] Taken),
    #[error("there is no product {0}")]
    NoProduct(Slug),
    #[error("the product was changed since: it is at {now}, not at {asked}")]
    Stale { asked: String, now: String },
    #[error("there is no category {0}")]
    NoCategory(String),
    #[error("the id {0} belongs to another product, or to one that was deleted")]
    IdTaken(Slug),
}

/// Whether a user can have a product, and if not, the first thing that stands in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Availability {
    Available,
    NotFound,
    Retired,
    AccountInactive,
    NotAMember,
    NotInPlan,
    QuotaExhausted,
    InsufficientFunds,
}

/// What is known of a user and a product.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<'a> {
    pub(crate) product: Option<&'a Product>,
    pub(crate) account_is_active: bool,
    /// Of the organization, if any is asked about.
    pub(crate) is_member: bool,
    /// `None`: no price is in force, and no plan includes it.
    pub(crate) standing: Option<&'a Standing>,
}

/// Whether a user can have a product, as far as money does not decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Said(Availability),
    /// Whoever has anything available in this currency can.
    WithFunds(Currency),
}

/// The products of this service. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Catalog {
    store: Store,
    clock: Clock,
    cache: Cache,
    behind: Behind,
    syncs: Syncs,
}

/// A product about to be made.
#[derive(Clone)]
struct Making {
    context: Context,
    claim: Option<Claim>,
    origin: Origin,
    product: Product,
}

impl Catalog {
    /// The catalog over this store, with a cache of at most so many bytes that is kept true in the background.
    pub(crate) fn new(parts: &Parts, cache_bytes: u64) -> Self {
        let (store, clock) = (parts.store.clone(), parts.clock.clone());
        let cache = Cache::new(cache_bytes);
        follow::start(parts, cache.clone());
        let behind = Behind::start(parts, cache.clone());
        Self { store, clock, cache, behind, syncs: Syncs::default() }
    }

    /// Makes a product; says whether it had been made before under the same request id.
    pub(crate) async fn create(
        &self,
        context: &Context,
        draft: Draft,
        durability: Durability,
    ) -> Result<Result<(Product, bool), Refused>, StoreError> {
        let (claim, origin) = (draft.claim(&context.tenant), Origin::of(context, &self.clock));
        let making = Making { context: context.clone(), claim, origin, product: draft.product(&self.clock) };
        let _turn = self.behind.turn(&making).await;
        if let Some(claim) = &making.claim
            && let Some(decided) = self.behind.answered(claim)
        {
            return Ok(decided.map(|product| (product, true)));
        }
        if durability == Durability::WriteBehind {
            match self.look_ahead(&making).await? {
                Ok(None) => {}
                Ok(Some(decided)) => return Ok(decided.map(|product| (product, true))),
                Err(refused) => return Ok(Err(refused)),
            }
            if self.behind.take(&making).await {
                return Ok(Ok((making.product, false)));
            }
            // Too much waits already: this one waits, too.
        }
        // Who was answered first has the id.
        self.behind.written(context, &making.product.product_id).await?;
        let (decided, before) = making.write(&self.store).await?;
        if let (Ok(product), false) = (&decided, before) {
            self.forget(context, product).await;
        }
        Ok(decided.map(|product| (product, before)))
    }

    /// What a product that is written behind would be refused for, as far as that is known by now; or what was answered
    /// under its request id before.
    async fn look_ahead(
        &self,
        making: &Making,
    ) -> Result<Result<Option<Result<Product, Refused>>, Refused>, StoreError> {
        let (reader, product) = (self.store.reader(), &making.product);
        let tenant = &making.context.tenant;
        if let Some(claim) = &making.claim
            && let Some(seen) = claim.seen::<Product, Refused>(reader).await?
        {
            return Ok(Ok(Some(seen.decision())));
        }
        if !table::has_category(reader, tenant, &product.category_id).await? {
            return Ok(Err(Refused::NoCategory(product.category_id.clone())));
        }
        let known = self.behind.is_pending(tenant, &product.product_id);
        if known || table::is_taken(reader, tenant, &product.product_id).await? {
            return Ok(Err(Refused::IdTaken(product.product_id.clone())));
        }
        Ok(Ok(None))
    }

    /// The product, from memory where it is there.
    pub(crate) async fn find(
        &self,
        context: &Context,
        product_id: &Slug,
    ) -> Result<Result<Arc<Remembered>, Refused>, StoreError> {
        let load = || async {
            // What waits to be written is not there yet for who reads.
            if let Some(product) = self.behind.pending(&context.tenant, product_id) {
                return Ok(Entry::present(product));
            }
            let row = table::find(self.store.reader(), &context.tenant, product_id).await?;
            Ok(row.map_or_else(|| Entry::absent(product_id.clone()), Entry::present))
        };
        let product = if self.cache.is_true() {
            self.cache.get(&context.tenant, product_id, load).await?
        } else {
            // Nobody has told for a second what other replicas write: only the store knows.
            load().await?.product
        };
        Ok(product.ok_or_else(|| Refused::NoProduct(product_id.clone())))
    }

    /// The products among these ids, in no order.
    pub(crate) async fn find_all(&self, context: &Context, ids: &[Slug]) -> Result<Vec<Product>, StoreError> {
        let mut found = table::find_all(self.store.reader(), &context.tenant, ids).await?;
        let pending = ids.iter().filter_map(|id| self.behind.pending(&context.tenant, id));
        for product in pending.collect::<Vec<_>>() {
            if !found.iter().any(|written| written.product_id == product.product_id) {
                found.push(product);
            }
        }
        Ok(found)
    }

    /// Up to `limit` products after `cursor`, newest first.
    pub(crate) async fn list(
        &self,
        context: &Context,
        filter: &Filter,
        after: Option<&Cursor>,
        limit: u64,
    ) -> Result<Vec<Product>, StoreError> {
        table::list(self.store.reader(), &context.tenant, filter, after.map(|Cursor(time, id)| (*time, id)), limit)
            .await
    }

    /// How many products a list holds.
    pub(crate) async fn count(&self, context: &Context, filter: &Filter) -> Result<i64, StoreError> {
        table::count(self.store.reader(), &context.tenant, filter).await
    }

    /// Deletes a product for good: its id is never used again.
    pub(crate) async fn delete(
        &self,
        context: &Context,
        product_id: Slug,
    ) -> Result<Result<Product, Refused>, StoreError> {
        // What waits to be written is written first, or it would come back after it was deleted.
        self.behind.written(context, &product_id).await?;
        let origin = Origin::of(context, &self.clock);
        let input = (context.tenant.clone(), product_id.clone(), self.clock.now(), origin);
        let deleted = self.store.unit(context).run(input, |(tenant, product_id, now, origin), transaction| {
            Box::pin(async move {
                let deleted = table::delete(transaction, tenant, product_id, *now).await?;
                if let Some(product) = &deleted {
                    events::deleted(transaction, origin, product).await?;
                }
                Ok(deleted)
            })
        });
        let Some(deleted) = deleted.await? else { return Ok(Err(Refused::NoProduct(product_id))) };
        self.forget(context, &deleted).await;
        Ok(Ok(deleted))
    }

    /// Has what was known of a product before it was written read again. Not put here as it was written: another replica
    /// may have written it since, and have been heard of, and then the older one would stay.
    async fn forget(&self, context: &Context, product: &Product) {
        self.cache.outdate(&context.tenant, product.product_id.clone(), product.version).await;
    }
}

impl Making {
    /// Writes the product; says whether it had been written before under its request id.
    async fn write(&self, store: &Store) -> Result<(Result<Product, Refused>, bool), StoreError> {
        let unit = store.unit(&self.context);
        let unit = if self.claim.is_some() { unit.claimed() } else { unit };
        let written = unit.run(self.clone(), |making, transaction| {
            let decide = making.carry_out(transaction);
            Box::pin(claim::once(making.claim.as_ref(), transaction, making.product.create_time, decide))
        });
        written.await
    }

    async fn carry_out(&self, transaction: &Transaction) -> Result<Result<Product, Refused>, StoreError> {
        let (tenant, product) = (&self.context.tenant, &self.product);
        if !table::has_category(transaction, tenant, &product.category_id).await? {
            return Ok(Err(Refused::NoCategory(product.category_id.clone())));
        }
        if !table::insert(transaction, tenant, product).await? {
            return Ok(Err(Refused::IdTaken(product.product_id.clone())));
        }
        events::created(transaction, &self.origin, product).await?;
        Ok(Ok(product.clone()))
    }
}

/// The rule of availability: what stands in the way first is said.
pub(crate) fn availability(found: Found<'_>) -> Verdict {
    let Some(product) = found.product else { return Verdict::Said(Availability::NotFound) };
    if product.status == Status::Retired {
        return Verdict::Said(Availability::Retired);
    }
    if !found.account_is_active {
        return Verdict::Said(Availability::AccountInactive);
    }
    if !found.is_member {
        return Verdict::Said(Availability::NotAMember);
    }
    let Some(standing) = found.standing else { return Verdict::Said(Availability::NotInPlan) };
    match standing.quote(&product.product_id, Quantity::LEAST) {
        Ok(quote) => match quote.charge.filter(|(_, cost)| cost.costs()) {
            Some((price, _)) => Verdict::WithFunds(price.terms.currency),
            None => Verdict::Said(Availability::Available),
        },
        Err(pricing::Refused::NotPriced(_)) => Verdict::Said(Availability::NotInPlan),
        // The plan blocks it, or no more of it can be counted in this period.
        Err(_) => Verdict::Said(Availability::QuotaExhausted),
    }
}
