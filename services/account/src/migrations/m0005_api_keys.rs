//! Tenants, and the keys that programs call with. Of a key's secret only the SHA-256 is kept.

use mesh::store::Migration;

pub(super) const MIGRATION: Migration = Migration::new(
    "m0005_api_keys",
    "
    create table tenants (
        tenant_id   text primary key not null,
        name        text not null check (name <> ''),
        create_time bigint not null
    );
    create table api_keys (
        -- also in the secret, by which it is found whatever its tenant
        key_id         text primary key not null,
        tenant_id      text not null references tenants (tenant_id),
        display_name   text not null check (display_name <> ''),
        -- sorted, with spaces
        scopes         text not null check (scopes <> ''),
        secret_hash    bytea not null check (length(secret_hash) = 32),
        create_time    bigint not null,
        expire_time    bigint check (expire_time > create_time),
        revoke_time    bigint,
        last_used_time bigint
    );
    -- Lists are newest first, and ids sort by the time of their making.
    create index api_keys_newest on api_keys (tenant_id, key_id);
    ",
)
.on_postgres(
    r#"
    -- Ids are ordered byte by byte, as SQLite does, whatever the database's locale.
    alter table tenants alter column tenant_id type text collate "C";
    alter table api_keys
        alter column tenant_id type text collate "C",
        alter column key_id type text collate "C";
    insert into tenants (tenant_id, name, create_time)
    values ('default', 'Default', (extract(epoch from now()) * 1000000)::bigint);
    "#,
)
.on_sqlite(
    "
    insert into tenants (tenant_id, name, create_time) values ('default', 'Default', unixepoch() * 1000000);
    ",
);
