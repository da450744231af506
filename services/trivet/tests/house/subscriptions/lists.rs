//! Lists of subscriptions, as their callers see them. Rows are put in by SQL, so that their ids are known.

use mesh::{Clock, Time, id::fresh, store::sql};
use sea_orm::ConnectionTrait as _;
use trivet::RoleName;
use trivet_proto::product::v1::{
    BillingCycle, ListSubscriptionsRequest, ListSubscriptionsResponse, Subscription, SubscriptionStatus as Status,
};

use crate::{
    harness::{House, faulty, on_every_store, reason},
    tenants::of,
};

const EVERY_STATUS: [Status; 7] = [
    Status::Incomplete,
    Status::Trialing,
    Status::Active,
    Status::PastDue,
    Status::Paused,
    Status::Canceled,
    Status::Expired,
];

/// An active subscription of Ada's to the basic plan.
fn basic(subscription_id: &str) -> Subscription {
    let wire = |micros| Some(Time::from_micros(micros).to_wire());
    Subscription {
        subscription_id: subscription_id.to_owned(),
        user_id: "ada".to_owned(),
        plan_id: "basic".to_owned(),
        plan_version: 1,
        status: Status::Active.into(),
        billing_cycle: BillingCycle::Monthly.into(),
        seats: 1,
        period_start_time: wire(1_797_321_600_000_001),
        period_end_time: wire(1_800_000_000_000_001),
        amount: "9.99".to_owned(),
        currency: "USD".to_owned(),
        etag: "v1".to_owned(),
        create_time: wire(0),
        update_time: wire(0),
        ..Subscription::default()
    }
}

/// Writes subscriptions of a tenant into the table, with their plans.
async fn put(house: &House, tenant: &str, subscriptions: &[Subscription]) {
    let store = house.rows(RoleName::Product).await;
    let reader = store.reader();
    let micros = |time: &Option<prost_types::Timestamp>| Time::from_wire(&time.unwrap()).unwrap().micros();
    // Lists are asked for more of the same than anybody could subscribe to.
    reader.execute_unprepared("drop index if exists subscriptions_plan_id").await.unwrap();
    for subscription in subscriptions {
        for insert in [
            "insert into plans (tenant_id, plan_id, version, tier, status, revision, create_time, update_time)
             values ($1, $2, 1, 'BASIC', 'ACTIVE', 1, 0, 0) on conflict do nothing",
            "insert into plan_versions (tenant_id, plan_id, version, name, tier, currency, prices, included, features,
                                        trial_days, min_seats, max_seats, create_time)
             values ($1, $2, 1, 'Basic', 'BASIC', 'USD', '{}', '[]', '{}', 0, 1, 0, 0) on conflict do nothing",
        ] {
            let plan = [tenant.into(), subscription.plan_id.clone().into()];
            reader.execute_raw(sql(reader, insert, plan)).await.unwrap();
        }
        let status = subscription.status().as_str_name().trim_start_matches("SUBSCRIPTION_STATUS_");
        let end = if matches!(status, "CANCELED" | "EXPIRED") { "0" } else { "null" };
        let insert = format!(
            "insert into subscriptions
                 (tenant_id, subscription_id, user_id, organization_id, plan_id, plan_version, status, billing_cycle,
                  seats, currency, amount, anchor_time, anchor_periods, period_number, period_start_time,
                  period_end_time, cancel_at_period_end, cancel_reason, change_plan_id, change_plan_version,
                  change_billing_cycle, change_currency, change_amount, version, create_time, update_time, end_time)
             values ($1, $2, $3, $4, $5, 1, $6, 'MONTHLY', 1, 'USD', 999, $7, 1, 1, $7, $8, $9, '', '', 0, '', '', 0, 1,
                     0, 0, {end})"
        );
        let values = [
            tenant.into(),
            subscription.subscription_id.clone().into(),
            subscription.user_id.clone().into(),
            subscription.organization_id.clone().into(),
            subscription.plan_id.clone().into(),
            status.into(),
            micros(&subscription.period_start_time).into(),
            micros(&subscription.period_end_time).into(),
            subscription.cancel_at_period_end.into(),
        ];
        reader.execute_raw(sql(reader, &insert, values)).await.unwrap();
    }
    store.close().await.unwrap();
}

fn all() -> ListSubscriptionsRequest {
    ListSubscriptionsRequest::default()
}

fn standing(statuses: &[Status]) -> ListSubscriptionsRequest {
    ListSubscriptionsRequest { statuses: statuses.iter().map(|status| (*status).into()).collect(), ..all() }
}

