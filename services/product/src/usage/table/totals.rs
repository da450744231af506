//! The rows of `usage_totals`, `usage_hours` and `usage_product_hours`.

use std::collections::{BTreeMap, BTreeSet};

use mesh::{
    Slug, StoreError, Tenant, Time, UserId,
    store::{Kind, Row, Transaction, lock_clause, records, sql},
};
use money::Quantity;
use sea_orm::{ConnectionTrait, DbBackend};
use serde_json::{Value as Json, json};

use super::super::{Key, decide::Totals};

/// Of a total's key, in the order of its index, which is the order of locks.
const KEY: [(&str, Kind); 7] = [
    ("tenant_id", Kind::Text),
    ("user_id", Kind::Text),
    ("product_id", Kind::Text),
    ("period_start_time", Kind::Number),
    ("organization_id", Kind::Text),
    ("subscription_id", Kind::Text),
    ("price_id", Kind::Text),
];

fn optional(slug: Option<&Slug>) -> &str {
    slug.map_or("", Slug::as_str)
}

fn key(key: &Key) -> Json {
    json!({
        "tenant_id": key.tenant,
        "user_id": key.user_id,
        "product_id": key.product_id,
        "period_start_time": key.period_start.micros(),
        "organization_id": optional(key.organization_id.as_ref()),
        "subscription_id": optional(key.subscription_id.as_ref()),
        "price_id": optional(key.price_id.as_ref()),
    })
}

fn names(alias: &str) -> String {
    KEY.map(|(name, _)| format!("{alias}{name}")).join(", ")
}

fn same(left: &str, right: &str) -> String {
    KEY.map(|(name, _)| format!("{left}.{name} = {right}.{name}")).join(" and ")
}

#[derive(Row)]
struct TotalRow {
    tenant_id: Tenant,
    user_id: UserId,
    product_id: Slug,
    period_start_time: Time,
    organization_id: String,
    subscription_id: String,
    price_id: String,
    whole: i64,
    fraction: i64,
}

impl TryFrom<TotalRow> for (Key, Quantity) {
    type Error = StoreError;

    fn try_from(row: TotalRow) -> Result<Self, StoreError> {
        let damaged = StoreError::Impossible("a total holds what is never written");
        let optional = |text: &str| Slug::parse_optional(text).ok();
        let (Some(organization_id), Some(subscription_id), Some(price_id), Some(total)) = (
            optional(&row.organization_id),
            optional(&row.subscription_id),
            optional(&row.price_id),
            Quantity::from_parts(i128::from(row.whole), i128::from(row.fraction)),
        ) else {
            return Err(damaged);
        };
        let key = Key {
            tenant: row.tenant_id,
            user_id: row.user_id,
            organization_id,
            subscription_id,
            product_id: row.product_id,
            price_id,
            period_start: row.period_start_time,
        };
        Ok((key, total))
    }
}

/// The totals of these keys, those that are not there as nothing. Nobody else moves them until the transaction ends: their
/// rows are made and locked in the order of their keys, so that two who want the same ones wait and never for each other.
pub(crate) async fn lock_totals(transaction: &Transaction, keys: BTreeSet<Key>) -> Result<Totals, StoreError> {
    if keys.is_empty() {
        return Ok(Totals::new());
    }
    if transaction.get_database_backend() == DbBackend::Postgres {
        let text = format!(
            "insert into usage_totals ({0}, whole, fraction) select {0}, 0, 0 from {1} order by {0} on conflict do nothing",
            names(""),
            records(transaction, 1, "k", &KEY),
        );
        let listed = Json::Array(keys.iter().map(key).collect()).to_string();
        transaction.execute_raw(sql(transaction, &text, [listed.into()])).await?;
    }
    read(transaction, keys, lock_clause(transaction)).await
}

/// The same without a lock, for who only looks.
pub(crate) async fn peek_totals(connection: &impl ConnectionTrait, keys: BTreeSet<Key>) -> Result<Totals, StoreError> {
    read(connection, keys, "").await
}

async fn read(connection: &impl ConnectionTrait, keys: BTreeSet<Key>, lock: &str) -> Result<Totals, StoreError> {
    let lock = if lock.is_empty() { String::new() } else { format!("{lock} of t") };
    let text = format!(
        "select {}, t.whole, t.fraction from usage_totals t join {} on {} order by {}{lock}",
        names("t."),
        records(connection, 1, "k", &KEY),
        same("t", "k"),
        names("t."),
    );
    let listed = Json::Array(keys.iter().map(key).collect()).to_string();
    let mut totals: Totals = keys.into_iter().map(|key| (key, Quantity::ZERO)).collect();
    for row in TotalRow::find_by_statement(sql(connection, &text, [listed.into()])).all(connection).await? {
        let (key, total) = row.try_into()?;
        totals.insert(key, total);
    }
    Ok(totals)
}

