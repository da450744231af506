//! Names that lead elsewhere while they are called: when they are looked up, and what becomes of calls.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use mesh::{CallSettings, Lookup, Peer, Target};
use tokio::time::Instant;
use trivet_proto::account::v1::account_service_client::AccountServiceClient;

use crate::{
    house::{drain, eventually, get, house, in_time, telemetry, update},
    line::outcome,
    stub::Stub,
};

/// A resolver in the hand of the test.
#[derive(Clone, Default)]
struct Names {
    /// Where every name leads; `None`: nobody answers.
    answer: Arc<Mutex<Option<Vec<SocketAddr>>>>,
    lookups: Arc<AtomicU32>,
}

impl Names {
    fn lead_to(&self, answer: Option<&[SocketAddr]>) {
        *self.answer.lock().unwrap() = answer.map(<[_]>::to_vec);
    }

    fn lookups(&self) -> u32 {
        self.lookups.load(Ordering::Relaxed)
    }

    fn account(&self) -> AccountServiceClient<Peer> {
        let names = self.clone();
        let lookup: Arc<Lookup> = Arc::new(move |name| {
            assert_eq!(name, "account.example:8202");
            names.lookups.fetch_add(1, Ordering::Relaxed);
            let answer = names.answer.lock().unwrap().clone();
            Box::pin(async move { answer.ok_or_else(|| io::Error::other("nobody answers")) })
        });
        let target: Target = "account.example:8202".parse().unwrap();
        let target = target.looked_up_by(lookup);
        AccountServiceClient::new(Peer::new("account", &target, telemetry(), CallSettings::default()))
    }
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_is_looked_up_every_five_seconds_and_no_call_is_lost() {
    let stubs = [Stub::default(), Stub::default()];
    let (_first, one) = house(&stubs[0]).await;
    let (_second, other) = house(&stubs[1]).await;
    let names = Names::default();
    names.lead_to(Some(&[one]));
    let began = Instant::now();
    let mut account = names.account();
    assert_eq!(outcome(&account.update_account(update("ada")).await), "Ok");
    assert_eq!((stubs[0].seen().len(), names.lookups()), (1, 1));
    // Where nobody answers, and where a name leads nowhere, the last good answer is kept.
    for (answer, lookups) in [(None, 2), (Some(&[][..]), 3), (Some(&[other][..]), 4)] {
        names.lead_to(answer);
        in_time("a lookup", async {
            while names.lookups() < lookups {
                assert_eq!(outcome(&account.update_account(update("ada")).await), "Ok");
            }
        })
        .await;
        assert!(began.elapsed() >= Duration::from_secs(5) * (lookups - 1), "not all the time");
    }
    in_time("the change", async {
        while stubs[1].seen().is_empty() {
            assert_eq!(outcome(&account.update_account(update("ada")).await), "Ok");
        }
    })
    .await;
    let before = stubs[0].seen().len();
    for _ in 0..50 {
        assert_eq!(outcome(&account.update_account(update("ada")).await), "Ok");
    }
    assert_eq!(stubs[0].seen().len(), before, "it is not called any more");
}

#[tokio::test]
async fn names_are_looked_up_at_once_when_a_connection_is_lost_and_yet_once_a_second_at_most() {
    let stubs = [Stub::default(), Stub::default()];
    let (first, one) = house(&stubs[0]).await;
    let (_second, other) = house(&stubs[1]).await;
    let names = Names::default();
    names.lead_to(Some(&[one]));
    let mut account = names.account();
    let began = Instant::now();
    assert_eq!(outcome(&account.get_account(get("ada")).await), "Ok");
    names.lead_to(Some(&[other]));
    drain(first).await;
    eventually("the change", async || outcome(&account.get_account(get("ada")).await) == "Ok").await;
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(5), "{took:?}");
    assert_eq!((stubs[0].seen().len(), stubs[1].seen().len(), names.lookups()), (1, 1, 2));
}
