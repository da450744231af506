//! The rows of `wallets`, `transactions` and `entries`, and every statement on them.

use mesh::{
    RequestId, StoreError, Tenant, Time, UserId,
    store::{Row, lock_clause, sql},
};
use money::{Amount, Currency};
use sea_orm::{ConnectionTrait, Value};

use super::{Account, Kind, Movement, Wallet, WalletState};

/// A row of `wallets`.
#[derive(Row)]
struct WalletRow {
    user_id: UserId,
    currency: String,
    balance: i64,
    held: i64,
    version: i64,
    state: WalletState,
    create_time: Time,
    update_time: Time,
}

impl TryFrom<WalletRow> for Wallet {
    type Error = StoreError;

    fn try_from(row: WalletRow) -> Result<Self, StoreError> {
        let currency = currency(&row.currency)?;
        Ok(Self {
            user_id: row.user_id,
            balance: Amount::from_minor(currency, row.balance),
            held: Amount::from_minor(currency, row.held),
            version: row.version,
            state: row.state,
            create_time: row.create_time,
            update_time: row.update_time,
        })
    }
}

/// A change of a wallet: its entry, and the transaction it belongs to.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) transaction_id: String,
    pub(crate) kind: Kind,
    pub(crate) request_id: RequestId,
    pub(crate) user_id: UserId,
    /// What the balance changed by.
    pub(crate) change: Amount,
    pub(crate) balance_after: Amount,
    pub(crate) available_after: Amount,
    pub(crate) wallet_version: i64,
    pub(crate) api_id: String,
    pub(crate) endpoint_id: String,
    pub(crate) api_key_id: String,
    pub(crate) provider: String,
    pub(crate) provider_reference: String,
    pub(crate) create_time: Time,
}

#[derive(Row)]
struct RecordRow {
    transaction_id: String,
    kind: Kind,
    request_id: RequestId,
    user_id: UserId,
    currency: String,
    change: i64,
    balance_after: i64,
    available_after: i64,
    wallet_version: i64,
    api_id: String,
    endpoint_id: String,
    api_key_id: String,
    provider: String,
    provider_reference: String,
    create_time: Time,
}

impl TryFrom<RecordRow> for Record {
    type Error = StoreError;

    fn try_from(row: RecordRow) -> Result<Self, StoreError> {
        let currency = currency(&row.currency)?;
        let amount = |minor| Amount::from_minor(currency, minor);
        Ok(Self {
            transaction_id: row.transaction_id,
            kind: row.kind,
            request_id: row.request_id,
            user_id: row.user_id,
            change: amount(row.change),
            balance_after: amount(row.balance_after),
            available_after: amount(row.available_after),
            wallet_version: row.wallet_version,
            api_id: row.api_id,
            endpoint_id: row.endpoint_id,
            api_key_id: row.api_key_id,
            provider: row.provider,
            provider_reference: row.provider_reference,
            create_time: row.create_time,
        })
    }
}

fn currency(code: &str) -> Result<Currency, StoreError> {
    Currency::parse(code).map_err(|_| StoreError::Impossible("a row holds a currency that is none"))
}

/// The wallet of a user in a currency.
pub(crate) async fn find_wallet(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    user_id: &UserId,
    currency: Currency,
) -> Result<Option<Wallet>, StoreError> {
    wallet(connection, tenant, (user_id, currency), "").await
}

/// The wallet, which nobody else changes until the transaction ends.
pub(crate) async fn lock_wallet(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    user_id: &UserId,
    currency: Currency,
) -> Result<Option<Wallet>, StoreError> {
    wallet(connection, tenant, (user_id, currency), lock_clause(connection)).await
}

async fn wallet(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    (user_id, currency): (&UserId, Currency),
    lock: &str,
) -> Result<Option<Wallet>, StoreError> {
    let text = format!(
        "select user_id, currency, balance, held, version, state, create_time, update_time from wallets
          where tenant_id = $1 and user_id = $2 and currency = $3{lock}"
    );
    let values = [tenant.clone().into(), user_id.clone().into(), currency.code().into()];
    let row = WalletRow::find_by_statement(sql(connection, &text, values)).one(connection).await?;
    row.map(Wallet::try_from).transpose()
}

/// Makes the wallet where there is none yet.
pub(crate) async fn open_wallet(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    wallet: &Wallet,
) -> Result<(), StoreError> {
    let statement = sql(
        connection,
        "insert into wallets (tenant_id, user_id, currency, balance, held, version, state, create_time, update_time)
         values ($1, $2, $3, 0, 0, 0, $4, $5, $5) on conflict do nothing",
        [
            tenant.clone().into(),
            wallet.user_id.clone().into(),
            wallet.balance.currency().code().into(),
            wallet.state.into(),
            wallet.create_time.into(),
        ],
    );
    connection.execute_raw(statement).await?;
    Ok(())
}

