//! How subscriptions do: counted as they stand, and over a time.

use std::collections::BTreeMap;

use mesh::{Context, StoreError, Time};
use money::{Amount, Currency};

use super::{
    Subscriptions,
    table::{self, Flow, Held, Recurring},
};

/// What there is to say.
pub(super) struct Analytics {
    pub(super) held: Vec<Held>,
    pub(super) flow: Flow,
    pub(super) monthly: Vec<Amount>,
}

impl Subscriptions {
    /// How subscriptions did from `start` to before `end`, and what they come to now.
    pub(super) async fn analytics(&self, context: &Context, time: (Time, Time)) -> Result<Analytics, StoreError> {
        let (reader, tenant) = (self.store.reader(), &context.tenant);
        Ok(Analytics {
            held: table::held(reader, tenant).await?,
            flow: table::flow(reader, tenant, time).await?,
            monthly: monthly(&table::recurring(reader, tenant).await?)?,
        })
    }
}

/// What comes in each month, by currency: exact twelfths of a year, rounded once, half up.
pub(super) fn monthly(recurring: &[Recurring]) -> Result<Vec<Amount>, StoreError> {
    const YEAR: i128 = 12;
    let damaged = StoreError::Impossible("subscriptions come to more than an amount can be");
    let mut yearly: BTreeMap<&str, i128> = BTreeMap::new();
    let year = |row: &Recurring| {
        let minor = i128::from(row.millions).checked_mul(1_000_000)?.checked_add(i128::from(row.rest))?;
        minor.checked_mul(YEAR.checked_div(i128::from(row.billing_cycle.months()))?)
    };
    for row in recurring {
        let sum = yearly.entry(row.currency.as_str()).or_default();
        match year(row).and_then(|year| sum.checked_add(year)) {
            Some(year) => *sum = year,
            None => return Err(damaged),
        }
    }
    let month = |(code, year): (&str, i128)| {
        let minor = year.checked_add(YEAR / 2)?.checked_div_euclid(YEAR)?;
        Some(Amount::from_minor(Currency::parse(code).ok()?, i64::try_from(minor).ok()?))
    };
    yearly.into_iter().map(month).collect::<Option<_>>().ok_or(damaged)
}

/// The share of those that lived at the start which was lost: a decimal with four fraction digits, rounded half up; empty
/// where nobody lived.
pub(super) fn churn_rate(flow: &Flow) -> String {
    const SCALE: i128 = 10_000;
    let (lost, living) = (i128::from(flow.lost), i128::from(flow.living_at_start));
    let twice = lost.saturating_mul(SCALE).saturating_mul(2).saturating_add(living);
    match twice.checked_div(living.saturating_mul(2)) {
        Some(rate) => format!("{}.{:04}", rate.div_euclid(SCALE), rate.rem_euclid(SCALE)),
        None => String::new(),
    }
}
