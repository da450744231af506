//! What somebody makes of a subscription: other terms, a pause, an end.

use std::time::Duration;

use tonic::Code;
use trivet_proto::product::v1::{
    BillingCycle, CancelSubscriptionRequest, ChangePlanRequest, ChangePlanResponse, ListSubscriptionHistoryRequest,
    PauseSubscriptionRequest, ResumeSubscriptionRequest, Subscription, SubscriptionAction as Action,
    SubscriptionStatus as Status, UpdatePlanRequest, WithdrawScheduledChangeRequest,
};

use super::{actions, active, found, history, on_sale, passes, pays_nothing, step, stepped, subscribed, told_of, wish};
use crate::{
    harness::{House, faulty, on_every_store, on_every_store_with_a_held_clock, reason, told},
    plans::plan,
};

fn change(request_id: &str, subscription_id: &str, plan_id: &str) -> ChangePlanRequest {
    ChangePlanRequest {
        request_id: request_id.to_owned(),
        subscription_id: subscription_id.to_owned(),
        plan_id: plan_id.to_owned(),
        ..ChangePlanRequest::default()
    }
}

async fn changed(house: &House, change: ChangePlanRequest) -> ChangePlanResponse {
    house.subscriptions().change_plan(change).await.unwrap().into_inner()
}

async fn withdrawn(house: &House, subscription_id: &str) -> Subscription {
    let withdraw = WithdrawScheduledChangeRequest { subscription_id: subscription_id.to_owned(), ..Default::default() };
    let answer = house.subscriptions().withdraw_scheduled_change(withdraw).await.unwrap();
    answer.into_inner().subscription.unwrap()
}

