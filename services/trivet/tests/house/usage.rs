//! Usage, as its callers see it.

mod at_once;
mod records;
mod sums;

use mesh::{Clock, Time, store::sql};
use sea_orm::ConnectionTrait as _;
use trivet::RoleName;
use trivet_proto::product::v1::{
    CreatePlanRequest, CreateProductRequest, Overage, Price, PriceModel, RecordUsageRequest, SetPriceRequest, Usage,
};

use crate::{
    harness::{House, person},
    plans::{includes, plan, sell},
};

/// So much of tokens, used by somebody.
fn record(request_id: &str, user_id: &str, quantity: &str) -> RecordUsageRequest {
    RecordUsageRequest {
        request_id: request_id.to_owned(),
        user_id: user_id.to_owned(),
        product_id: "tokens".to_owned(),
        quantity: quantity.to_owned(),
        ..RecordUsageRequest::default()
    }
}

async fn recorded(house: &House, record: RecordUsageRequest) -> Usage {
    house.usage().record_usage(record).await.unwrap().into_inner().usage.unwrap()
}

/// Tokens, at 0.003 USD each, 10 of them free.
async fn on_sale(house: &House) {
    house.accounts().ensure_account(person("ada")).await.unwrap();
    let product = CreateProductRequest {
        product_id: "tokens".to_owned(),
        name: "Tokens".to_owned(),
        ..CreateProductRequest::default()
    };
    house.catalog().create_product(product).await.unwrap();
    // Since long ago, for records that come late.
    let since = Clock::system().now().minus(std::time::Duration::from_hours(40 * 24));
    set_price(house, "0.003", Some(since)).await;
}

async fn price(house: &House, unit_price: &str) -> Price {
    set_price(house, unit_price, None).await
}

async fn set_price(house: &House, unit_price: &str, since: Option<Time>) -> Price {
    let price = Price {
        currency: "USD".to_owned(),
        unit: "token".to_owned(),
        model: PriceModel::PerUnit.into(),
        unit_price: unit_price.to_owned(),
        free_quantity: "10".to_owned(),
        effective_time: since.map(Time::to_wire),
        ..Price::default()
    };
    let set = SetPriceRequest { product_id: "tokens".to_owned(), price: Some(price), request_id: String::new() };
    house.catalog().set_price(set).await.unwrap().into_inner().price.unwrap()
}

/// A plan for nothing that includes so many tokens, subscribed to by Ada; the subscription's id.
async fn included(house: &House, quantity: &str, overage: Overage) -> String {
    let free =
        CreatePlanRequest { included_usage: vec![includes("tokens", quantity, overage)], ..plan("free", "0", "0") };
    sell(house, free).await;
    let wish = trivet_proto::product::v1::CreateSubscriptionRequest {
        request_id: "sub-1".to_owned(),
        user_id: "ada".to_owned(),
        plan_id: "free".to_owned(),
        billing_cycle: trivet_proto::product::v1::BillingCycle::Monthly.into(),
        ..Default::default()
    };
    let made = house.subscriptions().create_subscription(wish).await.unwrap().into_inner();
    made.subscription.unwrap().subscription_id
}

/// A whole hour, so many hours from this one.
fn hour(clock: &Clock, from_now: i64) -> Time {
    const HOUR: i64 = 3_600_000_000;
    Time::from_micros((clock.now().micros() / HOUR + from_now) * HOUR)
}

/// The number that a statement on product's rows answers.
async fn number(house: &House, text: &str) -> i64 {
    let store = house.rows(RoleName::Product).await;
    let number = mesh::store::count(store.reader(), text, []).await.unwrap();
    store.close().await.unwrap();
    number
}

/// What product told of usage: types and data, in order.
async fn told(house: &House) -> Vec<(String, Vec<u8>)> {
    let store = house.rows(RoleName::Product).await;
    let reader = store.reader();
    let text = "select type, data from outbox where aggregate = 'usage' order by position";
    let rows = reader.query_all_raw(sql(reader, text, [])).await.unwrap();
    let told = rows.iter().map(|row| (row.try_get("", "type").unwrap(), row.try_get("", "data").unwrap())).collect();
    store.close().await.unwrap();
    told
}
