//! Bad input never reaches INTERNAL: it is refused with every fault named at once, and nothing is written.

mod product;

use prost_types::{Struct, Value, value::Kind};
use tonic::{Code, Status};
use trivet_proto::{
    account::v1::{
        BatchGetAccountsRequest, ChangeAccountStatusRequest, DeleteAccountRequest, EnsureAccountRequest,
        EraseAccountRequest, GetAccountRequest, ListAccountHistoryRequest, ListAccountsRequest, Preferences,
        RestoreAccountRequest, SearchAccountsRequest, UpdateAccountRequest, UpdatePreferencesRequest,
    },
    billing::v1::{GetDeductionRequest, GetWalletRequest, ListTransactionsRequest, VoidRequestRequest},
    mesh::v1::{
        DiscardDeadLetterRequest, GetTraceRequest, ListCallsRequest, ListDeadLettersRequest, ReplayDeadLetterRequest,
        ReplayEventsRequest, TailEventsRequest, TapRequest, get_trace_request::Key as TraceKey,
        observe_service_client::ObserveServiceClient,
    },
    product::v1::{
        BatchGetProductsRequest, CheckAvailabilityRequest, CreateProductRequest, GetProductRequest, ListProductsRequest,
    },
};

use crate::harness::{channel, faulty, on_every_store, order, payment, reason};

