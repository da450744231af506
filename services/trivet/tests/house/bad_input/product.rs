//! The same for whatever product is asked.

use tonic::Code;
use trivet_proto::product::v1::{
    ArchivePlanRequest, CancelSubscriptionRequest, ChangePlanRequest, ComparePlansRequest, CreateCategoryRequest,
    DeleteProductRequest, GetPlanRequest, GetSubscriptionAnalyticsRequest, GetSubscriptionRequest,
    GetUsageStatisticsRequest, ListCategoriesRequest, ListPlansRequest, ListSubscriptionHistoryRequest,
    ListSubscriptionsRequest, ListUsageRequest, PauseSubscriptionRequest, ResumeSubscriptionRequest,
    SubscriptionStatus, UpdateCategoryRequest, UpdateSubscriptionStatusRequest, UsageGrouping, VoidUsageRequest,
    WithdrawScheduledChangeRequest,
};

use super::check;
use crate::harness::{faulty, on_every_store, reason};

/// What no id is.
const BAD: [&str; 5] = ["", "a b", "a\0", "na\u{ef}ve", "a/b"];

#[tokio::test(flavor = "multi_thread")]
async fn bad_ids_of_products_categories_and_plans_are_refused_everywhere() {
    on_every_store(async |house| {
        let (mut catalog, mut plans) = (house.catalog(), house.plans());
        for id in BAD.into_iter().map(str::to_owned).chain(["x".repeat(129), "x".repeat(50_000)]) {
            check(catalog.delete_product(DeleteProductRequest { product_id: id.clone() }).await, &["product_id"]);
            let update = UpdateCategoryRequest {
                category_id: id.clone(),
                name: "x".repeat(201),
                ..UpdateCategoryRequest::default()
            };
            check(catalog.update_category(update).await, &["category_id", "name"]);
            check(plans.get_plan(GetPlanRequest { plan_id: id.clone(), version: -1 }).await, &["plan_id", "version"]);
            check(plans.archive_plan(ArchivePlanRequest { plan_id: id.clone() }).await, &["plan_id"]);
            let compare = ComparePlansRequest { plan_ids: vec!["free".to_owned(), id.clone()] };
            check(plans.compare_plans(compare).await, &["plan_ids[1]"]);
            // None is as good as any where an id can be left out.
            if !id.is_empty() {
                let create = CreateCategoryRequest {
                    request_id: id.clone(),
                    category_id: id.clone(),
                    parent_category_id: id,
                    ..CreateCategoryRequest::default()
                };
                let fields = ["request_id", "category_id", "name", "parent_category_id"];
                check(catalog.create_category(create).await, &fields);
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_ids_of_subscriptions_and_usage_are_refused_everywhere() {
    on_every_store(async |house| {
        let (mut subscriptions, mut usage) = (house.subscriptions(), house.usage());
        for id in BAD.into_iter().map(str::to_owned).chain(["x".repeat(129), "x".repeat(50_000)]) {
            let (subscription_id, reason) = (id.clone(), "x".repeat(501));
            let get = GetSubscriptionRequest { subscription_id: subscription_id.clone() };
            check(subscriptions.get_subscription(get).await, &["subscription_id"]);
            let cancel = CancelSubscriptionRequest {
                subscription_id: subscription_id.clone(),
                reason: reason.clone(),
                ..CancelSubscriptionRequest::default()
            };
            check(subscriptions.cancel_subscription(cancel).await, &["subscription_id", "reason"]);
            let pause = PauseSubscriptionRequest {
                subscription_id: subscription_id.clone(),
                reason: reason.clone(),
                etag: String::new(),
            };
            check(subscriptions.pause_subscription(pause).await, &["subscription_id", "reason"]);
            let resume = ResumeSubscriptionRequest {
                subscription_id: subscription_id.clone(),
                reason: reason.clone(),
                etag: String::new(),
            };
            check(subscriptions.resume_subscription(resume).await, &["subscription_id", "reason"]);
            let withdraw =
                WithdrawScheduledChangeRequest { subscription_id: subscription_id.clone(), etag: String::new() };
            check(subscriptions.withdraw_scheduled_change(withdraw).await, &["subscription_id"]);
            let step = UpdateSubscriptionStatusRequest {
                subscription_id: subscription_id.clone(),
                status: SubscriptionStatus::Unspecified.into(),
                reason: reason.clone(),
                etag: String::new(),
            };
            check(subscriptions.update_subscription_status(step).await, &["subscription_id", "status", "reason"]);
            let change = ChangePlanRequest {
                request_id: id.clone(),
                subscription_id: subscription_id.clone(),
                plan_id: id.clone(),
                billing_cycle: 99,
                ..ChangePlanRequest::default()
            };
            let fields = ["request_id", "subscription_id", "plan_id", "billing_cycle"];
            check(subscriptions.change_plan(change).await, &fields);
            check(usage.void_usage(VoidUsageRequest { usage_id: id, reason }).await, &["usage_id", "reason"]);
        }
        let backwards = GetSubscriptionAnalyticsRequest { start_time: None, end_time: None };
        let refused = subscriptions.get_subscription_analytics(backwards).await.unwrap_err();
        assert_eq!(
            (refused.code(), faulty(&refused).first().map(String::as_str)),
            (Code::InvalidArgument, Some("start_time"))
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_pages_of_lists_of_product_are_refused() {
    on_every_store(async |house| {
        let (mut catalog, mut plans) = (house.catalog(), house.plans());
        let (mut subscriptions, mut usage) = (house.subscriptions(), house.usage());
        let size = -1;
        let list =
            ListCategoriesRequest { page_size: size, parent_category_id: "a b".to_owned(), ..Default::default() };
        check(catalog.list_categories(list).await, &["page_size", "parent_category_id"]);
        let list = ListPlansRequest { page_size: size, status: 99, tier: 99, ..Default::default() };
        check(plans.list_plans(list).await, &["page_size", "status", "tier"]);
        let list = ListSubscriptionsRequest { page_size: size, statuses: vec![99], ..Default::default() };
        check(subscriptions.list_subscriptions(list).await, &["page_size", "statuses[0]"]);
        let list = ListSubscriptionHistoryRequest { page_size: size, ..Default::default() };
        check(subscriptions.list_subscription_history(list).await, &["subscription_id", "page_size"]);
        let list = ListUsageRequest { page_size: size, user_id: "a b".to_owned(), ..Default::default() };
        check(usage.list_usage(list).await, &["page_size", "user_id"]);
        for token in ["x", "!!!!", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "\0", &"A".repeat(10_000)] {
            let page_token = token.to_owned();
            let list = ListCategoriesRequest { page_token: page_token.clone(), ..Default::default() };
            let categories = catalog.list_categories(list).await.unwrap_err();
            let list = ListPlansRequest { page_token: page_token.clone(), ..Default::default() };
            let sold = plans.list_plans(list).await.unwrap_err();
            let list = ListUsageRequest { page_token: page_token.clone(), ..Default::default() };
            let used = usage.list_usage(list).await.unwrap_err();
            let hour = |hours: i64| Some(prost_types::Timestamp { seconds: hours * 3_600, nanos: 0 });
            let ask = GetUsageStatisticsRequest {
                page_token,
                start_time: hour(0),
                end_time: hour(1),
                group_by: UsageGrouping::Day.into(),
                ..Default::default()
            };
            let sums = usage.get_usage_statistics(ask).await.unwrap_err();
            for refused in [categories, sold, used, sums] {
                let told = (reason(&refused), faulty(&refused));
                assert_eq!(told, ("INVALID_PAGE_TOKEN".to_owned(), vec!["page_token".to_owned()]), "{token}");
            }
        }
    })
    .await;
}
