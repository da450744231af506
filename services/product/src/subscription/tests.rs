//! The life of a subscription, case by case: its states, its periods, and what a change costs.
#![allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails")]

use mesh::{Slug, Time, UserId};
use money::{Amount, Currency};
use proptest::prelude::*;

use super::{
    Anchor, Period, Status, Subscription, Terms,
    analytics::{churn_rate, monthly},
    change::verdict,
    life::{Course, Illegal, UNPAID, What, Why},
    table::{Flow, Recurring},
};
use crate::plan::Cycle;

const EVERY: [Status; 7] = [
    Status::Incomplete,
    Status::Trialing,
    Status::Active,
    Status::PastDue,
    Status::Paused,
    Status::Canceled,
    Status::Expired,
];

/// A time such as `2024-01-31T10:00:00Z`.
fn at(text: &str) -> Time {
    Time::from_micros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
}

fn told(time: Time) -> String {
    jiff::Timestamp::from_microsecond(time.micros()).unwrap().to_string()
}

fn usd(amount: &str) -> Amount {
    Amount::parse(Currency::parse("USD").unwrap(), amount).unwrap()
}

fn terms(plan_id: &str, cycle: Cycle, amount: &str) -> Terms {
    Terms { plan_id: Slug::parse(plan_id).unwrap(), plan_version: 1, cycle, price: usd(amount) }
}

/// A subscription that began on 31 January 2024 and runs in its first month.
fn january(status: Status) -> Subscription {
    let start = at("2024-01-31T10:00:00Z");
    Subscription {
        subscription_id: Slug::parse("sub_1").unwrap(),
        user_id: UserId::parse("ada").unwrap(),
        organization_id: None,
        terms: terms("basic", Cycle::Monthly, "10"),
        seats: 1,
        status,
        anchor: Anchor { time: start, periods: 1 },
        period: Period { number: 1, start, end: at("2024-02-29T10:00:00Z") },
        trial_end: None,
        cancel_at_period_end: false,
        canceled_time: None,
        cancel_reason: String::new(),
        change: None,
        version: 1,
        create_time: start,
        update_time: start,
        end_time: matches!(status, Status::Canceled | Status::Expired).then_some(start),
    }
}

#[test]
fn every_pair_of_states_is_a_step_or_is_refused_as_the_contract_has_it() {
    use Status::{Active, Canceled, Expired, Incomplete, PastDue, Paused, Trialing};
    let legal = |from, to| match from {
        Incomplete => matches!(to, Active | Canceled | Expired),
        Trialing => matches!(to, Active | PastDue | Expired | Canceled),
        Active => matches!(to, PastDue | Paused | Canceled | Expired),
        PastDue | Paused => matches!(to, Active | Canceled | Expired),
        Canceled | Expired => false,
    };
    for from in EVERY {
        for to in EVERY {
            let mut course = Course::of(january(from));
            let stepped = course.step(to, at("2024-02-01T00:00:00Z"), Why::of("as told"));
            let subscription = course.subscription;
            if from == to {
                assert_eq!((stepped, course.done.len(), subscription), (Ok(()), 0, january(from)), "{from} stays");
            } else if legal(from, to) {
                assert_eq!((stepped, subscription.status, subscription.version), (Ok(()), to, 2), "{from} to {to}");
                assert_eq!(subscription.end_time.is_some(), matches!(to, Canceled | Expired));
                assert_eq!((course.done[0].from, course.done[0].to), (Some(from), to));
            } else {
                let illegal = Err(Illegal { from, to });
                assert_eq!((stepped, course.done.len(), subscription), (illegal, 0, january(from)), "{from} to {to}");
            }
        }
    }
}

