//! Sums of usage, by the hour, the day, the product or the user: added up as records come, and only read here.

use mesh::{Context, Slug, StoreError, Time, UserId};
use money::{Amount, Currency, QuantitySum};
use serde::{Deserialize, Serialize};

use super::{
    Usages,
    table::{self, Asked, Place},
};

/// Microseconds of an hour and of a day.
const HOUR: i64 = 3_600_000_000;
pub(super) const DAY: i64 = HOUR * 24;

/// By what records are summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Grouping {
    Day,
    Hour,
    Product,
    User,
}

/// What to sum up. All of it is part of the page tokens.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Question {
    pub(super) user_id: Option<UserId>,
    pub(super) product_id: Option<Slug>,
    pub(super) subscription_id: Option<Slug>,
    pub(super) organization_id: Option<Slug>,
    pub(super) start: Time,
    pub(super) end: Time,
    pub(super) group_by: Grouping,
}

/// The sum of a group in one currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statistics {
    /// The first moment of the day or hour, or the id.
    pub(super) group: Group,
    /// `None`: nothing was charged for.
    pub(super) currency: Option<Currency>,
    pub(super) records: i64,
    pub(super) quantity: QuantitySum,
    /// Of no currency, nothing.
    pub(super) amount: Option<Amount>,
}

/// What a sum is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Group {
    Time(Time),
    Name(String),
}

/// The hour that a time is in, by its first moment.
pub(super) fn hour(time: Time) -> Time {
    Time::from_micros(time.micros().saturating_sub(time.micros().rem_euclid(HOUR)))
}

impl Statistics {
    /// Its place in the list of all.
    pub(super) fn place(&self) -> Place {
        Place { group: self.group.clone(), currency: self.currency.map_or("", Currency::code).to_owned() }
    }
}

impl Usages {
    /// Up to `limit` sums after a place, in the order of groups and currencies.
    pub(super) async fn statistics(
        &self,
        context: &Context,
        question: &Question,
        after: Option<&Place>,
        limit: u64,
    ) -> Result<Vec<Statistics>, StoreError> {
        let asked = Asked { tenant: &context.tenant, question, after, limit };
        let sums = table::sums(self.store.reader(), asked).await?;
        sums.into_iter().map(table::Sum::statistics).collect()
    }
}
