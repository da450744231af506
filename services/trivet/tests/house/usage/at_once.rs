//! Many at once: quotas and sums are exact, also through two replicas.

use mesh::Clock;
use tokio::task::JoinSet;
use trivet::RoleName;
use trivet_proto::product::v1::{Overage, VoidUsageRequest};

use super::{included, number, on_sale, record, recorded};
use crate::harness::{Databases, House, config, on_every_store, patiently, reason};

/// Rows of sums that are not the sum of their records. Records: quantities are whole here.
const WRONG_SUMS: &str = "select count(*) from (
    select h.tenant_id, h.user_id, h.hour_time, h.records, h.whole, h.billions * 1000000000 + h.rest as amount,
           (select count(*) from usage_records r where r.tenant_id = h.tenant_id and r.user_id = h.user_id
              and r.product_id = h.product_id and r.currency = h.currency and r.subscription_id = h.subscription_id
              and r.event_time - r.event_time % 3600000000 = h.hour_time and r.void_time is null) as right_records,
           (select coalesce(sum(cast(r.quantity as bigint)), 0) from usage_records r
             where r.tenant_id = h.tenant_id and r.user_id = h.user_id
              and r.product_id = h.product_id and r.currency = h.currency and r.subscription_id = h.subscription_id
              and r.event_time - r.event_time % 3600000000 = h.hour_time and r.void_time is null) as right_whole,
           (select coalesce(sum(r.amount + coalesce(r.void_amount, 0)), 0) from usage_records r
             where r.tenant_id = h.tenant_id and r.user_id = h.user_id
              and r.product_id = h.product_id and r.currency = h.currency and r.subscription_id = h.subscription_id
              and r.event_time - r.event_time % 3600000000 = h.hour_time) as right_amount
      from usage_hours h) sums
   where records <> right_records or whole <> right_whole or amount <> right_amount";
/// Hours of a product that are not the sum of everybody's.
const WRONG_PRODUCTS: &str = "select count(*) from usage_product_hours p
   where p.records <> (select sum(h.records) from usage_hours h where h.tenant_id = p.tenant_id
                          and h.hour_time = p.hour_time and h.product_id = p.product_id and h.currency = p.currency)
      or p.rest <> (select sum(h.rest) from usage_hours h where h.tenant_id = p.tenant_id
                          and h.hour_time = p.hour_time and h.product_id = p.product_id and h.currency = p.currency)";

