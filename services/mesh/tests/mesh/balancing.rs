//! Calls over several endpoints, some of them dead or dying.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use mesh::{CallSettings, Context, Peer, Tenant};
use tonic_types::StatusExt as _;
use trivet_proto::account::v1::account_service_client::AccountServiceClient;

use crate::{
    house::{caller, dead_end, drain, get, house, in_time, kill, update},
    line::outcome,
    stub::Stub,
};

#[tokio::test]
async fn with_one_of_two_endpoints_dead_no_call_fails() {
    let stub = Stub::default();
    let (_running, alive) = house(&stub).await;
    let (_held, dead) = dead_end();
    let mut account = caller(&[dead, alive], CallSettings::default());
    for number in 0..1_000 {
        assert_eq!(outcome(&account.get_account(get("ada")).await), "Ok", "call {number}");
    }
    assert_eq!(stub.seen().len(), 1_000);
}

#[tokio::test]
async fn with_one_of_two_endpoints_dead_no_call_of_many_at_once_fails() {
    let stub = Stub::default();
    let (_running, alive) = house(&stub).await;
    let (_held, dead) = dead_end();
    let account = caller(&[dead, alive], CallSettings::default());
    let calls = (0..1_000).map(|_| {
        let mut account = account.clone();
        tokio::spawn(async move { outcome(&account.get_account(get("ada")).await) })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(in_time("a call", call).await.unwrap(), "Ok");
    }
}

#[tokio::test]
async fn with_every_endpoint_dead_the_caller_hears_in_time_and_when_to_try_again() {
    for count in [1, 2] {
        let dead: Vec<_> = (0..count).map(|_| dead_end()).collect();
        let addresses: Vec<_> = dead.iter().map(|(_, address)| *address).collect();
        let mut account = caller(&addresses, CallSettings::default());
        let context = Context::own(Tenant::default_tenant(), Duration::from_secs(10));
        let status = account.get_account(context.onward(get("ada"))).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unavailable);
        assert!(status.get_details_retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);
        assert!(context.remaining() > Duration::from_secs(5), "well within its deadline");
    }
}

#[tokio::test]
async fn calls_go_to_every_endpoint() {
    let stubs = [Stub::default(), Stub::default()];
    let (_first, one) = house(&stubs[0]).await;
    let (_second, other) = house(&stubs[1]).await;
    let account = caller(&[one, other], CallSettings::default());
    let calls = (0..200).map(|_| {
        let mut account = account.clone();
        tokio::spawn(async move { outcome(&account.get_account(get("ada")).await) })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap(), "Ok");
    }
    let served = stubs.map(|stub| stub.seen().len());
    assert!(served[0] + served[1] == 200 && served.iter().all(|count| *count >= 20), "{served:?}");
}

#[tokio::test]
async fn a_slow_endpoint_gets_fewer_calls() {
    let (quick, stuck) = (Stub::default(), Stub::default());
    let (_first, one) = house(&quick).await;
    let (_second, other) = house(&stuck).await;
    let mut to_stuck = caller(&[other], CallSettings::default());
    assert_eq!(outcome(&to_stuck.get_account(get("ada")).await), "Ok");
    let account = caller(&[one, other], CallSettings::default());
    // Eight calls that hang wherever they are; what comes after them goes where there are fewer.
    let hanging: Vec<_> = (0..8)
        .map(|_| {
            let mut account = account.clone();
            tokio::spawn(async move { account.get_account(get("held")).await.is_ok() })
        })
        .collect();
    quick.release();
    in_time("the quick ones", async {
        while quick.seen().len() + stuck.seen().len() < 9 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let before = stuck.seen().len();
    let mut account = account.clone();
    for _ in 0..200 {
        assert_eq!(outcome(&account.get_account(get("ada")).await), "Ok");
    }
    let to_stuck = stuck.seen().len() - before;
    assert!(to_stuck < 100, "{to_stuck} of 200 calls went where {} hang", before - 1);
    stuck.release();
    for call in hanging {
        assert!(in_time("a call that hung", call).await.unwrap());
    }
}

#[tokio::test]
async fn an_endpoint_that_fails_fast_does_not_draw_the_calls() {
    let (ill, well) = (Stub::failing(u32::MAX), Stub::default());
    let (_first, one) = house(&ill).await;
    let (_second, other) = house(&well).await;
    // The breaker would hide what the balancer does.
    let settings = CallSettings { breaker_failures: u32::MAX, ..CallSettings::default() };
    for _ in 0..10 {
        // A caller that knows neither yet begins with either.
        let mut account = caller(&[one, other], settings);
        for _ in 0..20 {
            let _ = account.update_account(update("flaky")).await;
        }
    }
    assert_eq!(ill.seen().len() + well.seen().len(), 200);
    assert!(ill.seen().len() <= 20, "{} of 200 calls went where all fail", ill.seen().len());
}

/// Calls two replicas from eight tasks, does this to one of them in the middle, and tells every outcome that was not Ok.
async fn under_load(
    call: impl AsyncFn(&mut AccountServiceClient<Peer>) -> String,
    end: impl AsyncFnOnce(mesh::Running),
) -> Vec<String> {
    let stubs = [Stub::default(), Stub::default()];
    let (leaving, one) = house(&stubs[0]).await;
    let (_staying, other) = house(&stubs[1]).await;
    let account = caller(&[one, other], CallSettings::default());
    let over = AtomicBool::new(false);
    let load = async || {
        let (mut account, mut failures) = (account.clone(), Vec::new());
        while !over.load(Ordering::Relaxed) {
            let outcome = call(&mut account).await;
            if outcome != "Ok" {
                failures.push(outcome);
            }
        }
        failures
    };
    let ending = async {
        stubs[0].begun(200).await;
        end(leaving).await;
        stubs[1].begun(stubs[1].seen().len() + 200).await;
        over.store(true, Ordering::Relaxed);
    };
    let (failures, ()) = futures_util::join!(futures_util::future::join_all((0..8).map(|_| load())), ending);
    failures.concat()
}

#[tokio::test]
async fn a_replica_that_drains_under_load_costs_no_call_of_any_sort() {
    let failures = under_load(async |account| outcome(&account.update_account(update("ada")).await), drain).await;
    assert_eq!(failures, Vec::<String>::new());
    let failures = under_load(async |account| outcome(&account.get_account(get("ada")).await), drain).await;
    assert_eq!(failures, Vec::<String>::new());
}

#[tokio::test]
async fn a_replica_that_is_killed_under_load_costs_no_read() {
    let failures = under_load(async |account| outcome(&account.get_account(get("ada")).await), kill).await;
    assert_eq!(failures, Vec::<String>::new());
}
