//! Two replicas of all services over one PostgreSQL, while one of them is dead, goes silent, comes and goes, or is replaced:
//! no call fails that may be sent again, and no money moves twice.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use futures_util::future::join_all;
use mesh::{CallSettings, Peer, Target, Telemetry};
use tokio::sync::watch;
use tonic::Status;
use trivet::RoleName;
use trivet_proto::{
    account::v1::{GetAccountRequest, account_service_client::AccountServiceClient, get_account_request::Key},
    billing::v1::{
        GetWalletRequest, billing_service_client::BillingServiceClient, wallet_service_client::WalletServiceClient,
    },
    product::v1::{CheckAvailabilityRequest, catalog_service_client::CatalogServiceClient},
};

use crate::{
    harness::{Databases, House, config, eventually, order},
    process::free_ports,
    way::Way,
};

/// Callers at once.
const CALLERS: u64 = 16;
/// Calls of one rpc in each trouble.
const CALLS: u64 = 10_000;
/// What ada has.
const FUNDS: &str = "1000000";
/// A deduction of hers.
const PRICE: &str = "0.01";
/// So many of them are one USDC.
const PARTS: u64 = 100;

/// Another service, as the services call each other.
fn peer(name: &'static str, addresses: &[SocketAddr]) -> Peer {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let target: Target = addresses.join(",").parse().unwrap();
    Peer::new(name, &target, Arc::new(Telemetry::quiet().unwrap()), CallSettings::default())
}

async fn wallet(client: &WalletServiceClient<Peer>) -> Result<String, Status> {
    let ask = GetWalletRequest { user_id: "ada".to_owned(), currency: String::new() };
    Ok(client.clone().get_wallet(ask).await?.into_inner().wallet.unwrap().balance)
}

async fn deduct(client: &BillingServiceClient<Peer>, request_id: &str) -> Result<(), Status> {
    client.clone().deduct(order(request_id, "ada", PRICE)).await.map(drop)
}

/// Makes [`CALLS`] calls from [`CALLERS`] callers; answers those that failed. `after` hears how many were made.
async fn many(call: impl AsyncFn(u64) -> Result<(), Status>, after: impl Fn(u64)) -> Vec<String> {
    let next = AtomicU64::new(0);
    let one = async || {
        let mut failed = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= CALLS {
                return failed;
            }
            if let Err(status) = call(number).await {
                failed.push(format!("call {number}: {status}"));
            }
            after(number);
        }
    };
    join_all((0..CALLERS).map(|_| one())).await.concat()
}

