//! What became of a balance, added up by the database.

use std::collections::BTreeMap;

use mesh::{
    StoreError,
    store::{Row, sql},
};
use money::Total;
use sea_orm::ConnectionTrait;

use super::{
    super::{Details, Kind, WalletKey},
    DAMAGED, key, summed, total,
};

/// What a wallet's balance changed by in a stretch, of one kind and for one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) kind: Kind,
    pub(crate) product_id: String,
    pub(crate) subscription_id: String,
    pub(crate) api_id: String,
    pub(crate) count: i64,
    pub(crate) amount: Total,
}

/// What a wallet's balance changed by after one version and up to another, by kind and by what it was for.
pub(crate) async fn lines(
    connection: &impl ConnectionTrait,
    of: &WalletKey,
    (after, until): (i64, i64),
) -> Result<Vec<Line>, StoreError> {
    #[derive(Row)]
    struct Group {
        kind: Kind,
        api_id: String,
        told: String,
        n: i64,
        amount_high: i64,
        amount_low: i64,
    }
    // What a charge is for stands in its details, which are written in one way.
    let text = format!(
        "select kind, api_id, told, count(*) as n, {} from
            (select kind, api_id, wallet + held as amount,
                    case when kind in ('CHARGE', 'CREDIT') then details else '' end as told
               from transactions
              where tenant_id = $1 and user_id = $2 and currency = $3 and wallet_version > $4 and wallet_version <= $5
                and kind not in ('HOLD', 'RELEASE')) t
         group by kind, api_id, told order by kind, api_id, told",
        summed("amount")
    );
    let [tenant, user, currency] = key(of);
    let values = [tenant, user, currency, after.into(), until.into()];
    let groups = Group::find_by_statement(sql(connection, &text, values)).all(connection).await?;
    let mut lines: BTreeMap<[String; 4], Line> = BTreeMap::new();
    for group in groups {
        let Details { product_id, subscription_id, .. } = Details::read(&group.told)?;
        let place = [group.kind.to_string(), product_id.clone(), subscription_id.clone(), group.api_id.clone()];
        let (kind, api_id, nothing) = (group.kind, group.api_id, Total::from_minor(of.currency, 0));
        let line = Line { kind, product_id, subscription_id, api_id, count: 0, amount: nothing };
        let line = lines.entry(place).or_insert(line);
        line.count = line.count.saturating_add(group.n);
        let amount = total(of.currency, group.amount_high, group.amount_low);
        line.amount = amount.and_then(|amount| line.amount.plus(amount)).ok_or(DAMAGED)?;
    }
    Ok(lines.into_values().collect())
}