/// Sets totals that were locked.
pub(crate) async fn set_totals(transaction: &Transaction, totals: &Totals) -> Result<(), StoreError> {
    if totals.is_empty() {
        return Ok(());
    }
    let rows = totals.iter().map(|(of, total)| {
        let (whole, fraction) = total.parts();
        let mut row = key(of);
        if let Json::Object(row) = &mut row {
            row.insert("whole".to_owned(), whole.into());
            row.insert("fraction".to_owned(), fraction.into());
        }
        row
    });
    let rows = Json::Array(rows.collect()).to_string();
    let columns: Vec<_> = KEY.into_iter().chain([("whole", Kind::Number), ("fraction", Kind::Number)]).collect();
    let text = format!(
        "insert into usage_totals ({0}, whole, fraction) select {0}, whole, fraction from {1} where true
         on conflict ({0}) do update set whole = excluded.whole, fraction = excluded.fraction",
        names(""),
        records(transaction, 1, "k", &columns),
    );
    transaction.execute_raw(sql(transaction, &text, [rows.into()])).await?;
    Ok(())
}

/// What a record, or its going, adds to the sums.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    pub(crate) hour: Time,
    pub(crate) user_id: UserId,
    pub(crate) organization_id: Option<Slug>,
    pub(crate) subscription_id: Option<Slug>,
    pub(crate) product_id: Slug,
    /// Empty: nothing was charged for.
    pub(crate) currency: &'static str,
    pub(crate) records: i64,
    pub(crate) whole: i64,
    pub(crate) fraction: i64,
    pub(crate) minor: i64,
}

/// A billion: minor units are summed up as so many of them, and what is left, so that no sum is ever too large.
pub(super) const BILLION: i64 = 1_000_000_000;

/// Adds to the sums of everybody each belongs to, what belongs together first put together.
pub(crate) async fn sum_up<'a>(
    transaction: &Transaction,
    counted: impl Iterator<Item = (&'a Tenant, Counted)>,
) -> Result<(), StoreError> {
    const ALL: [&str; 7] =
        ["tenant_id", "user_id", "hour_time", "product_id", "organization_id", "subscription_id", "currency"];
    const PRODUCTS: [&str; 4] = ["tenant_id", "hour_time", "product_id", "currency"];
    let mut all: BTreeMap<[String; 7], [i64; 5]> = BTreeMap::new();
    let mut products: BTreeMap<[String; 4], [i64; 5]> = BTreeMap::new();
    for (tenant, one) in counted {
        let hour = one.hour.micros().to_string();
        let (tenant, product, currency) = (tenant.to_string(), one.product_id.to_string(), one.currency.to_owned());
        let billions = one.minor.checked_div(BILLION).unwrap_or_default();
        let rest = one.minor.checked_rem(BILLION).unwrap_or_default();
        let sums = [one.records, one.whole, one.fraction, billions, rest];
        let (organization, subscription) =
            (optional(one.organization_id.as_ref()), optional(one.subscription_id.as_ref()));
        let of_all = [
            tenant.clone(),
            one.user_id.to_string(),
            hour.clone(),
            product.clone(),
            organization.to_owned(),
            subscription.to_owned(),
            currency.clone(),
        ];
        add(all.entry(of_all).or_default(), sums)?;
        add(products.entry([tenant, hour, product, currency]).or_default(), sums)?;
    }
    // In the order of their keys: two who add to the same ones wait, and never for each other.
    upsert(transaction, "usage_hours", ALL, all).await?;
    upsert(transaction, "usage_product_hours", PRODUCTS, products).await
}

fn add(sums: &mut [i64; 5], more: [i64; 5]) -> Result<(), StoreError> {
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum = sum.checked_add(more).ok_or(StoreError::Impossible("a sum of usage is more than can be kept"))?;
    }
    Ok(())
}

async fn upsert<const WIDTH: usize>(
    transaction: &Transaction,
    table: &str,
    key: [&'static str; WIDTH],
    sums: BTreeMap<[String; WIDTH], [i64; 5]>,
) -> Result<(), StoreError> {
    const SUMS: [&str; 5] = ["records", "whole", "fraction", "billions", "rest"];
    let rows = sums.into_iter().map(|(values, sums)| {
        let texts = key.iter().zip(values).map(|(name, value)| {
            let number = if *name == "hour_time" { value.parse::<i64>().ok() } else { None };
            ((*name).to_owned(), number.map_or_else(|| Json::String(value), Json::from))
        });
        let numbers = SUMS.iter().zip(sums).map(|(name, sum)| ((*name).to_owned(), Json::from(sum)));
        Json::Object(texts.chain(numbers).collect())
    });
    let rows = Json::Array(rows.collect()).to_string();
    let kind = |name: &'static str| (name, if name == "hour_time" { Kind::Number } else { Kind::Text });
    let columns: Vec<_> = key.into_iter().map(kind).chain(SUMS.into_iter().map(|name| (name, Kind::Number))).collect();
    let (key, set) = (key.join(", "), SUMS.map(|name| format!("{name} = {table}.{name} + excluded.{name}")).join(", "));
    let text = format!(
        "insert into {table} ({key}, {0}) select {key}, {0} from {1} where true
         on conflict ({key}) do update set {set}",
        SUMS.join(", "),
        records(transaction, 1, "k", &columns),
    );
    transaction.execute_raw(sql(transaction, &text, [rows.into()])).await?;
    Ok(())
}
