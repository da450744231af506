//! A peer that keeps failing is left alone for a while.

use std::time::{Duration, Instant};

use mesh::{CallSettings, Context, Peer, Tenant};
use tonic::Status;
use tonic_types::StatusExt as _;
use trivet_proto::account::v1::account_service_client::AccountServiceClient;

use crate::{
    house::{caller, dead_end, eventually, get, house, in_time, plan, start, update},
    line::{Line, outcome},
    stub::Stub,
};

const OPEN: &str = "Unavailable CIRCUIT_OPEN";

/// Fails until the breaker is about to open, or has, each time by one attempt.
async fn fail(account: &mut AccountServiceClient<Peer>, times: u32) {
    for _ in 0..times {
        assert_eq!(outcome(&account.update_account(update("fail")).await), "Unavailable DEPENDENCY_UNAVAILABLE");
    }
}

fn retry_delay(status: &Status) -> Duration {
    status.get_details_retry_info().unwrap().retry_delay.unwrap()
}

#[tokio::test]
async fn after_five_failures_in_a_row_nothing_is_sent_and_the_caller_hears_at_once() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let mut account = caller(&[address], CallSettings::default());
    fail(&mut account, 5).await;
    let began = Instant::now();
    for _ in 0..10 {
        let status = account.update_account(update("ada")).await.unwrap_err();
        assert_eq!(outcome::<()>(&Err(status.clone())), OPEN);
        let delay = retry_delay(&status);
        assert!(delay > Duration::from_secs(30) && delay <= Duration::from_mins(1), "{delay:?}");
        assert_eq!(outcome(&account.get_account(get("ada")).await), OPEN, "reads are not retried into it");
    }
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(stub.seen().len(), 5);
}

#[tokio::test]
async fn four_failures_and_a_success_open_nothing() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let mut account = caller(&[address], CallSettings::default());
    for _ in 0..3 {
        fail(&mut account, 4).await;
        assert_eq!(outcome(&account.get_account(get("ada")).await), "Ok");
    }
}

#[tokio::test]
async fn a_circuit_that_is_open_is_told_at_once_even_where_the_caller_could_wait() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let settings = CallSettings { breaker_open: Duration::from_secs(3), ..CallSettings::default() };
    let mut account = caller(&[address], settings);
    fail(&mut account, 5).await;
    let began = Instant::now();
    assert_eq!(outcome(&account.get_account(get("ada")).await), OPEN);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_peer_that_is_nowhere_opens_it_after_five_attempts() {
    let (_held, dead) = dead_end();
    let mut account = caller(&[dead], CallSettings::default());
    let mut calls = 0;
    eventually("opening", async || {
        calls += 1;
        outcome(&account.update_account(update("ada")).await) == OPEN
    })
    .await;
    assert!(calls <= 6, "{calls} calls");
    let began = Instant::now();
    let status = account.get_account(get("ada")).await.unwrap_err();
    assert_eq!(outcome::<()>(&Err(status.clone())), OPEN);
    assert!(retry_delay(&status) > Duration::from_secs(30));
    assert!(began.elapsed() < Duration::from_millis(500));
}

#[tokio::test]
async fn after_its_time_one_call_finds_out_while_the_others_wait() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let settings = CallSettings { breaker_open: Duration::from_millis(50), ..CallSettings::default() };
    let mut account = caller(&[address], settings);
    fail(&mut account, 5).await;
    let mut probing = account.clone();
    let probe = tokio::spawn(async move { while probing.update_account(update("held")).await.is_err() {} });
    stub.begun(6).await;
    for _ in 0..10 {
        assert_eq!(outcome(&account.update_account(update("ada")).await), OPEN, "the probe is on its way");
    }
    assert_eq!(stub.seen().len(), 6);
    stub.release();
    in_time("the probe", probe).await.unwrap();
    for _ in 0..10 {
        assert_eq!(outcome(&account.update_account(update("ada")).await), "Ok");
    }
}

#[tokio::test]
async fn a_probe_that_fails_leaves_it_open_for_another_while() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let settings = CallSettings { breaker_open: Duration::from_millis(200), ..CallSettings::default() };
    let mut account = caller(&[address], settings);
    fail(&mut account, 5).await;
    let mut probing = account.clone();
    eventually("the probe", async || outcome(&probing.update_account(update("fail")).await) != OPEN).await;
    let status = account.update_account(update("ada")).await.unwrap_err();
    assert_eq!(outcome::<()>(&Err(status)), OPEN);
    assert_eq!(stub.seen().len(), 6);
    eventually("the next probe", async || account.update_account(update("ada")).await.is_ok()).await;
}

#[tokio::test]
async fn a_probe_whose_caller_goes_away_leaves_its_place_to_the_next() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let settings = CallSettings { breaker_open: Duration::from_millis(50), ..CallSettings::default() };
    let mut account = caller(&[address], settings);
    fail(&mut account, 5).await;
    let mut probing = account.clone();
    let probe = tokio::spawn(async move { while probing.update_account(update("slow")).await.is_err() {} });
    stub.begun(6).await;
    probe.abort();
    stub.dropped(1).await;
    eventually("the next probe", async || account.update_account(update("ada")).await.is_ok()).await;
}

#[tokio::test]
async fn no_refusal_opens_it() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let mut account = caller(&[address], CallSettings::default());
    for (user, expected) in
        [("notfound", "NotFound ACCOUNT_NOT_FOUND"), ("toomuch", "ResourceExhausted QUOTA_EXHAUSTED")]
    {
        for _ in 0..20 {
            assert_eq!(outcome(&account.update_account(update(user)).await), expected);
        }
    }
    assert_eq!(outcome(&account.update_account(update("ada")).await), "Ok");
}

#[tokio::test]
async fn a_caller_with_little_patience_opens_it_for_nobody() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let mut account = caller(&[address], CallSettings::default());
    for number in 1..=10 {
        let mut impatient = account.clone();
        let call = tokio::spawn(async move { impatient.get_account(get("slow")).await.is_ok() });
        stub.begun(number).await;
        call.abort();
        stub.dropped(number).await;
    }
    assert_eq!(outcome(&account.get_account(get("ada")).await), "Ok");
}

#[tokio::test]
async fn deadlines_too_short_for_a_fair_trial_open_it_for_nobody() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let mut account = caller(&[address], CallSettings::default());
    for _ in 0..10 {
        let hurried = Context::own(Tenant::default_tenant(), Duration::from_millis(30));
        assert!(account.get_account(hurried.onward(get("slow"))).await.is_err());
    }
    assert_eq!(outcome(&account.get_account(get("ada")).await), "Ok");
}

#[tokio::test]
async fn whoever_depends_on_a_peer_that_is_left_alone_says_so_and_when_to_come_back() {
    let (_held, dead) = dead_end();
    let stub = Stub::default();
    let mut plan = plan(&stub);
    plan.peers.insert("account", dead.into());
    let running = start(plan).await;
    let line = Line::to(running.addresses["product"]).await;
    let mut told = Vec::new();
    for _ in 0..6 {
        let answer = crate::hops::check_availability(&line, "ada", &[("grpc-timeout", "5S")]).await;
        told.push(answer.told());
        let status = answer.status.unwrap();
        assert!(retry_delay(&status) > Duration::ZERO);
        assert_eq!(status.get_details_error_info().unwrap().metadata["peer"], "account");
    }
    assert_eq!(told.first().unwrap(), "Unavailable DEPENDENCY_UNAVAILABLE");
    assert_eq!(told.last().unwrap(), "Unavailable CIRCUIT_OPEN");
}
