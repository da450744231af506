//! The rows of `usage_totals`, `usage_hours` and `usage_product_hours`.

use std::collections::{BTreeMap, BTreeSet};

use mesh::{
    Slug, StoreError, Tenant, Time, UserId,
    store::{Kind, Row, Rows, Transaction, lock_clause, sql},
};
use money::Quantity;
use sea_orm::{ConnectionTrait, DbBackend, Value};

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

/// A total: its key, and what it is.
const TOTAL: [(&str, Kind); 9] = [
    ("tenant_id", Kind::Text),
    ("user_id", Kind::Text),
    ("product_id", Kind::Text),
    ("period_start_time", Kind::Number),
    ("organization_id", Kind::Text),
    ("subscription_id", Kind::Text),
    ("price_id", Kind::Text),
    ("whole", Kind::Number),
    ("fraction", Kind::Number),
];

fn optional(slug: Option<&Slug>) -> &str {
    slug.map_or("", Slug::as_str)
}

fn key(key: &Key) -> [Value; 7] {
    [
        key.tenant.clone().into(),
        key.user_id.clone().into(),
        key.product_id.clone().into(),
        key.period_start.into(),
        optional(key.organization_id.as_ref()).into(),
        optional(key.subscription_id.as_ref()).into(),
        optional(key.price_id.as_ref()).into(),
    ]
}

fn names(alias: &str) -> String {
    KEY.map(|(name, _)| format!("{alias}{name}")).join(", ")
}

fn same(left: &str, right: &str) -> String {
    KEY.map(|(name, _)| format!("{left}.{name} = {right}.{name}")).join(" and ")
}

#[derive(Row)]
struct TotalRow {
    /// Whose it is, in the list of keys.
    place: i64,
    whole: i64,
    fraction: i64,
}

/// The totals of these keys, those that are not there as nothing. Nobody else moves them until the transaction ends: rows
/// are locked in the order of their keys, so that two who want the same ones wait and never for each other, unless a row
/// is new to one of them alone; then PostgreSQL ends one, which begins anew.
pub(crate) async fn lock_totals(transaction: &Transaction, keys: BTreeSet<Key>) -> Result<Totals, StoreError> {
    let mut totals = read(transaction, &keys, lock_clause(transaction)).await?;
    let missing: BTreeSet<Key> = keys.iter().filter(|key| !totals.contains_key(*key)).cloned().collect();
    if !missing.is_empty() && transaction.get_database_backend() == DbBackend::Postgres {
        let mut values = Vec::new();
        let text = format!(
            "insert into usage_totals ({0}, whole, fraction) select {0}, 0, 0 from {1} order by {0} on conflict do nothing",
            names(""),
            Rows::new(KEY, missing.iter().map(key)).bind(transaction, "k", &mut values)?,
        );
        transaction.execute_raw(sql(transaction, &text, values)).await?;
        totals.extend(read(transaction, &missing, lock_clause(transaction)).await?);
    }
    Ok(with_nothing(keys, totals))
}

/// The same without a lock, for who only looks.
pub(crate) async fn peek_totals(connection: &impl ConnectionTrait, keys: BTreeSet<Key>) -> Result<Totals, StoreError> {
    let totals = read(connection, &keys, "").await?;
    Ok(with_nothing(keys, totals))
}

fn with_nothing(keys: BTreeSet<Key>, mut totals: Totals) -> Totals {
    for key in keys {
        totals.entry(key).or_insert(Quantity::ZERO);
    }
    totals
}

async fn read(connection: &impl ConnectionTrait, keys: &BTreeSet<Key>, lock: &str) -> Result<Totals, StoreError> {
    const DAMAGED: StoreError = StoreError::Impossible("a total holds what is never written");
    if keys.is_empty() {
        return Ok(Totals::new());
    }
    let lock = if lock.is_empty() { String::new() } else { format!("{lock} of t") };
    let mut values = Vec::new();
    let text = format!(
        "select k.place, t.whole, t.fraction from {} join usage_totals t on {} order by k.place{lock}",
        Rows::new(KEY, keys.iter().map(key)).bind(connection, "k", &mut values)?,
        same("t", "k"),
    );
    let mut keys = (1_i64..).zip(keys);
    let mut totals = Totals::new();
    for row in TotalRow::find_by_statement(sql(connection, &text, values)).all(connection).await? {
        let (_, key) = keys.find(|(place, _)| *place == row.place).ok_or(DAMAGED)?;
        let total = Quantity::from_parts(i128::from(row.whole), i128::from(row.fraction)).ok_or(DAMAGED)?;
        totals.insert(key.clone(), total);
    }
    Ok(totals)
}

/// Sets totals that were locked.
pub(crate) async fn set_totals(transaction: &Transaction, totals: &Totals) -> Result<(), StoreError> {
    if totals.is_empty() {
        return Ok(());
    }
    let row = |(of, total): (&Key, &Quantity)| {
        let [tenant, user, product, period, organization, subscription, price] = key(of);
        let (whole, fraction) = total.parts();
        [tenant, user, product, period, organization, subscription, price, whole.into(), fraction.into()]
    };
    let mut values = Vec::new();
    let rows = Rows::new(TOTAL, totals.iter().map(row)).bind(transaction, "k", &mut values)?;
    let text = if transaction.get_database_backend() == DbBackend::Postgres {
        // Every row is there, and locked.
        format!("update usage_totals t set whole = k.whole, fraction = k.fraction from {rows} where {}", same("t", "k"))
    } else {
        format!(
            "insert into usage_totals ({0}, whole, fraction) select {0}, whole, fraction from {rows} where true
             on conflict ({0}) do update set whole = excluded.whole, fraction = excluded.fraction",
            names(""),
        )
    };
    transaction.execute_raw(sql(transaction, &text, values)).await?;
    Ok(())
}

