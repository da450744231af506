//! The rows of `buyers`, and every statement on them.

use mesh::{StoreError, Tenant, Time, UserId, store::sql};
use sea_orm::{ConnectionTrait, FromQueryResult as _};

use super::Buyer;

/// The last word on a user, if there is one.
pub(crate) async fn find(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    user_id: &UserId,
) -> Result<Option<Buyer>, StoreError> {
    let text = "select status, version, as_of_time from buyers where tenant_id = $1 and user_id = $2";
    let statement = sql(connection, text, [tenant.clone().into(), user_id.clone().into()]);
    Ok(Buyer::find_by_statement(statement).one(connection).await?)
}

/// Writes what an event says, unless something as new is known; says whether it was written.
pub(super) async fn hear(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    user_id: &UserId,
    buyer: &Buyer,
) -> Result<bool, StoreError> {
    put(connection, (tenant, user_id), buyer, "excluded.version > buyers.version").await
}

/// Writes what account answered, unless something newer is known.
pub(super) async fn refresh(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    user_id: &UserId,
    buyer: &Buyer,
) -> Result<(), StoreError> {
    put(connection, (tenant, user_id), buyer, "excluded.version >= buyers.version").await?;
    Ok(())
}

/// A word where it is the first or `takes` precedence; the time as of which it is only moves forward.
async fn put(
    connection: &impl ConnectionTrait,
    (tenant, user_id): (&Tenant, &UserId),
    buyer: &Buyer,
    takes: &str,
) -> Result<bool, StoreError> {
    let text = format!(
        "insert into buyers (tenant_id, user_id, status, version, as_of_time) values ($1, $2, $3, $4, $5)
         on conflict (tenant_id, user_id) do update
            set status = excluded.status, version = excluded.version,
                as_of_time = case when excluded.as_of_time > buyers.as_of_time
                                  then excluded.as_of_time else buyers.as_of_time end
          where {takes}"
    );
    let values = [
        tenant.clone().into(),
        user_id.clone().into(),
        buyer.status.into(),
        buyer.version.into(),
        buyer.as_of_time.into(),
    ];
    Ok(connection.execute_raw(sql(connection, &text, values)).await?.rows_affected() > 0)
}

/// Notes that a user stands as before at this version, where the one before it is known; says whether it is.
pub(super) async fn advance(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    user_id: &UserId,
    (version, as_of): (i64, Time),
) -> Result<bool, StoreError> {
    let text = "update buyers set version = $3, as_of_time = case when $4 > as_of_time then $4 else as_of_time end
                 where tenant_id = $1 and user_id = $2 and version + 1 = $3";
    let values = [tenant.clone().into(), user_id.clone().into(), version.into(), as_of.into()];
    Ok(connection.execute_raw(sql(connection, text, values)).await?.rows_affected() > 0)
}