/// Writes the wallet as it is after a movement.
pub(super) async fn update_wallet(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    after: &Wallet,
) -> Result<(), StoreError> {
    let statement = sql(
        connection,
        "update wallets set balance = $4, version = $5, update_time = $6
          where tenant_id = $1 and user_id = $2 and currency = $3",
        [
            tenant.clone().into(),
            after.user_id.clone().into(),
            after.balance.currency().code().into(),
            after.balance.minor().into(),
            after.version.into(),
            after.update_time.into(),
        ],
    );
    connection.execute_raw(statement).await?;
    Ok(())
}

/// Freezes all wallets of a user. No money moves: their versions, which count changes of the ledger, stay as they are.
pub(crate) async fn freeze_wallets(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    user_id: &UserId,
    now: Time,
) -> Result<(), StoreError> {
    let text = "update wallets set state = $3, update_time = $4
                 where tenant_id = $1 and user_id = $2 and state <> $3";
    let values = [tenant.clone().into(), user_id.clone().into(), WalletState::Frozen.into(), now.into()];
    connection.execute_raw(sql(connection, text, values)).await?;
    Ok(())
}

/// Writes why money moved.
pub(super) async fn insert_transaction(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    user_id: &UserId,
    movement: &Movement,
) -> Result<(), StoreError> {
    let text = |slug: &Option<mesh::Slug>| Value::from(slug.as_ref().map_or("", mesh::Slug::as_str));
    let purpose = &movement.purpose;
    let statement = sql(
        connection,
        "insert into transactions (tenant_id, transaction_id, kind, request_id, user_id, currency, amount, api_id,
                                   endpoint_id, api_key_id, provider, provider_reference, create_time)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        [
            tenant.clone().into(),
            movement.transaction_id.clone().into(),
            movement.kind.into(),
            movement.request_id.clone().into(),
            user_id.clone().into(),
            movement.amount.currency().code().into(),
            movement.amount.minor().into(),
            text(&purpose.api_id),
            text(&purpose.endpoint_id),
            text(&purpose.api_key_id),
            purpose.provider.clone().into(),
            purpose.provider_reference.clone().into(),
            movement.time.into(),
        ],
    );
    connection.execute_raw(statement).await?;
    Ok(())
}

/// Writes where money went, in one statement.
pub(super) async fn insert_entries(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    transaction_id: &str,
    entries: [(Account, Amount, Option<&Wallet>); 2],
) -> Result<(), StoreError> {
    let mut values: Vec<Value> = vec![tenant.clone().into(), transaction_id.into()];
    for (account, amount, wallet) in entries {
        values.extend([
            account.into(),
            wallet.map(|wallet| wallet.user_id.clone()).into(),
            amount.currency().code().into(),
            amount.minor().into(),
            wallet.map(|wallet| wallet.version).into(),
            wallet.map(|wallet| wallet.balance.minor()).into(),
            wallet.map(|wallet| wallet.available().minor()).into(),
        ]);
    }
    let statement = sql(
        connection,
        "insert into entries (tenant_id, transaction_id, ordinal, account, user_id, currency, amount, wallet_version,
                              balance_after, available_after)
         values ($1, $2, 1, $3, $4, $5, $6, $7, $8, $9), ($1, $2, 2, $10, $11, $12, $13, $14, $15, $16)",
        values,
    );
    connection.execute_raw(statement).await?;
    Ok(())
}

const RECORDS: &str = "
    select t.transaction_id, t.kind, t.request_id, t.user_id, t.currency, e.amount as change, e.balance_after,
           e.available_after, e.wallet_version, t.api_id, t.endpoint_id, t.api_key_id, t.provider,
           t.provider_reference, t.create_time
      from entries e join transactions t on t.tenant_id = e.tenant_id and t.transaction_id = e.transaction_id";

/// What a request did to its wallet, if it was of this kind.
pub(crate) async fn find_by_request(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    request_id: &RequestId,
    kind: Kind,
) -> Result<Option<Record>, StoreError> {
    let text =
        format!("{RECORDS} where t.tenant_id = $1 and t.request_id = $2 and t.kind = $3 and e.account = 'WALLET'");
    let statement = sql(connection, &text, [tenant.clone().into(), request_id.clone().into(), kind.into()]);
    RecordRow::find_by_statement(statement).one(connection).await?.map(Record::try_from).transpose()
}

/// Up to `limit` changes of a wallet before this version, newest first.
pub(crate) async fn changes(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    (user_id, currency): (&UserId, Currency),
    before: i64,
    limit: u64,
) -> Result<Vec<Record>, StoreError> {
    let text = format!(
        "{RECORDS} where e.tenant_id = $1 and e.user_id = $2 and e.currency = $3 and e.wallet_version < $4
          order by e.wallet_version desc limit {limit}"
    );
    let values = [tenant.clone().into(), user_id.clone().into(), currency.code().into(), before.into()];
    let rows = RecordRow::find_by_statement(sql(connection, &text, values)).all(connection).await?;
    rows.into_iter().map(Record::try_from).collect()
}