/// What a record, or its going, adds to the sums.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counted<'a> {
    pub(crate) hour: Time,
    pub(crate) user_id: &'a UserId,
    pub(crate) organization_id: Option<&'a Slug>,
    pub(crate) subscription_id: Option<&'a Slug>,
    pub(crate) product_id: &'a Slug,
    /// Empty: nothing was charged for.
    pub(crate) currency: &'static str,
    pub(crate) records: i64,
    pub(crate) whole: i64,
    pub(crate) fraction: i64,
    pub(crate) minor: i64,
}

/// A billion: minor units are summed up as so many of them, and what is left, so that no sum is ever too large.
pub(super) const BILLION: i64 = 1_000_000_000;

/// Records, what is before the point of their quantities and after it, billions of minor units and the rest.
type Sums = [i64; 5];

/// The columns of `usage_hours`: its key, in the order of locks, and its sums.
const HOURS: [(&str, Kind); 12] = [
    ("tenant_id", Kind::Text),
    ("user_id", Kind::Text),
    ("hour_time", Kind::Number),
    ("product_id", Kind::Text),
    ("organization_id", Kind::Text),
    ("subscription_id", Kind::Text),
    ("currency", Kind::Text),
    ("records", Kind::Number),
    ("whole", Kind::Number),
    ("fraction", Kind::Number),
    ("billions", Kind::Number),
    ("rest", Kind::Number),
];

/// The same of `usage_product_hours`.
const PRODUCT_HOURS: [(&str, Kind); 9] = [
    ("tenant_id", Kind::Text),
    ("hour_time", Kind::Number),
    ("product_id", Kind::Text),
    ("currency", Kind::Text),
    ("records", Kind::Number),
    ("whole", Kind::Number),
    ("fraction", Kind::Number),
    ("billions", Kind::Number),
    ("rest", Kind::Number),
];

/// Adds to the sums of everybody each belongs to, what belongs together first put together. In the order of their keys: two
/// who add to the same ones wait, and never for each other. Those of everybody together come last: most wait for them.
pub(crate) async fn sum_up<'a>(
    transaction: &Transaction,
    counted: impl Iterator<Item = (&'a Tenant, Counted<'a>)>,
) -> Result<(), StoreError> {
    let mut all: BTreeMap<_, Sums> = BTreeMap::new();
    let mut products: BTreeMap<_, Sums> = BTreeMap::new();
    for (tenant, one) in counted {
        let billions = one.minor.checked_div(BILLION).unwrap_or_default();
        let rest = one.minor.checked_rem(BILLION).unwrap_or_default();
        let sums = [one.records, one.whole, one.fraction, billions, rest];
        let payer = (optional(one.organization_id), optional(one.subscription_id));
        add(all.entry((tenant, one.user_id, one.hour, one.product_id, payer, one.currency)).or_default(), sums)?;
        add(products.entry((tenant, one.hour, one.product_id, one.currency)).or_default(), sums)?;
    }
    let all = all.into_iter().map(|((tenant, user, hour, product, (organization, subscription), currency), sums)| {
        let [records, whole, fraction, billions, rest] = sums.map(Value::from);
        let (tenant, user, product) = (tenant.clone().into(), user.clone().into(), product.clone().into());
        let (organization, subscription, currency) = (organization.into(), subscription.into(), currency.into());
        let hour = hour.into();
        [tenant, user, hour, product, organization, subscription, currency, records, whole, fraction, billions, rest]
    });
    upsert(transaction, "usage_hours", Rows::new(HOURS, all)).await?;
    let products = products.into_iter().map(|((tenant, hour, product, currency), sums)| {
        let [records, whole, fraction, billions, rest] = sums.map(Value::from);
        let (tenant, hour, product) = (tenant.clone().into(), hour.into(), product.clone().into());
        [tenant, hour, product, currency.into(), records, whole, fraction, billions, rest]
    });
    upsert(transaction, "usage_product_hours", Rows::new(PRODUCT_HOURS, products)).await
}

fn add(sums: &mut Sums, more: Sums) -> Result<(), StoreError> {
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum = sum.checked_add(more).ok_or(StoreError::Impossible("a sum of usage is more than can be kept"))?;
    }
    Ok(())
}

async fn upsert<const WIDTH: usize>(
    transaction: &Transaction,
    table: &str,
    rows: Rows<WIDTH>,
) -> Result<(), StoreError> {
    const SUMS: [&str; 5] = ["records", "whole", "fraction", "billions", "rest"];
    let names = rows.names();
    let key: Vec<&str> = names.split(", ").filter(|name| !SUMS.contains(name)).collect();
    let set = SUMS.map(|name| format!("{name} = {table}.{name} + excluded.{name}")).join(", ");
    let mut values = Vec::new();
    let text = format!(
        "insert into {table} ({names}) select {names} from {} where true on conflict ({}) do update set {set}",
        rows.bind(transaction, "k", &mut values)?,
        key.join(", "),
    );
    transaction.execute_raw(sql(transaction, &text, values)).await?;
    Ok(())
}