#[test]
fn periods_are_calendar_months_counted_from_their_anchor() {
    let check = |anchor: &str, cycle, expected: &[&str]| {
        let anchor = Anchor { time: at(anchor), periods: 0 };
        let ends: Vec<_> = (1..).take(expected.len()).map(|n| told(anchor.after(cycle, n).unwrap())).collect();
        assert_eq!(ends, expected);
    };
    let (month, quarter, year) = (Cycle::Monthly, Cycle::Quarterly, Cycle::Yearly);
    check(
        "2024-01-31T10:00:00Z",
        month,
        &["2024-02-29T10:00:00Z", "2024-03-31T10:00:00Z", "2024-04-30T10:00:00Z", "2024-05-31T10:00:00Z"],
    );
    check("2023-01-31T00:00:00Z", month, &["2023-02-28T00:00:00Z", "2023-03-31T00:00:00Z"]);
    check("2024-11-30T23:59:59Z", quarter, &["2025-02-28T23:59:59Z", "2025-05-30T23:59:59Z"]);
    check("2024-02-29T12:00:00Z", year, &["2025-02-28T12:00:00Z", "2026-02-28T12:00:00Z", "2027-02-28T12:00:00Z"]);
    check("2024-02-29T12:00:00Z", year, &["2025-02-28T12:00:00Z"]);
    let leap = Anchor { time: at("2024-02-29T12:00:00Z"), periods: 0 };
    assert_eq!(told(leap.after(year, 4).unwrap()), "2028-02-29T12:00:00Z");
    // The nights in which clocks are put forward and back in Europe and America: nobody's clocks are asked.
    check("2024-02-29T01:30:00Z", month, &["2024-03-29T01:30:00Z", "2024-04-29T01:30:00Z"]);
    check("2024-10-10T07:30:00Z", month, &["2024-11-10T07:30:00Z"]);
    assert!(Anchor { time: at("9999-12-01T00:00:00Z"), periods: 0 }.after(month, 1).is_err());
    assert!(leap.after(year, i64::MAX).is_err());
}

/// What time does to a subscription until `now`, told shortly.
fn lived(subscription: Subscription, now: &str) -> (Vec<String>, Subscription) {
    let mut course = Course::of(subscription);
    while course.advance(at(now)).unwrap() {}
    let done = course.done.iter().map(|done| match &done.what {
        What::Renewed(period, amount) => format!("renewed {} {amount}", &told(period.end)[..10]),
        What::Changed { from, .. } => format!("changed {} to {}", from.plan_id, done.terms.plan_id),
        _ => format!("{} {}", &told(done.time)[..10], done.to),
    });
    (done.collect(), course.subscription)
}

#[test]
fn time_renews_what_is_active_period_by_period_however_late_it_is() {
    assert!(lived(january(Status::Active), "2024-02-29T09:59:59Z").0.is_empty());
    let (done, subscription) = lived(january(Status::Active), "2024-05-01T00:00:00Z");
    assert_eq!(done, ["renewed 2024-03-31 10", "renewed 2024-04-30 10", "renewed 2024-05-31 10"]);
    assert_eq!((subscription.period.number, subscription.version), (4, 4));
    let mut start = subscription.period.start;
    let mut course = Course::of(subscription);
    for _ in 0..100 {
        let end = course.subscription.period.end;
        assert!(course.advance(end).unwrap());
        assert!(start < course.subscription.period.start);
        start = course.subscription.period.start;
        assert_eq!(start, end, "no gap, no overlap");
    }
}

#[test]
fn what_is_not_paid_expires() {
    let incomplete = january(Status::Incomplete);
    let unpaid = incomplete.create_time.plus(UNPAID);
    assert_eq!(incomplete.due(), Some(unpaid));
    assert_eq!(lived(incomplete, "2024-12-01T00:00:00Z").0, ["2024-02-01 EXPIRED"]);
    // No period is charged on top of one that is not paid.
    assert_eq!(lived(january(Status::PastDue), "2024-12-01T00:00:00Z").0, ["2024-02-29 EXPIRED"]);
}

#[test]
fn a_trial_becomes_a_paid_period_at_its_end() {
    let end = at("2024-02-14T10:00:00Z");
    let start = at("2024-01-31T10:00:00Z");
    let trial = Subscription {
        anchor: Anchor { time: end, periods: 0 },
        period: Period { number: 1, start, end },
        trial_end: Some(end),
        ..january(Status::Trialing)
    };
    assert_eq!(trial.period_amount(), usd("0"));
    let (done, subscription) = lived(trial.clone(), "2024-03-15T00:00:00Z");
    assert_eq!(done, ["renewed 2024-03-14 10", "2024-02-14 ACTIVE", "renewed 2024-04-14 10"]);
    assert_eq!(subscription.status, Status::Active);
    let canceled = Subscription { cancel_at_period_end: true, ..trial };
    assert_eq!(lived(canceled, "2024-03-15T00:00:00Z").0, ["2024-02-14 CANCELED"]);
}

