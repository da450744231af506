//! Records, one by one, in batches and in streams; and taken back.

use std::{collections::HashMap, time::Duration};

use mesh::Time;
use prost::Message as _;
use tonic::Code;
use trivet_proto::product::v1::{
    BatchRecordUsageRequest, CancelSubscriptionRequest, CostLine, CostLineKind, ListUsageRequest, Overage,
    RecordUsageRequest, StreamUsageRequest, Usage, UsageRecord, UsageRecorded, UsageVoided, VoidUsageRequest,
};

use super::{included, number, on_sale, price, record, recorded, told};
use crate::{
    harness::{House, faulty, on_every_store, on_every_store_with_a_held_clock, reason, told as metadata},
    tenants::of,
};

fn one(request_id: &str, quantity: &str) -> UsageRecord {
    UsageRecord {
        request_id: request_id.to_owned(),
        user_id: "ada".to_owned(),
        product_id: "tokens".to_owned(),
        quantity: quantity.to_owned(),
        ..UsageRecord::default()
    }
}

async fn refusal(house: &House, record: RecordUsageRequest) -> (Code, String) {
    let refused = house.usage().record_usage(record).await.unwrap_err();
    (refused.code(), reason(&refused))
}

async fn voided(house: &House, usage_id: &str) -> Usage {
    let void = VoidUsageRequest { usage_id: usage_id.to_owned(), reason: "measured twice".to_owned() };
    house.usage().void_usage(void).await.unwrap().into_inner().usage.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_says_where_it_counts_what_it_costs_and_how_that_comes_about() {
    on_every_store_with_a_held_clock(async |house, clock| {
        on_sale(house).await;
        let set = price(house, "0.003").await;
        let asked = RecordUsageRequest {
            session_id: "session-1".to_owned(),
            attributes: HashMap::from([("model".to_owned(), "large".to_owned())]),
            ..record("r1", "ada", "12.50")
        };
        let usage = recorded(house, asked.clone()).await;
        let now = Some(clock.now().to_wire());
        let expected = Usage {
            usage_id: usage.usage_id.clone(),
            request_id: "r1".to_owned(),
            user_id: "ada".to_owned(),
            product_id: "tokens".to_owned(),
            session_id: "session-1".to_owned(),
            event_time: now,
            attributes: asked.attributes.clone(),
            quantity: "12.5".to_owned(),
            included_quantity: "0".to_owned(),
            free_quantity: "10".to_owned(),
            billable_quantity: "2.5".to_owned(),
            amount: "0.01".to_owned(),
            currency: "USD".to_owned(),
            price_id: set.price_id,
            lines: vec![CostLine {
                kind: CostLineKind::Usage.into(),
                tier: 0,
                quantity: "2.5".to_owned(),
                unit_price: "0.003".to_owned(),
                flat_amount: "0".to_owned(),
                amount: "0.0075".to_owned(),
            }],
            total_before: "0".to_owned(),
            cost_before: "0".to_owned(),
            period_start_time: usage.period_start_time,
            period_end_time: usage.period_end_time,
            create_time: now,
            ..Usage::default()
        };
        assert_eq!(usage, expected);
        let next = recorded(house, record("r2", "ada", "1")).await;
        assert_eq!(
            (next.total_before.as_str(), next.cost_before.as_str(), next.amount.as_str()),
            ("12.5", "0.0075", "0")
        );
        let (kind, data) = told(house).await.remove(0);
        let event = UsageRecorded::decode(data.as_slice()).unwrap();
        let [group] = event.groups.as_slice() else { panic!("{event:?}") };
        assert_eq!(
            (kind.as_str(), group.items[0].usage_id.as_str()),
            ("product.usage.recorded", usage.usage_id.as_str())
        );
        assert_eq!((group.amount.as_str(), group.currency.as_str(), group.items.len()), ("0.01", "USD", 1));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_records_once_and_gets_the_first_answer_whatever_became_of_it() {
    on_every_store(async |house| {
        on_sale(house).await;
        let first = house.usage().record_usage(record("r1", "ada", "12")).await.unwrap().into_inner();
        voided(house, &first.usage.as_ref().unwrap().usage_id).await;
        price(house, "99").await;
        let again = house.usage().record_usage(record("r1", "ada", "12.0")).await.unwrap().into_inner();
        assert_eq!((again.usage, again.already_processed), (first.usage, true));
        let refused = house.usage().record_usage(record("r1", "ada", "13")).await.unwrap_err();
        assert_eq!(
            (reason(&refused).as_str(), metadata(&refused, "differs").as_str()),
            ("REQUEST_ID_REUSED", "quantity")
        );
        assert_eq!(number(house, "select count(*) from usage_records").await, 1);
        // A refusal is kept, too.
        let mut unknown = record("r2", "ada", "1");
        unknown.product_id = "late".to_owned();
        assert_eq!(refusal(house, unknown.clone()).await, (Code::NotFound, "PRODUCT_NOT_FOUND".to_owned()));
        let late = trivet_proto::product::v1::CreateProductRequest {
            product_id: "late".to_owned(),
            name: "Late".to_owned(),
            ..Default::default()
        };
        house.catalog().create_product(late).await.unwrap();
        assert_eq!(refusal(house, unknown).await.1, "PRODUCT_NOT_FOUND");
        let mut fresh = record("r3", "ada", "1");
        fresh.product_id = "late".to_owned();
        assert_eq!(refusal(house, fresh).await, (Code::FailedPrecondition, "PRODUCT_NOT_PRICED".to_owned()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_plan_includes_comes_first_and_what_goes_beyond_is_charged_for_or_blocked() {
    on_every_store(async |house| {
        on_sale(house).await;
        let id = included(house, "20", Overage::Charge).await;
        let whole = recorded(house, record("r1", "ada", "15")).await;
        assert_eq!((whole.subscription_id.as_str(), whole.included_quantity.as_str()), (id.as_str(), "15"));
        assert_eq!((whole.amount.as_str(), whole.price_id.as_str(), whole.currency.as_str()), ("0", "", ""));
        let part = recorded(house, record("r2", "ada", "20")).await;
        let parts = [part.included_quantity, part.free_quantity, part.billable_quantity, part.amount];
        assert_eq!(parts, ["5", "10", "5", "0.02"]);
        // Who is not subscribed pays from the eleventh on.
        assert_eq!(recorded(house, record("r3", "bob", "15")).await.amount, "0.02");
        let cancel = CancelSubscriptionRequest { subscription_id: id.clone(), immediately: true, ..Default::default() };
        house.subscriptions().cancel_subscription(cancel).await.unwrap();
        let under = RecordUsageRequest { subscription_id: id, ..record("r4", "ada", "1") };
        assert_eq!(refusal(house, under).await, (Code::FailedPrecondition, "SUBSCRIPTION_NOT_ACTIVE".to_owned()));
        let none = RecordUsageRequest { subscription_id: "sub_none".to_owned(), ..record("r5", "ada", "1") };
        assert_eq!(refusal(house, none).await, (Code::NotFound, "SUBSCRIPTION_NOT_FOUND".to_owned()));
    })
    .await;
    on_every_store(async |house| {
        on_sale(house).await;
        included(house, "20", Overage::Block).await;
        assert_eq!(recorded(house, record("r1", "ada", "19")).await.included_quantity, "19");
        let beyond = house.usage().record_usage(record("r2", "ada", "1.00000001")).await.unwrap_err();
        assert_eq!((beyond.code(), reason(&beyond).as_str()), (Code::ResourceExhausted, "QUOTA_EXHAUSTED"));
        assert_eq!((metadata(&beyond, "included"), metadata(&beyond, "used")), ("20".to_owned(), "19".to_owned()));
        assert_eq!(recorded(house, record("r3", "ada", "1")).await.included_quantity, "1");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_price_version_counts_its_own_and_a_late_record_is_priced_as_of_its_time() {
    on_every_store_with_a_held_clock(async |house, clock| {
        on_sale(house).await;
        let cheap = clock.now();
        assert_eq!(recorded(house, record("r1", "ada", "1010")).await.amount, "3");
        clock.advance(Duration::from_secs(1));
        price(house, "0.03").await;
        assert_eq!(recorded(house, record("r2", "ada", "1010")).await.amount, "30");
        let late = RecordUsageRequest { event_time: Some(cheap.to_wire()), ..record("r3", "ada", "1000") };
        let late = recorded(house, late).await;
        assert_eq!((late.amount.as_str(), late.total_before.as_str()), ("3", "1010"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_batch_each_record_is_taken_in_or_refused_by_itself() {
    on_every_store(async |house| {
        on_sale(house).await;
        let records = vec![
            one("r1", "12"),
            one("r1", "12"),
            one("r1", "13"),
            one("", "x"),
            UsageRecord { product_id: "none".to_owned(), ..one("r2", "1") },
            one("r3", "1"),
        ];
        let batch = BatchRecordUsageRequest { records };
        let results = house.usage().batch_record_usage(batch.clone()).await.unwrap().into_inner().results;
        let short: Vec<_> = results
            .iter()
            .map(|result| match (&result.usage, &result.error) {
                (Some(usage), None) => format!("{} {}", usage.quantity, result.already_processed),
                (None, Some(error)) => format!("{} {}", error.code, error.reason),
                _ => panic!("{result:?}"),
            })
            .collect();
        let expected =
            ["12 false", "12 true", "9 REQUEST_ID_REUSED", "3 INVALID_FIELDS", "5 PRODUCT_NOT_FOUND", "1 false"];
        assert_eq!(short, expected);
        let again = house.usage().batch_record_usage(batch).await.unwrap().into_inner().results;
        assert_eq!((&again[0].usage, &again[5].usage), (&results[0].usage, &results[5].usage));
        assert!(again[0].already_processed && again[5].already_processed);
        for records in [vec![], vec![one("r", "1"); 1_001]] {
            let refused = house.usage().batch_record_usage(BatchRecordUsageRequest { records }).await.unwrap_err();
            assert_eq!(faulty(&refused), ["records"]);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_twenty_thousand_is_summed_up_and_its_first_hundred_errors_are_told() {
    const RECORDS: usize = 20_000;
    on_every_store(async |house| {
        on_sale(house).await;
        let stream = |count: usize| {
            let records = (0..count).map(|number| match number % 100 {
                7 => one(&format!("r{number}"), "0"),
                8 => one(&format!("r{}", number - 2), "1"),
                _ => one(&format!("r{number}"), "1"),
            });
            tokio_stream::iter(records.map(|record| StreamUsageRequest { record: Some(record) }))
        };
        let mut all = tonic::Request::new(stream(RECORDS));
        all.set_timeout(Duration::from_mins(2));
        let summary = house.usage().stream_usage(all).await.unwrap().into_inner();
        assert_eq!((summary.accepted, summary.duplicates, summary.rejected), (19_600, 200, 200));
        let indexes: Vec<_> = summary.errors.iter().map(|error| error.index).collect();
        assert_eq!(indexes, (0..100).map(|at| at * 100 + 7).collect::<Vec<_>>());
        assert_eq!(summary.errors[0].request_id, "r7");
        let again = house.usage().stream_usage(stream(1_000)).await.unwrap().into_inner();
        assert_eq!((again.accepted, again.duplicates, again.rejected), (0, 990, 10));
        // 19,600 one by one, of which 10 are free, cost what they cost together.
        assert_eq!(number(house, "select cast(sum(amount) as bigint) from usage_records").await, 5_877);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_back_counts_no_more_and_the_period_costs_what_is_left_of_it() {
    on_every_store(async |house| {
        on_sale(house).await;
        let mut usages = Vec::new();
        for (id, quantity) in [("r1", "10"), ("r2", "1000"), ("r3", "500")] {
            usages.push(recorded(house, record(id, "ada", quantity)).await);
        }
        assert_eq!(usages.iter().map(|usage| usage.amount.as_str()).collect::<Vec<_>>(), ["0", "3", "1.5"]);
        // The free ones go, and ten of those that cost are free now.
        let gone = voided(house, &usages[0].usage_id).await;
        assert_eq!(
            (gone.amount.as_str(), gone.void_amount.as_str(), gone.void_reason.as_str()),
            ("0", "-0.03", "measured twice")
        );
        assert!(gone.void_time.is_some());
        let void = VoidUsageRequest { usage_id: gone.usage_id.clone(), reason: "again".to_owned() };
        assert_eq!(house.usage().void_usage(void).await.unwrap().into_inner().usage, Some(gone.clone()));
        assert_eq!(voided(house, &usages[1].usage_id).await.void_amount, "-3");
        let left =
            number(house, "select cast(sum(amount + coalesce(void_amount, 0)) as bigint) from usage_records").await;
        assert_eq!(left, 147, "490 of them at 0.003");
        assert_eq!(recorded(house, record("r4", "ada", "10")).await.total_before, "500");
        let (kind, data) = told(house).await.remove(3);
        let event = UsageVoided::decode(data.as_slice()).unwrap();
        assert_eq!(
            (kind.as_str(), event.usage_id, event.amount.as_str()),
            ("product.usage.voided", gone.usage_id, "-0.03")
        );
        let none = VoidUsageRequest { usage_id: "usage_none".to_owned(), reason: "x".to_owned() };
        assert_eq!(reason(&house.usage().void_usage(none).await.unwrap_err()), "USAGE_NOT_FOUND");
        let wrong = house.usage().void_usage(VoidUsageRequest::default()).await.unwrap_err();
        assert_eq!(faulty(&wrong), ["usage_id", "reason"]);
    })
    .await;
    on_every_store(async |house| {
        on_sale(house).await;
        included(house, "20", Overage::Block).await;
        let first = recorded(house, record("r1", "ada", "20")).await;
        assert_eq!(refusal(house, record("r2", "ada", "1")).await.1, "QUOTA_EXHAUSTED");
        assert_eq!(voided(house, &first.usage_id).await.void_amount, "0");
        recorded(house, record("r3", "ada", "20")).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_listed_newest_first_and_narrowed_together() {
    on_every_store_with_a_held_clock(async |house, clock| {
        on_sale(house).await;
        let id = included(house, "1", Overage::Charge).await;
        let begin = clock.now();
        let at = |hours: u64| Some(begin.minus(Duration::from_hours(hours)).to_wire());
        for (request_id, user, organization, hours) in
            [("r1", "ada", "", 0), ("r2", "bob", "lab", 2), ("r3", "bob", "", 1), ("r4", "eve", "lab", 0)]
        {
            let record = RecordUsageRequest {
                organization_id: organization.to_owned(),
                event_time: at(hours),
                ..record(request_id, user, "1")
            };
            recorded(house, record).await;
        }
        let check = async |ask: ListUsageRequest, expected: &[&str]| {
            let (mut listed, mut ask) = (Vec::new(), ListUsageRequest { page_size: 1, with_total: true, ..ask });
            loop {
                let page = house.usage().list_usage(ask.clone()).await.unwrap().into_inner();
                assert_eq!(page.total_size, i64::try_from(expected.len()).ok());
                listed.extend(page.usages.into_iter().map(|usage| usage.request_id));
                ask.page_token = page.next_page_token;
                if ask.page_token.is_empty() {
                    break;
                }
            }
            assert_eq!(listed, expected);
        };
        let all = ListUsageRequest::default();
        check(all.clone(), &["r4", "r3", "r2", "r1"]).await;
        check(ListUsageRequest { user_id: "bob".to_owned(), ..all.clone() }, &["r3", "r2"]).await;
        check(ListUsageRequest { organization_id: "lab".to_owned(), ..all.clone() }, &["r4", "r2"]).await;
        check(ListUsageRequest { subscription_id: id, ..all.clone() }, &["r1"]).await;
        check(ListUsageRequest { product_id: "none".to_owned(), ..all.clone() }, &[]).await;
        check(ListUsageRequest { start_time: at(1), end_time: at(0), ..all.clone() }, &["r3"]).await;
        let bobs = ListUsageRequest { user_id: "bob".to_owned(), page_size: 1, ..all.clone() };
        let token = house.usage().list_usage(bobs).await.unwrap().into_inner().next_page_token;
        let elsewhere = ListUsageRequest { user_id: "eve".to_owned(), page_token: token, ..all.clone() };
        assert_eq!(reason(&house.usage().list_usage(elsewhere).await.unwrap_err()), "INVALID_PAGE_TOKEN");
        let other = house.usage().list_usage(of("other", all)).await.unwrap().into_inner();
        assert!(other.usages.is_empty());
        let wrong = ListUsageRequest {
            page_size: -1,
            user_id: "a b".to_owned(),
            start_time: at(0),
            end_time: at(1),
            ..ListUsageRequest::default()
        };
        let refused = house.usage().list_usage(wrong).await.unwrap_err();
        assert_eq!(faulty(&refused), ["page_size", "user_id", "end_time"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_record_is_named_at_once() {
    on_every_store_with_a_held_clock(async |house, clock| {
        let late = clock.now().minus(Duration::from_hours(35 * 24) + Duration::from_secs(1));
        let wrong = RecordUsageRequest {
            request_id: "a b".to_owned(),
            user_id: String::new(),
            product_id: "é".to_owned(),
            quantity: "0".to_owned(),
            organization_id: "a b".to_owned(),
            subscription_id: "a b".to_owned(),
            session_id: "a b".to_owned(),
            event_time: Some(late.to_wire()),
            attributes: HashMap::from([("k".repeat(65), "v".to_owned()), ("ok".to_owned(), "v".repeat(501))]),
        };
        let refused = house.usage().record_usage(wrong).await.unwrap_err();
        let faults = faulty(&refused);
        let fields = [
            "request_id",
            "user_id",
            "product_id",
            "quantity",
            "organization_id",
            "subscription_id",
            "session_id",
            "event_time",
        ];
        assert_eq!(faults[..8], fields);
        assert_eq!(faults.len(), 10, "{faults:?}");
        on_sale(house).await;
        for quantity in ["-1", "1e3", "", "1.123456789", "1000000000000000", " 1"] {
            let refused = house.usage().record_usage(record("r1", "ada", quantity)).await.unwrap_err();
            assert_eq!(faulty(&refused), ["quantity"], "{quantity:?}");
        }
        let ahead = |by: Duration| RecordUsageRequest {
            event_time: Some(clock.now().plus(by).to_wire()),
            ..record("r1", "ada", "1")
        };
        let refused = house.usage().record_usage(ahead(Duration::from_mins(5) + Duration::from_micros(1))).await;
        assert_eq!(faulty(&refused.unwrap_err()), ["event_time"]);
        let edge = Time::from_micros(clock.now().plus(Duration::from_mins(5)).micros());
        assert_eq!(recorded(house, ahead(Duration::from_mins(5))).await.event_time, Some(edge.to_wire()));
        // Two of the largest are more than a period can hold: a fault, which leaves its id free.
        recorded(house, record("r2", "ada", "999999999999997")).await;
        let refused = house.usage().record_usage(record("r3", "ada", "999999999999999")).await.unwrap_err();
        assert_eq!((reason(&refused).as_str(), faulty(&refused)), ("INVALID_FIELDS", vec!["quantity".to_owned()]));
        // Sent again, the first would be too much as well; but it has its answer.
        let again = house.usage().record_usage(record("r2", "ada", "999999999999997")).await.unwrap().into_inner();
        assert!(again.already_processed);
        recorded(house, record("r3", "ada", "1")).await;
    })
    .await;
}
