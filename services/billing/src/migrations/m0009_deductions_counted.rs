//! An index of deductions to count them by, which each is added to at its end.

use mesh::store::Migration;

pub(super) const MIGRATION: Migration = Migration::new(
    "m0009_deductions_counted",
    "create index transactions_counted on transactions (tenant_id) where kind = 'DEDUCTION';",
);
