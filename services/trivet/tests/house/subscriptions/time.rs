//! What time does to subscriptions, with the clock held.

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use mesh::{
    Clock, Store,
    store::{count, sql},
};
use sea_orm::ConnectionTrait as _;
use trivet::RoleName;
use trivet_proto::account::v1::{Preferences, UpdatePreferencesRequest};
use trivet_proto::billing::v1::RecordPaymentRequest;
use trivet_proto::product::v1::{
    CreateSubscriptionRequest, SubscriptionAction as Action, SubscriptionStatus as Status,
};

use super::{actions, active, found, nothing_is_due, on_sale, passes, subscribed, told_of, wish};
use crate::harness::{Databases, House, config, eventually, on_every_store_with_a_held_clock, payment, person};

/// Periods that do not begin where the one before ends, or whose number is not the next.
const GAPS: &str = "select count(*) from subscription_periods p
     where p.number > 1
       and not exists (select 1 from subscription_periods b
                        where b.tenant_id = p.tenant_id and b.subscription_id = p.subscription_id
                          and b.number = p.number - 1 and b.end_time = p.start_time)";
/// Renewals told of, each of which is owed. The outbox itself forgets what it told a month ago.
const RENEWALS: &str = "select cast(coalesce(sum(n), 0) as bigint) from event_counts
     where what = 'TOLD' and type = 'subscription.renewed'";
