//! What products cost, and from when on. A price is never changed and never deleted, not even with its product: what
//! was sold under it refers to it.

use mesh::store::Migration;

pub(super) const MIGRATION: Migration = Migration::new(
    "m0004_prices",
    "
    create table prices (
        tenant_id      text not null,
        price_id       text not null,
        product_id     text not null,
        currency       text not null,
        unit           text not null,
        model          text not null check (model in ('FLAT', 'PER_UNIT', 'GRADUATED', 'VOLUME', 'PACKAGE')),
        -- decimals are text, which keeps each of their digits; empty: the tiers have their own
        unit_price     text not null,
        -- a JSON list; of amounts it holds minor units
        tiers          text not null,
        -- empty: not sold in packages
        package_size   text not null,
        free_quantity  text not null,
        -- minor units
        minimum_amount bigint not null check (minimum_amount >= 0),
        effective_time bigint not null,
        -- counts the product's prices, without a gap
        version        bigint not null check (version > 0),
        create_time    bigint not null,
        primary key (tenant_id, price_id),
        foreign key (tenant_id, product_id) references products (tenant_id, product_id),
        check ((model in ('GRADUATED', 'VOLUME')) = (tiers <> '[]')),
        check ((model in ('GRADUATED', 'VOLUME')) = (unit_price = '')),
        check ((model = 'PACKAGE') = (package_size <> ''))
    );
    create unique index prices_version on prices (tenant_id, product_id, version);
    -- The one in force is the last of a range.
    create index prices_effective on prices (tenant_id, product_id, effective_time, version);
    ",
)
.on_postgres(
    "
    create function refuse_change() returns trigger language plpgsql as $$
    begin
        raise exception '% is append-only', tg_table_name;
    end $$;
    create trigger prices_append_only before update or delete or truncate on prices
        for each statement execute function refuse_change();
    ",
)
.on_sqlite(
    "
    create trigger prices_no_update before update on prices
        begin select raise(abort, 'prices is append-only'); end;
    create trigger prices_no_delete before delete on prices
        begin select raise(abort, 'prices is append-only'); end;
    ",
);
