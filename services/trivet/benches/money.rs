//! What money costs: Deduct through the whole house beside the same database doing the same by itself, with one transaction
//! of four statements for each call and with the best single statement; batches and streams; a ledger that is verified
//! while it grows, and one of ten million rows.
//!
//! `cargo bench -p trivet --bench money`; `-- --quick` only looks whether it runs, `--only callers` (or `many`, `verify`,
//! `rows`) runs one part, and `--callers 1` that part with so many. On SQLite and, where
//! `TRIVET_TEST_POSTGRES_URL` is set and pgbench can be run, on PostgreSQL, with as many connections as a server takes
//! where the callers are more. Caller, server and database share the machine: CPU per call counts all of them. Compare rows of one run with each other, never two runs.
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
mod money_beside;
mod stores;

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use mesh::{Clock, Running, Store};
use sea_orm::{ConnectionTrait as _, DbBackend};
use tonic::Code;
use trivet::Config;
use trivet_proto::billing::v1::{
    BatchDeductRequest, DeductRequest, DeductionOrder, LedgerVerdict, RecordPaymentRequest, StreamDeductRequest,
    VerifyLedgerRequest, billing_service_client::BillingServiceClient, ledger_service_client::LedgerServiceClient,
    verify_ledger_response::Event, wallet_service_client::WalletServiceClient,
};

use load::{COLUMNS, Load, machine_time, measure};
use money_beside::{Shape, Way};
use stores::{channel, on_every_store};

/// Callers at once, row by row.
const CALLERS: [usize; 5] = [1, 16, 64, 256, 1_024];
/// Rows that are made with one statement.
const PIECE: u64 = 500_000;

/// How much of everything.
struct Size {
    wallets: u64,
    time: Duration,
    callers: &'static [usize],
    /// Streams, and callers of batches.
    streams: usize,
    batch: u64,
    /// Transactions, each of two entries.
    verified: u64,
    rows: u64,
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |flag: &str| arguments.iter().skip_while(|argument| *argument != flag).nth(1);
    let (only, quick) = (after("--only"), arguments.iter().any(|argument| argument == "--quick"));
    let runs = |part: &str| only.is_none_or(|only| only == part);
    let mut size = if quick {
        let time = Duration::from_millis(300);
        Size { wallets: 500, time, callers: &CALLERS[..2], streams: 2, batch: 50, verified: 2_000, rows: 20_000 }
    } else {
        let time = Duration::from_secs(4);
        Size {
            wallets: 100_000,
            time,
            callers: &CALLERS,
            streams: 8,
            batch: 1_000,
            verified: 500_000,
            rows: 10_000_000,
        }
    };
    if let Some(callers) = after("--callers") {
        let callers = callers.parse::<usize>().expect("--callers takes a number");
        size.callers =
            CALLERS.iter().position(|known| *known == callers).map_or(&CALLERS, |place| &CALLERS[place..=place]);
    }
    on_every_store(async |database, config, running| {
        let store = Store::open(config.billing.location("billing", &config.data_dir).unwrap()).await.unwrap();
        furnish(config, running, size.wallets).await;
        told(&store).await;
        println!("\n{database:<11} {:<34} {:>8} {COLUMNS} {:>8} {:>8}", "", "callers", "x naive", "x single");
        if runs("callers") {
            for shape in [Shape::Uniform { wallets: size.wallets }, Shape::Hot] {
                one_by_one(database, (config, &store), running, shape, &size).await;
            }
        }
        if runs("many") {
            many_at_once(database, config, running, &size).await;
        }
        if runs("verify") {
            verified(database, running, &size).await;
        }
        if runs("rows") {
            grown(database, running, &store, &size).await;
        }
        store.close().await.unwrap();
    })
    .await;
}

/// What the database does by itself.
#[derive(Clone, Copy, Default)]
struct Beside {
    naive: Option<Load>,
    single: Option<Load>,
}

fn row(database: &str, what: &str, callers: usize, load: Load, beside: Beside) {
    let [naive, single] = [beside.naive, beside.single].map(|beside| {
        beside.map_or(String::new(), |beside| format!("{:.2}", load.calls_per_second / beside.calls_per_second))
    });
    println!("{database:<11} {what:<34} {callers:>8} {} {naive:>8} {single:>8}", load.columns());
}