/// Periods that are owed as renewals.
const PERIODS: &str = "select count(*) from subscription_periods where number > 1";
/// Renewals of one version told of twice.
const TWICE: &str =
    "select count(*) from (select subject, aggregate_version from outbox where type = 'subscription.renewed'
     group by subject, aggregate_version having count(*) > 1) twice";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_active_is_renewed_and_a_long_outage_is_caught_up_period_by_period() {
    on_every_store_with_a_held_clock(async |house, clock| {
        on_sale(house).await;
        let id = active(house, "basic").await.subscription_id;
        let first = found(house, &id).await;
        passes(house, clock, 32).await;
        let second = found(house, &id).await;
        assert_eq!(second.period_start_time, first.period_end_time);
        passes(house, clock, 365).await;
        let renewals = actions(house, &id).await.iter().filter(|action| **action == Action::Renewed).count();
        assert_eq!(renewals, 13, "a month, and a year's twelve");
        let store = house.rows(RoleName::Product).await;
        assert_eq!(count(store.reader(), GAPS, []).await.unwrap(), 0);
        store.close().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_period_begins_at_the_same_hour_of_utc_wherever_its_account_puts_its_clocks_forward() {
    on_every_store_with_a_held_clock(async |house, clock| {
        on_sale(house).await;
        let berlin = UpdatePreferencesRequest {
            user_id: "ada".to_owned(),
            preferences: Some(Preferences { timezone: Some("Europe/Berlin".to_owned()), ..Preferences::default() }),
            ..UpdatePreferencesRequest::default()
        };
        house.accounts().update_preferences(berlin).await.unwrap();
        let id = active(house, "basic").await.subscription_id;
        let hour = |time: Option<prost_types::Timestamp>| time.unwrap().seconds % 86_400;
        let first = hour(found(house, &id).await.period_start_time);
        // A year has both changes of the clocks in it.
        for _ in 0..12 {
            passes(house, clock, 31).await;
            let now = found(house, &id).await;
            assert_eq!((hour(now.period_start_time), hour(now.period_end_time)), (first, first));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_paid_in_time_expires_and_a_trial_becomes_a_paid_period() {
    on_every_store_with_a_held_clock(async |house, clock| {
        on_sale(house).await;
        let unpaid = subscribed(house, wish("sub-1", "ada", "pro")).await.subscription_id;
        let trial = CreateSubscriptionRequest { use_trial: true, ..wish("sub-2", "ada", "basic") };
        let trial = subscribed(house, trial).await;
        clock.advance(Duration::from_secs(24 * 3_600 - 1));
        nothing_is_due(house, clock).await;
        assert_eq!(found(house, &unpaid).await.status(), Status::Incomplete);
        clock.advance(Duration::from_secs(1));
        nothing_is_due(house, clock).await;
        assert_eq!(found(house, &unpaid).await.status(), Status::Expired);
        assert_eq!(told_of(house, &unpaid).await.last().unwrap(), "subscription.expired");
        passes(house, clock, 14).await;
        house.is_quiet().await;
        let owing = found(house, &trial.subscription_id).await;
        assert_eq!((owing.status(), owing.period_start_time), (Status::PastDue, trial.trial_end_time));
        let told = told_of(house, &trial.subscription_id).await;
        let stepped = "subscription.status_changed";
        assert_eq!(told, ["subscription.created", "subscription.activated", "subscription.renewed", stepped, stepped]);
        passes(house, clock, 31).await;
        assert_eq!(found(house, &trial.subscription_id).await.status(), Status::Expired);
    })
    .await;
}

/// Copies of one subscription, each its own in all that tells subscriptions apart, of users who have the money.
async fn multiply(house: &House, store: &Store, copies: i64) {
    let users = stream::iter(1..=copies).map(async |number| {
        let user_id = format!("user-{number}");
        house.accounts().ensure_account(person(&user_id)).await.unwrap();
        let plenty = payment(&format!("plenty-{number}"), &user_id, "1000000");
        house.wallets().record_payment(RecordPaymentRequest { currency: "USD".to_owned(), ..plenty }).await.unwrap();
    });
    users.buffer_unordered(32).collect::<Vec<()>>().await;
    let reader = store.reader();
    let series = match reader.get_database_backend() {
        sea_orm::DbBackend::Postgres => "select generate_series(1, $1) as n",
        _ => "with recursive s (n) as (select 1 union all select n + 1 from s where n < $1) select n from s",
    };
    let columns = "organization_id, plan_id, plan_version, status, billing_cycle, seats, currency, amount, anchor_time,
        anchor_periods, period_number, period_start_time, period_end_time, cancel_at_period_end, cancel_reason,
        change_plan_id, change_plan_version, change_billing_cycle, change_currency, change_amount, due_time, version,
        create_time, update_time";
    let spread = columns.replace("organization_id", "s.organization_id");
    let text = format!(
        "insert into subscriptions (tenant_id, subscription_id, user_id, {columns})
         select s.tenant_id, 'sub_copy_' || i.n, 'user-' || i.n, {spread} from subscriptions s cross join ({series}) i"
    );
    reader.execute_raw(sql(reader, &text, [copies.into()])).await.unwrap();
    for table in [
        "insert into subscription_periods select s.tenant_id, s.subscription_id, 1, s.period_start_time, s.period_end_time,
            s.plan_id, s.plan_version, s.currency, s.amount from subscriptions s where s.subscription_id like 'sub_copy_%'",
        "insert into subscription_history select s.tenant_id, s.subscription_id, h.version, h.time, h.actor, h.action,
            h.from_status, h.to_status, h.reason, h.feedback
            from subscriptions s join subscription_history h on h.subscription_id not like 'sub_copy_%'
           where s.subscription_id like 'sub_copy_%'",
    ] {
        reader.execute_unprepared(table).await.unwrap();
    }
}

/// Every period once: no gap, none told of twice, none that is not told of.
async fn every_period_once(store: &Store, periods: i64) {
    let reader = store.reader();
    let counted = async |text| count(reader, text, []).await.unwrap();
    assert_eq!((counted(GAPS).await, counted(TWICE).await), (0, 0));
    assert_eq!(counted(PERIODS).await, periods);
    eventually("telling", async || counted("select count(*) from outbox_waiting").await == 0).await;
    assert_eq!(counted(RENEWALS).await, periods);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_years_of_a_thousand_subscriptions_are_charged_period_by_period_each_once() {
    const SUBSCRIPTIONS: i64 = 1_000;
    on_every_store_with_a_held_clock(async |house, clock| {
        on_sale(house).await;
        let original = active(house, "basic").await.subscription_id;
        let store = house.rows(RoleName::Product).await;
        multiply(house, &store, SUBSCRIPTIONS - 1).await;
        let mut months = 0;
        for days in (0..).map(|month| if month % 2 == 0 { 30 } else { 31 }).take(36) {
            passes(house, clock, days).await;
            months += 1;
        }
        let renewed = actions(house, &original).await.iter().filter(|action| **action == Action::Renewed).count();
        let renewed = i64::try_from(renewed).unwrap();
        assert!((months - 1..=months).contains(&renewed), "{renewed} renewals in {months} months");
        every_period_once(&store, renewed * SUBSCRIPTIONS).await;
        store.close().await.unwrap();
        // And each is paid once: the original's first one, too.
        house.is_quiet().await;
        let billing = house.rows(RoleName::Billing).await;
        let paid = "select count(*) from charges where state = 'PAID' and amount = 1000";
        assert_eq!(count(billing.reader(), paid, []).await.unwrap(), renewed * SUBSCRIPTIONS + 1);
        billing.close().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_share_what_time_has_to_do_and_do_nothing_twice() {
    let Some(databases) = Databases::postgres().await else { return };
    let clock = Clock::held(Clock::system().now());
    let start = async || House::start_by(clock.clone(), config(&databases, &[]), &RoleName::ALL).await;
    let (one, two) = (start().await, start().await);
    on_sale(&one).await;
    active(&one, "basic").await;
    let store = one.rows(RoleName::Product).await;
    multiply(&one, &store, 499).await;
    for _ in 0..6 {
        passes(&one, &clock, 31).await;
    }
    let periods = count(store.reader(), PERIODS, []).await.unwrap();
    assert_eq!(periods % 500, 0);
    every_period_once(&store, periods).await;
    store.close().await.unwrap();
    two.end().await;
    one.end().await;
    databases.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cannot_be_dealt_with_holds_up_no_other() {
    on_every_store_with_a_held_clock(async |house, clock| {
        on_sale(house).await;
        active(house, "basic").await;
        let store = house.rows(RoleName::Product).await;
        multiply(house, &store, 3).await;
        let taken = "insert into subscription_periods
                     select tenant_id, subscription_id, 2, 5, 6, plan_id, plan_version, currency, amount
                       from subscription_periods where subscription_id = 'sub_copy_2'";
        store.reader().execute_unprepared(taken).await.unwrap();
        passes(house, clock, 32).await;
        let renewed = "select count(*) from subscriptions where period_number = 2";
        assert_eq!(count(store.reader(), renewed, []).await.unwrap(), 3);
        store.close().await.unwrap();
    })
    .await;
}
