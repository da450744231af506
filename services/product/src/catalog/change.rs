//! How a product is changed: the next version, where anything differs.

use mesh::{Context, Slug, StoreError, Tenant, Time, events::Origin, store::Transaction, update::Etag};

use super::{Catalog, Product, Refused, Status, events, table};

/// What of a product should be otherwise; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    pub(crate) name: Option<String>,
    pub(crate) kind: Option<String>,
    /// Empty: none.
    pub(crate) category_id: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) metadata: Option<String>,
    pub(crate) status: Option<Status>,
    pub(crate) etag: Option<Etag>,
}

/// A product about to be changed.
struct Changing {
    tenant: Tenant,
    origin: Origin,
    product_id: Slug,
    change: Change,
    now: Time,
}

impl Catalog {
    /// Changes a product, and gives it as it is then.
    pub(crate) async fn update(
        &self,
        context: &Context,
        product_id: Slug,
        change: Change,
    ) -> Result<Result<Product, Refused>, StoreError> {
        self.behind.written(context, &product_id).await?;
        let origin = Origin::of(context, &self.clock);
        let changing = Changing { tenant: context.tenant.clone(), origin, product_id, change, now: self.clock.now() };
        let unit = self.store.unit(context);
        let changed = unit.run(changing, |changing, transaction| Box::pin(changing.carry_out(transaction))).await?;
        if let Ok(product) = &changed {
            self.forget(context, product).await;
        }
        Ok(changed)
    }
}

impl Changing {
    async fn carry_out(&self, transaction: &Transaction) -> Result<Result<Product, Refused>, StoreError> {
        if !table::lock(transaction, &self.tenant, &self.product_id).await? {
            return Ok(Err(Refused::NoProduct(self.product_id.clone())));
        }
        // Read by a second statement: only that one sees what whoever held the lock before has committed.
        let was = table::find(transaction, &self.tenant, &self.product_id).await?;
        let was = was.ok_or(StoreError::Impossible("a locked product is not there"))?;
        if let Some(etag) = self.change.etag.filter(|etag| etag.version() != was.version) {
            let now = Etag::of(was.version).to_string();
            return Ok(Err(Refused::Stale { asked: etag.to_string(), now }));
        }
        let (mut product, changed) = self.change.applied(&was);
        if changed.is_empty() {
            return Ok(Ok(was));
        }
        if changed.contains(&"category_id")
            && !table::has_category(transaction, &self.tenant, &product.category_id).await?
        {
            return Ok(Err(Refused::NoCategory(product.category_id)));
        }
        product.version = was.version.saturating_add(1);
        product.update_time = self.now;
        table::update(transaction, &self.tenant, &product).await?;
        events::updated(transaction, &self.origin, &product, &changed).await?;
        Ok(Ok(product))
    }
}

impl Change {
    /// The product with the change, and the names of the fields that differ.
    pub(super) fn applied(&self, was: &Product) -> (Product, Vec<&'static str>) {
        let mut product = was.clone();
        let mut changed = Vec::new();
        let texts = [
            ("name", &self.name, &mut product.name),
            ("type", &self.kind, &mut product.kind),
            ("category_id", &self.category_id, &mut product.category_id),
            ("description", &self.description, &mut product.description),
            ("metadata", &self.metadata, &mut product.metadata),
        ];
        for (name, wished, held) in texts {
            if let Some(wished) = wished.as_ref().filter(|wished| *wished != held) {
                held.clone_from(wished);
                changed.push(name);
            }
        }
        if let Some(status) = self.status.filter(|status| *status != product.status) {
            product.status = status;
            changed.push("status");
        }
        (product, changed)
    }
}
