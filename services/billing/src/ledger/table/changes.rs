//! The rows of `transactions`.

use mesh::{
    RequestId, Slug, StoreError, Tenant, Time, UserId,
    store::{Kind as Column, Row, Rows, Writes, sql},
};
use money::Amount;
use sea_orm::{ConnectionTrait, Value};

use super::{
    super::{Change, Kind, Legs, Purpose, WalletKey},
    DAMAGED, currency, key,
};

/// A row of `transactions`, but for its tenant.
#[derive(Row)]
struct ChangeRow {
    transaction_id: String,
    kind: Kind,
    request_id: String,
    user_id: UserId,
    currency: String,
    wallet: i64,
    held: i64,
    revenue: i64,
    payments: i64,
    wallet_version: i64,
    balance_after: i64,
    available_after: i64,
    related_id: String,
    api_id: String,
    endpoint_id: String,
    api_key_id: String,
    details: String,
    create_time: Time,
    hash: Vec<u8>,
}

impl TryFrom<ChangeRow> for Change {
    type Error = StoreError;

    fn try_from(row: ChangeRow) -> Result<Self, StoreError> {
        let currency = currency(&row.currency)?;
        let slug = |text: &str| Slug::parse_optional(text).map_err(|_| DAMAGED);
        let request_id = match row.request_id.as_str() {
            "" => None,
            text => Some(RequestId::parse(text).map_err(|_| DAMAGED)?),
        };
        Ok(Self {
            transaction_id: row.transaction_id,
            kind: row.kind,
            request_id,
            user_id: row.user_id,
            legs: Legs::of(currency, [row.wallet, row.held, row.revenue, row.payments]),
            wallet_version: row.wallet_version,
            balance_after: Amount::from_minor(currency, row.balance_after),
            available_after: Amount::from_minor(currency, row.available_after),
            related_id: row.related_id,
            purpose: Purpose {
                api_id: slug(&row.api_id)?,
                endpoint_id: slug(&row.endpoint_id)?,
                api_key_id: slug(&row.api_key_id)?,
            },
            details: row.details,
            create_time: row.create_time,
            hash: row.hash,
        })
    }
}

const COLUMNS: [(&str, Column); 20] = [
    ("tenant_id", Column::Text),
    ("transaction_id", Column::Text),
    ("kind", Column::Text),
    ("request_id", Column::Text),
    ("user_id", Column::Text),
    ("currency", Column::Text),
    ("wallet", Column::Number),
    ("held", Column::Number),
    ("revenue", Column::Number),
    ("payments", Column::Number),
    ("wallet_version", Column::Number),
    ("balance_after", Column::Number),
    ("available_after", Column::Number),
    ("related_id", Column::Text),
    ("api_id", Column::Text),
    ("endpoint_id", Column::Text),
    ("api_key_id", Column::Text),
    ("details", Column::Text),
    ("create_time", Column::Number),
    ("hash", Column::Bytes),
];

/// Adds to what is written that changes are appended, each of its tenant, in their order.
pub(crate) fn insert(writes: &mut Writes, changes: &[(Tenant, Change)]) -> Result<(), StoreError> {
    let slug = |slug: &Option<Slug>| Value::from(slug.as_ref().map_or("", Slug::as_str));
    let row = |(tenant, change): &(Tenant, Change)| -> [Value; 20] {
        let [wallet, held, revenue, payments] = change.legs.minors().map(Value::from);
        [
            tenant.clone().into(),
            change.transaction_id.clone().into(),
            change.kind.into(),
            change.request_id.as_ref().map_or("", RequestId::as_str).into(),
            change.user_id.clone().into(),
            change.currency().code().into(),
            wallet,
            held,
            revenue,
            payments,
            change.wallet_version.into(),
            change.balance_after.minor().into(),
            change.available_after.minor().into(),
            change.related_id.clone().into(),
            slug(&change.purpose.api_id),
            slug(&change.purpose.endpoint_id),
            slug(&change.purpose.api_key_id),
            change.details.clone().into(),
            change.create_time.into(),
            change.hash.clone().into(),
        ]
    };
    let short = StoreError::Impossible("a change of the ledger was not written");
    writes.add(Rows::new(COLUMNS, changes.iter().map(row)), short, |names, rows| {
        format!("insert into transactions ({names}) select {names} from {rows}")
    })
}

/// The columns of a [`ChangeRow`].
pub(super) const CHANGE: &str =
    "t.transaction_id, t.kind, t.request_id, t.user_id, t.currency, t.wallet, t.held, t.revenue,
    t.payments, t.wallet_version, t.balance_after, t.available_after, t.related_id, t.api_id, t.endpoint_id,
    t.api_key_id, t.details, t.create_time, t.hash";

