//! What is owed for use.

use std::time::Duration;

use mesh::{Clock, Time};
use money::{Amount, Currency};
use trivet_proto::{
    billing::v1::{Charge, ChargeSource, ChargeState, RefundRequest, TransactionKind, VoidChargeRequest},
    product::v1::{
        BatchRecordUsageRequest, CreateProductRequest, Price, PriceModel, RecordUsageRequest, SetPriceRequest,
        UsageRecord, VoidUsageRequest,
    },
};

use trivet::RoleName;

use super::{balance, charges, on_sale, owes, pay, subscribe};
use crate::{
    flow::{TOLD_AGAIN, number, run},
    harness::{House, eventually, on_every_store_with_a_held_clock, person, reason},
};

/// Tokens, at a cent each.
async fn tokens(house: &House, clock: &Clock) {
    house.accounts().ensure_account(person("ada")).await.unwrap();
    let product =
        CreateProductRequest { product_id: "tokens".to_owned(), name: "Tokens".to_owned(), ..Default::default() };
    house.catalog().create_product(product).await.unwrap();
    let price = Price {
        currency: "USD".to_owned(),
        unit: "token".to_owned(),
        model: PriceModel::PerUnit.into(),
        unit_price: "0.01".to_owned(),
        effective_time: Some(Time::to_wire(clock.now().minus(Duration::from_hours(24)))),
        ..Price::default()
    };
    let price = SetPriceRequest { product_id: "tokens".to_owned(), price: Some(price), ..Default::default() };
    house.catalog().set_price(price).await.unwrap();
}

async fn used(house: &House, request_id: &str, quantity: &str) -> String {
    let record = RecordUsageRequest {
        request_id: request_id.to_owned(),
        user_id: "ada".to_owned(),
        product_id: "tokens".to_owned(),
        quantity: quantity.to_owned(),
        ..RecordUsageRequest::default()
    };
    house.usage().record_usage(record).await.unwrap().into_inner().usage.unwrap().usage_id
}

