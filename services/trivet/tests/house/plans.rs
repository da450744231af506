//! Plans, as their callers see them: versions, what is on sale, and plans side by side.

use std::collections::HashMap;

use tonic::Code;
use trivet_proto::product::v1::{
    ArchivePlanRequest, BillingCycle, ComparePlansRequest, CreatePlanRequest, CreateProductRequest, GetPlanRequest,
    IncludedUsage, ListPlansRequest, Overage, Plan, PlanPrice, PlanStatus, PlanTier, UpdatePlanRequest,
};

use crate::{
    harness::{House, faulty, on_every_store, on_every_store_with_a_held_clock, reason, told},
    tenants::of,
};

/// A plan sold by the month and by the year, in USD.
pub(crate) fn plan(plan_id: &str, month: &str, year: &str) -> CreatePlanRequest {
    let price =
        |cycle: BillingCycle, amount: &str| PlanPrice { billing_cycle: cycle.into(), amount: amount.to_owned() };
    CreatePlanRequest {
        plan_id: plan_id.to_owned(),
        name: plan_id.to_owned(),
        tier: PlanTier::Basic.into(),
        currency: "USD".to_owned(),
        prices: vec![price(BillingCycle::Monthly, month), price(BillingCycle::Yearly, year)],
        ..CreatePlanRequest::default()
    }
}

/// So much of a product in each period.
pub(crate) fn includes(product_id: &str, quantity: &str, overage: Overage) -> IncludedUsage {
    IncludedUsage { product_id: product_id.to_owned(), quantity: quantity.to_owned(), overage: overage.into() }
}

pub(crate) async fn sell(house: &House, plan: CreatePlanRequest) -> Plan {
    house.plans().create_plan(plan).await.unwrap().into_inner().plan.unwrap()
}

async fn product(house: &House, product_id: &str) {
    let (product_id, name) = (product_id.to_owned(), "Tokens".to_owned());
    house.catalog().create_product(CreateProductRequest { product_id, name, ..Default::default() }).await.unwrap();
}

async fn found(house: &House, plan_id: &str, version: i64) -> Plan {
    let ask = GetPlanRequest { plan_id: plan_id.to_owned(), version };
    house.plans().get_plan(ask).await.unwrap().into_inner().plan.unwrap()
}