/// 64 callers use one of what is left each, through these houses in turn; how many could.
async fn drain(houses: &[&House]) -> usize {
    let mut calls = JoinSet::new();
    for (number, house) in (0..64).zip(houses.iter().cycle()) {
        let mut usage = house.usage();
        calls.spawn(async move { usage.record_usage(record(&format!("drain-{number}"), "ada", "1")).await });
    }
    let mut taken = 0;
    while let Some(answer) = calls.join_next().await {
        match answer.unwrap() {
            Ok(_) => taken += 1,
            Err(status) => assert_eq!(reason(&status), "QUOTA_EXHAUSTED"),
        }
    }
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_callers_get_exactly_what_is_left_of_a_quota() {
    on_every_store(async |house| {
        on_sale(house).await;
        included(house, "33", Overage::Block).await;
        assert_eq!(drain(&[house]).await, 33);
        assert_eq!(number(house, WRONG_SUMS).await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_callers_of_two_replicas_get_exactly_what_is_left_of_a_quota() {
    let Some(databases) = Databases::postgres().await else { return };
    let start = async || House::start_by(Clock::system(), config(&databases, &[]), &RoleName::ALL).await;
    let (one, two) = (start().await, start().await);
    on_sale(&one).await;
    included(&one, "33", Overage::Block).await;
    assert_eq!(drain(&[&one, &two]).await, 33);
    assert_eq!((number(&one, WRONG_SUMS).await, number(&one, WRONG_PRODUCTS).await), (0, 0));
    two.end().await;
    one.end().await;
    databases.done().await;
}

/// 64 callers record for eight users, each record sent through every house; what one of three made is taken back.
async fn record_and_void(houses: &[&House]) {
    let mut calls = JoinSet::new();
    for caller in 0..64 {
        let clients: Vec<_> = houses.iter().map(|house| house.usage()).collect();
        calls.spawn(async move {
            for number in 0..6 {
                let (id, user) = (format!("r-{caller}-{number}"), format!("user-{}", caller % 8));
                let quantity = (caller + number + 1).to_string();
                let mut first = None;
                for usage in &clients {
                    let answer = patiently(|| {
                        let (mut usage, record) = (usage.clone(), record(&id, &user, &quantity));
                        async move { usage.record_usage(record).await }
                    })
                    .await;
                    let before = first.replace(answer.usage.clone());
                    assert!(before.is_none_or(|before| before == answer.usage), "one id, one answer");
                }
                if number % 3 == 0 {
                    let usage_id = first.flatten().unwrap().usage_id;
                    let void = VoidUsageRequest { usage_id, reason: "as told".to_owned() };
                    patiently(|| {
                        let (mut usage, void) = (clients.last().unwrap().clone(), void.clone());
                        async move { usage.void_usage(void).await }
                    })
                    .await;
                }
            }
        });
    }
    while let Some(caller) = calls.join_next().await {
        caller.unwrap();
    }
}

/// What each user was charged is what their total costs: at 0.003, ten of them free.
const WRONG_CHARGES: &str = "select count(*) from (
    select r.user_id, sum(r.amount + coalesce(r.void_amount, 0)) as charged,
           cast(sum(case when r.void_time is null then cast(r.quantity as bigint) else 0 end) as bigint) as used
      from usage_records r where r.currency <> '' group by r.user_id) users
   where charged <> case when used <= 10 then 0 else ((used - 10) * 3 + 5) / 10 end";

#[tokio::test(flavor = "multi_thread")]
async fn sums_and_charges_are_exact_under_sixty_four_callers_who_record_and_take_back() {
    on_every_store(async |house| {
        on_sale(house).await;
        record_and_void(&[house]).await;
        assert_eq!(number(house, "select count(*) from usage_records").await, 64 * 6);
        assert_eq!((number(house, WRONG_SUMS).await, number(house, WRONG_PRODUCTS).await), (0, 0));
        assert_eq!(number(house, WRONG_CHARGES).await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_take_each_record_in_once_and_sum_up_exactly() {
    let Some(databases) = Databases::postgres().await else { return };
    let start = async || House::start_by(Clock::system(), config(&databases, &[]), &RoleName::ALL).await;
    let (one, two) = (start().await, start().await);
    on_sale(&one).await;
    record_and_void(&[&one, &two]).await;
    assert_eq!(number(&one, "select count(*) from usage_records").await, 64 * 6);
    assert_eq!((number(&one, WRONG_SUMS).await, number(&one, WRONG_PRODUCTS).await), (0, 0));
    assert_eq!(number(&one, WRONG_CHARGES).await, 0);
    two.end().await;
    one.end().await;
    databases.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_goes_away_changes_nothing_for_the_others() {
    on_every_store(async |house| {
        on_sale(house).await;
        for number in 0..50 {
            let (mut gone, mut stays) = (house.usage(), house.usage());
            let hurried = record(&format!("gone-{number}"), "ada", "1");
            let mut hurried = Box::pin(gone.record_usage(hurried));
            let _ = futures_util::poll!(&mut hurried);
            let answer = stays.record_usage(record(&format!("stays-{number}"), "ada", "1"));
            drop(hurried);
            answer.await.unwrap();
        }
        assert_eq!(number(house, "select count(*) from usage_records where request_id like 'stays-%'").await, 50);
        assert_eq!(number(house, WRONG_SUMS).await, 0);
        recorded(house, record("gone-0", "ada", "1")).await;
    })
    .await;
}
