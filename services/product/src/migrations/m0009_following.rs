//! The cache of every replica follows what is told of products, however much else is told.

use mesh::store::Migration;

pub(super) const MIGRATION: Migration = Migration::new(
    "m0009_following",
    "
    create index outbox_products on outbox (commit_order, position)
        where type in ('product.created', 'product.updated', 'product.deleted');
    ",
);
