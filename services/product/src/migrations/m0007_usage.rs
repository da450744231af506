//! What was used. Quantities have up to 23 digits, which no number of SQLite's holds: where they are added up they are two
//! numbers, what is before the point and hundred-millionths, both with the quantity's sign.

use mesh::store::Migration;

pub(super) const MIGRATION: Migration = Migration::new(
    "m0007_usage",
    "
    create table usage_records (
        tenant_id         text not null,
        usage_id          text not null,
        request_id        text not null,
        user_id           text not null,
        -- empty: none
        organization_id   text not null,
        subscription_id   text not null,
        product_id        text not null,
        session_id        text not null,
        event_time        bigint not null,
        -- a JSON object
        attributes        text not null,
        -- decimals are text, which keeps each of their digits
        quantity          text not null,
        included_quantity text not null,
        free_quantity     text not null,
        billable_quantity text not null,
        -- minor units; what a price gives back is negative
        amount            bigint not null,
        -- empty, and so are the next three: the plan includes all of it
        currency          text not null,
        price_id          text not null,
        total_before      text not null,
        cost_before       text not null,
        period_start_time bigint not null,
        period_end_time   bigint not null,
        create_time       bigint not null,
        void_time         bigint,
        void_reason       text,
        void_amount       bigint,
        primary key (tenant_id, usage_id),
        check ((currency = '') = (price_id = '')),
        check ((void_time is null) = (void_amount is null) and (void_time is null) = (void_reason is null))
    );
    -- Lists are newest first: each is one range of one index read backwards.
    create index usage_records_by_user on usage_records (tenant_id, user_id, usage_id);
    create index usage_records_by_product on usage_records (tenant_id, product_id, usage_id);
    create index usage_records_by_subscription on usage_records (tenant_id, subscription_id, usage_id)
        where subscription_id <> '';
    create index usage_records_by_organization on usage_records (tenant_id, organization_id, usage_id)
        where organization_id <> '';

    -- What counts in a period: of a price what was charged for, and, where price_id is empty, what a plan included.
    create table usage_totals (
        tenant_id         text not null,
        user_id           text not null,
        organization_id   text not null,
        subscription_id   text not null,
        product_id        text not null,
        price_id          text not null,
        period_start_time bigint not null,
        whole             bigint not null check (whole >= 0),
        fraction          bigint not null check (fraction between 0 and 99999999),
        primary key (tenant_id, user_id, product_id, period_start_time, organization_id, subscription_id, price_id)
    );

    -- Sums of records by the hour, to which every record and every void is added as it comes.
    create table usage_hours (
        tenant_id       text not null,
        hour_time       bigint not null,
        user_id         text not null,
        organization_id text not null,
        subscription_id text not null,
        product_id      text not null,
        currency        text not null,
        records         bigint not null,
        whole           bigint not null,
        fraction        bigint not null,
        -- minor units, in thousands of millions and what is left, both with the amount's sign
        billions        bigint not null,
        rest            bigint not null,
        primary key (tenant_id, user_id, hour_time, product_id, organization_id, subscription_id, currency)
    );
    create index usage_hours_by_subscription on usage_hours (tenant_id, subscription_id, hour_time)
        where subscription_id <> '';
    create index usage_hours_by_organization on usage_hours (tenant_id, organization_id, hour_time)
        where organization_id <> '';

    -- The same of everybody together, for who asks about nobody.
    create table usage_product_hours (
        tenant_id  text not null,
        hour_time  bigint not null,
        product_id text not null,
        currency   text not null,
        records    bigint not null,
        whole      bigint not null,
        fraction   bigint not null,
        billions   bigint not null,
        rest       bigint not null,
        primary key (tenant_id, hour_time, product_id, currency)
    );
    create index usage_product_hours_by_product on usage_product_hours (tenant_id, product_id, hour_time);
    ",
)
.on_postgres(
    r#"
    -- Compared byte by byte, as SQLite does, whatever the database's locale: in lists, and in the order of locks.
    alter table usage_records alter column usage_id type text collate "C";
    alter table usage_totals alter column user_id type text collate "C", alter column product_id type text collate "C",
        alter column organization_id type text collate "C", alter column subscription_id type text collate "C",
        alter column price_id type text collate "C", alter column tenant_id type text collate "C";
    create function refuse_removal() returns trigger language plpgsql as $$
    begin
        raise exception 'rows of % stay', tg_table_name;
    end $$;
    create trigger usage_records_stay before delete or truncate on usage_records
        for each statement execute function refuse_removal();
    "#,
)
.on_sqlite(
    "
    create trigger usage_records_stay before delete on usage_records
        begin select raise(abort, 'rows of usage_records stay'); end;
    ",
);
