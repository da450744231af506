//! Every call that comes in has an end.

use std::time::{Duration, Instant};

use crate::{
    house::{house, plan, start},
    line::Line,
    stub::Stub,
};

#[tokio::test]
async fn a_call_that_is_late_when_it_comes_is_not_begun() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let line = Line::to(address).await;
    for passed in ["0n", "0m", "0S", "1n"] {
        let answer = line.get("ada", &[("grpc-timeout", passed)]).await;
        assert_eq!(answer.told(), "DeadlineExceeded DEADLINE_EXCEEDED", "{passed}");
        assert_eq!(answer.quoted_request_id(), answer.request_id(), "{passed}");
    }
    assert!(stub.seen().is_empty());
}

#[tokio::test]
async fn a_handler_that_is_too_slow_is_ended_and_its_caller_told() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let line = Line::to(address).await;
    let began = Instant::now();
    let answer = line.get("slow", &[("grpc-timeout", "80m"), ("x-request-id", "checkout-42")]).await;
    assert!(began.elapsed() >= Duration::from_millis(80));
    assert_eq!(answer.told(), "DeadlineExceeded DEADLINE_EXCEEDED");
    assert_eq!(answer.quoted_request_id(), "checkout-42");
    stub.dropped(1).await;
    assert_eq!(line.get("ada", &[]).await.told(), "Ok", "the connection lives on");
}

#[tokio::test]
async fn a_caller_that_names_no_deadline_gets_ours() {
    let stub = Stub::default();
    let mut plan = plan(&stub);
    plan.server.deadline_ms = 60;
    let running = start(plan).await;
    let line = Line::to(running.addresses["account"]).await;
    assert_eq!(line.get("slow", &[]).await.told(), "DeadlineExceeded DEADLINE_EXCEEDED");
    assert!(stub.seen()[0].context.remaining().is_zero());
}

#[tokio::test]
async fn a_handler_knows_how_long_it_has_and_nobody_has_more_than_an_hour() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let line = Line::to(address).await;
    for (timeout, longest) in [("5S", 5), ("99999999H", 3_600)] {
        assert_eq!(line.get("ada", &[("grpc-timeout", timeout)]).await.told(), "Ok");
        let left = stub.seen().last().unwrap().context.remaining();
        assert!(left <= Duration::from_secs(longest) && left > Duration::from_secs(longest - 5), "{timeout}: {left:?}");
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_the_handler() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let line = Line::to(address).await;
    let call = tokio::spawn(async move { line.get("slow", &[]).await.told() });
    stub.begun(1).await;
    call.abort();
    stub.dropped(1).await;
}
