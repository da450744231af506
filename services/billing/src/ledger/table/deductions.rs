//! Lists of deductions. Those of one user are read by the versions of his wallets, and put together by their ids: an index for
//! them by themselves would be written to by each deduction, in a place of its own.

use std::{collections::BTreeMap, fmt::Write as _};

use mesh::{
    Slug, StoreError, Tenant, Time, UserId,
    store::{self, Row, sql},
};
use sea_orm::{ConnectionTrait, Value};
use serde::Serialize;

use super::{
    super::Change,
    changes::{CHANGE, read},
};

/// Which deductions a list holds. All of it is part of its page tokens.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Filter {
    pub(crate) user_id: Option<UserId>,
    pub(crate) api_id: Option<Slug>,
    pub(crate) api_key_id: Option<Slug>,
    pub(crate) start_time: Option<Time>,
    pub(crate) end_time: Option<Time>,
}

/// Versions of each wallet that a page is looked for among: what else changes a wallet may be far more than its deductions.
const STRETCH: i64 = 10_000;

/// Where a list of one user's deductions goes on: before these versions of his wallets, by their currencies.
pub(crate) type Places = BTreeMap<String, i64>;

/// Where such a list begins.
pub(crate) async fn newest(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    user_id: &UserId,
) -> Result<Places, StoreError> {
    #[derive(Row)]
    struct Place {
        currency: String,
        before: i64,
    }
    let text =
        "select currency, version + 1 as before from wallets where tenant_id = $1 and user_id = $2 and version > 0";
    let statement = sql(connection, text, [tenant.clone().into(), user_id.clone().into()]);
    let places = Place::find_by_statement(statement).all(connection).await?;
    Ok(places.into_iter().map(|place| (place.currency, place.before)).collect())
}

/// What was found of one wallet: more than a page holds, or all there is of a stretch.
struct Stretch {
    /// The oldest first.
    found: Vec<Change>,
    /// The version with which the stretch begins.
    from: i64,
}

impl Stretch {
    fn is_read_to_its_end(&self) -> bool {
        self.found.is_empty() && self.from <= 1
    }
}

/// Up to `size` deductions before these places of the user that the filter names, newest first, and where the list goes on: at
/// no place where it ends. Fewer where a wallet has none in a whole stretch.
pub(crate) async fn deductions_before(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    filter: &Filter,
    places: Places,
    size: usize,
) -> Result<(Vec<Change>, Places), StoreError> {
    // With one more than a page holds none is at its end where all of a page is its own.
    let mut wallets = stretches(connection, tenant, filter, places, size.saturating_add(1)).await?;
    let mut page = Vec::new();
    // The next one of a wallet that is read to the end of its stretch may be newer than those of the others.
    while page.len() < size
        && wallets.values().all(|wallet| wallet.is_read_to_its_end() || !wallet.found.is_empty())
        && let Some(newest) = wallets.values_mut().max_by(|a, b| next_id(a).cmp(&next_id(b)))
        && let Some(change) = newest.found.pop()
    {
        page.push(change);
    }
    let further = wallets.into_iter().filter(|(_, wallet)| !wallet.is_read_to_its_end());
    let before =
        |wallet: Stretch| wallet.found.last().map_or(wallet.from, |next| next.wallet_version.saturating_add(1));
    Ok((page, further.map(|(currency, wallet)| (currency, before(wallet))).collect()))
}

/// The id of the newest that is left.
fn next_id(wallet: &Stretch) -> Option<&str> {
    wallet.found.last().map(|next| next.transaction_id.as_str())
}

/// Up to `limit` deductions of each of these wallets before its place, within [`STRETCH`].
async fn stretches(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    filter: &Filter,
    places: Places,
    limit: usize,
) -> Result<BTreeMap<String, Stretch>, StoreError> {
    let (conditions, mut values) = conditions(tenant, filter);
    let mut texts = Vec::with_capacity(places.len());
    for (currency, before) in &places {
        values.extend([currency.as_str().into(), (*before).into(), before.saturating_sub(STRETCH).into()]);
        let count = values.len();
        texts.push(format!(
            "select * from (select {CHANGE} from transactions t where {conditions} and t.currency = ${}
                and t.wallet_version < ${} and t.wallet_version >= ${count} order by t.wallet_version desc limit {limit}) t",
            count.saturating_sub(2),
            count.saturating_sub(1),
        ));
    }
    let mut changes =
        if texts.is_empty() { Vec::new() } else { read(connection, &texts.join(" union all "), values).await? };
    changes.sort_unstable_by_key(|change| change.wallet_version);
    let stretch = |before: i64| Stretch { found: Vec::new(), from: before.saturating_sub(STRETCH) };
    let mut wallets: BTreeMap<String, Stretch> =
        places.into_iter().map(|(currency, before)| (currency, stretch(before))).collect();
    for change in changes {
        if let Some(wallet) = wallets.get_mut(change.currency().code()) {
            wallet.found.push(change);
        }
    }
    Ok(wallets)
}

/// Up to `limit` deductions of the list after this one, newest first; of all users.
pub(crate) async fn deductions(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    filter: &Filter,
    after: Option<&str>,
    limit: u64,
) -> Result<Vec<Change>, StoreError> {
    let (mut conditions, mut values) = conditions(tenant, filter);
    if let Some(transaction_id) = after {
        values.push(transaction_id.into());
        let _ = write!(conditions, " and t.transaction_id < ${}", values.len());
    }
    let text =
        format!("select {CHANGE} from transactions t where {conditions} order by t.transaction_id desc limit {limit}");
    read(connection, &text, values).await
}

/// How many deductions a list holds.
pub(crate) async fn count_deductions(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    filter: &Filter,
) -> Result<i64, StoreError> {
    let (conditions, values) = conditions(tenant, filter);
    store::count(connection, &format!("select count(*) from transactions t where {conditions}"), values).await
}

/// What a filter asks of a row. The narrow indexes have only rows that name an API or a key.
fn conditions(tenant: &Tenant, filter: &Filter) -> (String, Vec<Value>) {
    let mut conditions = "t.tenant_id = $1 and t.kind = 'DEDUCTION'".to_owned();
    let mut values: Vec<Value> = vec![tenant.clone().into()];
    let asked = [
        ("t.user_id = ", filter.user_id.clone().map(Value::from)),
        ("t.api_id <> '' and t.api_id = ", filter.api_id.clone().map(Value::from)),
        ("t.api_key_id <> '' and t.api_key_id = ", filter.api_key_id.clone().map(Value::from)),
        ("t.create_time >= ", filter.start_time.map(Value::from)),
        ("t.create_time < ", filter.end_time.map(Value::from)),
    ];
    for (condition, value) in asked {
        if let Some(value) = value {
            values.push(value);
            let _ = write!(conditions, " and {condition}${}", values.len());
        }
    }
    (conditions, values)
}
