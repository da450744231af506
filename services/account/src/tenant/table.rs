//! The rows of `tenants`, and every statement on them. They alone belong to no tenant.

use mesh::{
    StoreError, Tenant,
    store::{self, sql},
};
use sea_orm::{ConnectionTrait, FromQueryResult as _};

use super::Record;

/// Inserts the tenant; false where its id is taken.
pub(super) async fn insert(connection: &impl ConnectionTrait, record: &Record) -> Result<bool, StoreError> {
    let statement = sql(
        connection,
        "insert into tenants (tenant_id, name, create_time) values ($1, $2, $3) on conflict do nothing",
        [record.tenant_id.clone().into(), record.name.clone().into(), record.create_time.into()],
    );
    Ok(connection.execute_raw(statement).await?.rows_affected() == 1)
}

/// The tenant with this id.
pub(crate) async fn find(connection: &impl ConnectionTrait, tenant_id: &Tenant) -> Result<Option<Record>, StoreError> {
    let text = "select tenant_id, name, create_time from tenants where tenant_id = $1";
    Ok(Record::find_by_statement(sql(connection, text, [tenant_id.clone().into()])).one(connection).await?)
}

/// Up to `limit` tenants after this one, in the order of their ids.
pub(super) async fn list(
    connection: &impl ConnectionTrait,
    after: Option<&Tenant>,
    limit: u64,
) -> Result<Vec<Record>, StoreError> {
    // No id is empty, so that all of them come after it.
    let after = after.map_or("", Tenant::as_str);
    let text = format!(
        "select tenant_id, name, create_time from tenants where tenant_id > $1 order by tenant_id limit {limit}"
    );
    Ok(Record::find_by_statement(sql(connection, &text, [after.into()])).all(connection).await?)
}

/// How many tenants there are.
pub(super) async fn count(connection: &impl ConnectionTrait) -> Result<i64, StoreError> {
    store::count(connection, "select count(*) as total from tenants", []).await
}
