//! Periods: calendar months in UTC, counted from an anchor. Pure.

use jiff::{Span, Timestamp, tz::TimeZone};
use mesh::{StoreError, Time};
use serde::{Deserialize, Serialize};

use crate::plan::Cycle;

/// Microseconds of a second.
const SECOND: i64 = 1_000_000;

/// One period of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Period {
    /// Counts the subscription's periods, from 1.
    pub(crate) number: i64,
    pub(crate) start: Time,
    /// When the next one begins.
    pub(crate) end: Time,
}

/// Where periods are counted from, so that the 31st comes back after a month that has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Anchor {
    pub(super) time: Time,
    /// How many periods have begun since, the one that runs included; 0 during a trial, which ends there.
    pub(super) periods: i64,
}

impl Cycle {
    /// How many calendar months.
    pub(crate) const fn months(self) -> i64 {
        match self {
            Self::Monthly => 1,
            Self::Quarterly => 3,
            Self::Yearly => 12,
        }
    }
}

impl Anchor {
    /// When this many periods of a cycle have passed since the anchor. Where the month has no such day, its last one.
    pub(super) fn after(self, cycle: Cycle, periods: i64) -> Result<Time, StoreError> {
        let beyond = |_: jiff::Error| StoreError::Impossible("a period ends beyond all calendars");
        let months = periods.checked_mul(cycle.months());
        let months = months.ok_or(StoreError::Impossible("a subscription has more periods than can be counted"))?;
        let anchor = Timestamp::from_microsecond(self.time.micros()).map_err(beyond)?.to_zoned(TimeZone::UTC);
        let span = Span::new().try_months(months).map_err(beyond)?;
        let end = anchor.datetime().checked_add(span).and_then(|end| end.to_zoned(TimeZone::UTC)).map_err(beyond)?;
        Ok(Time::from_micros(end.timestamp().as_microsecond()))
    }
}

impl Period {
    /// How much of what a whole period costs is left at a time within it, rounded once, half up: `minor` × the seconds
    /// that are left / the seconds of the period. Of a difference of two prices, too, which is the same as the
    /// difference of two rests before they are rounded.
    pub(super) fn rest(&self, minor: i64, at: Time) -> Option<i64> {
        let total = self.end.micros().checked_sub(self.start.micros())?.checked_div(SECOND)?;
        let left = self.end.micros().checked_sub(at.micros())?.checked_div(SECOND)?;
        let total = i128::from(total);
        let twice = i128::from(minor).checked_mul(i128::from(left))?.checked_mul(2)?.checked_add(total)?;
        i64::try_from(twice.checked_div_euclid(total.checked_mul(2)?)?).ok()
    }

    pub(crate) fn contains(&self, time: Time) -> bool {
        self.start <= time && time < self.end
    }
}

/// The calendar month, in UTC, that a time is in: the period of what no subscription covers.
pub(crate) fn calendar_month(time: Time) -> Period {
    let begin = |time: jiff::civil::DateTime| {
        let first = time.date().first_of_month().to_zoned(TimeZone::UTC).ok()?;
        Some(Time::from_micros(first.timestamp().as_microsecond()))
    };
    let month = Timestamp::from_microsecond(time.micros()).ok().and_then(|time| {
        let civil = time.to_zoned(TimeZone::UTC).datetime();
        let next = civil.date().last_of_month().tomorrow().ok()?.to_datetime(jiff::civil::Time::midnight());
        Some((begin(civil)?, begin(next)?))
    });
    // At the very ends of all calendars, of which no record of usage can be.
    let (start, end) = month.unwrap_or((time, time));
    Period { number: 0, start, end }
}

/// The whole second that a time is in: periods begin and end with whole seconds, and are prorated by them.
pub(super) fn whole_second(time: Time) -> Time {
    Time::from_micros(time.micros().saturating_sub(time.micros().rem_euclid(SECOND)))
}
