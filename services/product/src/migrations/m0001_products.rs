//! What is sold. A deleted product keeps its row, so that its id is never given to something else.

use mesh::store::Migration;

pub(super) const MIGRATION: Migration = Migration::new(
    "m0001_products",
    "
    create table products (
        tenant_id   text not null,
        product_id  text not null,
        name        text not null,
        -- the name as it is searched: in lower case
        name_key    text not null,
        type        text not null,
        -- empty: none
        category_id text not null,
        description text not null,
        -- a JSON object
        metadata    text not null,
        status      text not null check (status in ('ACTIVE', 'DEPRECATED', 'RETIRED')),
        version     bigint not null check (version > 0),
        create_time bigint not null,
        update_time bigint not null,
        delete_time bigint,
        primary key (tenant_id, product_id)
    );
    -- Lists are newest first.
    create index products_newest on products (tenant_id, create_time, product_id) where delete_time is null;
    ",
);
