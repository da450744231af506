//! How somebody subscribes, and who may not.

use std::time::Duration;

use mesh::{Clock, Time};
use sea_orm::ConnectionTrait as _;
use tonic::Code;
use trivet::RoleName;
use trivet_proto::{
    account::v1::{
        AccountStatus, ChangeAccountStatusRequest, CreateOrganizationRequest, DeleteAccountRequest,
        EnsureAccountRequest,
    },
    product::v1::{
        ArchivePlanRequest, BillingCycle, CancelSubscriptionRequest, CreateSubscriptionRequest, GetSubscriptionRequest,
        Subscription, SubscriptionStatus as Status,
    },
};

use super::{found, on_sale, subscribed, told_of, wish};
use crate::{
    harness::{
        Databases, House, config, faulty, on_every_store, on_every_store_with_a_held_clock, person, reason, told,
    },
    tenants::of,
};

const DAY: Duration = Duration::from_hours(24);

async fn refusal(house: &House, wish: CreateSubscriptionRequest) -> (Code, String) {
    let refused = house.subscriptions().create_subscription(wish).await.unwrap_err();
    (refused.code(), reason(&refused))
}

fn second(time: Time) -> Time {
    Time::from_micros(time.micros() / 1_000_000 * 1_000_000)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_costs_nothing_is_active_at_once_and_what_costs_waits_for_its_payment() {
    on_every_store_with_a_held_clock(async |house, clock| {
        on_sale(house).await;
        let free = subscribed(house, wish("sub-1", "ada", "free")).await;
        let now = Some(clock.now().to_wire());
        let expected = Subscription {
            subscription_id: free.subscription_id.clone(),
            user_id: "ada".to_owned(),
            plan_id: "free".to_owned(),
            plan_version: 1,
            status: Status::Active.into(),
            billing_cycle: BillingCycle::Monthly.into(),
            seats: 1,
            period_start_time: Some(second(clock.now()).to_wire()),
            period_end_time: free.period_end_time,
            amount: "0".to_owned(),
            currency: "USD".to_owned(),
            etag: "v1".to_owned(),
            create_time: now,
            update_time: now,
            ..Subscription::default()
        };
        assert_eq!(free, expected);
        assert!(free.subscription_id.starts_with("sub_") && free.subscription_id.len() == 30, "{free:?}");
        assert_eq!(found(house, &free.subscription_id).await, free);
        assert_eq!(told_of(house, &free.subscription_id).await, ["subscription.created", "subscription.activated"]);
        let pro = subscribed(house, CreateSubscriptionRequest { seats: 3, ..wish("sub-2", "ada", "pro") }).await;
        assert_eq!((pro.status(), pro.seats, pro.amount.as_str()), (Status::Incomplete, 3, "90"));
        assert_eq!(told_of(house, &pro.subscription_id).await, ["subscription.created"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_is_had_once_for_each_plan_whatever_became_of_it() {
    on_every_store_with_a_held_clock(async |house, clock| {
        on_sale(house).await;
        let on_trial = |id: &str, user: &str| CreateSubscriptionRequest { use_trial: true, ..wish(id, user, "basic") };
        let trial = subscribed(house, on_trial("sub-1", "ada")).await;
        let end = Some(second(clock.now()).plus(DAY * 14).to_wire());
        assert_eq!((trial.status(), trial.trial_end_time, trial.period_end_time), (Status::Trialing, end, end));
        let id = trial.subscription_id.clone();
        assert_eq!(told_of(house, &id).await, ["subscription.created", "subscription.activated"]);
        let cancel = CancelSubscriptionRequest { subscription_id: id, immediately: true, ..Default::default() };
        house.subscriptions().cancel_subscription(cancel).await.unwrap();
        let used = (Code::FailedPrecondition, "TRIAL_USED".to_owned());
        assert_eq!(refusal(house, on_trial("sub-2", "ada")).await, used);
        assert_eq!(refusal(house, on_trial("sub-2", "ada")).await, used, "a refusal is kept");
        // Nothing of the refused one is there, and without a trial the plan can be had.
        assert_eq!(subscribed(house, wish("sub-3", "ada", "basic")).await.status(), Status::Incomplete);
        house.accounts().ensure_account(person("bob")).await.unwrap();
        assert_eq!(subscribed(house, on_trial("sub-4", "bob")).await.status(), Status::Trialing);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_subscribes_once_and_gets_the_first_answer() {
    on_every_store(async |house| {
        on_sale(house).await;
        let first = house.subscriptions().create_subscription(wish("sub-1", "ada", "pro")).await.unwrap().into_inner();
        // Neither account nor plan need be as they were.
        house.plans().archive_plan(ArchivePlanRequest { plan_id: "pro".to_owned() }).await.unwrap();
        let delete = DeleteAccountRequest { user_id: "ada".to_owned(), reason: String::new() };
        house.accounts().delete_account(delete).await.unwrap();
        let again = house.subscriptions().create_subscription(wish("sub-1", "ada", "pro")).await.unwrap().into_inner();
        assert_eq!((again.subscription, again.already_processed), (first.subscription, true));
        let other = CreateSubscriptionRequest { seats: 2, ..wish("sub-1", "ada", "pro") };
        let refused = house.subscriptions().create_subscription(other).await.unwrap_err();
        assert_eq!((reason(&refused).as_str(), told(&refused, "differs").as_str()), ("REQUEST_ID_REUSED", "seats"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn validate_only_says_what_it_would_cost_writes_nothing_and_leaves_the_id_free() {
    on_every_store(async |house| {
        on_sale(house).await;
        let only = CreateSubscriptionRequest { validate_only: true, ..wish("sub-1", "ada", "pro") };
        let tried = house.subscriptions().create_subscription(only).await.unwrap().into_inner();
        let subscription = tried.subscription.unwrap();
        assert_eq!((subscription.subscription_id.as_str(), subscription.amount.as_str()), ("", "30"));
        assert_eq!(subscribed(house, wish("sub-1", "ada", "free")).await.status(), Status::Active);
        let nobody = CreateSubscriptionRequest { validate_only: true, ..wish("sub-2", "nobody", "pro") };
        assert_eq!(refusal(house, nobody).await.1, "ACCOUNT_NOT_FOUND");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_who_subscribe_at_once_make_one_subscription() {
    on_every_store(async |house| {
        on_sale(house).await;
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..20 {
            let mut subscriptions = house.subscriptions();
            // Half of them under one id, half under their own.
            let id = if number % 2 == 0 { "sub".to_owned() } else { format!("sub-{number}") };
            calls.spawn(async move { subscriptions.create_subscription(wish(&id, "ada", "pro")).await });
        }
        let mut made = Vec::new();
        while let Some(answer) = calls.join_next().await {
            match answer.unwrap() {
                Ok(response) => made.push(response.into_inner()),
                Err(status) => assert_eq!(reason(&status), "ALREADY_SUBSCRIBED"),
            }
        }
        assert_eq!(made.iter().filter(|answer| !answer.already_processed).count(), 1, "{made:?}");
        let ids: std::collections::BTreeSet<_> =
            made.into_iter().map(|answer| answer.subscription.unwrap().subscription_id).collect();
        assert_eq!(ids.len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_heard_since_account_answered_decides() {
    on_every_store(async |house| {
        on_sale(house).await;
        // An event that account's answer does not know of yet.
        let rows = house.rows(RoleName::Product).await;
        let newer = "insert into buyers (tenant_id, user_id, status, version, as_of_time)
                         values ('default', 'ada', 'SUSPENDED', 1000, 1)
                         on conflict (tenant_id, user_id) do update set status = 'SUSPENDED', version = 1000";
        rows.reader().execute_unprepared(newer).await.unwrap();
        rows.close().await.unwrap();
        let suspended = (Code::FailedPrecondition, "ACCOUNT_SUSPENDED".to_owned());
        assert_eq!(refusal(house, wish("r1", "ada", "pro")).await, suspended);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_subscribe_is_told_the_first_reason() {
    on_every_store(async |house| {
        on_sale(house).await;
        let suspend = ChangeAccountStatusRequest {
            user_id: "sue".to_owned(),
            status: AccountStatus::Suspended.into(),
            reason: "unpaid".to_owned(),
            etag: String::new(),
        };
        for user in ["sue", "dan", "eve"] {
            house.accounts().ensure_account(person(user)).await.unwrap();
        }
        house.accounts().change_account_status(suspend).await.unwrap();
        let delete = DeleteAccountRequest { user_id: "dan".to_owned(), reason: String::new() };
        house.accounts().delete_account(delete).await.unwrap();
        let lab = CreateOrganizationRequest {
            organization_id: "lab".to_owned(),
            name: "Lab".to_owned(),
            owner_user_id: "eve".to_owned(),
            ..Default::default()
        };
        house.organizations().create_organization(lab).await.unwrap();
        house.plans().archive_plan(ArchivePlanRequest { plan_id: "basic".to_owned() }).await.unwrap();
        let within =
            |wish, organization: &str| CreateSubscriptionRequest { organization_id: organization.to_owned(), ..wish };
        let (not_found, precondition) = (Code::NotFound, Code::FailedPrecondition);
        for (wish, code, expected) in [
            (wish("r1", "nobody", "pro"), not_found, "ACCOUNT_NOT_FOUND"),
            (wish("r2", "sue", "none"), precondition, "ACCOUNT_SUSPENDED"),
            (wish("r3", "dan", "pro"), precondition, "ACCOUNT_DELETED"),
            (within(wish("r4", "ada", "pro"), "none"), not_found, "ORGANIZATION_NOT_FOUND"),
            (within(wish("r5", "ada", "none"), "lab"), precondition, "NOT_A_MEMBER"),
            (wish("r6", "ada", "none"), not_found, "PLAN_NOT_FOUND"),
            (wish("r7", "ada", "basic"), precondition, "PLAN_NOT_AVAILABLE"),
        ] {
            assert_eq!(refusal(house, wish).await, (code, expected.to_owned()));
        }
        let labs = subscribed(house, within(wish("r8", "eve", "pro"), "lab")).await;
        assert_eq!(labs.organization_id, "lab");
        // For herself she may, too; and nobody else's tenant knows of it.
        subscribed(house, wish("r9", "eve", "pro")).await;
        let ask = GetSubscriptionRequest { subscription_id: labs.subscription_id };
        let other = house.subscriptions().get_subscription(of("other", ask)).await.unwrap_err();
        assert_eq!(reason(&other), "SUBSCRIPTION_NOT_FOUND");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_plan_does_not_have_is_a_fault_of_its_field_and_leaves_the_id_free() {
    on_every_store(async |house| {
        on_sale(house).await;
        let ask = wish("sub-1", "ada", "pro");
        for (wrong, field) in [
            (
                CreateSubscriptionRequest { billing_cycle: BillingCycle::Quarterly.into(), ..ask.clone() },
                "billing_cycle",
            ),
            (CreateSubscriptionRequest { use_trial: true, ..ask.clone() }, "use_trial"),
        ] {
            let refused = house.subscriptions().create_subscription(wrong).await.unwrap_err();
            assert_eq!((reason(&refused).as_str(), faulty(&refused)), ("INVALID_FIELDS", vec![field.to_owned()]));
        }
        let wrong = CreateSubscriptionRequest {
            request_id: "a b".to_owned(),
            user_id: String::new(),
            organization_id: "é".to_owned(),
            plan_id: String::new(),
            seats: -1,
            ..CreateSubscriptionRequest::default()
        };
        let refused = house.subscriptions().create_subscription(wrong).await.unwrap_err();
        let fields = ["request_id", "user_id", "organization_id", "plan_id", "billing_cycle", "seats"];
        assert_eq!(faulty(&refused), fields);
        subscribed(house, ask).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_account_is_away_nobody_subscribes_and_nothing_is_written() {
    for databases in [Some(Databases::sqlite()), Databases::postgres().await].into_iter().flatten() {
        let house = House::start_by(Clock::system(), config(&databases, &[]), &RoleName::ALL).await;
        on_sale(&house).await;
        house.running.drain(std::future::pending()).await;
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let alone = config(&databases, &[("account.address", &nobody)]);
        let house = House::start_by(Clock::system(), alone, &[RoleName::Product]).await;
        let refused = house.subscriptions().create_subscription(wish("sub-1", "ada", "free")).await.unwrap_err();
        assert_eq!((refused.code(), told(&refused, "peer").as_str()), (Code::Unavailable, "account"));
        house.running.drain(std::future::pending()).await;
        let house = House::start_by(Clock::system(), config(&databases, &[]), &RoleName::ALL).await;
        let made = house.subscriptions().create_subscription(wish("sub-1", "ada", "free")).await.unwrap().into_inner();
        assert!(!made.already_processed);
        let known = EnsureAccountRequest { ..person("ada") };
        assert!(!house.accounts().ensure_account(known).await.unwrap().into_inner().created);
        house.running.drain(std::future::pending()).await;
        databases.done().await;
    }
}
