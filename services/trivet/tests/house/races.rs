//! Many callers at once, also through two processes over one database: nothing is charged twice, nothing below zero.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use mesh::Clock;
use tokio::sync::Semaphore;
use tonic::transport::Channel;
use trivet_proto::{
    account::v1::{ListAccountHistoryRequest, account_service_client::AccountServiceClient},
    billing::v1::{
        CaptureHoldRequest, GetWalletRequest, HoldState, ListHoldsRequest, PlaceHoldRequest, RefundRequest,
        ReleaseHoldRequest, billing_service_client::BillingServiceClient, wallet_service_client::WalletServiceClient,
    },
};

use crate::{
    harness::{Databases, books_balance, channel, config, eventually, order, patiently, payment, person, reason},
    process::Process,
};

/// Calls under way at once; more would only wait in the client.
const AT_ONCE: usize = 256;

/// Two billing processes over one PostgreSQL, or one over SQLite, which has one writer anyway.
struct Cluster {
    processes: Vec<Process>,
    databases: Databases,
}

impl Cluster {
    async fn start(databases: Databases) -> Self {
        let settings = [("server.announce_ms", "0"), ("server.deadline_ms", "120000"), ("server.grace_ms", "130000")];
        let mut processes = Vec::new();
        if matches!(databases, Databases::Sqlite(_)) {
            processes.push(Process::serve("all", &databases, &settings).await);
        } else {
            let account = Process::serve("account", &databases, &settings).await;
            let address = account.addresses["account"].to_string();
            processes.push(account);
            for _ in 0..2 {
                let settings = [&settings[..], &[("account.address", address.as_str())]].concat();
                processes.push(Process::serve("billing", &databases, &settings).await);
            }
        }
        Self { processes, databases }
    }

    fn channels(&self, role: &str) -> Vec<Channel> {
        self.processes
            .iter()
            .filter_map(|process| process.addresses.get(role))
            .map(|address| channel(*address))
            .collect()
    }

    async fn user(&self, user_id: &str, amount: &str) {
        let account = self.channels("account").remove(0);
        AccountServiceClient::new(account).ensure_account(person(user_id)).await.unwrap();
        let paid = payment(&format!("fund-{user_id}"), user_id, amount);
        WalletServiceClient::new(self.channels("billing").remove(0)).record_payment(paid).await.unwrap();
    }

    async fn balance(&self, user_id: &str) -> String {
        let ask = GetWalletRequest { user_id: user_id.to_owned(), currency: String::new() };
        let mut wallets = WalletServiceClient::new(self.channels("billing").remove(0));
        wallets.get_wallet(ask).await.unwrap().into_inner().wallet.unwrap().balance
    }

    async fn end(self) {
        for process in self.processes {
            process.end().await;
        }
        books_balance(&config(&self.databases, &[])).await;
        self.databases.done().await;
    }
}

