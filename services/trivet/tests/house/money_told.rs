//! What billing tells of money, in the transaction that moves it.

use std::time::Duration;

use mesh::store::sql;
use prost_types::Timestamp;
use sea_orm::ConnectionTrait as _;
use trivet::RoleName;
use trivet_proto::{
    Event,
    billing::v1::{
        BatchDeductRequest, CaptureHoldRequest, DeductionMade, DeductionOrder, HoldCaptured, HoldPlaced, HoldReleased,
        PaymentCompleted, PlaceHoldRequest, RefundMade, RefundRequest, ReleaseHoldRequest, WalletInsufficientFunds,
    },
};

use crate::harness::{House, eventually, on_every_store, on_every_store_with_a_held_clock, order, payment};

/// An event of the outbox: its type, its subject with the version of it, and its data.
struct Told {
    kind: String,
    about: String,
    data: Vec<u8>,
}

impl Told {
    fn read<E: Event>(&self) -> E {
        assert_eq!(self.kind, E::KIND.kind);
        E::decode(self.data.as_slice()).unwrap()
    }

    /// What it says, without what is different each time.
    fn shortly(&self) -> String {
        let says = match self.kind.as_str() {
            "payment.completed" => {
                let it: PaymentCompleted = self.read();
                format!("{} {} for {:?}", it.amount, it.currency, it.subscription_id)
            }
            "deduction.made" => {
                let it: DeductionMade = self.read();
                let item = |item: &trivet_proto::billing::v1::DeductionItem| {
                    assert!(item.transaction_id.starts_with("txn_") && item.create_time.is_some());
                    format!(
                        "{} {} {} of {} leaves {} at {}",
                        item.request_id,
                        item.amount,
                        item.currency,
                        item.user_id,
                        item.balance_after,
                        item.wallet_version
                    )
                };
                it.deductions.iter().map(item).collect::<Vec<_>>().join(", ")
            }
            "refund.made" => {
                let it: RefundMade = self.read();
                assert!(it.transaction_id.starts_with("txn_") && it.refunded_transaction_id.starts_with("txn_"));
                format!("{} {} to {}", it.amount, it.currency, it.user_id)
            }
            "hold.placed" => {
                let it: HoldPlaced = self.read();
                format!("{} {} of {}", it.amount, it.currency, it.user_id)
            }
            "hold.captured" => {
                let it: HoldCaptured = self.read();
                format!("{} of {} {} of {}", it.captured_amount, it.amount, it.currency, it.user_id)
            }
            "hold.released" => {
                let it: HoldReleased = self.read();
                format!("{} {} of {}, expired: {}", it.amount, it.currency, it.user_id, it.expired)
            }
            "wallet.insufficient_funds" => {
                let it: WalletInsufficientFunds = self.read();
                assert!(!it.suspend);
                format!("{} of {} {} for {:?}", it.available, it.required, it.currency, it.subscription_id)
            }
            kind => panic!("{kind}"),
        };
        format!("{} {} {says}", self.kind, self.about)
    }
}

/// All that billing told, in order.
async fn told(house: &House) -> Vec<Told> {
    let store = house.rows(RoleName::Billing).await;
    let reader = store.reader();
    let text = "select type, aggregate, subject, aggregate_version, data from outbox order by position";
    let rows = reader.query_all_raw(sql(reader, text, [])).await.unwrap();
    let told = rows.iter().map(|row| {
        let column = |name: &str| row.try_get::<String>("", name).unwrap();
        let version: i64 = row.try_get("", "aggregate_version").unwrap();
        // A deduction has a subject of its own, the first of its transactions.
        let subject = if column("aggregate") == "deduction" { String::new() } else { column("subject") };
        let about = format!("{} {subject} {version}", column("aggregate"));
        Told { kind: column("type"), about, data: row.try_get("", "data").unwrap() }
    });
    let told = told.collect();
    store.close().await.unwrap();
    told
}

async fn shortly(house: &House) -> Vec<String> {
    told(house).await.iter().map(Told::shortly).collect()
}

fn hold(request_id: &str, amount: &str, expire_time: Option<Timestamp>) -> PlaceHoldRequest {
    PlaceHoldRequest {
        request_id: request_id.to_owned(),
        user_id: "ada".to_owned(),
        amount: amount.to_owned(),
        expire_time,
        ..PlaceHoldRequest::default()
    }
}

async fn placed(house: &House, hold: PlaceHoldRequest) -> String {
    house.billing().place_hold(hold).await.unwrap().into_inner().hold.unwrap().hold_id
}