/// A request id as callers have them: in no order.
fn fresh() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("bench-{:016x}-{number}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Deduct, beside what the database can do by itself on the same tables.
async fn one_by_one(database: &str, (config, store): (&Config, &Store), running: &Running, shape: Shape, size: &Size) {
    for callers in size.callers {
        told(store).await;
        let naive = money_beside::run(config, shape, Way::Naive, *callers, size.time).await;
        let single = money_beside::run(config, shape, Way::Single, *callers, size.time).await;
        let (beside, connections) = (Beside { naive, single }, money_beside::connections(config, *callers));
        if let Some(naive) = naive {
            row(database, &format!("four statements, {shape}"), connections, naive, beside);
        }
        if let Some(single) = single {
            row(database, &format!("single statement, {shape}"), connections, single, beside);
        }
        let deduct = async |amount: &'static str| {
            measure(
                running.addresses["billing"],
                *callers,
                size.time,
                machine_time,
                move |channel, number| async move {
                    let request = DeductRequest {
                        request_id: fresh(),
                        user_id: shape.user(number),
                        amount: amount.to_owned(),
                        api_id: "chat".to_owned(),
                        endpoint_id: "chat.completions".to_owned(),
                        api_key_id: "key_1".to_owned(),
                        ..DeductRequest::default()
                    };
                    match BillingServiceClient::new(channel).deduct(request).await {
                        Err(status) if amount.is_empty() && status.code() == Code::InvalidArgument => Ok(()),
                        answer => answer.map(drop),
                    }
                },
            )
            .await
        };
        // What a call takes that asks the database for nothing.
        row(database, &format!("Deduct refused, {shape}"), *callers, deduct("").await, beside);
        row(database, &format!("Deduct, {shape}"), *callers, deduct("0.0000001").await, beside);
    }
}

fn order(number: u64, wallets: u64) -> DeductionOrder {
    DeductionOrder {
        request_id: fresh(),
        user_id: Shape::Uniform { wallets }.user(number),
        amount: "0.0000001".to_owned(),
        api_id: "chat".to_owned(),
        endpoint_id: "chat.completions".to_owned(),
        api_key_id: "key_1".to_owned(),
        ..DeductionOrder::default()
    }
}

