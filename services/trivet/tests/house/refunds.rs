//! Refunds, as their callers see them.

use futures_util::future::join_all;
use prost::Message as _;
use trivet_proto::billing::v1::{
    FreezeWalletRequest, GetDeductionRequest, GetWalletRequest, RefundRequest, TransactionKind,
};

use crate::{
    harness::{House, faulty, on_every_store, order, reason, told},
    payments::transactions,
    tenants::of,
};

fn refund(request_id: &str, deduction: &str, amount: &str) -> RefundRequest {
    RefundRequest {
        request_id: request_id.to_owned(),
        deduction_request_id: deduction.to_owned(),
        amount: amount.to_owned(),
        reason: "as agreed".to_owned(),
        ..RefundRequest::default()
    }
}

async fn balance(house: &House) -> String {
    let ask = GetWalletRequest { user_id: "ada".to_owned(), currency: String::new() };
    house.wallets().get_wallet(ask).await.unwrap().into_inner().wallet.unwrap().balance
}

async fn refunded(house: &House, request_id: &str) -> String {
    let ask = GetDeductionRequest { request_id: request_id.to_owned() };
    house.billing().get_deduction(ask).await.unwrap().into_inner().deduction.unwrap().refunded_amount
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_is_given_back_once_in_parts_and_never_more_than_it_was() {
    on_every_store(async |house| {
        house.user("ada", "10").await;
        house.billing().deduct(order("req-1", "ada", "5")).await.unwrap();
        let first = house.billing().refund(refund("back-1", "req-1", "2")).await.unwrap().into_inner();
        let given = first.refund.clone().unwrap();
        assert_eq!((&*given.amount, &*given.balance_after, given.wallet_version), ("2", "7", 3));
        assert_eq!((&*given.user_id, &*given.currency, &*given.reason), ("ada", "USDC", "as agreed"));
        let again = house.billing().refund(refund("back-1", "req-1", "2.0")).await.unwrap().into_inner();
        assert!(again.already_processed && !first.already_processed);
        assert_eq!(again.refund.unwrap().encode_to_vec(), given.encode_to_vec());
        assert_eq!(refunded(house, "req-1").await, "2");
        let refused = house.billing().refund(refund("back-2", "req-1", "3.0000001")).await.unwrap_err();
        assert_eq!(reason(&refused), "REFUND_EXCEEDS_DEDUCTION");
        assert_eq!(["taken", "refunded", "required"].map(|key| told(&refused, key)), ["5", "2", "3.0000001"]);
        // All that is left, where no amount is given; the answer to a repeat says how much that was.
        for _ in 0..2 {
            let rest = house.billing().refund(refund("back-3", "req-1", "")).await.unwrap().into_inner();
            assert_eq!(rest.refund.unwrap().amount, "3");
        }
        let refused = house.billing().refund(refund("back-4", "req-1", "")).await.unwrap_err();
        assert_eq!(reason(&refused), "REFUND_EXCEEDS_DEDUCTION");
        assert_eq!((balance(house).await, refunded(house, "req-1").await), ("10".to_owned(), "5".to_owned()));
        let changes = transactions(house, "ada").await;
        assert_eq!((changes[0].kind(), &*changes[0].amount), (TransactionKind::Refund, "3"));
        assert_eq!((&*changes[0].reason, &changes[0].related_id), ("as agreed", &changes[2].transaction_id));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_refunds_at_once_so_many_are_made_as_were_taken() {
    on_every_store(async |house| {
        house.user("ada", "10").await;
        house.billing().deduct(order("req-1", "ada", "5")).await.unwrap();
        let refunds =
            (0..16).map(async |number| house.billing().refund(refund(&format!("back-{number}"), "req-1", "1")).await);
        let (made, refused): (Vec<_>, Vec<_>) = join_all(refunds).await.into_iter().partition(Result::is_ok);
        assert_eq!(made.len(), 5);
        for refused in refused {
            assert_eq!(reason(&refused.unwrap_err()), "REFUND_EXCEEDS_DEDUCTION");
        }
        assert_eq!(balance(house).await, "10");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_taken_is_not_given_back() {
    on_every_store(async |house| {
        house.user("ada", "10").await;
        for id in ["req-1", "fund-ada"] {
            let refused = house.billing().refund(refund(&format!("back-{id}"), id, "1")).await.unwrap_err();
            assert_eq!(reason(&refused), "DEDUCTION_NOT_FOUND", "{id}");
        }
        // It was an answer, and is kept.
        house.billing().deduct(order("req-1", "ada", "5")).await.unwrap();
        let refused = house.billing().refund(refund("back-req-1", "req-1", "1")).await.unwrap_err();
        assert_eq!(reason(&refused), "DEDUCTION_NOT_FOUND");
        let elsewhere = house.billing().refund(of("other", refund("back-2", "req-1", "1"))).await.unwrap_err();
        assert_eq!(reason(&elsewhere), "DEDUCTION_NOT_FOUND");
        let charge = RefundRequest {
            deduction_request_id: String::new(),
            charge_id: "charge_1".to_owned(),
            ..refund("back-3", "", "")
        };
        assert_eq!(reason(&house.billing().refund(charge).await.unwrap_err()), "CHARGE_NOT_FOUND");
        assert_eq!(balance(house).await, "5");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_wallet_takes_a_refund_and_a_rehearsed_one_changes_nothing() {
    on_every_store(async |house| {
        house.user("ada", "10").await;
        house.billing().deduct(order("req-1", "ada", "5")).await.unwrap();
        let ask = FreezeWalletRequest { user_id: "ada".to_owned(), currency: String::new() };
        house.wallets().freeze_wallet(ask).await.unwrap();
        let rehearse = RefundRequest { validate_only: true, ..refund("back-1", "req-1", "2") };
        let answer = house.billing().refund(rehearse).await.unwrap().into_inner().refund.unwrap();
        assert_eq!((&*answer.transaction_id, &*answer.balance_after), ("", "7"));
        assert_eq!(balance(house).await, "5");
        assert!(!house.billing().refund(refund("back-1", "req-1", "2")).await.unwrap().into_inner().already_processed);
        assert_eq!(balance(house).await, "7");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_refund_is_named_at_once() {
    on_every_store(async |house| {
        house.user("ada", "10").await;
        let odd = RefundRequest { reason: "x".repeat(501), ..refund("a b", "", "0") };
        let refused = house.billing().refund(odd).await.unwrap_err();
        assert_eq!(faulty(&refused), ["request_id", "deduction_request_id", "amount", "reason"]);
        let both = RefundRequest { charge_id: "charge_1".to_owned(), ..refund("back-1", "req-1", "1") };
        assert_eq!(faulty(&house.billing().refund(both).await.unwrap_err()), ["charge_id"]);
        house.billing().deduct(order("req-1", "ada", "5")).await.unwrap();
        let precise = house.billing().refund(refund("back-1", "req-1", "0.00000001")).await.unwrap_err();
        assert_eq!(faulty(&precise), ["amount"]);
        house.billing().refund(refund("back-1", "req-1", "1")).await.unwrap();
    })
    .await;
}
