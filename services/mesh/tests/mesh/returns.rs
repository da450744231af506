//! Connections that end, and endpoints that are back under the address that they had: callers who have nobody else find them.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use bytes::BytesMut;
use mesh::{CallSettings, Context, Peer, Target, Tenant};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use trivet_proto::account::v1::account_service_client::AccountServiceClient;

use crate::{
    house::{caller, eventually, get, house, in_time, telemetry, update},
    line::outcome,
    proxy::Proxy,
    raw::{GOAWAY, HEADERS, SETTINGS, put},
    stub::Stub,
};

#[tokio::test]
async fn whoever_has_nowhere_else_to_go_waits_a_second_at_most_for_an_endpoint_that_was_away_for_long() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let proxy = Proxy::to(address).await;
    proxy.close();
    let settings = CallSettings { breaker_failures: u32::MAX, ..CallSettings::default() };
    let mut account = caller(&[proxy.address], settings);
    // After nine attempts the next one is to wait for four seconds.
    eventually("nine attempts to connect", async || {
        assert_ne!(outcome(&account.update_account(update("ada")).await), "Ok");
        proxy.connections() >= 9
    })
    .await;
    proxy.open();
    let context = Context::own(Tenant::default_tenant(), Duration::from_secs(10));
    assert_eq!(outcome(&account.update_account(context.onward(update("ada"))).await), "Ok");
    assert!(context.remaining() > Duration::from_secs(7), "it did not wait for long");
}

#[tokio::test]
async fn an_endpoint_that_is_left_alone_is_asked_before_its_time_where_no_other_can_be_reached() {
    let stubs = [Stub::default(), Stub::default()];
    let (_first, one) = house(&stubs[0]).await;
    let (_second, other) = house(&stubs[1]).await;
    let (one, other) = (Proxy::to(one).await, Proxy::to(other).await);
    one.close();
    let settings = CallSettings { breaker_failures: 1, ..CallSettings::default() };
    let mut account = caller(&[one.address, other.address], settings);
    eventually("the first one's failure", async || {
        assert_eq!(outcome(&account.update_account(update("ada")).await), "Ok");
        one.connections() > 0
    })
    .await;
    one.open();
    let before = one.connections();
    for _ in 0..100 {
        assert_eq!(outcome(&account.get_account(get("ada")).await), "Ok");
    }
    assert_eq!(one.connections(), before, "nobody asks it while the other one answers");
    other.close();
    for call in 0..100 {
        assert_eq!(outcome(&account.get_account(get("ada")).await), "Ok", "call {call}");
    }
    assert!(one.connections() > before);
}

#[tokio::test]
async fn an_endpoint_that_is_left_alone_is_asked_again_once_there_is_no_other() {
    let stubs = [Stub::default(), Stub::default()];
    let (_first, one) = house(&stubs[0]).await;
    let (_second, other) = house(&stubs[1]).await;
    let one = Proxy::to(one).await;
    one.close();
    let settings = CallSettings { breaker_failures: 1, ..CallSettings::default() };
    let told = watch::Sender::new(BTreeSet::from([one.address, other]));
    let target = Target::from(told.subscribe());
    let mut account = AccountServiceClient::new(Peer::new("account", &target, telemetry(), settings));
    eventually("the first one's failure", async || {
        assert_eq!(outcome(&account.update_account(update("ada")).await), "Ok");
        one.connections() > 0
    })
    .await;
    one.open();
    told.send_replace(BTreeSet::from([one.address]));
    eventually("the change", async || {
        assert_eq!(outcome(&account.update_account(update("ada")).await), "Ok");
        !stubs[0].seen().is_empty()
    })
    .await;
}

#[tokio::test]
async fn callers_with_little_patience_wait_for_one_connection_and_none_of_them_undoes_it() {
    const CALLS: usize = 8;
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let proxy = Proxy::to(address).await;
    // A connection is given a second to say its first word.
    proxy.go_silent();
    let mut account = caller(&[proxy.address], CallSettings::default());
    for _ in 0..CALLS {
        let context = Context::own(Tenant::default_tenant(), Duration::from_millis(100));
        let outcome = outcome(&account.get_account(context.onward(get("ada"))).await);
        assert!(outcome.starts_with("DeadlineExceeded"), "{outcome}");
    }
    assert!(proxy.connections() <= CALLS / 2, "{} connections", proxy.connections());
}

/// Why a connection goes away (RFC 9113, section 7).
const NO_ERROR: u32 = 0;
const ENHANCE_YOUR_CALM: u32 = 11;

/// A way to a server on which so many connections go away (RFC 9113, section 6.8) for this reason as soon as they carry a
/// call, which they say that they have not looked at. Later ones are handed on.
async fn going_away(mut times: u32, reason: u32, server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            if times == 0 {
                let mut onward = TcpStream::connect(server).await.unwrap();
                // A connection that breaks is a test's doing.
                let _ = tokio::io::copy_bidirectional(&mut socket, &mut onward).await;
                continue;
            }
            times -= 1;
            let mut words = BytesMut::new();
            put(&mut words, SETTINGS, 0, 0, &[]);
            socket.write_all(&words.split()).await.unwrap();
            socket.read_exact(&mut [0; b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len()]).await.unwrap();
            let mut head = [0; 9];
            while head[3] != HEADERS {
                socket.read_exact(&mut head).await.unwrap();
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                socket.read_exact(&mut vec![0; usize::try_from(length).unwrap()]).await.unwrap();
            }
            // The last stream that was looked at, which is none, and why.
            put(&mut words, GOAWAY, 0, 0, &u64::from(reason).to_be_bytes());
            socket.write_all(&words).await.unwrap();
            let _ = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await;
        }
    });
    address
}

#[tokio::test]
async fn what_a_goaway_overtakes_is_sent_again_whatever_it_is_and_says_nothing_of_the_endpoint() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let mut account = caller(&[going_away(6, NO_ERROR, address).await], CallSettings::default());
    // The first call meets all of them. Were these failures, the breaker would have opened after the fifth.
    for call in 0..50 {
        assert_eq!(outcome(&account.update_account(update("ada")).await), "Ok", "call {call}");
    }
    assert_eq!(stub.seen().len(), 50);
}

#[tokio::test]
async fn an_endpoint_that_goes_away_because_something_is_wrong_fails() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let way = going_away(u32::MAX, ENHANCE_YOUR_CALM, address).await;
    let mut account = caller(&[way], CallSettings::default());
    assert_eq!(outcome(&account.update_account(update("ada")).await), "Unavailable CIRCUIT_OPEN");
    assert!(stub.seen().is_empty());
}

#[tokio::test]
async fn a_connection_that_breaks_is_one_failure_however_many_calls_were_on_it() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let proxy = Proxy::to(address).await;
    let settings = CallSettings { connections: 1, ..CallSettings::default() };
    let mut account = caller(&[proxy.address], settings);
    let held: Vec<_> = (0..16)
        .map(|_| {
            let mut account = account.clone();
            tokio::spawn(async move { outcome(&account.update_account(update("held")).await) })
        })
        .collect();
    stub.begun(held.len()).await;
    proxy.close();
    for call in held {
        assert_eq!(in_time("a call", call).await.unwrap(), "Unavailable DEPENDENCY_UNAVAILABLE");
    }
    proxy.open();
    assert_eq!(outcome(&account.update_account(update("ada")).await), "Ok");
}
