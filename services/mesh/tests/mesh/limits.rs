//! What is taken on at once, how old a connection gets, and what goes wrong on purpose.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use mesh::{CallSettings, StartError};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    house::{caller, get, house, in_time, plan, start, update},
    line::{Line, outcome},
    proxy::Proxy,
    raw::{PING, Raw, put},
    stub::Stub,
};

/// Reads at once that are taken on; writes have some more.
const READS: usize = 1_600;

#[tokio::test]
async fn reads_beyond_the_limit_are_refused_at_once_while_money_and_health_are_not() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let settings =
        CallSettings { connections: 12, default_deadline: Duration::from_mins(2), ..CallSettings::default() };
    let account = caller(&[address], settings);
    let mut held = Vec::new();
    // Little by little, so that there are connections for all of them.
    while held.len() < READS + 50 {
        for _ in 0..50 {
            let mut account = account.clone();
            held.push(tokio::spawn(async move { outcome(&account.get_account(get("held")).await) }));
        }
        stub.begun(held.len().min(READS)).await;
    }
    let mut other = account.clone();
    assert_eq!(outcome(&other.get_account(get("ada")).await), "ResourceExhausted OVERLOADED");
    assert_eq!(outcome(&other.update_account(update("ada")).await), "Ok");
    let mut health = HealthClient::new(Line::to(address).await);
    health.check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(stub.seen().len(), READS + 1, "what was refused was not begun");
    stub.release();
    let mut refused = 0;
    for call in held {
        match in_time("a call", call).await.unwrap().as_str() {
            "Ok" => {}
            "ResourceExhausted OVERLOADED" => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert!(refused <= 50, "{refused}");
    assert_eq!(outcome(&other.get_account(get("ada")).await), "Ok", "at once, once there is room");
}

#[tokio::test]
async fn a_connection_that_is_too_old_is_replaced_and_costs_no_call() {
    let stub = Stub::default();
    let mut plan = plan(&stub);
    plan.server.connection_age_ms = 40;
    let running = start(plan).await;
    let proxy = Proxy::to(running.addresses["account"]).await;
    let account = caller(&[proxy.address], CallSettings::default());
    let over = AtomicBool::new(false);
    let load = async || {
        let mut account = account.clone();
        while !over.load(Ordering::Relaxed) {
            let outcome = outcome(&account.update_account(update("ada")).await);
            if outcome != "Ok" {
                return Err(outcome);
            }
        }
        Ok(())
    };
    let ageing = async {
        in_time("ten connections", async {
            while proxy.connections() < 10 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        over.store(true, Ordering::Relaxed);
    };
    let (outcomes, ()) = futures_util::join!(futures_util::future::join_all((0..8).map(|_| load())), ageing);
    assert_eq!(outcomes, vec![Ok(()); 8]);
}

#[tokio::test]
async fn a_connection_that_has_ended_is_not_reset_while_the_other_side_still_says_something() {
    let stub = Stub::default();
    let mut plan = plan(&stub);
    plan.server.connection_age_ms = 40;
    let running = start(plan).await;
    let mut raw = Raw::to(running.addresses["account"]).await;
    in_time("its age", raw.until_a_peaceful_end()).await;
    // Were it reset, the other side would not get to read what it was told last.
    for words in 0..100 {
        assert!(raw.flood(1, |words, _| put(words, PING, 0, 0, &[0; 8])).await, "{words}");
    }
}

#[tokio::test]
async fn a_connection_that_does_not_go_on_with_its_first_words_is_let_go() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    for words in ["", "PRI * HTTP/2"] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.write_all(words.as_bytes()).await.unwrap();
        let mut heard = Vec::new();
        // Closed, or reset: either way it is over.
        let _ = in_time("the end", socket.read_to_end(&mut heard)).await;
    }
}

/// A process where these calls go wrong on purpose.
async fn faulty(stub: &Stub, faults: &str) -> (mesh::Running, SocketAddr) {
    let mut plan = plan(stub);
    faults.clone_into(&mut plan.server.faults);
    let running = start(plan).await;
    let address = running.addresses["account"];
    (running, address)
}

#[tokio::test]
async fn faults_on_purpose_happen_to_their_rpc_alone_and_look_like_others() {
    let stub = Stub::default();
    let (_running, address) = faulty(&stub, "GetAccount=abort:UNAVAILABLE@100,UpdateAccount=delay:1@100").await;
    let mut account = caller(&[address], CallSettings::default());
    assert_eq!(outcome(&account.get_account(get("ada")).await), "Unavailable DEPENDENCY_UNAVAILABLE");
    assert_eq!(outcome(&account.update_account(update("ada")).await), "Ok");
    assert_eq!(stub.seen().len(), 1);
}

#[tokio::test]
async fn reads_get_through_where_one_in_three_goes_wrong_on_one_of_two_replicas() {
    let stubs = [Stub::default(), Stub::default()];
    let (_first, one) = faulty(&stubs[0], "GetAccount=abort:UNAVAILABLE@33").await;
    let (_second, other) = house(&stubs[1]).await;
    let mut account = caller(&[one, other], CallSettings::default());
    for call in 0..500 {
        assert_eq!(outcome(&account.get_account(get("ada")).await), "Ok", "call {call}");
    }
}

#[tokio::test]
async fn faults_that_cannot_be_read_are_named_before_anything_is_bound() {
    let mut plan = plan(&Stub::default());
    "Deduct=explode@10".clone_into(&mut plan.server.faults);
    let Err(error) = plan.bind().await else { panic!("it is bound") };
    assert!(matches!(error, StartError::Faults(_)));
    assert!(error.to_string().contains("\"Deduct=explode@10\" is no fault"), "{error}");
}
