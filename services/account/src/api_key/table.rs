//! The rows of `api_keys`, and every statement on them.

use mesh::{
    Slug, StoreError, Tenant, Time,
    store::{self, lock_clause, sql},
};
use sea_orm::{ConnectionTrait, FromQueryResult as _, Value};

use super::{Credential, Key};

const COLUMNS: &str = "key_id, display_name, scopes, create_time, expire_time, last_used_time, revoke_time";

/// Inserts the key with the hash of its secret.
pub(super) async fn insert(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    key: &Key,
    secret_hash: &[u8],
) -> Result<(), StoreError> {
    let statement = sql(
        connection,
        "insert into api_keys (key_id, tenant_id, display_name, scopes, secret_hash, create_time, expire_time)
         values ($1, $2, $3, $4, $5, $6, $7)",
        [
            key.key_id.clone().into(),
            tenant.clone().into(),
            key.display_name.clone().into(),
            key.scopes.clone().into(),
            secret_hash.to_vec().into(),
            key.create_time.into(),
            key.expire_time.into(),
        ],
    );
    connection.execute_raw(statement).await?;
    Ok(())
}

/// What the secret of this key must fit. The one statement that looks at all tenants: whose key it is, is the question.
pub(super) async fn find_credential(
    connection: &impl ConnectionTrait,
    key_id: &Slug,
) -> Result<Option<Credential>, StoreError> {
    let text = "select tenant_id, scopes, secret_hash, expire_time, revoke_time from api_keys where key_id = $1";
    Ok(Credential::find_by_statement(sql(connection, text, [key_id.clone().into()])).one(connection).await?)
}

/// The tenant's key with this id, which nobody else changes until the transaction ends.
pub(super) async fn lock(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    key_id: &Slug,
) -> Result<Option<Key>, StoreError> {
    let lock = lock_clause(connection);
    let text = format!("select {COLUMNS} from api_keys where tenant_id = $1 and key_id = $2{lock}");
    let statement = sql(connection, &text, [tenant.clone().into(), key_id.clone().into()]);
    Ok(Key::find_by_statement(statement).one(connection).await?)
}

/// Ends the key.
pub(super) async fn revoke(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    key_id: &Slug,
    now: Time,
) -> Result<(), StoreError> {
    let statement = sql(
        connection,
        "update api_keys set revoke_time = $3 where tenant_id = $1 and key_id = $2",
        [tenant.clone().into(), key_id.clone().into(), now.into()],
    );
    connection.execute_raw(statement).await?;
    Ok(())
}

/// Up to `limit` keys before this one, newest first.
pub(super) async fn list(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    before: Option<&Slug>,
    limit: u64,
) -> Result<Vec<Key>, StoreError> {
    let mut values: Vec<Value> = vec![tenant.clone().into()];
    values.extend(before.map(|key_id| key_id.clone().into()));
    let place = if before.is_some() { " and key_id < $2" } else { "" };
    let text = format!("select {COLUMNS} from api_keys where tenant_id = $1{place} order by key_id desc limit {limit}");
    Ok(Key::find_by_statement(sql(connection, &text, values)).all(connection).await?)
}

/// How many keys the tenant has.
pub(super) async fn count(connection: &impl ConnectionTrait, tenant: &Tenant) -> Result<i64, StoreError> {
    let text = "select count(*) as total from api_keys where tenant_id = $1";
    store::count(connection, text, [tenant.clone().into()]).await
}

/// Writes down when these keys were used, of whatever tenant they are. What is written already is never moved back: a
/// replica whose notes are older may come later.
pub(super) async fn note_usage(connection: &impl ConnectionTrait, used: &[(Slug, Time)]) -> Result<(), StoreError> {
    let rows = (0..used.len()).map(|row| format!("(cast(${} as text), cast(${} as bigint))", row * 2 + 1, row * 2 + 2));
    let text = format!(
        "with used (key_id, used_time) as (values {})
         update api_keys set last_used_time = used.used_time from used
          where api_keys.key_id = used.key_id
            and (api_keys.last_used_time is null or api_keys.last_used_time < used.used_time)",
        rows.collect::<Vec<_>>().join(", ")
    );
    let values = used.iter().flat_map(|(key_id, time)| [Value::from(key_id.clone()), Value::from(*time)]);
    connection.execute_raw(sql(connection, &text, values)).await?;
    Ok(())
}
