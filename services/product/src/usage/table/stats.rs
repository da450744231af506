//! What is read of `usage_hours` and `usage_product_hours`.

use std::fmt::Write as _;

use mesh::{
    Slug, StoreError, Tenant, Time,
    store::{Row, sql},
};
use money::{Amount, Currency, QuantitySum};
use sea_orm::{ConnectionTrait, Value};
use serde::{Deserialize, Serialize};

use super::{
    super::sums::{DAY, Group, Grouping, Question, Statistics},
    totals::BILLION,
};

/// Which sums.
pub(crate) struct Asked<'a> {
    pub(crate) tenant: &'a Tenant,
    pub(crate) question: &'a Question,
    pub(crate) after: Option<&'a Place>,
    pub(crate) limit: u64,
}

/// The place of a sum in the list of all.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) group: Group,
    pub(crate) currency: String,
}

/// A sum, in parts.
#[derive(Row)]
pub(crate) struct Sum {
    /// The group's name; empty where it is a time.
    name: String,
    time: Time,
    currency: String,
    records: i64,
    millions: i64,
    whole: i64,
    fraction: i64,
    billions: i64,
    rest: i64,
}

/// The sums, in the order of their groups, then of currencies. Of whom nothing is left there is no row. Who asks about no
/// user, subscription or organization is answered from the sums of everybody together.
pub(crate) async fn sums(connection: &impl ConnectionTrait, asked: Asked<'_>) -> Result<Vec<Sum>, StoreError> {
    let question = asked.question;
    let by_user = question.group_by == Grouping::User;
    let narrow = question.user_id.is_some() || question.subscription_id.is_some() || question.organization_id.is_some();
    let table = if narrow || by_user { "usage_hours" } else { "usage_product_hours" };
    let (name, time) = match question.group_by {
        Grouping::Day => ("''", format!("hour_time - hour_time % {DAY}")),
        Grouping::Hour => ("''", "hour_time".to_owned()),
        Grouping::Product => ("product_id", "0".to_owned()),
        Grouping::User => ("user_id", "0".to_owned()),
    };
    let mut conditions = "tenant_id = $1 and hour_time >= $2 and hour_time < $3".to_owned();
    let mut values: Vec<Value> = vec![asked.tenant.clone().into(), question.start.into(), question.end.into()];
    let slug = |slug: &Option<Slug>| slug.clone().map(Value::from);
    for (condition, value) in [
        ("user_id =", question.user_id.clone().map(Value::from)),
        ("product_id =", slug(&question.product_id)),
        ("subscription_id <> '' and subscription_id =", slug(&question.subscription_id)),
        ("organization_id <> '' and organization_id =", slug(&question.organization_id)),
    ] {
        if let Some(value) = value {
            values.push(value);
            let _ = write!(conditions, " and {condition} ${}", values.len());
        }
    }
    let group =
        if matches!(question.group_by, Grouping::Day | Grouping::Hour) { time.clone() } else { name.to_owned() };
    if let Some(Place { group: after, currency }) = asked.after {
        values.push(match after {
            Group::Time(time) => (*time).into(),
            Group::Name(name) => name.clone().into(),
        });
        values.push(currency.clone().into());
        let last = values.len();
        let _ = write!(conditions, " and ({group}, currency) > (${}, ${last})", last.saturating_sub(1));
    }
    // Grouped by what they are ordered by, so that a page of a long list need not sum up all of it.
    let text = format!(
        "select {name} as name, cast({time} as bigint) as time, currency, cast(sum(records) as bigint) as records,
                cast(sum(whole / 1000000) as bigint) as millions, cast(sum(whole % 1000000) as bigint) as whole,
                cast(sum(fraction) as bigint) as fraction, cast(sum(billions) as bigint) as billions,
                cast(sum(rest) as bigint) as rest
           from {table} where {conditions}
          group by {group}, currency having sum(records) > 0 or sum(rest) <> 0 or sum(billions) <> 0
          order by {group}, currency limit {}",
        asked.limit
    );
    Ok(Sum::find_by_statement(sql(connection, &text, values)).all(connection).await?)
}

impl Sum {
    /// The sum, put together.
    pub(crate) fn statistics(self) -> Result<Statistics, StoreError> {
        let large = StoreError::Impossible("a sum of usage is more than can be told");
        let whole =
            i128::from(self.millions).checked_mul(1_000_000).and_then(|n| n.checked_add(i128::from(self.whole)));
        let quantity = whole.and_then(|whole| QuantitySum::from_parts(whole, i128::from(self.fraction)));
        let minor = i128::from(self.billions).checked_mul(i128::from(BILLION));
        let minor = minor.and_then(|minor| i64::try_from(minor.checked_add(i128::from(self.rest))?).ok());
        let (Some(quantity), Some(minor)) = (quantity, minor) else { return Err(large) };
        let currency = if self.currency.is_empty() { None } else { Currency::parse(&self.currency).ok() };
        let group = if self.name.is_empty() { Group::Time(self.time) } else { Group::Name(self.name) };
        let amount = currency.map(|currency| Amount::from_minor(currency, minor));
        Ok(Statistics { group, currency, records: self.records, quantity, amount })
    }
}
