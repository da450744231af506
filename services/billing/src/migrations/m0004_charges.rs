//! What is owed because of what happened elsewhere: periods of subscriptions, and what was used.

use mesh::store::Migration;

pub(super) const MIGRATION: Migration = Migration::new(
    "m0004_charges",
    "
    create table charges (
        tenant_id       text not null,
        charge_id       text not null,
        user_id         text not null,
        currency        text not null,
        -- what is owed; below zero what the house owes
        amount          bigint not null check (amount <> 0),
        -- how much of it is settled without money: by a charge below zero that takes back what is not paid yet, or, of
        -- such a charge, in what it takes back
        credited_amount bigint not null check (credited_amount >= 0 and credited_amount <= abs(amount)),
        source          text not null check (source in ('SUBSCRIPTION', 'USAGE')),
        -- the event that it comes from
        event_id        text not null,
        -- which of the event's charges
        ordinal         bigint not null,
        subscription_id text not null,
        organization_id text not null,
        product_id      text not null,
        plan_id         text not null,
        -- the charge that this one takes back; empty where it takes back none
        reversed_id     text not null,
        state           text not null check (state in ('OPEN', 'PAID', 'VOID')),
        -- whether a wallet was asked for it yet
        tried           bigint not null check (tried in (0, 1)),
        create_time     bigint not null,
        -- when it was paid or voided; null while it is open
        end_time        bigint,
        void_reason     text not null,
        -- the transaction that paid it; empty until then, and where no money moved
        transaction_id  text not null,
        primary key (tenant_id, charge_id),
        unique (tenant_id, event_id, ordinal),
        check ((state = 'OPEN') = (end_time is null)),
        check (transaction_id = '' or state = 'PAID'),
        check (amount < 0 or state <> 'PAID' or transaction_id <> '')
    );
    create index charges_untried on charges (charge_id) where state = 'OPEN' and tried = 0;
    create index charges_open on charges (tenant_id, user_id, currency, charge_id) where state = 'OPEN';
    create index charges_user on charges (tenant_id, user_id, charge_id);
    create index charges_subscription on charges (tenant_id, subscription_id, charge_id) where subscription_id <> '';

    -- Which charge a record of usage is part of. What was recorded and costs nothing is part of none.
    create table charged_usages (
        tenant_id text not null,
        usage_id  text not null,
        charge_id text not null,
        amount    bigint not null,
        primary key (tenant_id, usage_id)
    );
    create index charged_usages_charge on charged_usages (tenant_id, charge_id);

    -- how many open charges it was asked for and does not cover
    alter table wallets add column open_charges bigint not null default 0 check (open_charges >= 0);
    create index wallets_owing on wallets (tenant_id, user_id, currency) where open_charges > 0;
    ",
)
.on_postgres(
    r#"
    alter table charges alter column tenant_id type text collate "C", alter column charge_id type text collate "C",
        alter column user_id type text collate "C", alter column currency type text collate "C";
    alter table charged_usages alter column tenant_id type text collate "C", alter column usage_id type text collate "C",
        alter column charge_id type text collate "C";
    "#,
);
