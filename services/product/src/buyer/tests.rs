//! The rule of freshness, case by case.

use super::*;

#[test]
fn what_an_event_said_counts_where_it_is_newer_than_what_account_answered() {
    let asked = Asked { status: Some(Status::Active), version: 2 };
    let known = |version| Some(Buyer { status: Status::Suspended, version, as_of_time: Time::from_micros(1) });
    for older in [None, known(1), known(2)] {
        assert_eq!(asked.or_later(older), asked);
    }
    assert_eq!(asked.or_later(known(3)), Asked { status: Some(Status::Suspended), version: 3 });
}

#[test]
fn a_word_is_good_for_thirty_seconds_and_says_how_old_it_is() {
    let told = 1_000_000_000;
    let check = |status, age_micros: i64, expected: Option<(bool, u64)>| {
        let buyer = Buyer { status, version: 1, as_of_time: Time::from_micros(told) };
        let expected = expected.map(|(active, micros)| Known { active, staleness: Duration::from_micros(micros) });
        assert_eq!(known(&buyer, Time::from_micros(told + age_micros)), expected, "{status} after {age_micros} µs");
    };
    check(Status::Active, 0, Some((true, 0)));
    check(Status::Active, 1, Some((true, 1)));
    check(Status::Active, 30_000_000, Some((true, 30_000_000)));
    check(Status::Active, 30_000_001, None);
    check(Status::Active, 86_400_000_000, None);
    // The word of a clock that is ahead of this one.
    check(Status::Active, -1, None);
    check(Status::Active, -86_400_000_000, None);
    for status in [Status::Suspended, Status::Deleted, Status::Erased] {
        check(status, 7, Some((false, 7)));
        check(status, 30_000_001, None);
    }
}