async fn page(house: &House, request: ListSubscriptionsRequest) -> (Vec<String>, ListSubscriptionsResponse) {
    let response = house.subscriptions().list_subscriptions(request).await.unwrap().into_inner();
    (response.subscriptions.iter().map(|listed| listed.subscription_id.clone()).collect(), response)
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_has_subscribed_to_anything_at_first() {
    on_every_store(async |house| {
        let (_, response) = page(house, ListSubscriptionsRequest { with_total: true, ..all() }).await;
        assert_eq!(response, ListSubscriptionsResponse { total_size: Some(0), ..Default::default() });
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_says_whose_it_is_how_it_stands_and_until_when() {
    on_every_store(async |house| {
        let told: Vec<_> = EVERY_STATUS
            .iter()
            .map(|status| Subscription {
                organization_id: if *status == Status::Active { String::new() } else { "lab".to_owned() },
                status: (*status).into(),
                cancel_at_period_end: *status == Status::Paused,
                ..basic(&format!("sub_{}", i32::from(*status)))
            })
            .collect();
        put(house, "default", &told).await;
        for (status, told) in EVERY_STATUS.iter().zip(told) {
            assert_eq!(page(house, standing(&[*status])).await.1.subscriptions, [told]);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_filters_of_a_list_of_subscriptions_narrow_it_together() {
    on_every_store(async |house| {
        let of_eve = |id| Subscription { user_id: "eve".to_owned(), ..basic(id) };
        let rows = [
            basic("sub_1"),
            Subscription { plan_id: "gold".to_owned(), ..basic("sub_2") },
            Subscription { organization_id: "lab".to_owned(), status: Status::Paused.into(), ..basic("sub_3") },
            of_eve("sub_4"),
            Subscription { organization_id: "lab".to_owned(), plan_id: "gold".to_owned(), ..of_eve("sub_5") },
            Subscription { status: Status::Expired.into(), ..of_eve("sub_6") },
        ];
        put(house, "default", &rows).await;
        let check = async |user, organization, plan, statuses: &[Status], expected: &[&str]| {
            let [user_id, organization_id, plan_id] = [user, organization, plan].map(str::to_owned);
            let request = ListSubscriptionsRequest { user_id, organization_id, plan_id, with_total: true, ..all() };
            let request = ListSubscriptionsRequest { statuses: standing(statuses).statuses, ..request };
            let (listed, response) = page(house, request).await;
            assert_eq!(
                (listed.as_slice(), response.total_size),
                (
                    expected.iter().map(|id| format!("sub_{id}")).collect::<Vec<_>>().as_slice(),
                    i64::try_from(expected.len()).ok(),
                )
            );
        };
        check("", "", "", &[], &["6", "5", "4", "3", "2", "1"]).await;
        check("ada", "", "", &[], &["3", "2", "1"]).await;
        check("", "lab", "", &[], &["5", "3"]).await;
        check("", "", "gold", &[], &["5", "2"]).await;
        check("", "", "", &[Status::Paused, Status::Expired, Status::Paused], &["6", "3"]).await;
        check("", "", "", &EVERY_STATUS, &["6", "5", "4", "3", "2", "1"]).await;
        check("eve", "lab", "", &[], &["5"]).await;
        check("ada", "", "basic", &[Status::Active], &["1"]).await;
        check("eve", "lab", "gold", &[Status::Active, Status::Trialing], &["5"]).await;
        check("eve", "lab", "gold", &[Status::Canceled], &[]).await;
        check("nobody", "", "", &[], &[]).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_subscriptions_loses_and_repeats_nothing_while_others_are_written() {
    on_every_store(async |house| {
        let clock = Clock::system();
        let in_lab = |id: &str| Subscription { organization_id: "lab".to_owned(), ..basic(id) };
        let rows: Vec<_> = (0..9).map(|_| in_lab(&fresh("sub", &clock))).collect();
        put(house, "default", &rows).await;
        let mut newest_first: Vec<_> = rows.into_iter().rev().map(|row| row.subscription_id).collect();
        for narrowed in [
            all(),
            ListSubscriptionsRequest { user_id: "ada".to_owned(), ..all() },
            ListSubscriptionsRequest { organization_id: "lab".to_owned(), ..all() },
            ListSubscriptionsRequest { plan_id: "basic".to_owned(), ..all() },
            standing(&[Status::Active]),
        ] {
            let mut request = ListSubscriptionsRequest { page_size: 2, with_total: true, ..narrowed };
            let (mut listed, mut later) = (Vec::new(), Vec::new());
            loop {
                let (mut subscriptions, response) = page(house, request.clone()).await;
                assert!((1..=2).contains(&subscriptions.len()), "{subscriptions:?}");
                assert_eq!(response.total_size, i64::try_from(newest_first.len() + later.len()).ok());
                listed.append(&mut subscriptions);
                request.page_token = response.next_page_token;
                if request.page_token.is_empty() {
                    break;
                }
                // Newer than everything on the pages to come: none of them may move.
                let late = fresh("sub", &clock);
                put(house, "default", &[in_lab(&late)]).await;
                later.insert(0, late);
            }
            assert_eq!(listed, newest_first);
            newest_first = [later, newest_first].concat();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscriptions_are_ordered_byte_by_byte_whatever_the_locale_of_the_database() {
    on_every_store(async |house| {
        // Most locales would say a, A, b, B; and some of them would not look at the underscore.
        put(house, "default", &["sub_a", "sub_B", "sub_b", "sub_A", "subA"].map(basic)).await;
        let (mut listed, mut request) = (Vec::new(), ListSubscriptionsRequest { page_size: 1, ..all() });
        for _ in 0..5 {
            let (mut subscriptions, response) = page(house, request.clone()).await;
            listed.append(&mut subscriptions);
            request.page_token = response.next_page_token;
        }
        assert_eq!((listed.join(" ").as_str(), request.page_token.as_str()), ("sub_b sub_a sub_B sub_A subA", ""));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_token_of_subscriptions_serves_the_list_it_was_made_for_and_no_other() {
    on_every_store(async |house| {
        let mut subscriptions = house.subscriptions();
        for tenant in ["default", "acme"] {
            put(house, tenant, &["sub_1", "sub_2"].map(basic)).await;
        }
        let own = ListSubscriptionsRequest { user_id: "ada".to_owned(), ..standing(&[Status::Active, Status::Paused]) };
        let first = page(house, ListSubscriptionsRequest { page_size: 1, ..own.clone() }).await.1;
        let own = ListSubscriptionsRequest { page_token: first.next_page_token.clone(), ..own };
        let backwards = standing(&[Status::Paused, Status::Active, Status::Paused]).statuses;
        let same = ListSubscriptionsRequest { statuses: backwards, page_size: 7, ..own.clone() };
        assert_eq!(page(house, same).await.0, ["sub_1"], "the order of statuses and the size of a page do not matter");
        let mut elsewhere: Vec<_> = [
            ListSubscriptionsRequest { user_id: "eve".to_owned(), ..own.clone() },
            ListSubscriptionsRequest { user_id: String::new(), ..own.clone() },
            ListSubscriptionsRequest { user_id: String::new(), plan_id: "ada".to_owned(), ..own.clone() },
            ListSubscriptionsRequest { organization_id: "lab".to_owned(), ..own.clone() },
            ListSubscriptionsRequest { plan_id: "basic".to_owned(), ..own.clone() },
            ListSubscriptionsRequest { statuses: standing(&[Status::Active]).statuses, ..own.clone() },
            ListSubscriptionsRequest { statuses: Vec::new(), ..own.clone() },
            ListSubscriptionsRequest { page_token: format!("{}A", own.page_token), ..own.clone() },
            ListSubscriptionsRequest { page_token: "sub_2".to_owned(), ..own.clone() },
        ]
        .map(tonic::Request::new)
        .into();
        elsewhere.push(of("acme", own));
        for request in elsewhere {
            let told = format!("{request:?}");
            let refused = subscriptions.list_subscriptions(request).await.expect_err(&told);
            assert_eq!(reason(&refused), "INVALID_PAGE_TOKEN", "{told}");
            assert_eq!(faulty(&refused), ["page_token"]);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_lists_its_own_subscriptions_only() {
    on_every_store(async |house| {
        let mut subscriptions = house.subscriptions();
        for (tenant, plan) in [("acme", "gold"), ("globex", "basic")] {
            put(house, tenant, &[Subscription { plan_id: plan.to_owned(), ..basic("sub_1") }]).await;
        }
        for (tenant, plans) in [("acme", vec!["gold"]), ("globex", vec!["basic"]), ("initech", vec![])] {
            let by_user = ListSubscriptionsRequest { user_id: "ada".to_owned(), ..all() };
            for request in [all(), by_user, standing(&[Status::Active])] {
                let request = ListSubscriptionsRequest { with_total: true, ..request };
                let list = subscriptions.list_subscriptions(of(tenant, request)).await.unwrap().into_inner();
                let found: Vec<_> = list.subscriptions.iter().map(|listed| listed.plan_id.as_str()).collect();
                assert_eq!((&found, list.total_size), (&plans, i64::try_from(plans.len()).ok()));
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_request_for_subscriptions_is_named_at_once() {
    on_every_store(async |house| {
        let mut subscriptions = house.subscriptions();
        let mut check = async |request, fields: &[&str]| {
            let refused = subscriptions.list_subscriptions(request).await.unwrap_err();
            assert_eq!(
                (reason(&refused).as_str(), faulty(&refused)),
                ("INVALID_FIELDS", fields.iter().map(|field| (*field).to_owned()).collect::<Vec<_>>(),)
            );
        };
        let active = i32::from(Status::Active);
        let wrong = ListSubscriptionsRequest {
            page_size: -1,
            user_id: "a b".to_owned(),
            organization_id: "naïve".to_owned(),
            plan_id: "x".repeat(129),
            // A status named twice is none too many, and a fault is said once.
            statuses: vec![active, 99, active, 0, 99, -1],
            ..all()
        };
        let fields =
            ["page_size", "user_id", "organization_id", "plan_id", "statuses[1]", "statuses[3]", "statuses[5]"];
        check(wrong, &fields).await;
        check(ListSubscriptionsRequest { statuses: (0..50_000).collect(), ..all() }, &["statuses"]).await;
    })
    .await;
}
