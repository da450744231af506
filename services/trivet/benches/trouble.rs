//! What trouble costs those who are not in it: one of two replicas dead, silent or flapping; five times as many calls as can
//! be served; callers who mean harm; and deadlines that end three services away.
//!
//! `cargo bench -p trivet --bench trouble`; `-- --quick` only looks whether it runs, and `--only replicas` (or `overload`,
//! `abuse`, `deadlines`) runs one part. Callers and servers share the machine. Compare rows of one run with each other.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::float_arithmetic,
    clippy::cast_precision_loss,
    clippy::disallowed_methods
)]

mod load;
#[allow(dead_code, reason = "a test of the mesh uses the rest")]
#[path = "../../mesh/tests/mesh/raw.rs"]
mod raw;
mod stores;
mod trouble_abuse;
mod trouble_overload;
mod trouble_role;
#[path = "../tests/house/way.rs"]
mod way;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mesh::{CallSettings, Clock, Context, Peer, Target, Telemetry, Tenant};
use tonic::{Code, Status};
use trivet::{Config, RoleName, plan};
use trivet_proto::{
    account::v1::{EnsureAccountRequest, account_service_client::AccountServiceClient},
    billing::v1::{
        DeductRequest, GetWalletRequest, RecordPaymentRequest, billing_service_client::BillingServiceClient,
        wallet_service_client::WalletServiceClient,
    },
};

use load::Load;
use stores::channel;
use trouble_role::{Chain, ask};
use way::Way;

/// How much of everything.
#[derive(Clone, Copy)]
struct Size {
    /// Calls of one rpc in each trouble.
    calls: u64,
    overload: Duration,
    abuse: Duration,
    deadlines: u64,
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let only = arguments.iter().skip_while(|argument| *argument != "--only").nth(1);
    let runs = |part: &str| only.is_none_or(|only| only == part);
    let (second, quick) = (Duration::from_secs(1), arguments.iter().any(|argument| argument == "--quick"));
    let size = if quick {
        Size { calls: 500, overload: second, abuse: second / 4, deadlines: 20 }
    } else {
        Size { calls: 10_000, overload: second * 60, abuse: second * 3, deadlines: 500 }
    };
    if runs("replicas") {
        stores::on_every_database(async |database, config| {
            if config.billing.database_url.reveal().is_empty() {
                println!("left out on {database}: it has one writer and no replicas");
            } else {
                replicas(config, size).await;
            }
        })
        .await;
    }
    if runs("overload") {
        trouble_overload::run(size.overload).await;
    }
    if runs("abuse") {
        trouble_abuse::run(size.abuse).await;
    }
    if runs("deadlines") {
        deadlines(size).await;
    }
}

fn telemetry() -> Arc<Telemetry> {
    Arc::new(Telemetry::quiet().unwrap())
}

fn peer(name: &'static str, addresses: &[SocketAddr]) -> Peer {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let target: Target = addresses.join(",").parse().unwrap();
    Peer::new(name, &target, telemetry(), CallSettings::default())
}

