//! One row for each change of a wallet, with what it moved in every account of the ledger, and with a hash that stands on
//! the change before it. That the accounts add up to zero is a CHECK now, which SQLite knows too, and a deduction writes a
//! third of the rows.

use mesh::store::Migration;

pub(super) const MIGRATION: Migration = Migration::new(
    "m0002_books",
    "
    create table transactions_before as
        select t.tenant_id, t.transaction_id, t.kind, t.request_id, t.user_id, t.currency, w.amount as wallet,
               w.wallet_version, w.balance_after, w.available_after, t.api_id, t.endpoint_id, t.api_key_id, t.provider,
               t.provider_reference, t.create_time
          from transactions t
          join entries w on w.tenant_id = t.tenant_id and w.transaction_id = t.transaction_id and w.account = 'WALLET';
    drop table entries;
    drop table transactions;

    -- Every change of a wallet, which is every movement of money. Rows are appended, never changed.
    create table transactions (
        tenant_id       text not null,
        transaction_id  text not null,
        kind            text not null check (kind in ('PAYMENT', 'DEDUCTION', 'REFUND', 'HOLD', 'CAPTURE', 'RELEASE',
                                                      'CHARGE', 'CREDIT')),
        -- the request that asked for it, of which `requests` knows that it is the only one; empty where none did
        request_id      text not null,
        user_id         text not null,
        currency        text not null,
        -- what it moved, in minor units: into what can be spent, into what is set aside, into what the house has earned,
        -- and into what providers have received (which grows downwards: they owe it)
        wallet          bigint not null,
        held            bigint not null,
        revenue         bigint not null,
        payments        bigint not null,
        -- the wallet right after it
        wallet_version  bigint not null check (wallet_version > 0),
        balance_after   bigint not null check (balance_after >= 0),
        available_after bigint not null check (available_after >= 0 and available_after <= balance_after),
        -- what a refund gives back, what a capture or release ends, what a charge pays; empty where there is none
        related_id      text not null,
        api_id          text not null,
        endpoint_id     text not null,
        api_key_id      text not null,
        -- what else is known of it, as JSON; empty where nothing is
        details         text not null,
        create_time     bigint not null,
        -- SHA-256 of the hash before it in its wallet and of this row; empty in rows from before there were hashes
        hash            bytea not null,
        primary key (tenant_id, transaction_id),
        check (wallet + held + revenue + payments = 0),
        check (wallet <> 0 or held <> 0)
    );

    -- What the last verification of all of a tenant's ledger came to.
    create table verdicts (
        tenant_id    text primary key,
        wallets      bigint not null,
        transactions bigint not null,
        findings     bigint not null,
        start_time   bigint not null,
        end_time     bigint not null
    );
    ",
)
.on_postgres(
    r#"
    drop function entries_add_up();
    alter table transactions alter column tenant_id type text collate "C", alter column transaction_id type text collate "C",
        alter column user_id type text collate "C", alter column currency type text collate "C",
        alter column related_id type text collate "C", alter column api_id type text collate "C",
        alter column api_key_id type text collate "C", add check (length(hash) in (0, 32));
    insert into transactions (tenant_id, transaction_id, kind, request_id, user_id, currency, wallet, held, revenue,
                              payments, wallet_version, balance_after, available_after, related_id, api_id, endpoint_id,
                              api_key_id, details, create_time, hash)
        select tenant_id, transaction_id, kind, request_id, user_id, currency, wallet, 0,
               case when kind = 'DEDUCTION' then -wallet else 0 end, case when kind = 'PAYMENT' then -wallet else 0 end,
               wallet_version, balance_after, available_after, '', api_id, endpoint_id, api_key_id,
               case when kind = 'PAYMENT'
                    then json_build_object('provider', provider, 'provider_reference', provider_reference)::text
                    else '' end,
               create_time, '\x'
          from transactions_before;
    drop table transactions_before;
    create trigger transactions_append_only before update or delete or truncate on transactions
        for each statement execute function refuse_change();

    -- Room on each page for the row's next version: a wallet is changed far more often than it is made.
    alter table wallets set (fillfactor = 50);
    alter table wallets alter column tenant_id type text collate "C", alter column user_id type text collate "C",
        alter column currency type text collate "C";
    -- that of its last change
    alter table wallets add column hash bytea not null default '\x' check (length(hash) in (0, 32));
    -- why it is frozen by the ledger itself: what of it does not add up; empty where all does
    alter table wallets add column fault text not null default '';

    alter table requests alter column tenant_id type text collate "C", alter column request_id type text collate "C";
    alter table outbox alter column event_id type text collate "C";

    create unique index transactions_wallet_version on transactions (tenant_id, user_id, currency, wallet_version);
    create index transactions_deductions on transactions (tenant_id, user_id, transaction_id) where kind = 'DEDUCTION';
    create index transactions_apis on transactions (tenant_id, api_id, transaction_id) where api_id <> '';
    create index transactions_api_keys on transactions (tenant_id, api_key_id, transaction_id) where api_key_id <> '';
    create index transactions_refunds on transactions (tenant_id, related_id) where kind = 'REFUND';
    "#,
)
.on_sqlite(
    "
    insert into transactions (tenant_id, transaction_id, kind, request_id, user_id, currency, wallet, held, revenue,
                              payments, wallet_version, balance_after, available_after, related_id, api_id, endpoint_id,
                              api_key_id, details, create_time, hash)
        select tenant_id, transaction_id, kind, request_id, user_id, currency, wallet, 0,
               case when kind = 'DEDUCTION' then -wallet else 0 end, case when kind = 'PAYMENT' then -wallet else 0 end,
               wallet_version, balance_after, available_after, '', api_id, endpoint_id, api_key_id,
               case when kind = 'PAYMENT'
                    then json_object('provider', provider, 'provider_reference', provider_reference)
                    else '' end,
               create_time, x''
          from transactions_before;
    drop table transactions_before;
    create trigger transactions_no_update before update on transactions
        begin select raise(abort, 'transactions is append-only'); end;
    create trigger transactions_no_delete before delete on transactions
        begin select raise(abort, 'transactions is append-only'); end;

    alter table wallets add column hash blob not null default x'' check (length(hash) in (0, 32));
    alter table wallets add column fault text not null default '';

    create unique index transactions_wallet_version on transactions (tenant_id, user_id, currency, wallet_version);
    create index transactions_deductions on transactions (tenant_id, user_id, transaction_id) where kind = 'DEDUCTION';
    create index transactions_apis on transactions (tenant_id, api_id, transaction_id) where api_id <> '';
    create index transactions_api_keys on transactions (tenant_id, api_key_id, transaction_id) where api_key_id <> '';
    create index transactions_refunds on transactions (tenant_id, related_id) where kind = 'REFUND';
    ",
);
