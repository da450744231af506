//! Subscriptions, as their callers see them.

mod analytics;
mod changes;
mod creation;
mod heard;
mod lists;
mod time;

use mesh::{Clock, store::sql};
use sea_orm::ConnectionTrait as _;
use trivet::RoleName;
use trivet_proto::billing::v1::{FreezeWalletRequest, RecordPaymentRequest};
use trivet_proto::product::v1::{
    BillingCycle, CreateSubscriptionRequest, GetSubscriptionRequest, ListSubscriptionHistoryRequest, Subscription,
    SubscriptionAction, SubscriptionHistoryEntry, SubscriptionStatus as Status, UpdateSubscriptionStatusRequest,
};

use crate::{
    harness::{House, payment, person},
    plans::{plan, sell},
};

/// A user's wish for a plan, by the month.
fn wish(request_id: &str, user_id: &str, plan_id: &str) -> CreateSubscriptionRequest {
    CreateSubscriptionRequest {
        request_id: request_id.to_owned(),
        user_id: user_id.to_owned(),
        plan_id: plan_id.to_owned(),
        billing_cycle: BillingCycle::Monthly.into(),
        ..CreateSubscriptionRequest::default()
    }
}

/// Ada's account, and three plans: for nothing, for 10 with a trial of 14 days, for 30.
async fn on_sale(house: &House) {
    house.accounts().ensure_account(person("ada")).await.unwrap();
    sell(house, plan("free", "0", "0")).await;
    sell(house, trivet_proto::product::v1::CreatePlanRequest { trial_days: 14, ..plan("basic", "10", "100") }).await;
    sell(house, plan("pro", "30", "300")).await;
}

/// A wish that was granted, once billing has found out that there is nothing to pay it with.
async fn subscribed(house: &House, wish: CreateSubscriptionRequest) -> Subscription {
    let made = house.subscriptions().create_subscription(wish).await.unwrap().into_inner().subscription.unwrap();
    house.is_quiet().await;
    made
}

async fn found(house: &House, subscription_id: &str) -> Subscription {
    let ask = GetSubscriptionRequest { subscription_id: subscription_id.to_owned() };
    house.subscriptions().get_subscription(ask).await.unwrap().into_inner().subscription.unwrap()
}

fn step(subscription_id: &str, status: Status) -> UpdateSubscriptionStatusRequest {
    UpdateSubscriptionStatusRequest {
        subscription_id: subscription_id.to_owned(),
        status: status.into(),
        reason: "as told".to_owned(),
        etag: String::new(),
    }
}

async fn stepped(house: &House, subscription_id: &str, status: Status) -> Subscription {
    let step = step(subscription_id, status);
    house.subscriptions().update_subscription_status(step).await.unwrap().into_inner().subscription.unwrap()
}

/// Ada's subscription to a plan, and more money than she will ever owe for it.
async fn active(house: &House, plan_id: &str) -> Subscription {
    let subscription = subscribed(house, wish(&format!("sub-{plan_id}"), "ada", plan_id)).await;
    let active = stepped(house, &subscription.subscription_id, Status::Active).await;
    let plenty = RecordPaymentRequest { currency: "USD".to_owned(), ..payment("plenty", "ada", "1000000") };
    house.wallets().record_payment(plenty).await.unwrap();
    house.is_quiet().await;
    active
}

/// Has ada's wallet pay for nothing more.
async fn pays_nothing(house: &House) {
    let ask = FreezeWalletRequest { user_id: "ada".to_owned(), currency: "USD".to_owned() };
    house.wallets().freeze_wallet(ask).await.unwrap();
}

/// The whole history, oldest first.
async fn history(house: &House, subscription_id: &str) -> Vec<SubscriptionHistoryEntry> {
    let ask = ListSubscriptionHistoryRequest { subscription_id: subscription_id.to_owned(), ..Default::default() };
    let page = house.subscriptions().list_subscription_history(ask).await.unwrap().into_inner();
    let mut entries = page.entries;
    entries.reverse();
    let versions: Vec<_> = entries.iter().map(|entry| entry.version).collect();
    let expected: Vec<_> = (1..).take(entries.len()).collect();
    assert_eq!(versions, expected, "a history has no gap");
    entries
}

/// What happened to it, shortly.
async fn actions(house: &House, subscription_id: &str) -> Vec<SubscriptionAction> {
    history(house, subscription_id).await.iter().map(SubscriptionHistoryEntry::action).collect()
}

/// The types of what product told of a subscription, in order.
async fn told_of(house: &House, subscription_id: &str) -> Vec<String> {
    let store = house.rows(RoleName::Product).await;
    let reader = store.reader();
    let text = "select type from outbox where aggregate = 'subscription' and subject = $1 order by position";
    let rows = reader.query_all_raw(sql(reader, text, [subscription_id.into()])).await.unwrap();
    let types = rows.iter().map(|row| row.try_get("", "type").unwrap()).collect();
    store.close().await.unwrap();
    types
}

/// Has time pass until product has done what there was to do.
async fn passes(house: &House, clock: &Clock, days: u64) {
    clock.advance(std::time::Duration::from_hours(24 * days));
    nothing_is_due(house, clock).await;
}

async fn nothing_is_due(house: &House, clock: &Clock) {
    let store = house.rows(RoleName::Product).await;
    let now = clock.now().micros();
    crate::harness::eventually("what time has to do", async || {
        let text = "select count(*) from subscriptions where due_time <= $1";
        mesh::store::count(store.reader(), text, [now.into()]).await.unwrap() == 0
    })
    .await;
    store.close().await.unwrap();
}
