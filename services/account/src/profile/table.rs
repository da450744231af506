//! The rows of `accounts`, and every statement on them.

use mesh::{
    StoreError, Tenant, Time, UserId,
    store::{lock_clause, placeholders, sql},
};
use sea_orm::{ConnectionTrait, FromQueryResult as _};

use super::{Account, Draft, Email};

/// The constraint that two accounts with one address run into.
pub(super) const EMAIL_IS_UNIQUE: &str = "accounts_email_key";

const COLUMNS: &str =
    "user_id, email, name, subscription_tier, status, status_reason, version, create_time, update_time";

/// Inserts the account; false where its id or its address is taken.
pub(super) async fn insert(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    draft: &Draft,
    now: Time,
) -> Result<bool, StoreError> {
    let statement = sql(
        connection,
        "insert into accounts (tenant_id, user_id, email, email_key, name, subscription_tier, status, status_reason,
                               version, create_time, update_time)
         values ($1, $2, $3, $4, $5, $6, 'ACTIVE', '', 1, $7, $7)
         on conflict do nothing",
        [
            tenant.clone().into(),
            draft.user_id.clone().into(),
            draft.email.clone().into(),
            draft.email.key().into(),
            draft.name.clone().into(),
            draft.subscription_tier.into(),
            now.into(),
        ],
    );
    Ok(connection.execute_raw(statement).await?.rows_affected() == 1)
}

/// The account with this id.
pub(super) async fn find(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    user_id: &UserId,
) -> Result<Option<Account>, StoreError> {
    by_id(connection, tenant, user_id, "").await
}

/// The account with this id, which nobody else changes until the transaction ends.
pub(super) async fn lock(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    user_id: &UserId,
) -> Result<Option<Account>, StoreError> {
    by_id(connection, tenant, user_id, lock_clause(connection)).await
}

async fn by_id(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    user_id: &UserId,
    lock: &str,
) -> Result<Option<Account>, StoreError> {
    let text = format!("select {COLUMNS} from accounts where tenant_id = $1 and user_id = $2{lock}");
    let statement = sql(connection, &text, [tenant.clone().into(), user_id.clone().into()]);
    Ok(Account::find_by_statement(statement).one(connection).await?)
}

/// The account that uses this address now.
pub(super) async fn find_by_email(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    email: &Email,
) -> Result<Option<Account>, StoreError> {
    let text = format!(
        "select {COLUMNS} from accounts
          where tenant_id = $1 and email_key = $2 and status in ('ACTIVE', 'SUSPENDED')"
    );
    let statement = sql(connection, &text, [tenant.clone().into(), email.key().into()]);
    Ok(Account::find_by_statement(statement).one(connection).await?)
}

/// The accounts among these ids.
pub(super) async fn find_all(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    user_ids: &[UserId],
) -> Result<Vec<Account>, StoreError> {
    let ids = placeholders(2, user_ids.len());
    let text = format!("select {COLUMNS} from accounts where tenant_id = $1 and user_id in ({ids})");
    let values = std::iter::once(tenant.clone().into()).chain(user_ids.iter().map(|id| id.clone().into()));
    Ok(Account::find_by_statement(sql(connection, &text, values)).all(connection).await?)
}

/// Writes what a change may change.
pub(super) async fn update(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    account: &Account,
) -> Result<(), StoreError> {
    let statement = sql(
        connection,
        "update accounts set name = $3, email = $4, email_key = $5, version = $6, update_time = $7
          where tenant_id = $1 and user_id = $2",
        [
            tenant.clone().into(),
            account.user_id.clone().into(),
            account.name.clone().into(),
            account.email.clone().into(),
            account.email.key().into(),
            account.version.into(),
            account.update_time.into(),
        ],
    );
    connection.execute_raw(statement).await?;
    Ok(())
}