async fn on_every_cluster(test: impl AsyncFn(&Cluster)) {
    for databases in [Some(Databases::sqlite()), Databases::postgres().await].into_iter().flatten() {
        let cluster = Cluster::start(databases).await;
        test(&cluster).await;
        cluster.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fifteen_hundred_ids_five_times_each_at_once_are_charged_once_each() {
    on_every_cluster(async |cluster| {
        for user in 0..10 {
            cluster.user(&format!("user-{user}"), "1000").await;
        }
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let channels = cluster.channels("billing");
        let mut calls = Vec::new();
        for copy in 0..5 {
            for id in 0..1_500 {
                let (places, channel) = (places.clone(), channels[(copy + id) % channels.len()].clone());
                let order = order(&format!("req-{id}"), &format!("user-{}", id % 10), "0.01");
                calls.push(tokio::spawn(async move {
                    let _place = places.acquire().await.unwrap();
                    let answer = patiently(|| {
                        let (mut billing, order) = (BillingServiceClient::new(channel.clone()), order.clone());
                        async move { billing.deduct(order).await }
                    })
                    .await;
                    (answer.deduction.unwrap(), answer.already_processed)
                }));
            }
        }
        let mut answers = std::collections::HashMap::new();
        let mut first = 0;
        for call in calls {
            let (deduction, already_processed) = call.await.unwrap();
            first += usize::from(!already_processed);
            let told = answers.entry(deduction.request_id.clone()).or_insert_with(|| deduction.clone());
            assert_eq!(*told, deduction, "one id, one answer");
        }
        assert_eq!((first, answers.len()), (1_500, 1_500));
        for user in 0..10 {
            assert_eq!(cluster.balance(&format!("user-{user}")).await, "998.5");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_sixty_four_callers_at_a_wallet_worth_thirty_three_exactly_thirty_three_are_served() {
    on_every_cluster(async |cluster| {
        cluster.user("ada", "33").await;
        let channels = cluster.channels("billing");
        let calls: Vec<_> = (0..64)
            .map(|caller| {
                let channel = channels[caller % channels.len()].clone();
                let order = order(&format!("req-{caller}"), "ada", "1");
                tokio::spawn(async move { BillingServiceClient::new(channel).deduct(order).await })
            })
            .collect();
        let mut served = 0;
        for call in calls {
            match call.await.unwrap() {
                Ok(_) => served += 1,
                Err(status) => assert_eq!(reason(&status), "INSUFFICIENT_FUNDS"),
            }
        }
        assert_eq!(served, 33);
        assert_eq!(cluster.balance("ada").await, "0");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_sixty_four_refunds_of_a_tenth_exactly_ten_are_given() {
    on_every_cluster(async |cluster| {
        cluster.user("ada", "10").await;
        let channels = cluster.channels("billing");
        BillingServiceClient::new(channels[0].clone()).deduct(order("taken", "ada", "10")).await.unwrap();
        let refunds: Vec<_> = (0..64)
            .map(|caller| {
                let channel = channels[caller % channels.len()].clone();
                let refund = RefundRequest {
                    request_id: format!("back-{caller}"),
                    deduction_request_id: "taken".to_owned(),
                    amount: "1".to_owned(),
                    ..RefundRequest::default()
                };
                tokio::spawn(async move { BillingServiceClient::new(channel).refund(refund).await })
            })
            .collect();
        let mut given = 0;
        for refund in refunds {
            match refund.await.unwrap() {
                Ok(_) => given += 1,
                Err(status) => assert_eq!(reason(&status), "REFUND_EXCEEDS_DEDUCTION"),
            }
        }
        assert_eq!((given, &*cluster.balance("ada").await), (10, "10"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_that_is_captured_released_and_over_at_once_ends_in_one_of_the_three() {
    const HOLDS: usize = 60;
    on_every_cluster(async |cluster| {
        cluster.user("ada", "100").await;
        let channels = cluster.channels("billing");
        let mut billing = BillingServiceClient::new(channels[0].clone());
        let soon = Clock::system().now().plus(Duration::from_secs(5));
        let placing = (0..HOLDS).map(|number| {
            let place = PlaceHoldRequest {
                request_id: format!("hold-{number}"),
                user_id: "ada".to_owned(),
                amount: "1".to_owned(),
                expire_time: Some(soon.to_wire()),
                ..PlaceHoldRequest::default()
            };
            let mut billing = billing.clone();
            async move { billing.place_hold(place).await.unwrap().into_inner().hold.unwrap().hold_id }
        });
        let holds = join_all(placing).await;
        // The workers of both processes are about to find them.
        eventually("their time is over", async || Clock::system().now() >= soon).await;
        let ends: Vec<_> = holds
            .iter()
            .cloned()
            .enumerate()
            .map(|(number, hold_id)| {
                let (one, other) =
                    (channels[number % channels.len()].clone(), channels[(number + 1) % channels.len()].clone());
                let (request_id, amount) = (format!("capture-{number}"), String::new());
                let capture = CaptureHoldRequest { request_id, hold_id: hold_id.clone(), amount, validate_only: false };
                let release =
                    ReleaseHoldRequest { request_id: format!("release-{number}"), hold_id, validate_only: false };
                tokio::spawn(async move {
                    let (mut one, mut other) = (BillingServiceClient::new(one), BillingServiceClient::new(other));
                    let (captured, released) = tokio::join!(one.capture_hold(capture), other.release_hold(release));
                    let refusals = [captured.as_ref().err(), released.as_ref().err()];
                    assert!(refusals.into_iter().flatten().all(|status| reason(status) == "HOLD_NOT_OPEN"));
                    (usize::from(captured.is_ok()), usize::from(released.is_ok()))
                })
            })
            .collect();
        let mut captured = 0;
        for end in ends {
            let (taken, freed) = end.await.unwrap();
            assert!(taken + freed <= 1);
            captured += taken;
        }
        let open = ListHoldsRequest { state: HoldState::Open.into(), ..ListHoldsRequest::default() };
        eventually("all have ended", async || {
            billing.list_holds(open.clone()).await.unwrap().into_inner().holds.is_empty()
        })
        .await;
        assert_eq!(cluster.balance("ada").await, (100 - captured).to_string());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_callers_of_two_processes_make_one_account_and_one_line_of_history() {
    let Some(databases) = Databases::postgres().await else { return };
    let mut processes = Vec::new();
    for _ in 0..2 {
        processes.push(Process::serve("account", &databases, &[("server.announce_ms", "0")]).await);
    }
    let channels: Vec<Channel> = processes.iter().map(|process| channel(process.addresses["account"])).collect();
    for round in 0..5 {
        let user_id = format!("user-{round}");
        let callers: Vec<_> = (0..100)
            .map(|caller| {
                let mut accounts = AccountServiceClient::new(channels[caller % channels.len()].clone());
                let person = person(&user_id);
                tokio::spawn(async move { accounts.ensure_account(person).await.unwrap().into_inner() })
            })
            .collect();
        let mut created = 0;
        for caller in callers {
            created += u32::from(caller.await.unwrap().created);
        }
        assert_eq!(created, 1);
        let ask = ListAccountHistoryRequest { user_id, with_total: true, ..ListAccountHistoryRequest::default() };
        let history = AccountServiceClient::new(channels[0].clone()).list_account_history(ask).await.unwrap();
        assert_eq!(history.into_inner().total_size, Some(1));
    }
    for process in processes {
        process.end().await;
    }
    databases.done().await;
}