#[test]
fn what_is_scheduled_comes_true_when_the_period_ends() {
    let down = Some(terms("small", Cycle::Monthly, "5"));
    let (done, _) = lived(Subscription { change: down, ..january(Status::Active) }, "2024-03-01T00:00:00Z");
    assert_eq!(done, ["changed basic to small", "renewed 2024-03-31 5"]);
    // Another cycle is counted from where it begins.
    let yearly = Some(terms("basic", Cycle::Yearly, "100"));
    let (done, subscription) =
        lived(Subscription { change: yearly, ..january(Status::Active) }, "2024-03-01T00:00:00Z");
    assert_eq!(done, ["changed basic to basic", "renewed 2025-02-28 100"]);
    assert_eq!(told(subscription.anchor.after(Cycle::Yearly, 4).unwrap()), "2028-02-29T10:00:00Z");
    let ending = Subscription { cancel_at_period_end: true, ..january(Status::Active) };
    assert_eq!(lived(ending.clone(), "2024-03-01T00:00:00Z").0, ["2024-02-29 CANCELED"]);
    let paused = Subscription { status: Status::Paused, ..ending };
    assert_eq!(lived(paused, "2024-03-01T00:00:00Z").0, ["2024-02-29 CANCELED"]);
}

#[test]
fn what_is_paused_is_not_renewed_and_goes_on_where_it_was_or_anew() {
    let paused = january(Status::Paused);
    assert_eq!(lived(paused.clone(), "2025-01-01T00:00:00Z").0.len(), 0);
    let resumed = |time: &str| {
        let mut course = Course::of(paused.clone());
        course.resume(at(time), Why::default()).unwrap().unwrap();
        course
    };
    let soon = resumed("2024-02-29T09:59:59Z");
    assert_eq!((soon.done.len(), soon.subscription.period), (1, paused.period));
    let late = resumed("2024-06-15T12:00:00.5Z");
    let period = late.subscription.period;
    assert_eq!((told(period.start), told(period.end)), ("2024-06-15T12:00:00Z".into(), "2024-07-15T12:00:00Z".into()));
    assert_eq!((period.number, late.done.len()), (2, 2));
}

#[test]
fn an_end_can_wait_for_the_period_only_where_the_period_runs() {
    let time = at("2024-02-10T00:00:00Z");
    for (status, waits) in [
        (Status::Active, true),
        (Status::Trialing, true),
        (Status::Paused, true),
        (Status::Incomplete, false),
        (Status::PastDue, false),
    ] {
        let mut course = Course::of(january(status));
        course.cancel(false, time, Why::of("too dear")).unwrap();
        let subscription = &course.subscription;
        assert_eq!((subscription.status == status, subscription.cancel_at_period_end), (waits, waits), "{status}");
        assert_eq!((subscription.canceled_time, subscription.cancel_reason.as_str()), (Some(time), "too dear"));
        course.cancel(false, time, Why::of("again")).unwrap();
        assert_eq!((course.done.len(), course.subscription.cancel_reason.as_str()), (1, "too dear"), "{status}");
    }
    let mut expired = Course::of(january(Status::Expired));
    assert!(expired.cancel(false, time, Why::default()).is_err());
}

#[test]
fn a_change_is_made_at_once_only_where_a_period_of_the_same_length_costs_as_much_or_more() {
    let active = january(Status::Active);
    // Half of the 29 days, to the second.
    let now = at("2024-02-14T22:00:00Z");
    let check = |to: Terms, expected: Option<&str>| {
        let found = verdict(&active, &to, None, now).unwrap();
        assert_eq!(found, expected.map(|amount| (now, usd(amount))), "{to:?}");
    };
    check(terms("pro", Cycle::Monthly, "30"), Some("10"));
    check(terms("pro", Cycle::Monthly, "10.01"), Some("0.01"));
    check(terms("other", Cycle::Monthly, "10"), Some("0"));
    check(terms("small", Cycle::Monthly, "9.99"), None);
    check(terms("pro", Cycle::Yearly, "300"), None);
    let euros = Amount::parse(Currency::parse("EUR").unwrap(), "30").unwrap();
    check(Terms { price: euros, ..terms("pro", Cycle::Monthly, "0") }, None);
    let trial = Subscription { status: Status::Trialing, ..active.clone() };
    let found = verdict(&trial, &terms("pro", Cycle::Monthly, "30"), None, now).unwrap();
    assert_eq!(found, Some((now, usd("0"))), "a trial costs nothing, whatever it is of");
}

