//! Endpoints that come, go, and stop answering without a word; and how many connections they get.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use futures_util::future::join_all;
use mesh::{CallSettings, Context, Peer, Target, Tenant};
use tokio::{net::TcpSocket, sync::watch};
use trivet_proto::account::v1::account_service_client::AccountServiceClient;

use crate::{
    house::{caller, dead_end, drain, get, house, in_time, telemetry, update},
    line::outcome,
    proxy::Proxy,
    stub::Stub,
};

/// An address that takes connections for as long as the socket is held, and never says a word on them.
fn silent() -> (tokio::net::TcpListener, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let listener = socket.listen(1_024).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Calls from so many tasks, so many each; every outcome that was not Ok.
async fn many<Calls>(tasks: usize, calls: Calls) -> Vec<String>
where
    Calls: AsyncFn(usize) -> String,
{
    let outcomes = join_all((0..tasks).map(|task| calls(task))).await;
    outcomes.into_iter().filter(|outcome| outcome != "Ok").collect()
}

#[tokio::test]
async fn with_one_of_two_endpoints_that_takes_connections_and_says_nothing_no_call_of_any_sort_fails() {
    let stub = Stub::default();
    let (_running, alive) = house(&stub).await;
    let (_held, black_hole) = silent();
    let account = caller(&[black_hole, alive], CallSettings::default());
    let failed = many(16, async |_| {
        let mut account = account.clone();
        for _ in 0..50 {
            for outcome in
                [outcome(&account.get_account(get("ada")).await), outcome(&account.update_account(update("ada")).await)]
            {
                if outcome != "Ok" {
                    return outcome;
                }
            }
        }
        "Ok".to_owned()
    })
    .await;
    assert_eq!(failed, Vec::<String>::new());
    assert_eq!(stub.seen().len(), 16 * 50 * 2, "none was carried out twice");
    for _ in 0..10 {
        // Whoever knows neither yet may begin with either; what may do harm twice gets no second attempt beside it.
        let mut account = caller(&[black_hole, alive], CallSettings::default());
        assert_eq!(outcome(&account.update_account(update("ada")).await), "Ok");
    }
}

#[tokio::test]
async fn when_one_of_two_endpoints_goes_silent_with_calls_under_way_no_read_fails() {
    let stubs = [Stub::default(), Stub::default()];
    let (_first, one) = house(&stubs[0]).await;
    let (_second, other) = house(&stubs[1]).await;
    let proxy = Proxy::to(one).await;
    let account = caller(&[proxy.address, other], CallSettings::default());
    stubs[1].release();
    // Where these are held they go silent; the other one answers them.
    let held = (0..16).map(|_| {
        let mut account = account.clone();
        let context = Context::own(Tenant::default_tenant(), Duration::from_secs(6));
        tokio::spawn(async move { outcome(&account.get_account(context.onward(get("held"))).await) })
    });
    let held: Vec<_> = held.collect();
    stubs[0].begun(1).await;
    proxy.go_silent();
    for call in held {
        assert_eq!(in_time("a call that was under way", call).await.unwrap(), "Ok");
    }
    let mut account = account.clone();
    for number in 0..1_000 {
        assert_eq!(outcome(&account.get_account(get("ada")).await), "Ok", "call {number}");
    }
}

#[tokio::test]
async fn a_read_that_is_slow_is_asked_of_another_endpoint_where_hedging_is_on() {
    let stubs = [Stub::default(), Stub::default()];
    let (_first, one) = house(&stubs[0]).await;
    let (_second, other) = house(&stubs[1]).await;
    stubs[1].release();
    let settings = CallSettings { hedge: true, default_deadline: Duration::from_mins(2), ..CallSettings::default() };
    let mut account = caller(&[one, other], settings);
    for _ in 0..40 {
        assert_eq!(outcome(&account.get_account(get("ada")).await), "Ok");
    }
    // A write that hangs is never asked twice, and waits where it is; reads go on.
    let mut writer = account.clone();
    let write = tokio::spawn(async move { outcome(&writer.update_account(update("held")).await) });
    in_time("reads that the first one does not answer", async {
        let before = count(&stubs[0], "GetAccount");
        while count(&stubs[0], "GetAccount") < before + 2 {
            assert_eq!(outcome(&account.get_account(get("held")).await), "Ok");
        }
    })
    .await;
    stubs[0].release();
    assert_eq!(in_time("the write", write).await.unwrap(), "Ok");
    assert_eq!(stubs.iter().map(|stub| count(stub, "UpdateAccount")).sum::<usize>(), 1);
}

fn count(stub: &Stub, rpc: &str) -> usize {
    stub.seen().iter().filter(|seen| seen.rpc == rpc).count()
}

#[tokio::test]
async fn what_may_do_harm_twice_is_sent_once_however_long_it_takes_and_a_read_is_sent_to_both() {
    let stubs = [Stub::default(), Stub::default()];
    let (_first, one) = house(&stubs[0]).await;
    let (_second, other) = house(&stubs[1]).await;
    let settings = CallSettings { default_deadline: Duration::from_secs(3), ..CallSettings::default() };
    let (mut writer, mut reader) = (caller(&[one, other], settings), caller(&[one, other], settings));
    let (write, read) = futures_util::join!(writer.update_account(update("held")), reader.get_account(get("held")));
    assert!(outcome(&write).starts_with("DeadlineExceeded") && outcome(&read).starts_with("DeadlineExceeded"));
    let sent = |rpc| stubs.iter().map(|stub| count(stub, rpc)).sum::<usize>();
    assert_eq!((sent("UpdateAccount"), sent("GetAccount")), (1, 2));
}

#[tokio::test]
async fn endpoints_that_are_told_later_get_calls_and_those_that_go_lose_none() {
    let stubs = [Stub::default(), Stub::default()];
    let (first, one) = house(&stubs[0]).await;
    let (_second, other) = house(&stubs[1]).await;
    let told = watch::Sender::new(BTreeSet::from([one]));
    let target = Target::from(told.subscribe());
    let account = AccountServiceClient::new(Peer::new("account", &target, telemetry(), CallSettings::default()));
    let mut caller = account.clone();
    for _ in 0..50 {
        assert_eq!(outcome(&caller.update_account(update("ada")).await), "Ok");
    }
    assert_eq!(stubs[0].seen().len(), 50);
    let mut under_way = account.clone();
    let under_way = tokio::spawn(async move { outcome(&under_way.update_account(update("held")).await) });
    stubs[0].begun(51).await;
    told.send_replace(BTreeSet::from([other]));
    in_time("the change", async {
        while stubs[1].seen().is_empty() {
            assert_eq!(outcome(&caller.update_account(update("ada")).await), "Ok");
        }
    })
    .await;
    let before = stubs[0].seen().len();
    for _ in 0..50 {
        assert_eq!(outcome(&caller.update_account(update("ada")).await), "Ok");
    }
    assert_eq!(stubs[0].seen().len(), before, "it is not called any more");
    stubs[0].release();
    assert_eq!(in_time("the call that was under way", under_way).await.unwrap(), "Ok");
    drain(first).await;
    told.send_replace(BTreeSet::new());
    for _ in 0..10 {
        assert_eq!(outcome(&caller.update_account(update("ada")).await), "Ok", "nothing told is no news");
    }
}

#[tokio::test]
async fn many_calls_at_once_get_several_connections_and_few_get_one() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let proxy = Proxy::to(address).await;
    let settings = CallSettings { connections: 3, ..CallSettings::default() };
    let account = caller(&[proxy.address], settings);
    let mut caller = account.clone();
    for _ in 0..100 {
        assert_eq!(outcome(&caller.get_account(get("ada")).await), "Ok");
    }
    assert_eq!(proxy.connections(), 1);
    let mut held = Vec::new();
    for connections in [1, 2, 3, 3] {
        for _ in 0..40 {
            let mut account = account.clone();
            held.push(tokio::spawn(async move { outcome(&account.get_account(get("held")).await) }));
        }
        stub.begun(100 + held.len()).await;
        // The next call finds the others busy, and has one more opened.
        assert_eq!(outcome(&caller.get_account(get("ada")).await), "Ok");
        in_time("another connection", async {
            while proxy.connections() < connections {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    assert_eq!(proxy.connections(), 3, "no more than there may be");
    stub.release();
    for call in held {
        assert_eq!(in_time("a call", call).await.unwrap(), "Ok");
    }
}

#[tokio::test]
async fn where_all_endpoints_fail_one_of_two_stays_in() {
    let (_first, one) = dead_end();
    let (_second, other) = dead_end();
    let settings = CallSettings { breaker_failures: 2, ..CallSettings::default() };
    let mut account = caller(&[one, other], settings);
    for call in 0..8 {
        let outcome = outcome(&account.update_account(update("ada")).await);
        assert_eq!(outcome, "Unavailable DEPENDENCY_UNAVAILABLE", "call {call}");
    }
}

#[tokio::test]
async fn a_peer_that_fails_at_everything_is_not_also_asked_three_times() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let settings = CallSettings { breaker_failures: u32::MAX, ..CallSettings::default() };
    let mut account = caller(&[address], settings);
    for _ in 0..30 {
        assert_eq!(outcome(&account.get_account(get("fail")).await), "Unavailable DEPENDENCY_UNAVAILABLE");
    }
    // Five failures use the budget up: the first call is tried three times, the second one twice.
    assert_eq!(stub.seen().len(), 30 + 3);
    let attempts: Vec<_> = stub.seen().into_iter().filter_map(|seen| seen.previous_attempts).collect();
    assert_eq!(attempts, ["1", "2", "1"]);
    for _ in 0..200 {
        assert_eq!(outcome(&account.get_account(get("ada")).await), "Ok");
    }
    assert_eq!(outcome(&account.get_account(get("fail")).await), "Unavailable DEPENDENCY_UNAVAILABLE");
    assert_eq!(stub.seen().len(), 30 + 3 + 200 + 3, "successes filled it again");
}
