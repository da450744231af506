//! The rows of `products`, and every statement on them.

use std::{collections::HashMap, fmt::Write as _};

use mesh::{
    Slug, StoreError, Tenant, Time,
    store::{self, Kind, Row, Rows, contains_pattern, lock_clause, placeholders, sql},
};
use sea_orm::{ConnectionTrait, Value};

use super::{Filter, Product, Status};
use crate::category;

const COLUMNS: &str = "product_id, name, type as kind, category_id, description, metadata, status, version, create_time, \
                       update_time, delete_time";

/// Inserts the product; false where its id is taken, be it by a deleted one.
pub(super) async fn insert(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    product: &Product,
) -> Result<bool, StoreError> {
    let statement = sql(
        connection,
        "insert into products (tenant_id, product_id, name, name_key, type, category_id, description, metadata, status,
                               version, create_time, update_time)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
         on conflict do nothing",
        [
            tenant.clone().into(),
            product.product_id.clone().into(),
            product.name.clone().into(),
            product.name.to_lowercase().into(),
            product.kind.clone().into(),
            product.category_id.clone().into(),
            product.description.clone().into(),
            product.metadata.clone().into(),
            product.status.into(),
            product.version.into(),
            product.create_time.into(),
            product.update_time.into(),
        ],
    );
    Ok(connection.execute_raw(statement).await?.rows_affected() == 1)
}

/// Updates the product's row.
pub(super) async fn update(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    product: &Product,
) -> Result<(), StoreError> {
    let text = "update products set name = $3, name_key = $4, type = $5, category_id = $6, description = $7,
                                    metadata = $8, status = $9, version = $10, update_time = $11
                 where tenant_id = $1 and product_id = $2";
    let values = [
        tenant.clone().into(),
        product.product_id.clone().into(),
        product.name.clone().into(),
        product.name.to_lowercase().into(),
        product.kind.clone().into(),
        product.category_id.clone().into(),
        product.description.clone().into(),
        product.metadata.clone().into(),
        product.status.into(),
        product.version.into(),
        product.update_time.into(),
    ];
    connection.execute_raw(sql(connection, text, values)).await?;
    Ok(())
}

/// Whether an id belongs to a product, be it a deleted one.
pub(super) async fn is_taken(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    product_id: &Slug,
) -> Result<bool, StoreError> {
    let text = "select 1 from products where tenant_id = $1 and product_id = $2";
    let statement = sql(connection, text, [tenant.clone().into(), product_id.clone().into()]);
    Ok(connection.query_one_raw(statement).await?.is_some())
}

/// Whether a product can stand in this category; in none it always can.
pub(super) async fn has_category(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    category_id: &str,
) -> Result<bool, StoreError> {
    match Slug::parse(category_id) {
        Ok(category_id) => Ok(category::table::find(connection, tenant, &category_id).await?.is_some()),
        // Empty: checked when it came in.
        Err(_) => Ok(true),
    }
}

/// The product with this id, unless it was deleted.
pub(super) async fn find(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    product_id: &Slug,
) -> Result<Option<Product>, StoreError> {
    let text =
        format!("select {COLUMNS} from products where tenant_id = $1 and product_id = $2 and delete_time is null");
    let statement = sql(connection, &text, [tenant.clone().into(), product_id.clone().into()]);
    Ok(Product::find_by_statement(statement).one(connection).await?)
}

/// Whether there is a product with this id; if so, nobody else changes or locks it until the transaction ends.
pub(crate) async fn lock(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    product_id: &Slug,
) -> Result<bool, StoreError> {
    let text = format!(
        "select 1 from products where tenant_id = $1 and product_id = $2 and delete_time is null{}",
        lock_clause(connection)
    );
    let statement = sql(connection, &text, [tenant.clone().into(), product_id.clone().into()]);
    Ok(connection.query_one_raw(statement).await?.is_some())
}

/// The products among these ids that were not deleted.
pub(crate) async fn find_all(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    ids: &[Slug],
) -> Result<Vec<Product>, StoreError> {
    let ids = Rows::new([("product_id", Kind::Text)], ids.iter().map(|id| [id.clone().into()]));
    let mut values = vec![tenant.clone().into()];
    let text = format!(
        "select {COLUMNS} from products where tenant_id = $1 and product_id in (select k.product_id from {})
            and delete_time is null",
        ids.bind(connection, "k", &mut values)?
    );
    Ok(Product::find_by_statement(sql(connection, &text, values)).all(connection).await?)
}

