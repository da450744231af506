//! The rows of `accounts`, one at a time.

use mesh::{
    StoreError, Tenant, UserId,
    store::{lock_clause, placeholders, sql},
};
use sea_orm::{ConnectionTrait, FromQueryResult as _, Value};

use super::{Account, Email, fold::fold};

/// The constraint that two accounts with one address run into.
pub(super) const EMAIL_IS_UNIQUE: &str = "accounts_email_key";

/// The columns of an [`Account`].
pub(crate) const COLUMNS: &str = "user_id, email, name, subscription_tier, status, status_reason, timezone, language, \
                                  theme, notification_email, notification_push, version, create_time, update_time, \
                                  delete_time";

/// The columns that an account is found by: its name, its address, both with a line feed between, which no query holds,
/// and the version that these were made from.
const FOLDED: &str = "name_folded, email_folded, search_key, folded_version";

/// The values of [`FOLDED`]. Nothing is found of an account that was erased, not even the line feed.
pub(crate) fn folded(name: &str, email: &str, version: i64) -> [Value; 4] {
    let (name, email) = (fold(name), fold(email));
    let both = if email.is_empty() {
        String::new()
    } else {
        format!(
            "{name}
{email}"
        )
    };
    [name.into(), email.into(), both.into(), version.into()]
}

/// Inserts the account; false where its id or its address is taken.
pub(crate) async fn insert(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    account: &Account,
) -> Result<bool, StoreError> {
    let text = format!(
        "insert into accounts (tenant_id, {COLUMNS}, email_key, {FOLDED}) values ({})
         on conflict do nothing",
        placeholders(1, 21)
    );
    let statement = sql(connection, &text, values(tenant, account));
    Ok(connection.execute_raw(statement).await?.rows_affected() == 1)
}

/// Writes the account over what is there.
pub(super) async fn update(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    account: &Account,
) -> Result<(), StoreError> {
    let text = format!(
        "update accounts set ({COLUMNS}, email_key, {FOLDED}) = ({}) where tenant_id = $1 and user_id = $2",
        placeholders(2, 20)
    );
    connection.execute_raw(sql(connection, &text, values(tenant, account))).await?;
    Ok(())
}

/// The tenant, the columns in their order, and what is made from them.
fn values(tenant: &Tenant, account: &Account) -> [Value; 21] {
    let account = account.clone();
    let [name_folded, email_folded, search_key, folded_version] =
        folded(&account.name, account.email.as_str(), account.version);
    [
        tenant.clone().into(),
        account.user_id.into(),
        account.email.clone().into(),
        account.name.clone().into(),
        account.subscription_tier.into(),
        account.status.into(),
        account.status_reason.into(),
        account.preferences.timezone.into(),
        account.preferences.language.into(),
        account.preferences.theme.into(),
        account.preferences.notification_email.into(),
        account.preferences.notification_push.into(),
        account.version.into(),
        account.create_time.into(),
        account.update_time.into(),
        account.delete_time.into(),
        account.email.key().into(),
        name_folded,
        email_folded,
        search_key,
        folded_version,
    ]
}

/// The account with this id.
pub(crate) async fn find(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    user_id: &UserId,
) -> Result<Option<Account>, StoreError> {
    by_id(connection, tenant, user_id, "").await
}

/// The account with this id, which nobody else changes until the transaction ends.
pub(crate) async fn lock(
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
pub(crate) async fn find_by_email(
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
pub(crate) async fn find_all(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    user_ids: &[UserId],
) -> Result<Vec<Account>, StoreError> {
    let ids = placeholders(2, user_ids.len());
    let text = format!("select {COLUMNS} from accounts where tenant_id = $1 and user_id in ({ids})");
    let values = std::iter::once(tenant.clone().into()).chain(user_ids.iter().map(|id| id.clone().into()));
    Ok(Account::find_by_statement(sql(connection, &text, values)).all(connection).await?)
}

/// Takes the table of histories away, so that no line can be written.
#[cfg(test)]
pub(super) async fn rename_history(connection: &impl ConnectionTrait) {
    connection.execute_unprepared("alter table history rename to no_history").await.unwrap();
}