fn update(plan_id: &str) -> UpdatePlanRequest {
    UpdatePlanRequest { plan_id: plan_id.to_owned(), ..UpdatePlanRequest::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_made_once_and_shown_as_it_was_made() {
    on_every_store_with_a_held_clock(async |house, clock| {
        product(house, "tokens").await;
        let asked = CreatePlanRequest {
            request_id: "plan-1".to_owned(),
            trial_days: 14,
            included_usage: vec![includes("tokens", "1000.50", Overage::Charge)],
            features: HashMap::from([("sso".to_owned(), "yes".to_owned())]),
            max_seats: 10,
            ..plan("basic", "9.90", "99")
        };
        let made = house.plans().create_plan(asked.clone()).await.unwrap().into_inner();
        let now = Some(clock.now().to_wire());
        let expected = Plan {
            plan_id: "basic".to_owned(),
            version: 1,
            name: "basic".to_owned(),
            tier: PlanTier::Basic.into(),
            currency: "USD".to_owned(),
            prices: vec![
                PlanPrice { billing_cycle: BillingCycle::Monthly.into(), amount: "9.9".to_owned() },
                PlanPrice { billing_cycle: BillingCycle::Yearly.into(), amount: "99".to_owned() },
            ],
            trial_days: 14,
            included_usage: vec![includes("tokens", "1000.5", Overage::Charge)],
            features: asked.features.clone(),
            min_seats: 1,
            max_seats: 10,
            status: PlanStatus::Active.into(),
            create_time: now,
            update_time: now,
            etag: made.plan.as_ref().unwrap().etag.clone(),
        };
        assert_eq!((made.plan.as_ref(), made.already_processed), (Some(&expected), false));
        assert_eq!(found(house, "basic", 0).await, expected);
        let again = house.plans().create_plan(asked.clone()).await.unwrap().into_inner();
        assert_eq!((again.plan, again.already_processed), (made.plan, true));
        let other = CreatePlanRequest { trial_days: 7, ..asked };
        let refused = house.plans().create_plan(other).await.unwrap_err();
        assert_eq!(
            (reason(&refused).as_str(), told(&refused, "differs").as_str()),
            ("REQUEST_ID_REUSED", "trial_days")
        );
        let taken = house.plans().create_plan(plan("basic", "1", "1")).await.unwrap_err();
        assert_eq!((taken.code(), reason(&taken).as_str()), (Code::AlreadyExists, "ID_TAKEN"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_makes_a_version_and_the_ones_before_stay() {
    on_every_store(async |house| {
        let first = sell(house, plan("basic", "10", "100")).await;
        let same = UpdatePlanRequest { name: "basic".to_owned(), ..update("basic") };
        let unchanged = house.plans().update_plan(same).await.unwrap().into_inner().plan.unwrap();
        assert_eq!(unchanged, first, "where nothing differs there is no new version");
        let dearer = UpdatePlanRequest {
            currency: "USD".to_owned(),
            prices: plan("", "12", "120").prices,
            etag: first.etag.clone(),
            ..update("basic")
        };
        let second = house.plans().update_plan(dearer.clone()).await.unwrap().into_inner().plan.unwrap();
        assert_eq!((second.version, second.prices[0].amount.as_str(), second.trial_days), (2, "12", 0));
        assert_eq!(found(house, "basic", 0).await, second);
        assert_eq!(found(house, "basic", 1).await.prices, first.prices);
        let stale = house.plans().update_plan(dearer).await.unwrap_err();
        assert_eq!((stale.code(), reason(&stale).as_str()), (Code::Aborted, "ETAG_MISMATCH"));
        for (plan_id, version) in [("basic", 3), ("none", 0)] {
            let ask = GetPlanRequest { plan_id: plan_id.to_owned(), version };
            assert_eq!(reason(&house.plans().get_plan(ask).await.unwrap_err()), "PLAN_NOT_FOUND");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_plan_includes_must_be_there() {
    on_every_store(async |house| {
        let with = |product_id| CreatePlanRequest {
            included_usage: vec![includes(product_id, "1", Overage::Block)],
            ..plan("basic", "1", "1")
        };
        let refused = house.plans().create_plan(with("none")).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::NotFound, "PRODUCT_NOT_FOUND"));
        product(house, "tokens").await;
        sell(house, with("tokens")).await;
        let more = UpdatePlanRequest { included_usage: with("none").included_usage, ..update("basic") };
        assert_eq!(reason(&house.plans().update_plan(more).await.unwrap_err()), "PRODUCT_NOT_FOUND");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archived_plan_can_be_read_and_not_changed_and_repeating_it_changes_nothing() {
    on_every_store(async |house| {
        sell(house, plan("basic", "10", "100")).await;
        let archive = ArchivePlanRequest { plan_id: "basic".to_owned() };
        let archived = house.plans().archive_plan(archive.clone()).await.unwrap().into_inner().plan.unwrap();
        assert_eq!(archived.status(), PlanStatus::Archived);
        assert_eq!(house.plans().archive_plan(archive).await.unwrap().into_inner().plan.unwrap(), archived);
        assert_eq!(found(house, "basic", 0).await, archived);
        let renamed = UpdatePlanRequest { name: "Old".to_owned(), ..update("basic") };
        let refused = house.plans().update_plan(renamed).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::FailedPrecondition, "PLAN_NOT_AVAILABLE"));
        let none = ArchivePlanRequest { plan_id: "none".to_owned() };
        assert_eq!(reason(&house.plans().archive_plan(none).await.unwrap_err()), "PLAN_NOT_FOUND");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_are_listed_newest_first_and_narrowed_by_status_and_tier() {
    on_every_store(async |house| {
        for (plan_id, tier) in [("a", PlanTier::Free), ("b", PlanTier::Basic), ("c", PlanTier::Basic)] {
            sell(house, CreatePlanRequest { tier: tier.into(), ..plan(plan_id, "1", "1") }).await;
        }
        house.plans().archive_plan(ArchivePlanRequest { plan_id: "b".to_owned() }).await.unwrap();
        let check = async |ask: ListPlansRequest, expected: &[&str]| {
            let (mut listed, mut ask) = (Vec::new(), ListPlansRequest { page_size: 1, with_total: true, ..ask });
            loop {
                let page = house.plans().list_plans(ask.clone()).await.unwrap().into_inner();
                assert_eq!(page.total_size, i64::try_from(expected.len()).ok());
                listed.extend(page.plans.into_iter().map(|plan| plan.plan_id));
                ask.page_token = page.next_page_token;
                if ask.page_token.is_empty() {
                    break;
                }
            }
            assert_eq!(listed, expected);
        };
        let all = ListPlansRequest::default();
        check(all.clone(), &["c", "b", "a"]).await;
        check(ListPlansRequest { status: PlanStatus::Active.into(), ..all.clone() }, &["c", "a"]).await;
        check(ListPlansRequest { tier: PlanTier::Basic.into(), ..all.clone() }, &["c", "b"]).await;
        let page =
            house.plans().list_plans(ListPlansRequest { page_size: 1, ..all.clone() }).await.unwrap().into_inner();
        let elsewhere =
            ListPlansRequest { page_token: page.next_page_token, tier: PlanTier::Free.into(), ..all.clone() };
        assert_eq!(reason(&house.plans().list_plans(elsewhere).await.unwrap_err()), "INVALID_PAGE_TOKEN");
        let other = house.plans().list_plans(of("other", all)).await.unwrap().into_inner();
        assert!(other.plans.is_empty(), "another tenant has plans of its own");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_are_compared_in_the_order_that_was_asked_for() {
    on_every_store(async |house| {
        sell(house, plan("basic", "10", "100")).await;
        sell(house, CreatePlanRequest { trial_days: 7, ..plan("pro", "30", "300") }).await;
        let ask = |ids: &[&str]| ComparePlansRequest { plan_ids: ids.iter().map(ToString::to_string).collect() };
        let table = house.plans().compare_plans(ask(&["pro", "basic", "pro"])).await.unwrap().into_inner();
        let columns: Vec<_> = table.plans.iter().map(|plan| plan.plan_id.as_str()).collect();
        assert_eq!(columns, ["pro", "basic"]);
        let rows: Vec<_> =
            table.rows.iter().map(|row| format!("{} {} {}", row.name, row.cells.join("|"), row.differs)).collect();
        let expected =
            ["MONTHLY 30 USD|10 USD true", "YEARLY 300 USD|100 USD true", "seats 1+|1+ false", "trial_days 7|0 true"];
        assert_eq!(rows, expected);
        let refused = house.plans().compare_plans(ask(&["pro", "none"])).await.unwrap_err();
        assert_eq!(reason(&refused), "PLAN_NOT_FOUND");
        let many: Vec<_> = (0..21).map(|number| format!("plan-{number}")).collect();
        let many = ComparePlansRequest { plan_ids: many };
        assert_eq!(faulty(&house.plans().compare_plans(many).await.unwrap_err()), ["plan_ids"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_plan_is_named_at_once() {
    on_every_store(async |house| {
        let price = |cycle: i32, amount: &str| PlanPrice { billing_cycle: cycle, amount: amount.to_owned() };
        let wrong = CreatePlanRequest {
            request_id: "a b".to_owned(),
            plan_id: String::new(),
            name: " ".to_owned(),
            tier: 99,
            currency: "USD".to_owned(),
            prices: vec![price(1, "1.999"), price(2, "1"), price(2, "2")],
            trial_days: 31,
            included_usage: vec![includes("a b", "-1", Overage::Unspecified)],
            features: HashMap::from([("k".repeat(65), "v".repeat(501))]),
            min_seats: 5,
            max_seats: 4,
        };
        let refused = house.plans().create_plan(wrong).await.unwrap_err();
        let faults = faulty(&refused);
        for field in [
            "request_id",
            "plan_id",
            "name",
            "tier",
            "prices[0].amount",
            "prices[2].billing_cycle",
            "trial_days",
            "included_usage[0].product_id",
            "included_usage[0].quantity",
            "included_usage[0].overage",
            "max_seats",
        ] {
            assert!(faults.iter().any(|fault| fault == field), "{field} is not among {faults:?}");
        }
        sell(house, plan("basic", "1", "1")).await;
        let crossed = UpdatePlanRequest { max_seats: 2, min_seats: 3, ..update("basic") };
        assert_eq!(faulty(&house.plans().update_plan(crossed).await.unwrap_err()), ["max_seats"]);
        let alone = UpdatePlanRequest { currency: "EUR".to_owned(), ..update("basic") };
        assert_eq!(faulty(&house.plans().update_plan(alone).await.unwrap_err()), ["currency"]);
        let mask = prost_types::FieldMask { paths: vec!["*".to_owned()] };
        let refused = house.plans().update_plan(UpdatePlanRequest { update_mask: Some(mask), ..update("basic") }).await;
        assert_eq!(reason(&refused.unwrap_err()), "INVALID_UPDATE_MASK");
    })
    .await;
}
