//! Categories, and indexes by which lists are narrowed. A category is never deleted: products stand in it.

use mesh::store::Migration;

pub(super) const MIGRATION: Migration = Migration::new(
    "m0008_catalog",
    "
    create table categories (
        tenant_id          text not null,
        category_id        text not null,
        -- empty: a root
        parent_category_id text not null,
        name               text not null,
        version            bigint not null check (version > 0),
        create_time        bigint not null,
        update_time        bigint not null,
        primary key (tenant_id, category_id),
        check (category_id <> parent_category_id)
    );
    create index categories_by_parent on categories (tenant_id, parent_category_id, category_id);
    create index products_by_type on products (tenant_id, type, create_time, product_id) where delete_time is null;
    create index products_by_category on products (tenant_id, category_id, create_time, product_id)
        where delete_time is null;
    create index products_by_status on products (tenant_id, status, create_time, product_id)
        where delete_time is null;
    ",
);