/// BatchDeduct and StreamDeduct: orders per second, and how long one of them takes.
async fn many_at_once(database: &str, config: &Config, running: &Running, size: &Size) {
    let shape = Shape::Uniform { wallets: size.wallets };
    let callers = *size.callers.iter().filter(|callers| **callers <= 64).max().unwrap_or(&64);
    let naive = money_beside::run(config, shape, Way::Naive, callers, size.time).await;
    let beside = Beside { naive, single: None };
    let address = running.addresses["billing"];
    let load = in_parallel(size.streams, size.time, async |end| {
        let mut billing = BillingServiceClient::new(channel(address)).max_decoding_message_size(usize::MAX);
        let mut taken = Vec::new();
        let mut number = rand_start();
        while Instant::now() < end {
            let began = Instant::now();
            let deductions = (0..size.batch).map(|place| order(number + place, size.wallets)).collect();
            number += size.batch;
            let batch = BatchDeductRequest { deductions, ..BatchDeductRequest::default() };
            let results = loop {
                match billing.batch_deduct(batch.clone()).await {
                    // More waits than the house takes: it says to come back after this time.
                    Err(status) if status.code() == Code::ResourceExhausted => {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    answer => break answer.unwrap().into_inner().results,
                }
            };
            assert!(results.iter().all(|result| result.error.is_none()));
            taken.extend(std::iter::repeat_n(began.elapsed(), results.len()));
        }
        taken
    })
    .await;
    row(database, &format!("BatchDeduct of {}", size.batch), size.streams, load, beside);
    let load = in_parallel(size.streams, size.time, async |end| stream(address, end, size.wallets).await).await;
    row(database, "StreamDeduct", size.streams, load, beside);
}

fn rand_start() -> u64 {
    static START: AtomicU64 = AtomicU64::new(0);
    START.fetch_add(7_919_000, Ordering::Relaxed)
}

async fn in_parallel(callers: usize, time: Duration, work: impl AsyncFn(Instant) -> Vec<Duration>) -> Load {
    let (began, before) = (Instant::now(), machine_time());
    let end = began + time;
    let taken = futures_util::future::join_all((0..callers).map(|_| work(end))).await.concat();
    let elapsed = began.elapsed();
    Load::of(taken, elapsed, machine_time().zip(before).map(|(after, before)| after.saturating_sub(before)))
}

/// One stream, with as many orders under way as it takes. What is timed is the stretch between two answers.
async fn stream(address: SocketAddr, end: Instant, wallets: u64) -> Vec<Duration> {
    let mut billing = BillingServiceClient::new(channel(address));
    let numbers = futures_util::stream::iter(rand_start()..);
    let orders = numbers
        .take_while(move |_| std::future::ready(Instant::now() < end))
        .map(move |number| StreamDeductRequest { deduction: Some(order(number, wallets)) });
    let mut answers = billing.stream_deduct(orders).await.unwrap().into_inner();
    let mut taken = Vec::new();
    let mut last = Instant::now();
    while let Some(answer) = answers.message().await.unwrap() {
        assert!(answer.error.is_none(), "{answer:?}");
        taken.push(last.elapsed());
        last = Instant::now();
    }
    taken
}

/// Fills the ledger up to so many transactions and has it verified, while money moves and while none does.
async fn verified(database: &str, running: &Running, size: &Size) {
    let address = running.addresses["billing"];
    let mut ledger = LedgerServiceClient::new(channel(address));
    let count = async || {
        let ask = trivet_proto::billing::v1::GetTrialBalanceRequest {};
        let balances = LedgerServiceClient::new(channel(address)).get_trial_balance(ask).await.unwrap().into_inner();
        u64::try_from(balances.balances[0].transactions).unwrap()
    };
    while count().await < size.verified {
        in_parallel(size.streams, size.time, async |end| stream(address, end, size.wallets).await).await;
    }
    let memory = own_memory();
    let mut verify = async || {
        let began = Instant::now();
        let mut said = ledger.verify_ledger(VerifyLedgerRequest::default()).await.unwrap().into_inner();
        let (mut most, mut verdict) = (0, LedgerVerdict::default());
        while let Some(message) = said.message().await.unwrap() {
            most = most.max(own_memory());
            if let Some(Event::Verdict(now)) = message.event {
                verdict = now;
            }
        }
        assert!(verdict.ok, "{verdict:?}");
        (verdict.transactions, began.elapsed(), most)
    };
    let (transactions, took, most) = verify().await;
    println!(
        "{database:<11} VerifyLedger of {}, {} MiB more than before",
        verification(transactions, took),
        most.saturating_sub(memory) >> 20,
    );
    let wallets = size.wallets;
    // Longer than it takes: money is to move until the end.
    let moving = measure(address, 8, took * 4, machine_time, move |channel, number| async move {
        let DeductionOrder { request_id, user_id, amount, .. } = order(number, wallets);
        let request = DeductRequest { request_id, user_id, amount, ..DeductRequest::default() };
        BillingServiceClient::new(channel).deduct(request).await.map(drop)
    });
    let ((transactions, took, most), moved) = tokio::join!(verify(), moving);
    println!(
        "{database:<11} the same while 8 callers deduct: {}, {} MiB more; {:.0} deductions/s",
        verification(transactions, took),
        most.saturating_sub(memory) >> 20,
        moved.calls_per_second,
    );
}

/// How long it took to verify so many transactions, each of two entries.
fn verification(transactions: i64, took: Duration) -> String {
    let seconds = took.as_secs_f64();
    let a_million = seconds / (transactions as f64 * 2.0 / 1e6);
    format!("{transactions} transactions: {seconds:.2} s, {a_million:.2} s a million entries")
}

/// Deduct at 256 callers before and after the ledger has grown by so many rows.
async fn grown(database: &str, running: &Running, store: &Store, size: &Size) {
    let callers = *size.callers.iter().filter(|callers| **callers <= 256).max().unwrap_or(&256);
    let wallets = size.wallets;
    let shape = Shape::Uniform { wallets };
    let deduct = async || {
        measure(running.addresses["billing"], callers, size.time * 2, machine_time, move |channel, number| async move {
            let DeductionOrder { request_id, user_id, amount, .. } = order(number, wallets);
            let request = DeductRequest { request_id, user_id, amount, ..DeductRequest::default() };
            BillingServiceClient::new(channel).deduct(request).await.map(drop)
        })
        .await
    };
    let few = deduct().await;
    fill(store, size.rows, shape).await;
    let many = deduct().await;
    println!(
        "{database:<11} Deduct with {} more rows: {:.0}/s, {:.2} of {:.0}/s before",
        size.rows,
        many.calls_per_second,
        many.calls_per_second / few.calls_per_second,
        few.calls_per_second,
    );
}

/// Rows of other people's deductions, with their requests: as many and as large as real ones, and of no wallet that is
/// charged here.
async fn fill(store: &Store, rows: u64, shape: Shape) {
    let connection = store.reader();
    let postgres = connection.get_database_backend() == DbBackend::Postgres;
    let Shape::Uniform { wallets } = shape else { return };
    // The house's statements may not take this long.
    let patient = if postgres { "set statement_timeout = 0; " } else { "" };
    let began = Instant::now();
    let mut done = 0;
    while done < rows {
        let (from, to) = (done + 1, (done + PIECE).min(rows));
        let numbers = if postgres {
            format!("select n from generate_series({from}, {to}) n")
        } else {
            format!(
                "select {from} + a.key * 1000 + b.key as n from json_each('[{0}]') a, json_each('[{0}]') b
                  where {from} + a.key * 1000 + b.key <= {to}",
                vec!["0"; 1_000].join(",")
            )
        };
        let id = if postgres { "lpad(n::text, 26, '0')" } else { "printf('%026d', n)" };
        let hash = if postgres { "decode(repeat('ab', 32), 'hex')" } else { "zeroblob(32)" };
        let pad = if postgres { "repeat('x', 191)" } else { "printf('%191s', 'x')" };
        let statements = [
            format!(
                "insert into requests (tenant_id, request_id, method, fields, state, outcome, create_time)
                 select 'default', 'old-' || {id}, 'Deduct', {pad}, 'APPLIED', substr({pad}, 1, 150), n from ({numbers}) k"
            ),
            format!(
                "insert into transactions (tenant_id, transaction_id, kind, request_id, user_id, currency, wallet, held,
                     revenue, payments, wallet_version, balance_after, available_after, related_id, api_id, endpoint_id,
                     api_key_id, details, create_time, hash)
                 select 'default', 'txn_' || {id}, 'DEDUCTION', 'old-' || {id}, 'gone-' || (n % {wallets}), 'USDC', -1, 0, 1, 0,
                        n / {wallets} + 1, 1000, 1000, '', 'chat', 'chat.completions', 'key_1', '', n, {hash}
                   from ({numbers}) k"
            ),
        ];
        for statement in statements {
            connection.execute_unprepared(&format!("{patient}{statement}")).await.unwrap();
        }
        done = to;
        eprintln!("  {done} rows after {} s", began.elapsed().as_secs());
    }
    let tidy = if postgres { "analyze transactions, requests" } else { "analyze" };
    connection.execute_unprepared(&format!("{patient}{tidy}")).await.unwrap();
}

