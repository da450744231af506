//! The rules of plans, case by case.

use super::{compare::compare, *};

fn slug(text: &str) -> Slug {
    Slug::parse(text).unwrap()
}

fn plan(plan_id: &str, monthly: &str) -> Plan {
    let usd = Currency::parse("USD").unwrap();
    let terms = Terms {
        name: plan_id.to_owned(),
        tier: Tier::Basic,
        currency: usd,
        prices: [(Cycle::Monthly, Amount::parse(usd, monthly).unwrap())].into(),
        trial_days: 0,
        included: vec![],
        features: BTreeMap::new(),
        seats: Seats { min: 1, max: None },
    };
    Draft { request_id: None, plan_id: slug(plan_id), terms }.plan(Time::from_micros(1))
}

#[test]
fn a_change_makes_the_next_version_and_no_change_makes_none() {
    let (basic, later) = (plan("basic", "10"), Time::from_micros(2));
    let same = Change { name: Some("basic".to_owned()), ..Change::default() };
    assert_eq!(same.applied(basic.clone(), later), Ok(basic.clone()));
    let other = Change { trial_days: Some(14), ..Change::default() };
    let changed = other.applied(basic.clone(), later).unwrap();
    assert_eq!((changed.version, changed.revision, changed.update_time), (2, 2, later));
    assert_eq!((changed.terms.trial_days, &changed.terms.name), (14, &basic.terms.name));
}

#[test]
fn what_stands_in_the_way_of_a_change_first_is_said() {
    let later = Time::from_micros(2);
    let basic = plan("basic", "10");
    let crossed = Change { min_seats: Some(5), max_seats: Some(Limit(Some(4))), ..Change::default() };
    assert_eq!(crossed.applied(basic.clone(), later), Err(Refused::SeatsCrossed { min: 5, max: 4 }));
    let stale = Change { etag: Some(Etag::of(7)), ..crossed };
    let refused = stale.applied(basic.clone(), later).unwrap_err();
    assert_eq!(refused, Refused::Stale { asked: "v7".to_owned(), now: "v1".to_owned() });
    let archived = Plan { status: Status::Archived, ..basic };
    assert_eq!(stale.applied(archived, later), Err(Refused::Archived(slug("basic"))));
}

#[test]
fn every_seat_costs_the_price_and_what_cannot_be_kept_is_no_amount() {
    let basic = plan("basic", "92233720368547758.07");
    assert_eq!(basic.amount(Cycle::Monthly, 1).unwrap().to_wire(), "92233720368547758.07");
    assert_eq!(basic.amount(Cycle::Monthly, 2), None);
    assert_eq!(basic.amount(Cycle::Yearly, 1), None, "it is not sold by the year");
    assert_eq!(plan("basic", "9.99").amount(Cycle::Monthly, 3).unwrap().to_wire(), "29.97");
}

#[test]
fn plans_side_by_side_have_a_row_for_each_thing_in_which_they_can_differ() {
    let mut pro = plan("pro", "30");
    pro.terms.seats = Seats { min: 1, max: Some(10) };
    pro.terms.included =
        vec![Included { product_id: slug("tokens"), quantity: Quantity::ONE, overage: Overage::Block }];
    pro.terms.features.insert("sso".to_owned(), "yes".to_owned());
    let rows = compare(&[plan("basic", "10"), pro]);
    let told: Vec<_> = rows
        .iter()
        .map(|row| format!("{:?} {}: {} {}", row.kind, row.name, row.cells.join("|"), row.differs()))
        .collect();
    assert_eq!(
        told,
        [
            "Price MONTHLY: 10 USD|30 USD true",
            "Seats seats: 1+|1-10 true",
            "Trial trial_days: 0|0 false",
            "IncludedUsage tokens: |1 BLOCK true",
            "Feature sso: |yes true",
        ]
    );
}
