//! Ids compared byte by byte on PostgreSQL, too, whatever the database's locale: a locale's comparison costs several times as
//! much, at every step through every index.

use mesh::store::Migration;

pub(super) const MIGRATION: Migration = Migration::new("m0010_bytes", "").on_postgres(
    r#"
    alter table requests alter column tenant_id type text collate "C", alter column request_id type text collate "C";
    alter table usage_records alter column tenant_id type text collate "C", alter column user_id type text collate "C",
        alter column product_id type text collate "C", alter column subscription_id type text collate "C",
        alter column organization_id type text collate "C";
    alter table usage_hours alter column tenant_id type text collate "C", alter column user_id type text collate "C",
        alter column product_id type text collate "C", alter column organization_id type text collate "C",
        alter column subscription_id type text collate "C", alter column currency type text collate "C";
    alter table usage_product_hours alter column tenant_id type text collate "C",
        alter column product_id type text collate "C", alter column currency type text collate "C";
    alter table outbox alter column event_id type text collate "C";
    "#,
);
