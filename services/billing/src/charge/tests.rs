//! What a wallet pays of what it owes, case by case.

use std::{sync::Arc, time::Duration};

use mesh::{Background, Clock, RequestId, Store, Telemetry, store::Location};
use money::Currency;

use super::{settle::AT_ONCE, *};
use crate::{
    book::{Order, Sitting, Upkeep},
    deduction::Deduct,
    ledger::Wallet,
    migrations,
    refund::{Refund, Taken, What},
    wallet::{Payment, Standing},
};

fn usdc(minor: i64) -> Amount {
    Amount::from_minor(Currency::USDC, minor)
}

/// A charge `number: amount`, or `number: amount of other` for one that takes another back; with ` for product` after it.
fn charge(text: &str) -> Charge {
    let (text, product) = text.split_once(" for ").map_or((text, ""), |(text, product)| (text, product));
    let (number, rest) = text.split_once(": ").unwrap();
    let (amount, reversed) = rest.split_once(" of ").map_or((rest, None), |(amount, other)| (amount, Some(other)));
    let amount = usdc(amount.parse().unwrap());
    Charge {
        charge_id: Slug::parse(number).unwrap(),
        user_id: UserId::parse("ada").unwrap(),
        amount,
        credited: usdc(0),
        set_off: usdc(0),
        forgiven: usdc(0),
        source: Source::Usage,
        event_id: format!("evt_{number}"),
        ordinal: 0,
        subscription_id: None,
        organization_id: None,
        product_id: Slug::parse_optional(product).unwrap(),
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
    check(0, &["1: 60 for chat", "2: -70 for maps"], "1 PAID, 2 PAID; 10 left after 2, 0 open");
}

#[test]
fn what_is_too_much_of_what_was_used_is_taken_off_what_is_not_paid_of_it_the_newest_first() {
    check(0, &["1: 60", "2: 5", "3: -70"], "1 VOID less 60, 2 VOID less 5, 3 PAID less 65; 5 left after 1, 0 open");
    check(0, &["1: 60", "2: 5", "3: -7"], "1 OPEN less 2, 2 VOID less 5, 3 PAID less 7; 0 left after 0, 1 open");
    check(0, &["1: 60", "2: 5", "3: -7 of 1"], "1 OPEN less 7, 2 OPEN, 3 PAID less 7; 0 left after 0, 2 open");
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

/// Books without anybody at work who would have wallets asked.
struct Quiet {
    books: Books,
    context: Context,
}

impl Quiet {
    async fn new() -> Self {
        let store = Store::open(Location::Memory).await.unwrap();
        store.migrate(&migrations::all()).await.unwrap();
        let telemetry = Arc::new(Telemetry::quiet().unwrap());
        let books = Books::new(&store, &Clock::system(), &Background::default(), &telemetry);
        Self { books, context: Context::own(Tenant::default_tenant(), Duration::from_secs(30)) }
    }

    async fn owe(&self, charges: &[Charge]) {
        let unit = self.books.store.unit(&self.context);
        let input = (self.context.tenant.clone(), charges.to_vec());
        let written =
            unit.run(input, |(tenant, charges), transaction| Box::pin(table::insert(transaction, tenant, charges)));
        written.await.unwrap();
    }

    async fn pay(&self, id: &str, user: &str, amount: i64) {
        let payment = Payment {
            request_id: RequestId::parse(id).unwrap(),
            user_id: UserId::parse(user).unwrap(),
            amount: usdc(amount),
            provider: "bank".to_owned(),
            provider_reference: String::new(),
            subscription_id: None,
            standing: Standing::Active,
        };
        self.books.carry_out(&self.context, Order::Pay(payment), false).await.unwrap();
    }

    /// Asks wallets as the worker does, as long as there is any to be asked; says how often that was.
    async fn ask(&self) -> usize {
        for round in 0..10 {
            let wallets = table::untried(self.books.store.reader(), 1_000).await.unwrap();
            if wallets.is_empty() {
                return round;
            }
            for wallet in wallets {
                self.ask_one(wallet).await;
            }
        }
        panic!("there is no end to it");
    }

    async fn ask_one(&self, wallet: WalletKey) {
        let asked = self.books.keep_up(&self.context, Upkeep::Settle(wallet)).await.unwrap();
        asked.answer().await.unwrap().unwrap();
    }

    fn key(&self, user: &str) -> WalletKey {
        let user_id = UserId::parse(user).unwrap();
        WalletKey { tenant: self.context.tenant.clone(), user_id, currency: Currency::USDC }
    }

    async fn deduct(&self, id: &str, amount: i64) {
        let deduct = Deduct {
            request_id: RequestId::parse(id).unwrap(),
            user_id: UserId::parse("ada").unwrap(),
            amount: usdc(amount),
            api_id: None,
            endpoint_id: None,
            api_key_id: None,
        };
        self.books.carry_out(&self.context, Order::Deduct(deduct), false).await.unwrap();
    }

    async fn find(&self, number: &str) -> Charge {
        let id = Slug::parse(number).unwrap();
        table::find(self.books.store.reader(), &self.context.tenant, &id).await.unwrap().unwrap()
    }

    async fn wallet(&self, user: &str) -> Wallet {
        crate::ledger::find_wallet(self.books.store.reader(), &self.key(user)).await.unwrap().unwrap()
    }

    async fn void(&self, number: &str) {
        let charges = Charges { books: self.books.clone() };
        charges.void(&self.context, Slug::parse(number).unwrap(), "gone".to_owned()).await.unwrap().unwrap();
    }

    async fn refund(&self, number: &str, amount: i64) -> Result<(), String> {
        let charge = self.find(number).await;
        let refund = Refund {
            request_id: RequestId::parse(&format!("refund-{number}-{amount}")).unwrap(),
            what: What::Charge(charge.charge_id.clone()),
            amount: Some(usdc(amount)),
            asked: amount.to_string(),
            reason: String::new(),
            of: Some(Taken { transaction_id: charge.transaction_id, user_id: charge.user_id, amount: charge.amount }),
        };
        let refunded = self.books.carry_out(&self.context, Order::Refund(refund), false).await;
        refunded.map(drop).map_err(|error| error.to_string())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_back_for_a_charge_is_never_more_than_it_took() {
    let quiet = Quiet::new().await;
    quiet.pay("fund", "ada", 100).await;
    quiet.owe(&["1: 10", "2: 20", "3: 30"].map(charge)).await;
    quiet.ask().await;
    assert_eq!(quiet.wallet("ada").await.balance, usdc(40));
    // Refunded, then taken back: only what is left of it is given.
    quiet.refund("1", 4).await.unwrap();
    quiet.owe(&["4: -10 of 1 for maps"].map(charge)).await;
    quiet.ask().await;
    assert_eq!(quiet.wallet("ada").await.balance, usdc(50));
    assert_eq!(quiet.find("4").await.credited, usdc(4));
    assert!(quiet.refund("1", 1).await.is_err(), "all of it was given back");
    // Taken back in two steps, then refunded.
    for (step, balance) in [("5: -15 of 2 for maps", 65), ("6: -2 of 2 for maps", 67)] {
        quiet.owe(&[charge(step)]).await;
        quiet.ask().await;
        assert_eq!(quiet.wallet("ada").await.balance, usdc(balance));
    }
    assert!(quiet.refund("2", 4).await.is_err());
    quiet.refund("2", 3).await.unwrap();
    assert_eq!(quiet.wallet("ada").await.balance, usdc(70));
    // Refunded in part and taken back in two steps: what was refunded is taken off once.
    quiet.refund("3", 10).await.unwrap();
    for (step, balance) in [("7: -15 of 3 for maps", 85), ("8: -15 of 3 for maps", 100)] {
        quiet.owe(&[charge(step)]).await;
        quiet.ask().await;
        assert_eq!(quiet.wallet("ada").await.balance, usdc(balance));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_set_off_is_given_back_too() {
    let quiet = Quiet::new().await;
    quiet.pay("fund", "ada", 20).await;
    quiet.owe(&["1: 20 for maps", "2: 15 for maps"].map(charge)).await;
    quiet.ask().await;
    // Taken back where nothing is left in the wallet: less is owed of what else was used.
    quiet.owe(&["3: -10 of 1 for maps"].map(charge)).await;
    quiet.ask().await;
    assert_eq!((quiet.wallet("ada").await.balance, quiet.find("2").await.credited), (usdc(0), usdc(10)));
    assert!(quiet.refund("1", 11).await.is_err(), "10 of it were given back, by owing less");
    quiet.refund("1", 4).await.unwrap();
    // Of the next 10, 4 were refunded and 5 are still owed of the second: 1 is given.
    quiet.owe(&["4: -10 of 1 for maps"].map(charge)).await;
    quiet.ask().await;
    let credit = quiet.find("4").await;
    assert_eq!((credit.credited, credit.forgiven, credit.set_off), (usdc(9), usdc(4), usdc(5)));
    assert_eq!(quiet.wallet("ada").await.balance, usdc(5));
    assert!(quiet.refund("1", 1).await.is_err(), "all of it was given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_no_giving_back_counts_once_though_the_rest_has_to_wait_for_room() {
    let quiet = Quiet::new().await;
    quiet.pay("fund", "ada", 20).await;
    quiet.owe(&["1: 20"].map(charge)).await;
    quiet.ask().await;
    quiet.refund("1", 4).await.unwrap();
    let much = i64::MAX - 10;
    quiet.pay("much", "ada", much).await;
    quiet.owe(&["2: -20 of 1"].map(charge)).await;
    quiet.ask().await;
    let waits = quiet.find("2").await;
    assert_eq!(
        (waits.state, waits.forgiven, quiet.wallet("ada").await.balance),
        (ChargeState::Open, usdc(4), usdc(much + 4))
    );
    quiet.deduct("less", much).await;
    quiet.ask_one(quiet.key("ada")).await;
    let credit = quiet.find("2").await;
    assert_eq!(
        (credit.state, credit.forgiven, quiet.wallet("ada").await.balance),
        (ChargeState::Paid, usdc(4), usdc(20))
    );
    assert!(quiet.refund("1", 1).await.is_err(), "all of it was given back");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_voided_is_not_given_back() {
    let quiet = Quiet::new().await;
    quiet.owe(&["1: 30"].map(charge)).await;
    quiet.ask().await;
    quiet.void("1").await;
    quiet.owe(&["2: -20 of 1", "3: -10 of 1"].map(charge)).await;
    quiet.ask().await;
    let wallet = quiet.wallet("ada").await;
    assert_eq!((wallet.balance, wallet.version, wallet.open_charges), (usdc(0), 0, 0));
    assert_eq!((quiet.find("2").await.state, quiet.find("3").await.state), (ChargeState::Paid, ChargeState::Paid));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_after_a_voided_charge_is_paid_where_that_is_covered() {
    let quiet = Quiet::new().await;
    quiet.pay("fund", "ada", 15).await;
    quiet.owe(&["1: 30", "2: 10", "3: 10"].map(charge)).await;
    quiet.ask().await;
    assert_eq!(quiet.wallet("ada").await.open_charges, 3);
    quiet.void("1").await;
    quiet.ask().await;
    let states = [quiet.find("2").await.state, quiet.find("3").await.state];
    assert_eq!(states, [ChargeState::Paid, ChargeState::Open]);
    let wallet = quiet.wallet("ada").await;
    assert_eq!((wallet.balance, wallet.open_charges), (usdc(5), 1));
    quiet.void("3").await;
    assert_eq!((quiet.ask().await, quiet.wallet("ada").await.open_charges), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_owes_more_than_one_sitting_holds_is_asked_for_all_of_it_and_keeps_nobody_waiting() {
    let quiet = Quiet::new().await;
    quiet.pay("fund", "bob", 1).await;
    let owed: Vec<Charge> = (0..2_500).map(|number| charge(&format!("{number:04}: 1"))).collect();
    let bob = Charge { user_id: UserId::parse("bob").unwrap(), ..charge("9998: 1") };
    quiet.owe(&[owed, vec![bob, charge("9999: -1 of 2400")]].concat()).await;
    assert!(quiet.ask().await <= 4);
    assert_eq!(quiet.find("9998").await.state, ChargeState::Paid);
    assert_eq!(quiet.find("2400").await.state, ChargeState::Void, "it was taken back");
    assert_eq!(quiet.wallet("ada").await.open_charges, 2_499);
    // All of it is paid in turn, whichever sitting it is read in.
    quiet.pay("late", "ada", 2_499).await;
    quiet.ask().await;
    let wallet = quiet.wallet("ada").await;
    assert_eq!((wallet.balance, wallet.open_charges), (usdc(0), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_pays_what_was_written_down_a_moment_ago() {
    let quiet = Quiet::new().await;
    // The first payment makes the wallet, the second finds it, and finds that it knows of no charge.
    for id in ["1", "2"] {
        quiet.owe(&[charge(&format!("{id}: 60"))]).await;
        quiet.pay(id, "ada", 100).await;
        assert_eq!(quiet.find(id).await.state, ChargeState::Paid, "charge {id}");
    }
}