async fn canceled(house: &House, subscription_id: &str, immediately: bool) -> Subscription {
    let cancel = CancelSubscriptionRequest {
        subscription_id: subscription_id.to_owned(),
        immediately,
        reason: "too dear".to_owned(),
        feedback: "It was good.".to_owned(),
        ..CancelSubscriptionRequest::default()
    };
    house.subscriptions().cancel_subscription(cancel).await.unwrap().into_inner().subscription.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_costs_what_its_preview_said_and_is_made_once() {
    on_every_store_with_a_held_clock(async |house, clock| {
        on_sale(house).await;
        let id = active(house, "basic").await.subscription_id;
        passes(house, clock, 10).await;
        let preview = changed(house, ChangePlanRequest { validate_only: true, ..change("c-1", &id, "pro") }).await;
        assert_eq!(found(house, &id).await.plan_id, "basic");
        clock.advance(Duration::from_mins(9));
        let order = ChangePlanRequest { proration_time: preview.proration_time, ..change("c-1", &id, "pro") };
        let made = changed(house, order.clone()).await;
        assert_eq!((&made.amount, made.proration_time), (&preview.amount, preview.proration_time));
        // 20 of what a month costs more, and ten days of it are over.
        let amount: f64 = made.amount.parse().unwrap();
        assert!((12.0..14.0).contains(&amount), "{made:?}");
        let subscription = made.subscription.clone().unwrap();
        assert_eq!((subscription.plan_id.as_str(), subscription.amount.as_str()), ("pro", "30"));
        let again = changed(house, order.clone()).await;
        assert_eq!(again, ChangePlanResponse { already_processed: true, ..made });
        let told_twice = told_of(house, &id).await;
        assert_eq!(told_twice.iter().filter(|kind| *kind == "subscription.changed").count(), 1, "{told_twice:?}");
        let other = ChangePlanRequest { plan_id: "free".to_owned(), ..order };
        let refused = house.subscriptions().change_plan(other).await.unwrap_err();
        assert_eq!((reason(&refused).as_str(), told(&refused, "differs").as_str()), ("REQUEST_ID_REUSED", "plan_id"));
        clock.advance(Duration::from_mins(11));
        let late = ChangePlanRequest { proration_time: preview.proration_time, ..change("c-2", &id, "basic") };
        assert_eq!(faulty(&house.subscriptions().change_plan(late).await.unwrap_err()), ["proration_time"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_downgrade_and_another_cycle_come_with_the_next_period_and_can_be_taken_back() {
    on_every_store_with_a_held_clock(async |house, clock| {
        on_sale(house).await;
        let id = active(house, "pro").await.subscription_id;
        let end = found(house, &id).await.period_end_time;
        let down = changed(house, change("c-1", &id, "basic")).await;
        let scheduled = down.subscription.unwrap().scheduled_change.unwrap();
        assert_eq!(
            (scheduled.plan_id.as_str(), scheduled.amount.as_str(), scheduled.effective_time),
            ("basic", "10", end)
        );
        assert_eq!((down.amount.as_str(), down.proration_time), ("0", None));
        let back = withdrawn(house, &id).await;
        assert_eq!((back.scheduled_change.as_ref(), withdrawn(house, &id).await), (None, back.clone()));
        let yearly = ChangePlanRequest { billing_cycle: BillingCycle::Yearly.into(), ..change("c-2", &id, "pro") };
        changed(house, yearly).await;
        passes(house, clock, 32).await;
        let renewed = found(house, &id).await;
        assert_eq!((renewed.billing_cycle(), renewed.amount.as_str()), (BillingCycle::Yearly, "300"));
        assert_eq!((renewed.period_start_time, renewed.scheduled_change.as_ref()), (end, None));
        let expected = [
            Action::Created,
            Action::StatusChanged,
            Action::ChangeScheduled,
            Action::ChangeWithdrawn,
            Action::ChangeScheduled,
            Action::PlanChanged,
            Action::Renewed,
        ];
        assert_eq!(actions(house, &id).await, expected);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_changed_says_why() {
    on_every_store(async |house| {
        on_sale(house).await;
        let unpaid = subscribed(house, wish("sub-1", "ada", "basic")).await.subscription_id;
        let check = async |order, expected: &str| {
            let refused = house.subscriptions().change_plan(order).await.unwrap_err();
            assert_eq!(reason(&refused), expected);
        };
        check(change("c-1", "sub_none", "pro"), "SUBSCRIPTION_NOT_FOUND").await;
        check(change("c-2", &unpaid, "none"), "SUBSCRIPTION_NOT_ACTIVE").await;
        stepped(house, &unpaid, Status::Active).await;
        check(change("c-3", &unpaid, "none"), "PLAN_NOT_FOUND").await;
        check(change("c-4", &unpaid, "basic"), "ALREADY_SUBSCRIBED").await;
        subscribed(house, wish("sub-2", "ada", "pro")).await;
        check(change("c-5", &unpaid, "pro"), "ALREADY_SUBSCRIBED").await;
        let quarterly =
            ChangePlanRequest { billing_cycle: BillingCycle::Quarterly.into(), ..change("c-6", &unpaid, "free") };
        assert_eq!(faulty(&house.subscriptions().change_plan(quarterly).await.unwrap_err()), ["billing_cycle"]);
        let wrong = ChangePlanRequest { billing_cycle: 9, ..ChangePlanRequest::default() };
        let fields = ["request_id", "subscription_id", "plan_id", "billing_cycle"];
        assert_eq!(faulty(&house.subscriptions().change_plan(wrong).await.unwrap_err()), fields);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_keeps_its_version_of_a_plan_until_it_is_changed() {
    on_every_store(async |house| {
        on_sale(house).await;
        let id = active(house, "basic").await.subscription_id;
        let dearer = UpdatePlanRequest {
            plan_id: "basic".to_owned(),
            currency: "USD".to_owned(),
            prices: plan("", "20", "200").prices,
            ..UpdatePlanRequest::default()
        };
        house.plans().update_plan(dearer).await.unwrap();
        let kept = found(house, &id).await;
        assert_eq!((kept.plan_version, kept.amount.as_str()), (1, "10"));
        let moved = changed(house, change("c-1", &id, "basic")).await.subscription.unwrap();
        assert_eq!((moved.plan_version, moved.amount.as_str()), (2, "20"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_comes_at_once_or_with_the_period_and_is_final() {
    on_every_store_with_a_held_clock(async |house, clock| {
        on_sale(house).await;
        let id = active(house, "basic").await.subscription_id;
        let ending = canceled(house, &id, false).await;
        assert_eq!((ending.status(), ending.cancel_at_period_end), (Status::Active, true));
        assert_eq!((ending.cancel_reason.as_str(), ending.canceled_time), ("too dear", Some(clock.now().to_wire())));
        assert_eq!(canceled(house, &id, false).await, ending, "repeating it is the same answer");
        let kept = withdrawn(house, &id).await;
        assert_eq!((kept.cancel_at_period_end, kept.canceled_time), (false, None));
        canceled(house, &id, false).await;
        passes(house, clock, 32).await;
        let ended = found(house, &id).await;
        assert_eq!(ended.status(), Status::Canceled);
        let refused = house.subscriptions().update_subscription_status(step(&id, Status::Active)).await.unwrap_err();
        assert_eq!((reason(&refused).as_str(), told(&refused, "from").as_str()), ("ILLEGAL_TRANSITION", "CANCELED"));
        assert_eq!(withdrawn(house, &id).await, ended, "nothing is scheduled any more");
        let last = history(house, &id).await.pop().unwrap();
        assert_eq!((last.actor.as_str(), last.reason.as_str(), last.to()), ("trivet", "too dear", Status::Canceled));
        // What is not paid ends at once either way.
        pays_nothing(house).await;
        let unpaid = subscribed(house, wish("sub-2", "ada", "pro")).await.subscription_id;
        assert_eq!(canceled(house, &unpaid, false).await.status(), Status::Canceled);
        let last = history(house, &unpaid).await.pop().unwrap();
        assert_eq!((last.actor.as_str(), last.feedback.as_str()), ("operator", "It was good."));
        let told = told_of(house, &unpaid).await;
        assert_eq!(told, ["subscription.created", "subscription.status_changed", "subscription.canceled"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_paused_gives_nothing_and_goes_on_when_it_is_told_to() {
    on_every_store_with_a_held_clock(async |house, clock| {
        on_sale(house).await;
        let id = active(house, "basic").await.subscription_id;
        let pause = PauseSubscriptionRequest { subscription_id: id.clone(), ..Default::default() };
        let paused = house.subscriptions().pause_subscription(pause.clone()).await.unwrap().into_inner().subscription;
        assert_eq!(paused.as_ref().unwrap().status(), Status::Paused);
        assert_eq!(house.subscriptions().pause_subscription(pause).await.unwrap().into_inner().subscription, paused);
        passes(house, clock, 70).await;
        assert_eq!(found(house, &id).await, paused.unwrap(), "time does nothing to it");
        let resume = ResumeSubscriptionRequest { subscription_id: id.clone(), ..Default::default() };
        let resumed = house.subscriptions().resume_subscription(resume.clone()).await.unwrap().into_inner();
        let resumed = resumed.subscription.unwrap();
        assert_eq!(resumed.status(), Status::Active);
        let now = mesh::Time::from_micros(clock.now().micros() / 1_000_000 * 1_000_000);
        assert_eq!(resumed.period_start_time, Some(now.to_wire()), "a period of its own begins");
        let again = house.subscriptions().resume_subscription(resume).await.unwrap().into_inner().subscription;
        assert_eq!(again, Some(resumed));
        house.is_quiet().await;
        stepped(house, &id, Status::PastDue).await;
        let resume = ResumeSubscriptionRequest { subscription_id: id.clone(), ..Default::default() };
        let refused = house.subscriptions().resume_subscription(resume).await.unwrap_err();
        assert_eq!(reason(&refused), "ILLEGAL_TRANSITION", "money is what it lacks");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pair_of_states_is_a_step_or_refused_through_the_rpc_too() {
    on_every_store(async |house| {
        on_sale(house).await;
        let every = [
            Status::Incomplete,
            Status::Trialing,
            Status::Active,
            Status::PastDue,
            Status::Paused,
            Status::Canceled,
            Status::Expired,
        ];
        // By which steps each state is reached from INCOMPLETE or, with a trial, TRIALING.
        let ways: [(Status, bool, &[Status]); 7] = [
            (Status::Incomplete, false, &[]),
            (Status::Trialing, true, &[]),
            (Status::Active, false, &[Status::Active]),
            (Status::PastDue, false, &[Status::Active, Status::PastDue]),
            (Status::Paused, false, &[Status::Active, Status::Paused]),
            (Status::Canceled, false, &[Status::Canceled]),
            (Status::Expired, false, &[Status::Expired]),
        ];
        let legal = |from: Status, to: Status| match from {
            Status::Incomplete => matches!(to, Status::Active | Status::Canceled | Status::Expired),
            Status::Trialing => matches!(to, Status::Active | Status::PastDue | Status::Expired | Status::Canceled),
            Status::Active => matches!(to, Status::PastDue | Status::Paused | Status::Canceled | Status::Expired),
            Status::PastDue | Status::Paused => matches!(to, Status::Active | Status::Canceled | Status::Expired),
            _ => false,
        };
        for (from, use_trial, way) in ways {
            for to in every {
                let user = format!("{from:?}-{to:?}");
                house.accounts().ensure_account(crate::harness::person(&user)).await.unwrap();
                let mut wish = wish(&user, &user, "basic");
                wish.use_trial = use_trial;
                let id = subscribed(house, wish).await.subscription_id;
                for status in way {
                    stepped(house, &id, *status).await;
                }
                match house.subscriptions().update_subscription_status(step(&id, to)).await {
                    Ok(answer) => {
                        assert!(from == to || legal(from, to), "{user}");
                        assert_eq!(answer.into_inner().subscription.unwrap().status(), to);
                    }
                    Err(refused) => {
                        assert!(from != to && !legal(from, to), "{user}");
                        let states = (told(&refused, "from"), told(&refused, "to"));
                        let name =
                            |status: Status| status.as_str_name().trim_start_matches("SUBSCRIPTION_STATUS_").to_owned();
                        assert_eq!((refused.code(), states), (Code::FailedPrecondition, (name(from), name(to))));
                        assert_eq!(found(house, &id).await.status(), from);
                    }
                }
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_knows_an_older_state_changes_nothing_and_every_fault_is_named() {
    on_every_store(async |house| {
        on_sale(house).await;
        let old = active(house, "basic").await;
        let id = old.subscription_id.clone();
        canceled(house, &id, false).await;
        let etag = old.etag.clone();
        let withdraw = WithdrawScheduledChangeRequest { subscription_id: id.clone(), etag: etag.clone() };
        let refused = house.subscriptions().withdraw_scheduled_change(withdraw).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
        let pause = PauseSubscriptionRequest { subscription_id: id.clone(), etag, ..Default::default() };
        assert_eq!(reason(&house.subscriptions().pause_subscription(pause).await.unwrap_err()), "ETAG_MISMATCH");
        let wrong = CancelSubscriptionRequest {
            reason: "r".repeat(501),
            feedback: "f".repeat(2_001),
            ..CancelSubscriptionRequest::default()
        };
        let fields = ["subscription_id", "reason", "feedback"];
        assert_eq!(faulty(&house.subscriptions().cancel_subscription(wrong).await.unwrap_err()), fields);
        let mut nothing = step("", Status::Unspecified);
        nothing.reason = String::new();
        let refused = house.subscriptions().update_subscription_status(nothing).await.unwrap_err();
        assert_eq!(faulty(&refused), ["subscription_id", "status", "reason"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_is_read_page_by_page_newest_first() {
    on_every_store(async |house| {
        on_sale(house).await;
        let id = active(house, "basic").await.subscription_id;
        canceled(house, &id, true).await;
        let ask = ListSubscriptionHistoryRequest {
            subscription_id: id.clone(),
            page_size: 1,
            with_total: true,
            ..Default::default()
        };
        let (mut versions, mut ask) = (Vec::new(), ask);
        loop {
            let page = house.subscriptions().list_subscription_history(ask.clone()).await.unwrap().into_inner();
            assert_eq!(page.total_size, Some(3));
            versions.extend(page.entries.iter().map(|entry| entry.version));
            ask.page_token = page.next_page_token;
            if ask.page_token.is_empty() {
                break;
            }
        }
        assert_eq!(versions, [3, 2, 1]);
        let none = ListSubscriptionHistoryRequest { subscription_id: "sub_none".to_owned(), ..Default::default() };
        let refused = house.subscriptions().list_subscription_history(none).await.unwrap_err();
        assert_eq!(reason(&refused), "SUBSCRIPTION_NOT_FOUND");
    })
    .await;
}
