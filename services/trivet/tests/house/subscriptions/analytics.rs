//! How subscriptions do, counted.

use std::{collections::BTreeMap, time::Duration};

use mesh::Time;
use trivet_proto::product::v1::{
    BillingCycle, CreateSubscriptionRequest, GetSubscriptionAnalyticsRequest, GetSubscriptionAnalyticsResponse,
    RecurringRevenue, SubscriptionCount, SubscriptionStatus as Status,
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

/// What the test knows of a subscription.
struct Known {
    subscription_id: String,
    plan_id: &'static str,
    cycle: BillingCycle,
    status: Status,
    created: Time,
    ended: Option<Time>,
}

/// Numbers as if by chance, the same in every run: a linear congruential generator with Knuth's constants (MMIX).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

/// The same said by counting one subscription after the other.
fn counted_slowly(all: &[Known], (start, end): (Time, Time)) -> GetSubscriptionAnalyticsResponse {
    let within = |time: Time| start <= time && time < end;
    let number =
        |holds: &dyn Fn(&Known) -> bool| i64::try_from(all.iter().filter(|known| holds(known)).count()).unwrap();
    let lived = |known: &Known| known.created < start && known.ended.is_none_or(|ended| ended >= start);
    let (living, lost) = (number(&lived), number(&|known| lived(known) && known.ended.is_some_and(within)));
    let rate = |living: i64| {
        let rate = (lost * 20_000 + living) / (living * 2);
        format!("{}.{:04}", rate / 10_000, rate % 10_000)
    };
    let yearly: i64 = all
        .iter()
        .filter(|known| matches!(known.status, Status::Active | Status::PastDue))
        .map(|known| match (known.plan_id, known.cycle) {
            ("basic", BillingCycle::Yearly) => 10_000,
            ("basic", _) => 1_000 * 12,
            (_, BillingCycle::Yearly) => 30_000,
            _ => 3_000 * 12,
        })
        .sum();
    let mut held: BTreeMap<(String, &str), SubscriptionCount> = BTreeMap::new();
    for known in all {
        let (status, plan_id) = (known.status.into(), known.plan_id.to_owned());
        let none = SubscriptionCount { status, plan_id, count: 0 };
        held.entry((known.status.as_str_name().to_owned(), known.plan_id)).or_insert(none).count += 1;
    }
    let monthly = (yearly + 6) / 12;
    let amount = format!("{}.{:02}", monthly / 100, monthly % 100);
    let amount = amount.trim_end_matches('0').trim_end_matches('.').to_owned();
    GetSubscriptionAnalyticsResponse {
        counts: held.into_values().collect(),
        created: number(&|known| within(known.created)),
        ended: number(&|known| known.ended.is_some_and(within)),
        living_at_start: living,
        churn_rate: if living == 0 { String::new() } else { rate(living) },
        monthly_recurring_revenue: vec![RecurringRevenue { currency: "USD".to_owned(), amount }],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_summed_up_is_what_counting_one_by_one_comes_to() {
    on_every_store_with_a_held_clock(async |house, clock| {
        on_sale(house).await;
        let (mut chance, mut all, mut times) = (Chance(7), Vec::<Known>::new(), vec![clock.now()]);
        for round in 0..80 {
            clock.advance(Duration::from_mins(10));
            let user_id = format!("user-{round}");
            if round < 2 || chance.below(3) == 0 {
                house.accounts().ensure_account(person(&user_id)).await.unwrap();
                let plan_id = ["basic", "pro"][chance.below(2)];
                let cycle = [BillingCycle::Monthly, BillingCycle::Yearly][chance.below(2)];
                let wish =
                    CreateSubscriptionRequest { billing_cycle: cycle.into(), ..wish(&user_id, &user_id, plan_id) };
                let made = subscribed(house, wish).await;
                let (subscription_id, status, created) = (made.subscription_id.clone(), made.status(), clock.now());
                all.push(Known { subscription_id, plan_id, cycle, status, created, ended: None });
            } else {
                let place = chance.below(all.len());
                let known = &mut all[place];
                let to: &[Status] = match known.status {
                    Status::Incomplete => &[Status::Active, Status::Active, Status::Canceled],
                    Status::Active => &[Status::PastDue, Status::PastDue, Status::Canceled],
                    Status::PastDue => &[Status::Active, Status::Canceled],
                    _ => &[],
                };
                if !to.is_empty() {
                    known.status = stepped(house, &known.subscription_id, to[chance.below(to.len())]).await.status();
                    known.ended = (known.status == Status::Canceled).then(|| clock.now());
                }
            }
            times.push(clock.now());
        }
        assert!(all.iter().filter(|known| known.ended.is_some()).count() > 3, "some have ended");
        for _ in 0..40 {
            let (one, other) = (times[chance.below(times.len())], times[chance.below(times.len())]);
            let time = (one.min(other), one.max(other).plus(Duration::from_micros(1)));
            let mut told = ask(house, "default", time).await;
            told.counts.sort_by_key(|held| (held.status().as_str_name(), held.plan_id.clone()));
            assert_eq!(told, counted_slowly(&all, time));
        }
    })
    .await;
}
