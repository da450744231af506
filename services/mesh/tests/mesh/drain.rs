//! The end of a process: what was begun is finished, what never ends is ended, and it does not take for ever.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use mesh::{Phase, Running};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, task::JoinHandle};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    house::{announce, drain, eventually, house, in_time, plan, start},
    line::{Line, fetch},
    stub::Stub,
};

async fn house_with(stub: &Stub, announce_ms: u64, grace_ms: u64) -> (Running, SocketAddr) {
    let mut plan = plan(stub);
    (plan.server.announce_ms, plan.server.grace_ms) = (announce_ms, grace_ms);
    let running = start(plan).await;
    let address = running.addresses["account"];
    (running, address)
}

/// A call for this user that is under way: its handler has begun.
async fn under_way(stub: &Stub, address: SocketAddr, user: &'static str) -> JoinHandle<Option<String>> {
    let line = Line::to(address).await;
    let before = stub.seen().len();
    let call = tokio::spawn(async move {
        let body = crate::line::frame(&crate::house::get(user));
        let headers = [("content-type", "application/grpc")];
        let answer = line.send(&http::Method::POST, crate::line::GET_ACCOUNT, &headers, body).await;
        answer.ok().map(|answer| answer.told())
    });
    stub.begun(before + 1).await;
    call
}

#[tokio::test]
async fn a_call_under_way_is_answered_before_the_process_ends() {
    let stub = Stub::default();
    let (running, address) = house_with(&stub, 0, 20_000).await;
    let call = under_way(&stub, address, "held").await;
    let draining = tokio::spawn(drain(running));
    eventually("the end of accepting", async || Line::try_to(address).await.is_err()).await;
    assert!(!draining.is_finished(), "it waits for the call");
    stub.release();
    assert_eq!(in_time("the call", call).await.unwrap().as_deref(), Some("Ok"));
    in_time("the drain", draining).await.unwrap();
}

#[tokio::test]
async fn new_calls_are_served_for_as_long_as_the_end_is_only_announced() {
    let stub = Stub::default();
    let (running, address) = house_with(&stub, 3_600_000, 20_000).await;
    let (life, admin) = (running.life.clone(), running.admin);
    let old = Line::to(address).await;
    let (hurry, draining) = announce(running);
    eventually("draining", async || life.phase() == Phase::Draining).await;
    assert_eq!(fetch(admin, "/readyz").await, (503, "draining\n".to_owned()));
    assert_eq!(fetch(admin, "/livez").await.0, 200);
    assert_eq!(fetch(admin, "/startupz").await.0, 200);
    assert_eq!(old.get("ada", &[]).await.told(), "Ok");
    assert_eq!(Line::to(address).await.get("ada", &[]).await.told(), "Ok");
    let cut = under_way(&stub, address, "slow").await;
    hurry.send(()).unwrap();
    in_time("the drain", draining).await.unwrap();
    assert_eq!(in_time("the call", cut).await.unwrap(), None, "a second signal ends everything at once");
    stub.dropped(1).await;
}

#[tokio::test]
async fn what_never_ends_is_ended_after_the_grace() {
    let stub = Stub::default();
    let (running, address) = house_with(&stub, 0, 150).await;
    let call = under_way(&stub, address, "slow").await;
    let watching = Line::to(address).await;
    let request = HealthCheckRequest { service: String::new() };
    let mut watch = HealthClient::new(watching).watch(request).await.unwrap().into_inner();
    let began = Instant::now();
    drain(running).await;
    assert!(began.elapsed() >= Duration::from_millis(150), "the call had its grace");
    assert_eq!(in_time("the call", call).await.unwrap(), None);
    stub.dropped(1).await;
    in_time("the end of the watch", async { while let Ok(Some(_)) = watch.message().await {} }).await;
}

#[tokio::test]
async fn connections_without_calls_do_not_hold_up_the_drain() {
    let stub = Stub::default();
    let (running, address) = house_with(&stub, 0, 3_600_000).await;
    let idle = [Line::to(address).await, Line::to(address).await, Line::to(running.admin).await];
    assert_eq!(idle[0].get("ada", &[]).await.told(), "Ok");
    drain(running).await;
}

#[tokio::test]
async fn connections_that_say_nothing_do_not_hold_up_the_drain() {
    let (running, address) = house_with(&Stub::default(), 0, 3_600_000).await;
    let silent = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(running.admin).await.unwrap()];
    // Accepted before these, because first come is first served.
    assert_eq!(Line::to(address).await.get("ada", &[]).await.told(), "Ok");
    assert_eq!(fetch(running.admin, "/livez").await.0, 200);
    drain(running).await;
    drop(silent);
}

#[tokio::test]
async fn half_a_preface_does_not_hold_up_the_drain() {
    let (running, address) = house_with(&Stub::default(), 0, 3_600_000).await;
    let mut half = TcpStream::connect(address).await.unwrap();
    half.write_all(b"PRI * HT").await.unwrap();
    assert_eq!(Line::to(address).await.get("ada", &[]).await.told(), "Ok");
    drain(running).await;
    drop(half);
}

#[tokio::test]
async fn half_a_request_to_the_admin_port_does_not_hold_up_the_drain() {
    let (running, _) = house(&Stub::default()).await;
    let mut half = TcpStream::connect(running.admin).await.unwrap();
    half.write_all(b"GET /livez HTTP/1.1\r\nhost:").await.unwrap();
    assert_eq!(fetch(running.admin, "/livez").await.0, 200);
    drain(running).await;
    drop(half);
}

#[tokio::test]
async fn a_watch_of_the_admin_port_does_not_hold_up_the_drain() {
    let (running, _) = house(&Stub::default()).await;
    let admin = Line::to(running.admin).await;
    let request = HealthCheckRequest { service: "readiness".to_owned() };
    let mut watch = HealthClient::new(admin).watch(request).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    drain(running).await;
}

#[tokio::test]
async fn a_watch_ends_with_the_drain_and_not_with_the_grace() {
    let stub = Stub::default();
    let (running, address) = house_with(&stub, 0, 3_600_000).await;
    let request = HealthCheckRequest { service: String::new() };
    let mut watch = HealthClient::new(Line::to(address).await).watch(request).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    let draining = tokio::spawn(drain(running));
    let end = in_time("the end of the watch", async {
        loop {
            match watch.message().await {
                Ok(Some(_)) => {}
                Ok(None) => break "Ok".to_owned(),
                Err(status) => break crate::line::told(&status),
            }
        }
    });
    assert_eq!(end.await, "Unavailable DRAINING");
    in_time("the drain", draining).await.unwrap();
}