/// Looks at a refusal: INVALID_ARGUMENT, and exactly these fields, in the order of the message.
fn check<T: std::fmt::Debug>(outcome: Result<T, Status>, fields: &[&str]) {
    let refused = outcome.expect_err(&format!("{fields:?} passed"));
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    assert_eq!(reason(&refused), "INVALID_FIELDS", "{refused:?}");
    assert_eq!(faulty(&refused), fields, "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_amount_that_is_not_a_plain_decimal_is_refused_and_its_id_stays_free() {
    let long = "9".repeat(10_000);
    let nines = format!("0.{}", "9".repeat(10_000));
    on_every_store(async |house| {
        house.user("ada", "10").await;
        for amount in [
            "1e3",
            "+1",
            " 1",
            "1 ",
            "0.00000001",
            "-1",
            "",
            "١",
            "0",
            "0.0",
            ".5",
            "5.",
            "1,5",
            "1_000",
            "NaN",
            "inf",
            "0x10",
            "1\0",
            "922337203685.4775808",
            &long,
            &nines,
        ] {
            check(house.billing().deduct(order("req-1", "ada", amount)).await, &["amount"]);
            check(house.wallets().record_payment(payment("req-1", "ada", amount)).await, &["amount"]);
        }
        assert!(!house.billing().deduct(order("req-1", "ada", "1")).await.unwrap().into_inner().already_processed);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_request_is_named_at_once() {
    on_every_store(async |house| {
        let mut deduct = order("no spaces", "", "x");
        deduct.api_id = "ünïcode".to_owned();
        deduct.endpoint_id = "a/b".to_owned();
        deduct.api_key_id = "x".repeat(129);
        let all = ["request_id", "user_id", "api_id", "endpoint_id", "api_key_id", "amount"];
        check(house.billing().deduct(deduct).await, &all);
        let mut pay = payment("", "a\0b", "1");
        pay.currency = "usdc".to_owned();
        pay.amount = "-1".to_owned();
        pay.provider = " ".to_owned();
        pay.provider_reference = "line\nbreak".to_owned();
        let all = ["request_id", "user_id", "currency", "amount", "provider", "provider_reference"];
        check(house.wallets().record_payment(pay).await, &all);
        let ensure = EnsureAccountRequest {
            user_id: "a b".to_owned(),
            email: "nobody".to_owned(),
            name: "\u{7}".to_owned(),
            subscription_tier: 99,
        };
        check(house.accounts().ensure_account(ensure).await, &["user_id", "email", "name", "subscription_tier"]);
        let create = CreateProductRequest {
            request_id: "a|b".to_owned(),
            product_id: "a b".to_owned(),
            name: "x".repeat(201),
            r#type: "Physical".to_owned(),
            category_id: "a b".to_owned(),
            description: "x\0".to_owned(),
            metadata: Some(Struct {
                fields: [("k".to_owned(), Value { kind: Some(Kind::NumberValue(f64::INFINITY)) })].into(),
            }),
            ..CreateProductRequest::default()
        };
        let all = ["request_id", "product_id", "name", "type", "category_id", "description", "metadata"];
        check(house.catalog().create_product(create).await, &all);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_what_is_asked_of_an_account_is_named_at_once() {
    on_every_store(async |house| {
        let mut accounts = house.accounts();
        let odd = Preferences {
            timezone: Some(String::new()),
            language: Some("-".to_owned()),
            theme: Some(0),
            ..Preferences::default()
        };
        let settings = UpdatePreferencesRequest { preferences: Some(odd), ..UpdatePreferencesRequest::default() };
        let all = ["user_id", "preferences.timezone", "preferences.language", "preferences.theme"];
        check(accounts.update_preferences(settings).await, &all);
        let list = ListAccountsRequest {
            page_size: i32::MIN,
            status: 9,
            subscription_tier: -1,
            query: "x".repeat(101),
            ..ListAccountsRequest::default()
        };
        check(accounts.list_accounts(list).await, &["page_size", "status", "subscription_tier", "query"]);
        for query in ["", " ", "a\0b", "a\nb", "\u{301}", &"x".repeat(101), &"x".repeat(100_000)] {
            let search = SearchAccountsRequest { query: query.to_owned(), limit: -1, include_inactive: true };
            check(accounts.search_accounts(search).await, &["query", "limit"]);
        }
        for (status, reason) in [(0, ""), (3, " "), (4, "a\0"), (77, &"x".repeat(501))] {
            let change = ChangeAccountStatusRequest { status, reason: reason.to_owned(), ..Default::default() };
            check(accounts.change_account_status(change).await, &["user_id", "status", "reason"]);
        }
        for reason in ["a\0", "a\nb", &"x".repeat(501)] {
            let (user_id, reason) = (|| "a b".to_owned(), || reason.to_owned());
            let delete = DeleteAccountRequest { user_id: user_id(), reason: reason() };
            check(accounts.delete_account(delete).await, &["user_id", "reason"]);
            let restore = RestoreAccountRequest { user_id: user_id(), reason: reason() };
            check(accounts.restore_account(restore).await, &["user_id", "reason"]);
            let erase = EraseAccountRequest { user_id: user_id(), reason: reason() };
            check(accounts.erase_account(erase).await, &["user_id", "reason"]);
        }
        let history = ListAccountHistoryRequest { page_size: -1, ..ListAccountHistoryRequest::default() };
        check(accounts.list_account_history(history).await, &["user_id", "page_size"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_ids_are_refused_everywhere() {
    on_every_store(async |house| {
        let (mut accounts, mut catalog) = (house.accounts(), house.catalog());
        let (mut wallets, mut billing) = (house.wallets(), house.billing());
        for id in ["", "a b", "a\0", "naïve", "a/b", &"x".repeat(129), &"x".repeat(100_000)] {
            let id = || id.to_owned();
            let key = Some(trivet_proto::account::v1::get_account_request::Key::UserId(id()));
            check(accounts.get_account(GetAccountRequest { key, ..Default::default() }).await, &["user_id"]);
            let batch = BatchGetAccountsRequest { user_ids: vec!["ada".to_owned(), id()] };
            check(accounts.batch_get_accounts(batch).await, &["user_ids[1]"]);
            let update = UpdateAccountRequest { user_id: id(), name: Some("A".to_owned()), ..Default::default() };
            check(accounts.update_account(update).await, &["user_id"]);
            check(catalog.get_product(GetProductRequest { product_id: id() }).await, &["product_id"]);
            let batch = BatchGetProductsRequest { product_ids: vec![id()] };
            check(catalog.batch_get_products(batch).await, &["product_ids[0]"]);
            let available = CheckAvailabilityRequest { product_id: id(), user_id: id(), ..Default::default() };
            check(catalog.check_availability(available).await, &["product_id", "user_id"]);
            let wallet = GetWalletRequest { user_id: id(), currency: "XXX".to_owned() };
            check(wallets.get_wallet(wallet).await, &["user_id", "currency"]);
            check(billing.get_deduction(GetDeductionRequest { request_id: id() }).await, &["request_id"]);
            let void = VoidRequestRequest { request_id: id(), reason: "x".repeat(501) };
            check(billing.void_request(void).await, &["request_id", "reason"]);
        }
        check(accounts.get_account(GetAccountRequest { key: None, ..Default::default() }).await, &["key"]);
        let none = BatchGetAccountsRequest { user_ids: Vec::new() };
        check(accounts.batch_get_accounts(none).await, &["user_ids"]);
        // As many as fit a caller's headers are listed; the status must arrive.
        let bad = BatchGetProductsRequest { product_ids: vec!["\u{1}".repeat(200); 1_000] };
        let refused = catalog.batch_get_products(bad).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::InvalidArgument, "INVALID_FIELDS"));
        assert_eq!(faulty(&refused).len(), 24);
        let many = BatchGetProductsRequest { product_ids: vec!["a".to_owned(); 1_001] };
        check(catalog.batch_get_products(many).await, &["product_ids"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_pages_are_refused() {
    on_every_store(async |house| {
        house.user("ada", "1").await;
        let default = ListProductsRequest::default;
        let list = ListProductsRequest { page_size: -1, query: "x".repeat(201), status: 77, ..default() };
        check(house.catalog().list_products(list).await, &["page_size", "status", "query"]);
        for token in ["x", "!!!!", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "\0", &"A".repeat(10_000)] {
            let list = ListProductsRequest { page_token: token.to_owned(), ..default() };
            let refused = house.catalog().list_products(list).await.unwrap_err();
            assert_eq!(
                (reason(&refused).as_str(), faulty(&refused)),
                ("INVALID_PAGE_TOKEN", vec!["page_token".to_owned()])
            );
            let list = ListAccountsRequest { page_token: token.to_owned(), ..ListAccountsRequest::default() };
            assert_eq!(reason(&house.accounts().list_accounts(list).await.unwrap_err()), "INVALID_PAGE_TOKEN");
            let list = ListTransactionsRequest {
                user_id: "ada".to_owned(),
                page_token: token.to_owned(),
                ..ListTransactionsRequest::default()
            };
            assert_eq!(reason(&house.wallets().list_transactions(list).await.unwrap_err()), "INVALID_PAGE_TOKEN");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_garbled_timeout_is_refused_and_nothing_is_done() {
    on_every_store(async |house| {
        house.user("ada", "1").await;
        for garbled in ["1", "S", "-1S", "1.5S", "999999999S", "soon"] {
            let mut request = tonic::Request::new(order("req-1", "ada", "1"));
            request.metadata_mut().insert("grpc-timeout", garbled.parse().unwrap());
            check(house.billing().deduct(request).await, &["grpc-timeout"]);
        }
        assert!(!house.billing().deduct(order("req-1", "ada", "1")).await.unwrap().into_inner().already_processed);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_what_is_asked_of_events_is_named_at_once() {
    on_every_store(async |house| {
        let mut events = house.events("billing");
        let types = |types: &[&str]| types.iter().map(|kind| (*kind).to_owned()).collect::<Vec<_>>();
        let tail = TailEventsRequest {
            types: types(&["user.created", "user.cloned", "user.deleted", "", "user.created\0"]),
            subject: "x".repeat(129),
            after_event_id: "evt_\0".to_owned(),
        };
        check(events.tail_events(tail).await, &["types[1]", "types[3]", "types[4]", "subject", "after_event_id"]);
        let many = TailEventsRequest {
            types: types(&["user.created"; 101]),
            after_event_id: "x".repeat(1_025),
            ..TailEventsRequest::default()
        };
        check(events.tail_events(many).await, &["types", "after_event_id"]);
        let hundred = TailEventsRequest { types: types(&["user.created"; 100]), ..TailEventsRequest::default() };
        events.tail_events(hundred).await.unwrap();
        for (event_id, code) in [
            ("", "INVALID_FIELDS"),
            ("\0", "INVALID_FIELDS"),
            (&"x".repeat(1_025), "INVALID_FIELDS"),
            (&"x".repeat(1_024), "EVENT_NOT_FOUND"),
            ("TRIVET:12", "EVENT_NOT_FOUND"),
        ] {
            let replay = ReplayDeadLetterRequest { event_id: event_id.to_owned() };
            assert_eq!(reason(&events.replay_dead_letter(replay).await.unwrap_err()), code, "{event_id:?}");
            let discard = DiscardDeadLetterRequest { event_id: event_id.to_owned() };
            assert_eq!(reason(&events.discard_dead_letter(discard).await.unwrap_err()), code, "{event_id:?}");
        }
        check(
            events.list_dead_letters(ListDeadLettersRequest { page_size: -1, page_token: String::new() }).await,
            &["page_size"],
        );
        let forged = ListDeadLettersRequest { page_size: 0, page_token: "x".to_owned() };
        assert_eq!(reason(&events.list_dead_letters(forged).await.unwrap_err()), "INVALID_PAGE_TOKEN");
        check(events.replay_events(ReplayEventsRequest { from_time: None }).await, &["from_time"]);
        let never = prost_types::Timestamp { seconds: i64::MAX, nanos: 0 };
        check(events.replay_events(ReplayEventsRequest { from_time: Some(never) }).await, &["from_time"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_what_is_asked_of_what_flows_is_named_at_once() {
    on_every_store(async |house| {
        let mut observer = ObserveServiceClient::new(channel(house.running.addresses["billing"]));
        let (long, garbled) = (|| "x".repeat(129), || "a\0".to_owned());
        for code in [-1, 17, i32::MAX] {
            let tap = TapRequest { method: long(), caller: garbled(), callee: long(), code: Some(code) };
            check(observer.tap(tap).await, &["method", "caller", "callee", "code"]);
            let list = ListCallsRequest {
                page_size: -1,
                page_token: String::new(),
                method: long(),
                caller: garbled(),
                callee: long(),
                code: Some(code),
            };
            check(observer.list_calls(list).await, &["page_size", "method", "caller", "callee", "code"]);
        }
        let forged = ListCallsRequest { page_token: "x".to_owned(), ..ListCallsRequest::default() };
        assert_eq!(reason(&observer.list_calls(forged).await.unwrap_err()), "INVALID_PAGE_TOKEN");
        let trace_id = |digits: String| Some(TraceKey::TraceId(digits));
        let request_id = |id: String| Some(TraceKey::RequestId(id));
        for (key, field) in [
            (None, "key"),
            (trace_id(String::new()), "trace_id"),
            (trace_id("0".repeat(32)), "trace_id"),
            (trace_id("A".repeat(32)), "trace_id"),
            (trace_id("1".repeat(33)), "trace_id"),
            (request_id(String::new()), "request_id"),
            (request_id("two words".to_owned()), "request_id"),
            (request_id("x".repeat(129)), "request_id"),
        ] {
            check(observer.get_trace(GetTraceRequest { key }).await, &[field]);
        }
    })
    .await;
}
