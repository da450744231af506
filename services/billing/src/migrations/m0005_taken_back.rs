//! What took a charge back is looked up by that charge.

use mesh::store::Migration;

pub(super) const MIGRATION: Migration = Migration::new(
    "m0005_taken_back",
    "
    create index charges_reversed on charges (tenant_id, reversed_id) where reversed_id <> '';
    ",
);
