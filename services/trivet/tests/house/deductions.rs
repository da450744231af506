//! Deductions, as their callers see them: one request id, one answer, for ever.

use prost::Message as _;
use tonic::Code;
use trivet_proto::billing::v1::{
    DeductRequest, Deduction, GetDeductionRequest, GetWalletRequest, SettlementState, VoidRequestRequest,
};

use crate::harness::{House, on_every_store, order, payment, reason, told};

fn find(request_id: &str) -> GetDeductionRequest {
    GetDeductionRequest { request_id: request_id.to_owned() }
}

fn void(request_id: &str) -> VoidRequestRequest {
    VoidRequestRequest { request_id: request_id.to_owned(), reason: "the caller gave up".to_owned() }
}

async fn balance(house: &House, user_id: &str) -> String {
    let ask = GetWalletRequest { user_id: user_id.to_owned(), currency: String::new() };
    house.wallets().get_wallet(ask).await.unwrap().into_inner().wallet.unwrap().balance
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_takes_the_money_once_and_gets_the_same_answer() {
    on_every_store(async |house| {
        house.user("ada", "10").await;
        let first = house.billing().deduct(order("req-1", "ada", "0.01")).await.unwrap().into_inner();
        let deduction = first.deduction.unwrap();
        assert!(!first.already_processed && deduction.transaction_id.starts_with("txn_"));
        assert_eq!((deduction.balance_after.as_str(), deduction.wallet_version), ("9.99", 2));
        assert_eq!(deduction.settlement.as_ref().unwrap().state(), SettlementState::NotRequired);
        // "0.010" says the same, and so does a currency that is left out or named.
        for again in
            [order("req-1", "ada", "0.010"), DeductRequest { currency: "USDC".into(), ..order("req-1", "ada", "0.01") }]
        {
            let replay = house.billing().deduct(again).await.unwrap().into_inner();
            assert!(replay.already_processed);
            assert_eq!(replay.deduction.unwrap().encode_to_vec(), deduction.encode_to_vec());
        }
        assert_eq!(balance(house, "ada").await, "9.99");
        assert_eq!(
            house.billing().get_deduction(find("req-1")).await.unwrap().into_inner().deduction.unwrap(),
            deduction
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_request_under_a_used_id_is_refused_and_says_what_differs() {
    on_every_store(async |house| {
        house.user("ada", "10").await;
        house.billing().deduct(order("req-1", "ada", "0.01")).await.unwrap();
        let other = DeductRequest { api_id: "chat".to_owned(), ..order("req-1", "ada", "0.02") };
        let refused = house.billing().deduct(other).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "REQUEST_ID_REUSED"));
        assert_eq!(told(&refused, "differs"), "amount, api_id");
        let elsewhere = house.wallets().record_payment(payment("req-1", "ada", "0.01")).await.unwrap_err();
        assert_eq!(
            (reason(&elsewhere).as_str(), told(&elsewhere, "differs").as_str()),
            ("REQUEST_ID_REUSED", "it was a Deduct")
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_kept_so_that_a_straggler_can_never_charge() {
    on_every_store(async |house| {
        house.user("ada", "1").await;
        let refused = house.billing().deduct(order("req-1", "ada", "5")).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "INSUFFICIENT_FUNDS"));
        let said = ["balance", "available", "required", "currency"].map(|key| told(&refused, key));
        assert_eq!(said, ["1", "1", "5", "USDC"]);
        house.wallets().record_payment(payment("pay-2", "ada", "100")).await.unwrap();
        let straggler = house.billing().deduct(order("req-1", "ada", "5")).await.unwrap_err();
        assert_eq!((reason(&straggler).as_str(), told(&straggler, "balance").as_str()), ("INSUFFICIENT_FUNDS", "1"));
        assert_eq!(reason(&house.billing().get_deduction(find("req-1")).await.unwrap_err()), "DEDUCTION_NOT_FOUND");
        house.billing().deduct(order("req-2", "ada", "5")).await.unwrap();
        assert_eq!(balance(house, "ada").await, "96");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_wallet_nothing_is_taken() {
    on_every_store(async |house| {
        let refused = house.billing().deduct(order("req-1", "nobody", "1")).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "WALLET_NOT_FOUND"));
        house.user("nobody", "10").await;
        assert_eq!(
            reason(&house.billing().deduct(order("req-1", "nobody", "1")).await.unwrap_err()),
            "WALLET_NOT_FOUND"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsed_deduction_decides_and_keeps_nothing() {
    on_every_store(async |house| {
        house.user("ada", "1").await;
        let rehearse = |amount| DeductRequest { validate_only: true, ..order("req-1", "ada", amount) };
        let answer = house.billing().deduct(rehearse("0.4")).await.unwrap().into_inner().deduction.unwrap();
        assert_eq!((answer.balance_after.as_str(), answer.transaction_id.as_str()), ("0.6", ""));
        assert_eq!(reason(&house.billing().deduct(rehearse("5")).await.unwrap_err()), "INSUFFICIENT_FUNDS");
        assert_eq!(balance(house, "ada").await, "1");
        assert!(!house.billing().deduct(order("req-1", "ada", "0.5")).await.unwrap().into_inner().already_processed);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voided_id_never_takes_money() {
    on_every_store(async |house| {
        house.user("ada", "1").await;
        let first = house.billing().void_request(void("req-1")).await.unwrap().into_inner();
        assert!(!first.already_processed);
        let again = house.billing().void_request(void("req-1")).await.unwrap().into_inner();
        assert!(again.already_processed);
        assert_eq!(again.void_time, first.void_time);
        let refused = house.billing().deduct(order("req-1", "ada", "0.5")).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "REQUEST_VOIDED"));
        let refused = house.wallets().record_payment(payment("req-1", "ada", "0.5")).await.unwrap_err();
        assert_eq!(reason(&refused), "REQUEST_VOIDED");
        assert_eq!(balance(house, "ada").await, "1");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_id_that_was_refused_can_be_voided_and_one_that_took_money_cannot() {
    on_every_store(async |house| {
        house.user("ada", "1").await;
        house.billing().deduct(order("req-1", "ada", "5")).await.unwrap_err();
        house.billing().void_request(void("req-1")).await.unwrap();
        assert_eq!(reason(&house.billing().deduct(order("req-1", "ada", "5")).await.unwrap_err()), "REQUEST_VOIDED");
        let deduction =
            house.billing().deduct(order("req-2", "ada", "0.5")).await.unwrap().into_inner().deduction.unwrap();
        let late = house.billing().void_request(void("req-2")).await.unwrap_err();
        assert_eq!((late.code(), reason(&late).as_str()), (Code::FailedPrecondition, "ALREADY_APPLIED"));
        let details = tonic_types::Status::decode(late.details()).unwrap().details;
        let attached = details.iter().find(|any| any.type_url.ends_with("trivet.billing.v1.Deduction")).unwrap();
        assert_eq!(Deduction::decode(attached.value.as_slice()).unwrap(), deduction);
        let payment = house.billing().void_request(void("fund-ada")).await.unwrap_err();
        assert_eq!(
            (reason(&payment).as_str(), told(&payment, "method").as_str()),
            ("ALREADY_APPLIED", "RecordPayment")
        );
    })
    .await;
}
