//! How the users of account stand, as account's events say and its answers do: known here, so that not every question
//! about them is a call.

use mesh::store::Migration;

pub(super) const MIGRATION: Migration = Migration::new(
    "m0003_buyers",
    "
    create table buyers (
        tenant_id  text not null,
        user_id    text not null,
        status     text not null check (status in ('ACTIVE', 'SUSPENDED', 'DELETED', 'ERASED')),
        -- of the account: what is older never replaces what is newer
        version    bigint not null check (version > 0),
        -- until when nothing newer had happened, as far as is known; only ever moves forward
        as_of_time bigint not null,
        primary key (tenant_id, user_id)
    );
    ",
);
