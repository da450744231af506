//! On SQLite, wallets without a check that calls a function: of a statement that may call one SQLite keeps the pages that it
//! changes as they were, so as to undo it by itself, and beyond a few in a file that it makes for that. Every batch of
//! deductions is such a statement.

use mesh::store::Migration;

pub(super) const MIGRATION: Migration = Migration::new("m0008_wallets_without_length", "").on_sqlite(
    "
    create table wallets_after (
        tenant_id    text not null,
        user_id      text not null,
        currency     text not null,
        balance      integer not null,
        held         integer not null check (held >= 0),
        version      integer not null check (version >= 0),
        state        text not null check (state in ('ACTIVE', 'FROZEN')),
        create_time  integer not null,
        update_time  integer not null,
        -- 32 bytes; none of a wallet without a change
        hash         blob not null default x'',
        fault        text not null default '',
        open_charges integer not null default 0 check (open_charges >= 0),
        primary key (tenant_id, user_id, currency),
        check (balance - held >= 0)
    ) strict;
    insert into wallets_after (tenant_id, user_id, currency, balance, held, version, state, create_time, update_time, hash,
                               fault, open_charges)
        select tenant_id, user_id, currency, balance, held, version, state, create_time, update_time, hash, fault,
               open_charges
          from wallets;
    drop table wallets;
    alter table wallets_after rename to wallets;
    create index wallets_owing on wallets (tenant_id, user_id, currency) where open_charges > 0;
    ",
);