pub(super) async fn read(
    connection: &impl ConnectionTrait,
    text: &str,
    values: Vec<Value>,
) -> Result<Vec<Change>, StoreError> {
    let rows = ChangeRow::find_by_statement(sql(connection, text, values)).all(connection).await?;
    rows.into_iter().map(Change::try_from).collect()
}

/// The change with this id.
pub(crate) async fn find(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    transaction_id: &str,
) -> Result<Option<Change>, StoreError> {
    let text = format!("select {CHANGE} from transactions t where t.tenant_id = $1 and t.transaction_id = $2");
    Ok(read(connection, &text, vec![tenant.clone().into(), transaction_id.into()]).await?.pop())
}

/// Up to `limit` changes of a wallet before this version, newest first.
pub(crate) async fn changes(
    connection: &impl ConnectionTrait,
    of: &WalletKey,
    before: i64,
    limit: u64,
) -> Result<Vec<Change>, StoreError> {
    let text = format!(
        "select {CHANGE} from transactions t
          where t.tenant_id = $1 and t.user_id = $2 and t.currency = $3 and t.wallet_version < $4
          order by t.wallet_version desc limit {limit}"
    );
    let [tenant, user, currency] = key(of);
    read(connection, &text, vec![tenant, user, currency, before.into()]).await
}

/// Up to `limit` changes of a wallet after one version and up to another, oldest first.
pub(crate) async fn changes_between(
    connection: &impl ConnectionTrait,
    of: &WalletKey,
    (after, until): (i64, i64),
    limit: u64,
) -> Result<Vec<Change>, StoreError> {
    let text = format!(
        "select {CHANGE} from transactions t
          where t.tenant_id = $1 and t.user_id = $2 and t.currency = $3 and t.wallet_version > $4
            and t.wallet_version <= $5
          order by t.wallet_version limit {limit}"
    );
    let [tenant, user, currency] = key(of);
    read(connection, &text, vec![tenant, user, currency, after.into(), until.into()]).await
}

/// Up to `limit` changes of a tenant's wallets, or of one user's, after this one: in the order of users, currencies and
/// versions.
pub(crate) async fn all_changes(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    user_id: Option<&UserId>,
    (user, currency, version): (&str, &str, i64),
    limit: u64,
) -> Result<Vec<Change>, StoreError> {
    let mut values: Vec<Value> = vec![tenant.clone().into(), user.into(), currency.into(), version.into()];
    let only = match user_id {
        None => "",
        Some(user_id) => {
            values.push(user_id.clone().into());
            "and t.user_id = $5"
        }
    };
    let text = format!(
        "select {CHANGE} from transactions t
          where t.tenant_id = $1 and (t.user_id, t.currency, t.wallet_version) > ($2, $3, $4) {only}
          order by t.user_id, t.currency, t.wallet_version limit {limit}"
    );
    read(connection, &text, values).await
}

/// How much of each of these changes was given back by refunds, where any of it was.
pub(crate) async fn refunded(
    connection: &impl ConnectionTrait,
    changes: &[(Tenant, String)],
) -> Result<Vec<(Tenant, String, Amount)>, StoreError> {
    let by_refunds = |changes: &str| {
        format!(
            "select k.tenant_id, k.transaction_id, t.currency, cast(sum(t.wallet) as bigint) as sum from {changes}
               join transactions t on t.tenant_id = k.tenant_id and t.related_id = k.transaction_id and t.kind = 'REFUND'
              group by k.tenant_id, k.transaction_id, t.currency"
        )
    };
    sums(connection, changes, by_refunds).await
}

/// What a statement sums up for each of these changes: it is given them as a table called `k`, and answers tenants, transactions,
/// currencies and sums of minor units.
pub(crate) async fn sums(
    connection: &impl ConnectionTrait,
    changes: &[(Tenant, String)],
    text: impl FnOnce(&str) -> String,
) -> Result<Vec<(Tenant, String, Amount)>, StoreError> {
    #[derive(Row)]
    struct Sum {
        tenant_id: Tenant,
        transaction_id: String,
        currency: String,
        sum: i64,
    }
    if changes.is_empty() {
        return Ok(Vec::new());
    }
    let rows = changes.iter().map(|(tenant, transaction_id)| [tenant.clone().into(), transaction_id.clone().into()]);
    let rows = Rows::new([("tenant_id", Column::Text), ("transaction_id", Column::Text)], rows);
    let mut values = Vec::new();
    let text = text(&rows.bind(connection, "k", &mut values)?);
    let rows = Sum::find_by_statement(sql(connection, &text, values)).all(connection).await?;
    let sum = |row: Sum| {
        let sum = Amount::from_minor(currency(&row.currency)?, row.sum);
        Ok((row.tenant_id, row.transaction_id, sum))
    };
    rows.into_iter().map(sum).collect()
}
