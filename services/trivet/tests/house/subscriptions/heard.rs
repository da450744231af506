//! What subscriptions do about events: money that came or did not, and people who went.

use mesh::{Clock, store::sql};
use sea_orm::ConnectionTrait as _;
use trivet::RoleName;
use trivet_proto::{
    Event,
    account::v1::{
        DeleteAccountRequest, GetAccountRequest, RestoreAccountRequest, SubscriptionTier, get_account_request::Key,
    },
    billing::v1::{PaymentCompleted, WalletInsufficientFunds},
    product::v1::{CreatePlanRequest, CreateSubscriptionRequest, PlanTier, SubscriptionStatus as Status},
};

use super::{active, found, history, on_sale, pays_nothing, stepped, subscribed, told_of, wish};
use crate::{
    harness::{House, eventually, on_every_store, person},
    plans::{plan, sell},
};

/// Has billing tell of Ada what it will tell once it makes charges, and waits until product has recorded it; says as what.
async fn told<E: Event>(house: &House, event: &E) -> String {
    let event_id = mesh::id::fresh("evt", &Clock::system());
    let store = house.rows(RoleName::Billing).await;
    let text = "insert into outbox (event_id, tenant_id, type, aggregate, subject, aggregate_version, time,
                                    traceparent, causation_id, data_schema, data)
                values ($1, 'default', $2, 'wallet', 'ada', 1, $3, '', '', $4, $5)";
    let values = [
        event_id.clone().into(),
        E::KIND.kind.into(),
        Clock::system().now().micros().into(),
        E::KIND.message.into(),
        event.encode_to_vec().into(),
    ];
    store.reader().execute_raw(sql(store.reader(), text, values)).await.unwrap();
    store.close().await.unwrap();
    let store = house.rows(RoleName::Product).await;
    let mut state = String::new();
    eventually("hearing", async || {
        let text = "select state from inbox where event_id = $1";
        let row = store.reader().query_one_raw(sql(store.reader(), text, [event_id.clone().into()])).await.unwrap();
        row.inspect(|row| state = row.try_get("", "state").unwrap()).is_some()
    })
    .await;
    store.close().await.unwrap();
    state
}

fn paid(subscription_id: &str) -> PaymentCompleted {
    PaymentCompleted {
        user_id: "ada".to_owned(),
        subscription_id: subscription_id.to_owned(),
        amount: "10".to_owned(),
        currency: "USD".to_owned(),
    }
}