/// A replica that is in trouble beside one that is not.
async fn in_trouble(trouble: &str, way: &Way, healthy: SocketAddr, begin: impl Fn(u64)) {
    let addresses = [way.address, healthy];
    let (reads, writes) = (peer("billing", &addresses), peer("billing", &addresses));
    let (wallets, billing) = (WalletServiceClient::new(reads), BillingServiceClient::new(writes));
    let before = wallet(&wallets).await.unwrap();
    let failed = many(async |_| wallet(&wallets).await.map(drop), &begin).await;
    assert_eq!(failed, Vec::<String>::new(), "reads while one of two replicas is {trouble}");
    way.open();
    let failed = many(async |number| deduct(&billing, &format!("{trouble}-{number}")).await, &begin).await;
    assert_eq!(failed, Vec::<String>::new(), "deductions while one of two replicas is {trouble}");
    way.open();
    let whole = |balance: &str| balance.parse::<u64>().unwrap();
    assert_eq!(whole(&wallet(&wallets).await.unwrap()), whole(&before) - CALLS / PARTS, "once each while {trouble}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_one_of_two_replicas_in_trouble_no_call_fails_and_no_money_moves_twice() {
    let Some(databases) = Databases::furnished().await else { return };
    let settings = config(&databases, &[]);
    let one = House::start(settings.clone(), &RoleName::ALL).await;
    let other = House::start(settings, &RoleName::ALL).await;
    one.user("ada", FUNDS).await;
    let (ill, healthy) = (one.running.addresses["billing"], other.running.addresses["billing"]);
    let way = Way::to(ill).await;
    way.close();
    in_trouble("dead", &way, healthy, |_| way.close()).await;
    in_trouble("silent", &way, healthy, |number| {
        // It was well, and knew some of the calls.
        if number == CALLS / 10 {
            way.silence();
        }
    })
    .await;
    in_trouble("flapping", &way, healthy, |number| match number % 500 {
        0 => way.close(),
        250 => way.open(),
        _ => {}
    })
    .await;
    one.running.drain(std::future::pending()).await;
    other.end().await;
    databases.done().await;
}

/// The settings of two houses on fixed ports, whose services know each other's both.
fn pair(databases: &Databases) -> [trivet::Config; 2] {
    let keys = ["account", "product", "billing"];
    let ports = free_ports(2 * keys.len());
    let ports: [&[u16]; 2] = [&ports[..keys.len()], &ports[keys.len()..]];
    [0, 1].map(|own: usize| {
        let mut settings = Vec::new();
        for (place, key) in keys.iter().enumerate() {
            settings.push((format!("{key}.port"), ports[own][place].to_string()));
            let [one, other] = [0, 1].map(|replica: usize| format!("127.0.0.1:{}", ports[replica][place]));
            settings.push((format!("{key}.address"), format!("{one},{other}")));
        }
        let settings: Vec<(&str, &str)> = settings.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        config(databases, &settings)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_rolling_restarts_under_load_cost_no_call_and_no_charge() {
    const ROUNDS: usize = 20;
    /// Calls between two restarts.
    const BETWEEN: u64 = 200;
    let Some(databases) = Databases::furnished().await else { return };
    let configs = pair(&databases);
    let mut houses = Vec::new();
    for config in &configs {
        houses.push(House::start(config.clone(), &RoleName::ALL).await);
    }
    houses[0].user("ada", FUNDS).await;
    let addresses = |role: &str| houses.iter().map(|house| house.running.addresses[role]).collect::<Vec<_>>();
    let accounts = AccountServiceClient::new(peer("account", &addresses("account")));
    let catalog = CatalogServiceClient::new(peer("product", &addresses("product")));
    let to_billing = peer("billing", &addresses("billing"));
    let (wallets, billing) = (WalletServiceClient::new(to_billing.clone()), BillingServiceClient::new(to_billing));
    let (made, ended) = (watch::Sender::new(0_u64), AtomicBool::new(false));
    let load = async |caller: u64| {
        let mut failed = Vec::new();
        let (mut number, mut taken) = (0, 0);
        while !ended.load(Ordering::Relaxed) {
            let outcome = match number % 4 {
                0 => deduct(&billing, &format!("rolling-{caller}-{number}")).await.map(|()| taken += 1),
                1 => wallet(&wallets).await.map(drop),
                2 => accounts.clone().get_account(of_ada()).await.map(drop),
                // Product asks account and billing.
                _ => catalog.clone().check_availability(for_ada()).await.map(drop),
            };
            if let Err(status) = outcome {
                failed.push(format!("call {number} of caller {caller}: {status}"));
            }
            number += 1;
            made.send_modify(|made| *made += 1);
        }
        (failed, taken)
    };
    let restarts = async {
        let enough = async || {
            let until = *made.borrow() + BETWEEN;
            made.subscribe().wait_for(|made| *made >= until).await.unwrap();
        };
        for _ in 0..ROUNDS {
            for config in &configs {
                enough().await;
                let house = houses.remove(0);
                house.running.drain(std::future::pending()).await;
                houses.push(House::start(config.clone(), &RoleName::ALL).await);
            }
        }
        enough().await;
        ended.store(true, Ordering::Relaxed);
    };
    let (outcomes, ()) = futures_util::join!(join_all((0..CALLERS).map(load)), restarts);
    let failed: Vec<String> = outcomes.iter().flat_map(|(failed, _)| failed.clone()).collect();
    assert_eq!(failed, Vec::<String>::new());
    let taken: u64 = outcomes.iter().map(|(_, taken)| taken).sum();
    let left = money_left(taken);
    eventually("the wallet is read", async || wallet(&wallets).await.is_ok()).await;
    assert_eq!(wallet(&wallets).await.unwrap(), left, "{taken} deductions, once each");
    houses.remove(0).running.drain(std::future::pending()).await;
    houses.remove(0).end().await;
    databases.done().await;
}

fn of_ada() -> GetAccountRequest {
    GetAccountRequest { key: Some(Key::UserId("ada".to_owned())), ..GetAccountRequest::default() }
}

fn for_ada() -> CheckAvailabilityRequest {
    CheckAvailabilityRequest {
        product_id: "nothing".to_owned(),
        user_id: "ada".to_owned(),
        ..CheckAvailabilityRequest::default()
    }
}

/// What so many deductions leave of ada's funds.
fn money_left(taken: u64) -> String {
    let hundredths = FUNDS.parse::<u64>().unwrap() * PARTS - taken;
    let text = format!("{}.{:02}", hundredths / PARTS, hundredths % PARTS);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