#[test]
fn a_preview_holds_for_ten_minutes_of_its_period() {
    let active = january(Status::Active);
    let pro = terms("pro", Cycle::Monthly, "30");
    let seen = at("2024-02-14T22:00:00Z");
    let later = |seconds: i64| Time::from_micros(seen.micros() + seconds * 1_000_000);
    assert_eq!(verdict(&active, &pro, Some(seen), later(600)), Ok(Some((seen, usd("10")))));
    for (asked, now) in [
        (seen, later(601)),
        (later(1), seen),
        (Time::from_micros(seen.micros() + 1), later(1)),
        (at("2024-01-31T09:59:59Z"), at("2024-01-31T10:05:00Z")),
        (at("2024-02-29T10:00:00Z"), at("2024-02-29T10:05:00Z")),
    ] {
        assert_eq!(verdict(&active, &pro, Some(asked), now).unwrap_err().field, "proration_time");
    }
}

proptest! {
    #[test]
    fn the_rest_of_a_period_is_all_of_it_at_first_nothing_at_its_end_and_falls_in_between(
        minor in 0..i64::MAX / 2, start in 0..4_000_000_000_i64, length in 1..366 * 86_400_i64, a in 0..1_000_i64,
        b in 0..1_000_i64
    ) {
        let second = |at: i64| Time::from_micros((start + at) * 1_000_000);
        let period = Period { number: 1, start: second(0), end: second(length) };
        prop_assert_eq!(period.rest(minor, period.start), Some(minor));
        prop_assert_eq!(period.rest(minor, period.end), Some(0));
        let (early, late) = (length * a.min(b) / 1_000, length * a.max(b) / 1_000);
        let (more, less) = (period.rest(minor, second(early)).unwrap(), period.rest(minor, second(late)).unwrap());
        prop_assert!(0 <= less && less <= more && more <= minor);
        // By hand, to the nearest: never off by more than half a unit.
        let exact = i128::from(minor) * i128::from(length - early);
        let off = (i128::from(more) * i128::from(length) - exact).abs();
        prop_assert!(2 * off <= i128::from(length));
    }

    #[test]
    fn what_recurs_is_the_twelfth_of_all_years_rounded_once(
        rows in prop::collection::vec((0..3_usize, 0..4_000_000_000_000_i64), 0..50)
    ) {
        let cycles = [(Cycle::Monthly, 12), (Cycle::Quarterly, 4), (Cycle::Yearly, 1)];
        let summed = cycles.map(|(cycle, _)| {
            let minors = || rows.iter().filter(|(at, _)| cycles[*at].0 == cycle).map(|(_, minor)| minor);
            let (millions, rest) = (minors().map(|minor| minor / 1_000_000).sum(), minors().map(|minor| minor % 1_000_000).sum());
            Recurring { currency: "USD".to_owned(), billing_cycle: cycle, millions, rest }
        });
        let slowly: i128 = rows.iter().map(|(at, minor)| i128::from(*minor) * cycles[*at].1).sum();
        let expected = (slowly + 6) / 12;
        prop_assert_eq!(i128::from(monthly(&summed).unwrap()[0].minor()), expected);
    }
}

#[test]
fn churn_is_the_share_that_was_lost_of_those_who_were_there() {
    let check = |living_at_start, lost, expected: &str| {
        assert_eq!(churn_rate(&Flow { created: 0, ended: 9, living_at_start, lost }), expected);
    };
    check(0, 0, "");
    check(8, 0, "0.0000");
    check(8, 8, "1.0000");
    check(3, 1, "0.3333");
    check(3, 2, "0.6667");
    check(20_000, 1, "0.0001");
}
