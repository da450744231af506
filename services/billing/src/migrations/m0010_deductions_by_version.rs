//! One index less that each deduction writes to in a place of its own: those of a user are read by the versions of his
//! wallets. A step of its own, since it keeps out readers, too, and is done in a moment.

use mesh::store::Migration;

pub(super) const MIGRATION: Migration =
    Migration::new("m0010_deductions_by_version", "drop index transactions_deductions;");
