//! What is tried again, and what is not.

use std::time::{Duration, Instant};

use mesh::{CallSettings, Context, Tenant};
use trivet_proto::account::v1::{BatchGetAccountsRequest, EnsureAccountRequest};

use crate::{
    house::{caller, dead_end, get, house, update},
    line::outcome,
    stub::Stub,
};

/// More than the mesh keeps for another attempt.
const LONG: usize = 1_000;

#[tokio::test]
async fn a_read_is_tried_again_until_it_succeeds() {
    let stub = Stub::failing(2);
    let (_running, address) = house(&stub).await;
    let mut account = caller(&[address], CallSettings::default());
    let began = Instant::now();
    assert_eq!(outcome(&account.get_account(get("flaky")).await), "Ok");
    assert_eq!(stub.seen().len(), 3);
    assert!(began.elapsed() >= Duration::from_millis(160 + 320), "with growing waits in between");
}

#[tokio::test]
async fn a_read_is_tried_three_times_and_no_more() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let mut account = caller(&[address], CallSettings::default());
    assert_eq!(outcome(&account.get_account(get("fail")).await), "Unavailable DEPENDENCY_UNAVAILABLE");
    assert_eq!(stub.seen().len(), 3);
}

#[tokio::test]
async fn what_the_schema_calls_idempotent_is_tried_again() {
    let stub = Stub::failing(1);
    let (_running, address) = house(&stub).await;
    let mut account = caller(&[address], CallSettings::default());
    let request = EnsureAccountRequest { user_id: "flaky".to_owned(), ..EnsureAccountRequest::default() };
    assert_eq!(outcome(&account.ensure_account(request).await), "Ok");
    assert_eq!(stub.seen().len(), 2);
}

#[tokio::test]
async fn what_may_do_harm_twice_is_never_sent_again() {
    let stub = Stub::failing(1);
    let (_running, address) = house(&stub).await;
    let mut account = caller(&[address], CallSettings::default());
    assert_eq!(outcome(&account.update_account(update("flaky")).await), "Unavailable DEPENDENCY_UNAVAILABLE");
    assert_eq!(stub.seen().len(), 1);
}

#[tokio::test]
async fn what_never_left_is_sent_elsewhere_whatever_it_is() {
    let stub = Stub::default();
    let (_running, alive) = house(&stub).await;
    let (_held, dead) = dead_end();
    for _ in 0..20 {
        // A caller that knows of neither yet, so that it meets the dead one every other time.
        let mut account = caller(&[dead, alive], CallSettings::default());
        assert_eq!(outcome(&account.update_account(update("ada")).await), "Ok");
    }
    assert_eq!(stub.seen().len(), 20);
}

#[tokio::test]
async fn no_refusal_is_tried_again() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let mut account = caller(&[address], CallSettings::default());
    let mut check = async |user: &str, expected: &str| {
        let before = stub.seen().len();
        assert_eq!(outcome(&account.get_account(get(user)).await), expected);
        assert_eq!(stub.seen().len(), before + 1, "{user}");
    };
    check("notfound", "NotFound ACCOUNT_NOT_FOUND").await;
    check("panic", "Internal INTERNAL").await;
    check("toomuch", "ResourceExhausted QUOTA_EXHAUSTED").await;
}

#[tokio::test]
async fn a_server_with_too_much_to_do_says_when_to_try_again() {
    let stub = Stub::failing(2);
    let (_running, address) = house(&stub).await;
    let mut account = caller(&[address], CallSettings::default());
    assert_eq!(outcome(&account.get_account(get("overloaded")).await), "Ok");
    assert_eq!(stub.seen().len(), 3);
}

#[tokio::test]
async fn no_retry_begins_that_the_deadline_would_end() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let mut account = caller(&[address], CallSettings::default());
    let context = Context::own(Tenant::default_tenant(), Duration::from_millis(150));
    let reply = account.get_account(context.onward(get("fail"))).await;
    assert_eq!(outcome(&reply), "Unavailable DEPENDENCY_UNAVAILABLE", "what is known is told, while there is time");
    assert!(!context.remaining().is_zero());
    assert_eq!(stub.seen().len(), 1);
}

#[tokio::test]
async fn a_long_request_passes_whole_and_is_not_kept_for_another_attempt() {
    let stub = Stub::failing(1);
    let (_running, address) = house(&stub).await;
    let mut account = caller(&[address], CallSettings::default());
    let ids = |first: &str| {
        let mut user_ids: Vec<String> = (0..LONG).map(|number| format!("{number:0>128}")).collect();
        user_ids.insert(0, first.to_owned());
        BatchGetAccountsRequest { user_ids }
    };
    let answer = account.batch_get_accounts(ids("ada")).await.unwrap().into_inner();
    assert_eq!(answer.missing_user_ids, ids("ada").user_ids);
    let reply = account.batch_get_accounts(ids("flaky")).await;
    assert_eq!(outcome(&reply), "Unavailable DEPENDENCY_UNAVAILABLE");
    assert_eq!(stub.seen().len(), 2);
}
