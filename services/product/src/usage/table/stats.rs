//! What is read of `usage_hours` and `usage_product_hours`.

use std::fmt::Write as _;

use mesh::{
    Slug, StoreError, Tenant, Time,
    store::{Kind, Row, Rows, sql},
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
    let narrow = question.user_id.is_some() || question.subscription_id.is_some() || question.organization_id.is_some();
    match question.group_by {
        Grouping::User if !narrow => by_user(connection, &asked).await,
        Grouping::User => select(connection, &asked, "usage_hours", None).await,
        _ if narrow => select(connection, &asked, "usage_hours", None).await,
        _ => select(connection, &asked, "usage_product_hours", None).await,
    }
}

/// The sums of users, so many users at a time that a page is full: what the others used is not looked at.
async fn by_user(connection: &impl ConnectionTrait, asked: &Asked<'_>) -> Result<Vec<Sum>, StoreError> {
    let mut found = Vec::new();
    // A user can have sums in currencies after the place.
    let (mut from, mut compared) = match asked.after.map(|place| &place.group) {
        Some(Group::Name(user_id)) => (user_id.clone(), ">="),
        Some(Group::Time(_)) | None => (String::new(), ">"),
    };
    loop {
        let users = users(connection, asked, compared, &from).await?;
        let full = u64::try_from(users.len()).is_ok_and(|users| users >= asked.limit);
        let Some(last) = users.last().cloned() else { return Ok(found) };
        found.extend(select(connection, asked, "usage_hours", Some(users)).await?);
        let limit = usize::try_from(asked.limit).unwrap_or(usize::MAX);
        if !full || found.len() >= limit {
            found.truncate(limit);
            return Ok(found);
        }
        (from, compared) = (last, ">");
    }
}

/// Up to a page of the users after one who used anything in the time that is asked about: from one to the next through
/// the index, past all the hours of each.
async fn users(
    connection: &impl ConnectionTrait,
    asked: &Asked<'_>,
    compared: &str,
    from: &str,
) -> Result<Vec<String>, StoreError> {
    #[derive(Row)]
    struct User {
        user_id: String,
    }
    let next = |compared: &str, than: &str| {
        format!(
            "(select h.user_id from usage_hours h where h.tenant_id = $1 and h.user_id {compared} {than}
               order by h.user_id limit 1)"
        )
    };
    let text = format!(
        "with recursive users (user_id) as (
             select {} union all select {} from users where user_id is not null)
         select user_id from users
          where user_id is not null and exists (
                select 1 from usage_hours h where h.tenant_id = $1 and h.user_id = users.user_id
                   and h.hour_time >= $2 and h.hour_time < $3)
          limit {}",
        next(compared, "$4"),
        next(">", "users.user_id"),
        asked.limit,
    );
    let question = asked.question;
    let values = [asked.tenant.clone().into(), question.start.into(), question.end.into(), from.into()];
    let users = User::find_by_statement(sql(connection, &text, values)).all(connection).await?;
    Ok(users.into_iter().map(|user| user.user_id).collect())
}

/// Sums up a table, the rows of these users or of all.
async fn select(
    connection: &impl ConnectionTrait,
    asked: &Asked<'_>,
    table: &str,
    users: Option<Vec<String>>,
) -> Result<Vec<Sum>, StoreError> {
    let question = asked.question;
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
    if let Some(users) = users {
        let users = Rows::new([("user_id", Kind::Text)], users.into_iter().map(|user_id| [user_id.into()]));
        let users = users.bind(connection, "k", &mut values)?;
        let _ = write!(conditions, " and user_id in (select k.user_id from {users})");
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