/// People with money, each with one payment.
async fn furnish(config: &Config, running: &Running, wallets: u64) {
    let accounts = Store::open(config.account.location("account", &config.data_dir).unwrap()).await.unwrap();
    let connection = accounts.reader();
    let now = Clock::system().now().micros();
    let mut done = 0;
    while done < wallets {
        let (from, to) = (done, (done + 5_000).min(wallets));
        let people: Vec<String> = (from..to)
            .map(|n| {
                format!(
                    "('default', 'user-{n}', 'user {n}', 'u{n}@example.com', 'user {n}', 'u{n}@example.com',
                      'u{n}@example.com', 'user {n}', 1, 'FREE', 'ACTIVE', '', 1, {now}, {now})"
                )
            })
            .collect();
        let insert = format!(
            "insert into accounts (tenant_id, user_id, name, email, name_folded, email_key, email_folded, search_key,
                 folded_version, subscription_tier, status, status_reason, version, create_time, update_time) values {}",
            people.join(", ")
        );
        connection.execute_unprepared(&insert).await.unwrap();
        done = to;
    }
    accounts.close().await.unwrap();
    let billing = Store::open(config.billing.location("billing", &config.data_dir).unwrap()).await.unwrap();
    money_beside::furnish(&billing, wallets).await;
    billing.close().await.unwrap();
    let began = Instant::now();
    let wallet_service = WalletServiceClient::new(channel(running.addresses["billing"]));
    let payments = futures_util::stream::iter(0..wallets).map(|n| {
        let mut wallet_service = wallet_service.clone();
        async move {
            let payment = RecordPaymentRequest {
                request_id: format!("fund-{n}"),
                user_id: format!("user-{n}"),
                amount: "100000000".to_owned(),
                provider: "bench".to_owned(),
                ..RecordPaymentRequest::default()
            };
            wallet_service.record_payment(payment).await.unwrap();
        }
    });
    payments.buffer_unordered(256).collect::<Vec<()>>().await;
    eprintln!("  {wallets} wallets after {} s", began.elapsed().as_secs());
}

/// Waits until everybody was told of what happened: a bench begins when nothing else is under way.
async fn told(store: &Store) {
    let unsent = "select count(*) from outbox_waiting";
    while mesh::store::count(store.reader(), unsent, []).await.unwrap() > 0 {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Bytes of memory that this process has of its own; what it sees of files is the kernel's to keep or drop.
fn own_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    anonymous.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1_024
}
