//! What a wallet pays of what it owes, case by case.

use money::Currency;

use super::*;

fn usdc(minor: i64) -> Amount {
    Amount::from_minor(Currency::USDC, minor)
}

/// A charge `number: amount`, or `number: amount of other` for one that takes another back.
fn charge(text: &str) -> Charge {
    let (number, rest) = text.split_once(": ").unwrap();
    let (amount, reversed) = rest.split_once(" of ").map_or((rest, None), |(amount, other)| (amount, Some(other)));
    let amount = usdc(amount.parse().unwrap());
    Charge {
        charge_id: Slug::parse(number).unwrap(),
        user_id: UserId::parse("ada").unwrap(),
        amount,
        credited: usdc(0),
        source: Source::Usage,
        event_id: "evt_1".to_owned(),
        ordinal: 0,
        subscription_id: None,
        organization_id: None,
        product_id: None,
        plan_id: None,
        reversed_id: reversed.map(|other| Slug::parse(other).unwrap()),
        state: ChargeState::Open,
        tried: false,
        create_time: Time::from_micros(0),
        end_time: None,
        void_reason: String::new(),
        transaction_id: String::new(),
    }
}

fn check(balance: i64, owed: &[&str], expected: &str) {
    let owed: Vec<Charge> = owed.iter().map(|text| charge(text)).collect();
    let (mut sitting, key) = Sitting::over(usdc(balance), Time::from_micros(0), owed);
    settle(&mut sitting, &key).unwrap();
    let told: Vec<String> = sitting
        .charges()
        .map(|charge| {
            let credited =
                if charge.credited.is_zero() { String::new() } else { format!(" less {}", charge.credited.minor()) };
            format!("{} {}{credited}", charge.charge_id, charge.state)
        })
        .collect();
    let wallet = sitting.wallet(&key).unwrap();
    let left = format!("{} left after {}, {} open", wallet.balance.minor(), wallet.version, wallet.open_charges);
    assert_eq!(format!("{}; {left}", told.join(", ")), expected);
}

#[test]
fn charges_are_paid_strictly_the_oldest_first() {
    check(100, &["1: 60", "2: 40"], "1 PAID, 2 PAID; 0 left after 2, 0 open");
    check(99, &["1: 60", "2: 40"], "1 PAID, 2 OPEN; 39 left after 1, 1 open");
    check(59, &["1: 60", "2: 40"], "1 OPEN, 2 OPEN; 59 left after 0, 2 open");
}

#[test]
fn what_the_house_owes_is_credited_first_and_pays_what_is_owed() {
    check(0, &["1: 60", "2: -70"], "1 PAID, 2 PAID; 10 left after 2, 0 open");
}

#[test]
fn a_charge_that_is_not_paid_is_taken_back_rather_than_paid_and_credited() {
    check(0, &["1: 60", "2: -60 of 1"], "1 VOID less 60, 2 PAID less 60; 0 left after 0, 0 open");
    check(0, &["1: 60", "2: -20 of 1"], "1 OPEN less 20, 2 PAID less 20; 0 left after 0, 1 open");
    check(40, &["1: 60", "2: -20 of 1"], "1 PAID less 20, 2 PAID less 20; 0 left after 1, 0 open");
    check(0, &["1: 60", "2: -70 of 1"], "1 VOID less 60, 2 PAID less 60; 10 left after 1, 0 open");
}

#[test]
fn a_charge_that_was_paid_before_is_credited() {
    check(0, &["2: -60 of 1"], "2 PAID; 60 left after 1, 0 open");
}

#[test]
fn no_more_is_paid_at_once_than_one_sitting_holds() {
    let owed: Vec<String> = (0..=AT_ONCE).map(|number| format!("{number:04}: 1")).collect();
    let owed: Vec<Charge> = owed.iter().map(|text| charge(text)).collect();
    let (mut sitting, key) = Sitting::over(usdc(5_000), Time::from_micros(0), owed);
    settle(&mut sitting, &key).unwrap();
    let open: Vec<&Charge> = sitting.charges().filter(|charge| charge.state == ChargeState::Open).collect();
    assert!(matches!(open[..], [charge] if !charge.tried), "the next one is looked at again");
}