/// The keys of products, to join with.
pub(crate) fn keys(products: &[(Tenant, Slug)]) -> Rows<2> {
    let key = |(tenant, product_id): &(Tenant, Slug)| [tenant.clone().into(), product_id.clone().into()];
    Rows::new([("tenant_id", Kind::Text), ("product_id", Kind::Text)], products.iter().map(key))
}

/// How products stand, those of them that are there.
pub(crate) async fn statuses(
    connection: &impl ConnectionTrait,
    products: &[(Tenant, Slug)],
) -> Result<HashMap<(Tenant, Slug), Status>, StoreError> {
    #[derive(Row)]
    struct Standing {
        tenant_id: Tenant,
        product_id: Slug,
        status: Status,
    }
    let mut values = Vec::new();
    let text = format!(
        "select p.tenant_id, p.product_id, p.status
           from {} join products p on p.tenant_id = k.tenant_id and p.product_id = k.product_id
          where p.delete_time is null",
        keys(products).bind(connection, "k", &mut values)?
    );
    let rows = Standing::find_by_statement(sql(connection, &text, values)).all(connection).await?;
    Ok(rows.into_iter().map(|row| ((row.tenant_id, row.product_id), row.status)).collect())
}

/// Up to `limit` products of the list after this place, newest first.
pub(super) async fn list(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    filter: &Filter,
    after: Option<(Time, &Slug)>,
    limit: u64,
) -> Result<Vec<Product>, StoreError> {
    let (mut conditions, mut values) = conditions(tenant, filter);
    if let Some((time, id)) = after {
        let first = values.len() + 1;
        let _ = write!(conditions, " and (create_time, product_id) < ({})", placeholders(first, 2));
        values.extend([time.into(), id.clone().into()]);
    }
    let text = format!(
        "select {COLUMNS} from products where {conditions} order by create_time desc, product_id desc limit {limit}"
    );
    Ok(Product::find_by_statement(sql(connection, &text, values)).all(connection).await?)
}

/// How many products the list holds.
pub(super) async fn count(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    filter: &Filter,
) -> Result<i64, StoreError> {
    let (conditions, values) = conditions(tenant, filter);
    let text = format!("select count(*) as total from products where {conditions}");
    store::count(connection, &text, values).await
}

/// What a filter asks of a row. A filter that is not set leaves no condition behind, so that the index serves the rest.
fn conditions(tenant: &Tenant, filter: &Filter) -> (String, Vec<Value>) {
    let mut conditions = "tenant_id = $1 and delete_time is null".to_owned();
    let mut values: Vec<Value> = vec![tenant.clone().into()];
    let mut and = |condition: &str, value: Value| {
        values.push(value);
        let _ = write!(conditions, " and {}", condition.replace('?', &format!("${}", values.len())));
    };
    if let Some(kind) = &filter.kind {
        and("type = ?", kind.clone().into());
    }
    if let Some(category_id) = &filter.category_id {
        and(
            "category_id in (
                with recursive below (category_id) as (
                    select cast(? as text)
                    union
                    select c.category_id from categories c join below b on c.parent_category_id = b.category_id
                     where c.tenant_id = $1)
                select category_id from below)",
            category_id.clone().into(),
        );
    }
    if let Some(status) = filter.status {
        and("status = ?", status.into());
    }
    if !filter.query.is_empty() {
        and(r"name_key like ? escape '\'", contains_pattern(&filter.query).into());
    }
    (conditions, values)
}

/// Marks the product as deleted, and gives it as it then is; `None` where there was none to delete.
pub(super) async fn delete(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    product_id: &Slug,
    now: Time,
) -> Result<Option<Product>, StoreError> {
    let text = format!(
        "update products set delete_time = $3, update_time = $3, version = version + 1
          where tenant_id = $1 and product_id = $2 and delete_time is null
          returning {COLUMNS}"
    );
    let statement = sql(connection, &text, [tenant.clone().into(), product_id.clone().into(), now.into()]);
    Ok(Product::find_by_statement(statement).one(connection).await?)
}
