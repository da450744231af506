//! What a wallet pays of what it owes, case by case.

use std::{sync::Arc, time::Duration};

use mesh::{Background, Clock, RequestId, Store, Telemetry, store::Location};
use money::Currency;

use super::*;
use crate::{
    book::Order,
    migrations,
    wallet::{Payment, Standing},
};

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
        event_id: format!("evt_{number}"),
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

/// Nobody is at work who would have the wallet asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_payment_pays_what_was_written_down_a_moment_ago() {
    let store = Store::open(Location::Memory).await.unwrap();
    store.migrate(&migrations::all()).await.unwrap();
    let books = Books::new(&store, &Clock::system(), &Background::default(), &Arc::new(Telemetry::quiet().unwrap()));
    let context = Context::own(Tenant::default_tenant(), Duration::from_secs(30));
    // The first payment makes the wallet, the second finds it, and finds that it knows of no charge.
    for id in ["1", "2"] {
        let unit = store.unit(&context);
        let input = (context.tenant.clone(), [charge(&format!("{id}: 60"))]);
        let written =
            unit.run(input, |(tenant, charges), transaction| Box::pin(table::insert(transaction, tenant, charges)));
        written.await.unwrap();
        let payment = Payment {
            request_id: RequestId::parse(id).unwrap(),
            user_id: UserId::parse("ada").unwrap(),
            amount: usdc(100),
            provider: "bank".to_owned(),
            provider_reference: String::new(),
            subscription_id: None,
            standing: Standing::Active,
        };
        books.carry_out(&context, Order::Pay(payment), false).await.unwrap();
        let found = table::find(store.reader(), &context.tenant, &Slug::parse(id).unwrap()).await.unwrap().unwrap();
        assert_eq!(found.state, ChargeState::Paid, "charge {id}");
    }
}