fn uncovered(subscription_id: &str, suspend: bool) -> WalletInsufficientFunds {
    WalletInsufficientFunds {
        user_id: "ada".to_owned(),
        subscription_id: subscription_id.to_owned(),
        suspend,
        ..WalletInsufficientFunds::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_makes_what_waits_for_it_active_and_nothing_else() {
    on_every_store(async |house| {
        on_sale(house).await;
        let id = subscribed(house, wish("sub-1", "ada", "pro")).await.subscription_id;
        assert_eq!(told(house, &paid("")).await, "STALE", "money in a wallet pays for nothing yet");
        assert_eq!(told(house, &paid("sub_of_nobody")).await, "STALE");
        assert_eq!(found(house, &id).await.status(), Status::Incomplete);
        assert_eq!(told(house, &paid(&id)).await, "FELT");
        assert_eq!(found(house, &id).await.status(), Status::Active);
        assert_eq!(told(house, &paid(&id)).await, "STALE", "it is active already");
        let last = history(house, &id).await.pop().unwrap();
        assert_eq!((last.actor.as_str(), last.reason.as_str()), ("trivet", "payment.completed"));
        let kinds = told_of(house, &id).await;
        assert_eq!(kinds, ["subscription.created", "subscription.status_changed", "subscription.activated"]);
        // Neither pause nor end is undone by money that comes late.
        stepped(house, &id, Status::Paused).await;
        assert_eq!(told(house, &paid(&id)).await, "STALE");
        stepped(house, &id, Status::Canceled).await;
        assert_eq!(told(house, &paid(&id)).await, "STALE");
        assert_eq!(found(house, &id).await.status(), Status::Canceled);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_wallet_does_not_cover_is_past_due_until_it_is_paid() {
    on_every_store(async |house| {
        on_sale(house).await;
        let (free, pro) = (active(house, "free").await.subscription_id, active(house, "pro").await.subscription_id);
        pays_nothing(house).await;
        let basic = subscribed(house, wish("sub-3", "ada", "basic")).await.subscription_id;
        assert_eq!(told(house, &uncovered(&pro, false)).await, "FELT");
        assert_eq!(found(house, &pro).await.status(), Status::PastDue);
        assert_eq!(told(house, &uncovered(&pro, false)).await, "STALE");
        assert_eq!(told(house, &paid(&pro)).await, "FELT");
        assert_eq!(found(house, &pro).await.status(), Status::Active);
        assert_eq!(told(house, &uncovered("", false)).await, "STALE", "a deduction was not covered, and that is all");
        assert_eq!(told(house, &uncovered("", true)).await, "FELT");
        for (id, status) in [(&pro, Status::PastDue), (&free, Status::Active), (&basic, Status::Incomplete)] {
            assert_eq!(found(house, id).await.status(), status);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_deleted_keeps_no_subscription_and_late_money_brings_none_back() {
    on_every_store(async |house| {
        on_sale(house).await;
        house.accounts().ensure_account(person("bob")).await.unwrap();
        let trial = CreateSubscriptionRequest { use_trial: true, ..wish("sub-1", "ada", "basic") };
        let trial = subscribed(house, trial).await.subscription_id;
        let unpaid = subscribed(house, wish("sub-2", "ada", "pro")).await.subscription_id;
        let bobs = subscribed(house, wish("sub-3", "bob", "free")).await.subscription_id;
        let delete = DeleteAccountRequest { user_id: "ada".to_owned(), reason: String::new() };
        house.accounts().delete_account(delete).await.unwrap();
        eventually("canceling", async || {
            found(house, &trial).await.status() == Status::Canceled
                && found(house, &unpaid).await.status() == Status::Canceled
        })
        .await;
        let last = history(house, &trial).await.pop().unwrap();
        assert_eq!(last.reason, "user.deleted");
        assert_eq!(told(house, &paid(&unpaid)).await, "STALE");
        assert_eq!(found(house, &unpaid).await.status(), Status::Canceled);
        assert_eq!(found(house, &bobs).await.status(), Status::Active);
        let restore = RestoreAccountRequest { user_id: "ada".to_owned(), reason: String::new() };
        house.accounts().restore_account(restore).await.unwrap();
        assert_eq!(subscribed(house, wish("sub-4", "ada", "pro")).await.status(), Status::Incomplete);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_of_the_tier_of_the_best_that_its_user_has_subscribed_to() {
    on_every_store(async |house| {
        on_sale(house).await;
        let becomes = async |tier: SubscriptionTier| {
            eventually("the tier", async || {
                let ask = GetAccountRequest { key: Some(Key::UserId("ada".to_owned())), ..Default::default() };
                let account = house.accounts().get_account(ask).await.unwrap().into_inner().account.unwrap();
                account.subscription_tier() == tier
            })
            .await;
        };
        let premium = CreatePlanRequest { tier: PlanTier::Premium.into(), ..plan("premium", "0", "0") };
        sell(house, premium).await;
        let basic = active(house, "basic").await.subscription_id;
        becomes(SubscriptionTier::Basic).await;
        let premium = subscribed(house, wish("sub-p", "ada", "premium")).await.subscription_id;
        becomes(SubscriptionTier::Premium).await;
        // One that was never paid for gave nothing, and takes nothing.
        let unpaid = subscribed(house, wish("sub-u", "ada", "pro")).await.subscription_id;
        stepped(house, &unpaid, Status::Canceled).await;
        stepped(house, &premium, Status::Canceled).await;
        becomes(SubscriptionTier::Basic).await;
        stepped(house, &basic, Status::Expired).await;
        becomes(SubscriptionTier::Free).await;
    })
    .await;
}
