//! How subscriptions do, counted.

use std::time::Duration;

use mesh::Time;
use trivet_proto::product::v1::{
    BillingCycle, CreateSubscriptionRequest, GetSubscriptionAnalyticsRequest, GetSubscriptionAnalyticsResponse,
    RecurringRevenue, SubscriptionStatus as Status,
};

use super::{on_sale, stepped, subscribed, wish};
use crate::{
    harness::{House, faulty, on_every_store_with_a_held_clock, person},
    tenants::of,
};

async fn ask(house: &House, tenant: &str, (start, end): (Time, Time)) -> GetSubscriptionAnalyticsResponse {
    let ask = GetSubscriptionAnalyticsRequest { start_time: Some(start.to_wire()), end_time: Some(end.to_wire()) };
    house.subscriptions().get_subscription_analytics(of(tenant, ask)).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_went_and_comes_in_is_counted_exactly() {
    on_every_store_with_a_held_clock(async |house, clock| {
        on_sale(house).await;
        let begin = clock.now();
        let mut ids = Vec::new();
        for (user, plan_id, cycle) in [
            ("ada", "basic", BillingCycle::Monthly),
            ("bob", "basic", BillingCycle::Yearly),
            ("cyd", "pro", BillingCycle::Monthly),
            ("dan", "pro", BillingCycle::Monthly),
            ("eve", "pro", BillingCycle::Monthly),
        ] {
            house.accounts().ensure_account(person(user)).await.unwrap();
            let wish = CreateSubscriptionRequest { billing_cycle: cycle.into(), ..wish(user, user, plan_id) };
            ids.push(subscribed(house, wish).await.subscription_id);
        }
        for id in &ids[..4] {
            stepped(house, id, Status::Active).await;
        }
        stepped(house, &ids[2], Status::PastDue).await;
        clock.advance(Duration::from_hours(1));
        let middle = clock.now();
        stepped(house, &ids[3], Status::Canceled).await;
        clock.advance(Duration::from_hours(1));
        let told = ask(house, "default", (middle, clock.now())).await;
        assert_eq!((told.created, told.ended, told.living_at_start, told.churn_rate.as_str()), (0, 1, 5, "0.2000"));
        // 10 a month, 100 a year, and 30 that are past due; what is not paid yet is not counted.
        let revenue = RecurringRevenue { currency: "USD".to_owned(), amount: "48.33".to_owned() };
        assert_eq!(told.monthly_recurring_revenue, [revenue]);
        let counts: Vec<_> =
            told.counts.iter().map(|held| (held.status(), held.plan_id.as_str(), held.count)).collect();
        let expected = [
            (Status::Active, "basic", 2),
            (Status::Canceled, "pro", 1),
            (Status::Incomplete, "pro", 1),
            (Status::PastDue, "pro", 1),
        ];
        assert_eq!(counts, expected);
        let first = ask(house, "default", (begin, middle)).await;
        assert_eq!((first.created, first.ended, first.living_at_start, first.churn_rate.as_str()), (5, 0, 0, ""));
        let other = ask(house, "other", (begin, clock.now())).await;
        assert_eq!(other, GetSubscriptionAnalyticsResponse::default());
        let backwards =
            GetSubscriptionAnalyticsRequest { start_time: Some(middle.to_wire()), end_time: Some(begin.to_wire()) };
        let refused = house.subscriptions().get_subscription_analytics(backwards).await.unwrap_err();
        assert_eq!(faulty(&refused), ["end_time"]);
        let nothing = GetSubscriptionAnalyticsRequest::default();
        let refused = house.subscriptions().get_subscription_analytics(nothing).await.unwrap_err();
        assert_eq!(faulty(&refused), ["start_time", "end_time"]);
    })
    .await;
}