async fn void(house: &House, usage_id: &str) {
    let void = VoidUsageRequest { usage_id: usage_id.to_owned(), reason: "a mistake".to_owned() };
    house.usage().void_usage(void).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_used_is_paid_and_what_is_voided_is_given_back_once() {
    use ChargeState::Paid;
    on_every_store_with_a_held_clock(async |house, clock| {
        tokens(house, clock).await;
        pay(house, "pay-1", "10").await;
        let usage_id = used(house, "use-1", "300").await;
        owes(house, &[("3", Paid)]).await;
        let charge = charges(house).await.remove(0);
        assert_eq!((charge.source(), &*charge.product_id), (ChargeSource::Usage, "tokens"));
        assert_eq!(balance(house).await, "7");
        void(house, &usage_id).await;
        void(house, &usage_id).await;
        owes(house, &[("3", Paid), ("-3", Paid)]).await;
        house.is_quiet().await;
        let credit = charges(house).await.pop().unwrap();
        assert_eq!(credit.reversed_charge_id, charge.charge_id);
        assert_eq!(balance(house).await, "10");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_that_is_voided_gives_nothing_back_that_was_refunded_or_never_paid() {
    use ChargeState::{Open, Paid, Void};
    on_every_store_with_a_held_clock(async |house, clock| {
        tokens(house, clock).await;
        pay(house, "pay-1", "10").await;
        let usage_id = used(house, "use-1", "300").await;
        owes(house, &[("3", Paid)]).await;
        let refund = |request_id: &str, charge: &Charge, amount: &str| RefundRequest {
            request_id: request_id.to_owned(),
            charge_id: charge.charge_id.clone(),
            amount: amount.to_owned(),
            ..RefundRequest::default()
        };
        let charge = charges(house).await.remove(0);
        house.billing().refund(refund("refund-1", &charge, "1")).await.unwrap();
        assert_eq!(balance(house).await, "8");
        void(house, &usage_id).await;
        owes(house, &[("3", Paid), ("-3", Paid)]).await;
        assert_eq!((&*balance(house).await, &*charges(house).await[1].credited_amount), ("10", "1"));
        let refused = house.billing().refund(refund("refund-2", &charge, "1")).await.unwrap_err();
        assert_eq!(reason(&refused), "REFUND_EXCEEDS_DEDUCTION");
        let usage_id = used(house, "use-2", "2000").await;
        owes(house, &[("3", Paid), ("-3", Paid), ("20", Open)]).await;
        let charge_id = charges(house).await[2].charge_id.clone();
        house.charges().void_charge(VoidChargeRequest { charge_id, reason: "a courtesy".to_owned() }).await.unwrap();
        void(house, &usage_id).await;
        owes(house, &[("3", Paid), ("-3", Paid), ("20", Void), ("-20", Paid)]).await;
        assert_eq!(balance(house).await, "10");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_that_is_voided_before_it_is_paid_is_not_owed_any_more() {
    use ChargeState::{Open, Paid, Void};
    on_every_store_with_a_held_clock(async |house, clock| {
        tokens(house, clock).await;
        let first = used(house, "use-1", "300").await;
        owes(house, &[("3", Open)]).await;
        used(house, "use-2", "100").await;
        owes(house, &[("3", Open), ("1", Open)]).await;
        void(house, &first).await;
        owes(house, &[("3", Void), ("1", Open), ("-3", Paid)]).await;
        assert_eq!(charges(house).await[0].credited_amount, "3");
        pay(house, "pay-1", "1").await;
        owes(house, &[("3", Void), ("1", Paid), ("-3", Paid)]).await;
        assert_eq!(balance(house).await, "0");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_come_together_are_owed_together_and_a_part_of_them_can_be_voided() {
    use ChargeState::{Open, Paid};
    on_every_store_with_a_held_clock(async |house, clock| {
        tokens(house, clock).await;
        let record = |number: usize| UsageRecord {
            request_id: format!("use-{number}"),
            user_id: "ada".to_owned(),
            product_id: "tokens".to_owned(),
            quantity: "10".to_owned(),
            ..UsageRecord::default()
        };
        let batch = BatchRecordUsageRequest { records: (0..40).map(record).collect() };
        let results = house.usage().batch_record_usage(batch).await.unwrap().into_inner().results;
        house.is_quiet().await;
        // They may have come in several commits; together they cost what they cost.
        let cents = |charge: &Charge| Amount::parse(Currency::parse("USD").unwrap(), &charge.amount).unwrap().minor();
        assert_eq!(charges(house).await.iter().map(cents).sum::<i64>(), 400);
        void(house, &results[7].usage.as_ref().unwrap().usage_id).await;
        house.is_quiet().await;
        pay(house, "pay-1", "3.89").await;
        let open = charges(house).await.iter().filter(|charge| charge.state() == Open).count();
        assert_eq!(open, 1, "a cent is missing for the last one");
        pay(house, "pay-2", "0.01").await;
        assert!(charges(house).await.iter().all(|charge| charge.state() == Paid));
        assert_eq!(balance(house).await, "0");
        let kinds = house
            .wallets()
            .list_transactions(trivet_proto::billing::v1::ListTransactionsRequest {
                user_id: "ada".to_owned(),
                currency: "USD".to_owned(),
                ..Default::default()
            })
            .await
            .unwrap()
            .into_inner()
            .transactions;
        assert!(kinds.iter().all(|change| change.kind() != TransactionKind::Credit), "nothing was paid twice");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_product_tells_again_is_charged_once() {
    use ChargeState::Paid;
    on_every_store_with_a_held_clock(async |house, clock| {
        tokens(house, clock).await;
        on_sale(house).await;
        pay(house, "pay-1", "50").await;
        subscribe(house, "sub-1", "basic").await;
        owes(house, &[("10", Paid)]).await;
        let usage_id = used(house, "use-1", "300").await;
        owes(house, &[("10", Paid), ("3", Paid)]).await;
        void(house, &usage_id).await;
        let all = [("10", Paid), ("3", Paid), ("-3", Paid)];
        owes(house, &all).await;
        house.is_quiet().await;
        // Those that were told twice: billing has heard of each, and nothing of them is left to be told.
        let told = "select cast(sum(n) as bigint) from event_counts where what = 'TOLD'";
        let (before, events) = (number(house, RoleName::Product, told).await, "select count(*) from outbox");
        let events = number(house, RoleName::Product, events).await;
        assert!(events >= 3, "{events}");
        run(house, RoleName::Product, TOLD_AGAIN).await;
        let twice = async || number(house, RoleName::Product, told).await >= before + events;
        eventually("telling", twice).await;
        house.is_quiet().await;
        owes(house, &all).await;
        assert_eq!(balance(house).await, "40");
    })
    .await;
}