/// Two replicas of all services, one of them in trouble: how long calls of billing take once the callers have seen it.
async fn replicas(config: &Config, size: Size) {
    let mut houses = Vec::new();
    for _ in 0..2 {
        let plan = plan(config, &RoleName::ALL, Telemetry::quiet().unwrap(), Clock::system()).unwrap();
        houses.push(plan.bind().await.unwrap().start().await.unwrap());
    }
    let (ill, healthy) = (houses[0].addresses["billing"], houses[1].addresses["billing"]);
    furnish(houses[0].addresses["account"], healthy).await;
    println!(
        "\n{:<34} {} {:>9} {:>7} {:>10}",
        "one of two replicas is",
        load::COLUMNS,
        "max ms",
        "failed",
        "x p99 well"
    );
    for rpc in ["GetWallet", "Deduct"] {
        let mut well = None;
        for trouble in ["well", "dead", "silent", "flapping"] {
            let way = Way::to(ill).await;
            if trouble == "dead" {
                way.close();
            }
            let billing = peer("billing", &[way.address, healthy]);
            let (wallets, orders) = (WalletServiceClient::new(billing.clone()), BillingServiceClient::new(billing));
            let call = async |number: u64| {
                match (trouble, number) {
                    ("silent", 200) => way.silence(),
                    ("flapping", number) if number % 500 == 0 => way.close(),
                    ("flapping", number) if number % 500 == 250 => way.open(),
                    _ => {}
                }
                if rpc == "GetWallet" {
                    let ask = GetWalletRequest { user_id: "ada".to_owned(), currency: String::new() };
                    return wallets.clone().get_wallet(ask).await.map(drop);
                }
                let order = DeductRequest {
                    request_id: format!("{trouble}-{number}"),
                    user_id: "ada".to_owned(),
                    amount: "0.01".to_owned(),
                    ..DeductRequest::default()
                };
                orders.clone().deduct(order).await.map(drop)
            };
            // The first tenth is for seeing it.
            let (first, _) = many(16, 0..size.calls / 10, &call).await;
            let (taken, elapsed) = many(16, size.calls / 10..size.calls, &call).await;
            let failed = first.iter().chain(&taken).filter(|(outcome, _)| outcome.is_err()).count();
            let taken: Vec<Duration> = taken.into_iter().map(|(_, took)| took).collect();
            let longest = taken.iter().max().unwrap().as_secs_f64() * 1e3;
            let load = Load::of(taken, elapsed, None);
            let well = *well.get_or_insert(load.p99);
            let times = load.p99.as_secs_f64() / well.as_secs_f64();
            println!("{:<34} {} {longest:>9.3} {failed:>7} {times:>10.2}", format!("{trouble}: {rpc}"), load.columns());
        }
    }
    for house in houses {
        house.drain(std::future::pending()).await;
    }
}

/// Ada, and what she has.
async fn furnish(account: SocketAddr, billing: SocketAddr) {
    let user = EnsureAccountRequest {
        user_id: "ada".to_owned(),
        email: "ada@example.com".to_owned(),
        name: "Ada".to_owned(),
        ..EnsureAccountRequest::default()
    };
    AccountServiceClient::new(channel(account)).ensure_account(user).await.unwrap();
    let paid = RecordPaymentRequest {
        request_id: "fund".to_owned(),
        user_id: "ada".to_owned(),
        amount: "1000000".to_owned(),
        provider: "bank".to_owned(),
        ..RecordPaymentRequest::default()
    };
    WalletServiceClient::new(channel(billing)).record_payment(paid).await.unwrap();
}

type Outcomes = Vec<(Result<(), Status>, Duration)>;

/// Makes these calls from so many callers; how each ended and how long it took, and how long all of them did.
async fn many(
    callers: usize,
    numbers: std::ops::Range<u64>,
    call: &impl AsyncFn(u64) -> Result<(), Status>,
) -> (Outcomes, Duration) {
    let (next, began) = (AtomicU64::new(numbers.start), Instant::now());
    let one = async || {
        let mut outcomes = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= numbers.end {
                return outcomes;
            }
            let began = Instant::now();
            outcomes.push((call(number).await, began.elapsed()));
        }
    };
    let outcomes = futures_util::future::join_all((0..callers).map(|_| one())).await.concat();
    (outcomes, began.elapsed())
}

/// Calls through three services of which the last one never answers: how long after its deadline the caller hears.
async fn deadlines(size: Size) {
    let chain = Chain::start().await;
    let mut late = Vec::new();
    let client = chain.client();
    for number in 0..size.deadlines {
        let deadline = Duration::from_millis(20 + number % 7 * 20);
        let context = Context::own(Tenant::default_tenant(), deadline);
        let began = Instant::now();
        let refused = client.clone().get_tenant(context.onward(ask("chain"))).await.unwrap_err();
        assert_eq!(refused.code(), Code::DeadlineExceeded, "{refused:?}");
        late.push(began.elapsed().as_secs_f64() - deadline.as_secs_f64());
    }
    late.sort_by(f64::total_cmp);
    let ms = |seconds: f64| seconds * 1e3;
    println!("\ndeadlines of 20 to 140 ms that end three services away, {} calls:", late.len());
    println!(
        "  DEADLINE_EXCEEDED p50 {:+.1} ms, p99 {:+.1} ms, at most {:+.1} ms after the deadline (bar 50)",
        ms(late[late.len() / 2]),
        ms(late[late.len() * 99 / 100]),
        ms(late[late.len() - 1])
    );
    println!("  time that was left, first service to last: always less: {}", chain.fell());
    chain.end().await;
}