#[tokio::test(flavor = "multi_thread")]
async fn every_movement_of_money_is_told_once_in_order_and_with_its_version() {
    on_every_store_with_a_held_clock(async |house, clock| {
        house.user("ada", "10").await;
        for _ in 0..2 {
            house.billing().deduct(order("take", "ada", "4")).await.unwrap();
        }
        let refund = RefundRequest {
            request_id: "back".to_owned(),
            deduction_request_id: "take".to_owned(),
            amount: "1".to_owned(),
            ..RefundRequest::default()
        };
        house.billing().refund(refund).await.unwrap();
        let hold_id = placed(house, hold("hold-1", "3", None)).await;
        let (request_id, amount) = ("capture".to_owned(), "2".to_owned());
        let capture = CaptureHoldRequest { request_id, hold_id, amount, validate_only: false };
        house.billing().capture_hold(capture).await.unwrap();
        let hold_id = placed(house, hold("hold-2", "1", None)).await;
        let release = ReleaseHoldRequest { request_id: "release".to_owned(), hold_id, validate_only: false };
        house.billing().release_hold(release).await.unwrap();
        let soon = clock.now().plus(Duration::from_mins(1)).to_wire();
        placed(house, hold("hold-3", "0.5", Some(soon))).await;
        house.billing().deduct(order("more", "ada", "4.6")).await.unwrap_err();
        clock.advance(Duration::from_mins(2));
        eventually("it expires", async || told(house).await.len() == 10).await;
        house.wallets().record_payment(payment("pay-again", "ada", "1")).await.unwrap();
        assert_eq!(
            shortly(house).await,
            [
                "payment.completed wallet ada 1 10 USDC for \"\"",
                "deduction.made deduction  1 take 4 USDC of ada leaves 6 at 2",
                "refund.made wallet ada 3 1 USDC to ada",
                "hold.placed wallet ada 4 3 USDC of ada",
                "hold.captured wallet ada 5 2 of 3 USDC of ada",
                "hold.placed wallet ada 6 1 USDC of ada",
                "hold.released wallet ada 7 1 USDC of ada, expired: false",
                "hold.placed wallet ada 8 0.5 USDC of ada",
                "wallet.insufficient_funds wallet ada 8 4.5 of 4.6 USDC for \"\"",
                "hold.released wallet ada 9 0.5 USDC of ada, expired: true",
                "payment.completed wallet ada 10 1 USDC for \"\"",
            ]
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deductions_of_one_commit_are_told_of_together_up_to_five_hundred() {
    on_every_store(async |house| {
        house.user("ada", "10").await;
        let one = |number: usize, amount: &str| DeductionOrder {
            request_id: format!("r{number}"),
            user_id: "ada".to_owned(),
            amount: amount.to_owned(),
            ..DeductionOrder::default()
        };
        let orders = (0..501).map(|number| one(number, "0.01")).collect();
        let all = BatchDeductRequest { deductions: orders, atomic: true, validate_only: false };
        house.billing().batch_deduct(all).await.unwrap();
        let told = told(house).await;
        let made: Vec<DeductionMade> = told[1..].iter().map(Told::read).collect();
        assert_eq!(made.iter().map(|made| made.deductions.len()).collect::<Vec<_>>(), [500, 1]);
        let versions = made.iter().flat_map(|made| &made.deductions).map(|item| item.wallet_version);
        assert!(versions.eq(2..=502));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_deductions_that_were_refused_together_the_last_of_each_wallet_is_told_of_in_its_turn() {
    on_every_store(async |house| {
        house.user("ada", "1").await;
        let one = |request_id: &str, amount: &str| DeductionOrder {
            request_id: request_id.to_owned(),
            user_id: "ada".to_owned(),
            amount: amount.to_owned(),
            ..DeductionOrder::default()
        };
        // One item, and so one commit; what stops it is told of the wallet as it stays.
        let orders = vec![one("a", "0.4"), one("b", "0.7"), one("c", "5")];
        let all = BatchDeductRequest { deductions: orders, atomic: true, validate_only: false };
        house.billing().batch_deduct(all).await.unwrap_err();
        house.billing().deduct(order("d", "ada", "0.5")).await.unwrap();
        house.billing().deduct(order("e", "ada", "0.6")).await.unwrap_err();
        house.billing().deduct(order("e", "ada", "0.6")).await.unwrap_err();
        assert_eq!(
            shortly(house).await[1..],
            [
                "wallet.insufficient_funds wallet ada 1 1 of 0.7 USDC for \"\"",
                "deduction.made deduction  1 d 0.5 USDC of ada leaves 0.5 at 2",
                "wallet.insufficient_funds wallet ada 2 0.5 of 0.6 USDC for \"\"",
            ]
        );
    })
    .await;
}
