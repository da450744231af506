//! How a charge below zero was settled without money: what was set off against other charges is given as money is, and counts
//! towards what a refund may not give again; what needed no giving back counts once. Of what was settled before this step neither is
//! known, and counts as money that was never given.

use mesh::store::Migration;

pub(super) const MIGRATION: Migration = Migration::new(
    "m0007_set_off",
    "
    -- of credited_amount: what other charges are less by
    alter table charges add column set_off_amount bigint not null default 0 check (set_off_amount >= 0);
    -- of credited_amount: what was voided or refunded of the charge that it takes back
    alter table charges add column forgiven_amount bigint not null default 0
        check (forgiven_amount >= 0 and forgiven_amount + set_off_amount <= credited_amount);
    ",
);
