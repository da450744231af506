//! People. An e-mail address is unique among accounts that are not deleted, because the index says so: a check before
//! an insert lets two of them through.

use mesh::store::Migration;

pub(super) const MIGRATION: Migration = Migration::new(
    "m0001_accounts",
    "
    create table accounts (
        tenant_id         text not null,
        user_id           text not null,
        email             text not null,
        -- the address as it is compared: in lower case
        email_key         text not null,
        name              text not null,
        subscription_tier text not null check (subscription_tier in ('FREE', 'BASIC', 'PREMIUM', 'ENTERPRISE')),
        status            text not null check (status in ('ACTIVE', 'SUSPENDED', 'DELETED', 'ERASED')),
        status_reason     text not null,
        version           bigint not null check (version > 0),
        create_time       bigint not null,
        update_time       bigint not null,
        primary key (tenant_id, user_id)
    );
    create unique index accounts_email_key on accounts (tenant_id, email_key) where status in ('ACTIVE', 'SUSPENDED');
    ",
);
