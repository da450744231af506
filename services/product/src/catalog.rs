//! The catalog: products are made once, read from memory, and listed page by page.

mod cache;
mod metadata;
mod rpc;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use mesh::{
    Clock, Context, RequestId, Slug, Store, StoreError, Tenant, Time,
    claim::{self, Claim, Taken},
    store::Row,
    text_enum,
};
use serde::{Deserialize, Serialize};

use cache::{Cache, Entry};
pub(crate) use rpc::{server, word};
pub(crate) use table::{find_all, lock};

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
}

/// The products of this service.
#[derive(Clone)]
pub(crate) struct Catalog {
    store: Store,
    clock: Clock,
    cache: Cache,
}

impl Catalog {
    pub(crate) fn new(store: Store, clock: Clock, cache_bytes: u64) -> Self {
        Self { store, clock, cache: Cache::new(cache_bytes) }
    }

    /// Makes a product, durably; says whether it had been made before under the same request id.
    pub(crate) async fn create(
        &self,
        context: &Context,
        draft: Draft,
    ) -> Result<Result<(Product, bool), Refused>, StoreError> {
        let claim = draft.claim(&context.tenant);
        let input = (context.tenant.clone(), claim, draft.product(&self.clock));
        let unit = self.store.unit(context);
        let unit = if input.1.is_some() { unit.claimed() } else { unit };
        let (decided, before) = unit
            .run(input, |(tenant, claim, product), transaction| {
                Box::pin(async move {
                    claim::once(claim.as_ref(), transaction, product.create_time, async {
                        Ok(if table::insert(transaction, tenant, product).await? {
                            Ok(product.clone())
                        } else {
                            Err(Refused::IdTaken(product.product_id.clone()))
                        })
                    })
                    .await
                })
            })
            .await?;
        if let (Ok(product), false) = (&decided, before) {
            self.cache.put(&context.tenant, Entry::present(product.clone())).await;
        }
        Ok(decided.map(|product| (product, before)))
    }

    /// The product, from memory where it is there.
    pub(crate) async fn find(
        &self,
        context: &Context,
        product_id: &Slug,
    ) -> Result<Result<Arc<Product>, Refused>, StoreError> {
        let load = || async {
            let row = table::find(self.store.reader(), &context.tenant, product_id).await?;
            Ok(row.map_or_else(|| Entry::absent(product_id.clone()), Entry::present))
        };
        let entry = self.cache.get(&context.tenant, product_id, load).await?;
        Ok(entry.product.ok_or_else(|| Refused::NoProduct(product_id.clone())))
    }

    /// The products among these ids, in no order.
    pub(crate) async fn find_all(&self, context: &Context, ids: &[Slug]) -> Result<Vec<Product>, StoreError> {
        table::find_all(self.store.reader(), &context.tenant, ids).await
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
        let input = (context.tenant.clone(), product_id.clone(), self.clock.now());
        let deleted = self.store.unit(context).run(input, |(tenant, product_id, now), transaction| {
            Box::pin(async move { table::delete(transaction, tenant, product_id, *now).await })
        });
        let Some(deleted) = deleted.await? else { return Ok(Err(Refused::NoProduct(product_id))) };
        self.cache.put(&context.tenant, Entry::deleted(&deleted)).await;
        Ok(Ok(deleted))
    }
}

/// The rule of availability: what stands in the way first is said.
pub(crate) fn availability(product: Option<&Product>, account_is_active: bool) -> Availability {
    match product.map(|product| product.status) {
        None => Availability::NotFound,
        Some(Status::Retired) => Availability::Retired,
        Some(Status::Active | Status::Deprecated) if !account_is_active => Availability::AccountInactive,
        Some(Status::Active | Status::Deprecated) => Availability::Available,
    }
}
