//! What the others hear of products: that there is one more, or another, or one less.

use mesh::{
    StoreError,
    events::{Aggregate, Origin, publish},
    store::Transaction,
};
use trivet_proto::product::v1::{ProductCreated, ProductDeleted, ProductUpdated};

use super::Product;

fn about(product: &Product) -> Aggregate<'_> {
    Aggregate { kind: "product", id: product.product_id.as_str(), version: product.version }
}

pub(super) async fn created(transaction: &Transaction, origin: &Origin, product: &Product) -> Result<(), StoreError> {
    let event = ProductCreated { product_id: product.product_id.to_string() };
    publish(transaction, origin, about(product), &event).await
}

pub(super) async fn updated(
    transaction: &Transaction,
    origin: &Origin,
    product: &Product,
    changed: &[&'static str],
) -> Result<(), StoreError> {
    let changed_fields = changed.iter().map(ToString::to_string).collect();
    let event = ProductUpdated { product_id: product.product_id.to_string(), changed_fields };
    publish(transaction, origin, about(product), &event).await
}

pub(super) async fn deleted(transaction: &Transaction, origin: &Origin, product: &Product) -> Result<(), StoreError> {
    let event = ProductDeleted { product_id: product.product_id.to_string() };
    publish(transaction, origin, about(product), &event).await
}
