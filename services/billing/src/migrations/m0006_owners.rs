//! Whoever has wallets: a wallet that is made while its owner goes must not give money.

use mesh::store::Migration;

pub(super) const MIGRATION: Migration = Migration::new(
    "m0006_owners",
    "
    -- The row is locked by whoever makes a wallet, and by whoever notes that its owner is gone.
    create table owners (
        tenant_id text not null,
        user_id   text not null,
        -- null as long as nothing is known of that
        gone_time bigint,
        primary key (tenant_id, user_id)
    );
    ",
)
.on_postgres(
    r#"
    alter table owners alter column tenant_id type text collate "C", alter column user_id type text collate "C";
    "#,
);
