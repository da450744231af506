//! The rows of `categories`, and every statement on them.

use mesh::{
    Slug, StoreError, Tenant,
    store::{self, Row, Transaction, sql},
};
use sea_orm::{ConnectionTrait, DbBackend, Value};

use super::{Category, Filter};

const COLUMNS: &str = "category_id, parent_category_id, name, version, create_time, update_time";

/// Keeps everybody else from changing this tenant's tree until the transaction ends. SQLite has one writer anyway.
pub(super) async fn lock_tree(transaction: &Transaction, tenant: &Tenant) -> Result<(), StoreError> {
    if transaction.get_database_backend() == DbBackend::Postgres {
        let text = "select pg_advisory_xact_lock(hashtextextended('categories of ' || $1, 0))";
        transaction.query_one_raw(sql(transaction, text, [tenant.clone().into()])).await?;
    }
    Ok(())
}

/// Inserts the category; false where its id is taken.
pub(super) async fn insert(
    transaction: &Transaction,
    tenant: &Tenant,
    category: &Category,
) -> Result<bool, StoreError> {
    let text = format!(
        "insert into categories (tenant_id, {COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7)
                        on conflict do nothing"
    );
    let values = [
        tenant.clone().into(),
        category.category_id.clone().into(),
        category.parent_category_id.clone().into(),
        category.name.clone().into(),
        category.version.into(),
        category.create_time.into(),
        category.update_time.into(),
    ];
    Ok(transaction.execute_raw(sql(transaction, &text, values)).await?.rows_affected() == 1)
}

/// Updates the category's row.
pub(super) async fn update(transaction: &Transaction, tenant: &Tenant, category: &Category) -> Result<(), StoreError> {
    let text = "update categories set parent_category_id = $3, name = $4, version = $5, update_time = $6
                 where tenant_id = $1 and category_id = $2";
    let values = [
        tenant.clone().into(),
        category.category_id.clone().into(),
        category.parent_category_id.clone().into(),
        category.name.clone().into(),
        category.version.into(),
        category.update_time.into(),
    ];
    transaction.execute_raw(sql(transaction, text, values)).await?;
    Ok(())
}

/// The category with this id.
pub(crate) async fn find(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    category_id: &Slug,
) -> Result<Option<Category>, StoreError> {
    let text = format!("select {COLUMNS} from categories where tenant_id = $1 and category_id = $2");
    let statement = sql(connection, &text, [tenant.clone().into(), category_id.clone().into()]);
    Ok(Category::find_by_statement(statement).one(connection).await?)
}

/// The category and those above it, up to the root; none where it is not there.
pub(super) async fn path(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    category_id: &Slug,
    limit: usize,
) -> Result<Vec<Slug>, StoreError> {
    #[derive(Row)]
    struct Step {
        category_id: Slug,
    }
    let text = format!(
        "with recursive above (category_id, parent_category_id, depth) as (
             select category_id, parent_category_id, 1 from categories where tenant_id = $1 and category_id = $2
             union all
             select c.category_id, c.parent_category_id, a.depth + 1 from categories c
               join above a on c.tenant_id = $1 and c.category_id = a.parent_category_id where a.depth <= {limit})
         select category_id from above order by depth"
    );
    let statement = sql(connection, &text, [tenant.clone().into(), category_id.clone().into()]);
    Ok(Step::find_by_statement(statement).all(connection).await?.into_iter().map(|step| step.category_id).collect())
}

/// How many levels there are from the category down, itself included; at least one.
pub(super) async fn height(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    category_id: &Slug,
    limit: usize,
) -> Result<usize, StoreError> {
    let text = format!(
        "with recursive below (category_id, depth) as (
             select cast($2 as text), 1
             union all
             select c.category_id, b.depth + 1 from categories c
               join below b on c.tenant_id = $1 and c.parent_category_id = b.category_id where b.depth <= {limit})
         select cast(max(depth) as bigint) as depth from below"
    );
    let depth = store::count(connection, &text, [tenant.clone().into(), category_id.clone().into()]).await?;
    Ok(usize::try_from(depth).unwrap_or(usize::MAX))
}

/// Up to `limit` categories of the list after this one, by id.
pub(super) async fn list(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    filter: &Filter,
    after: Option<&Slug>,
    limit: u64,
) -> Result<Vec<Category>, StoreError> {
    let (condition, mut values) = condition(tenant, filter);
    values.push(after.map_or("", Slug::as_str).into());
    let last = values.len();
    let text = format!(
        "select {COLUMNS} from categories where {condition} and category_id > ${last} order by category_id limit {limit}"
    );
    Ok(Category::find_by_statement(sql(connection, &text, values)).all(connection).await?)
}

/// How many categories the list holds.
pub(super) async fn count(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    filter: &Filter,
) -> Result<i64, StoreError> {
    let (condition, values) = condition(tenant, filter);
    store::count(connection, &format!("select count(*) as total from categories where {condition}"), values).await
}

fn condition(tenant: &Tenant, filter: &Filter) -> (String, Vec<Value>) {
    let tenant = tenant.clone().into();
    match &filter.parent {
        None => ("tenant_id = $1".to_owned(), vec![tenant]),
        Some(parent) => ("tenant_id = $1 and parent_category_id = $2".to_owned(), vec![tenant, parent.clone().into()]),
    }
}
