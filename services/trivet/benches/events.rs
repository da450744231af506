//! How fast events flow: a backlog out of account's outbox into product's inbox, on SQLite and PostgreSQL, inside of the
//! process and through NATS JetStream; and what an outage of NATS does to callers, and how long it takes to catch up.
//!
//! `cargo bench -p trivet --bench events`; `-- --quick` only looks whether it runs. PostgreSQL takes part where
//! `TRIVET_TEST_POSTGRES_URL` is set, NATS where `TRIVET_TEST_NATS_URL` is; the outage is that of a `nats-server` of the
//! bench's own. The ratio is to feeling one event in a
//! transaction of its own, as fast as one task can, on the same database in the same run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::as_conversions,
    clippy::float_arithmetic,
    clippy::cast_precision_loss,
    clippy::disallowed_methods
)]

use std::{
    process::Stdio,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use mesh::{
    Clock, Context, Running, Store, Telemetry, Tenant, id,
    store::{sql, tuples},
};
use prost::Message as _;
use sea_orm::ConnectionTrait as _;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use trivet::{Config, RoleName, plan};
use trivet_proto::account::v1::{
    AccountStatus, EnsureAccountRequest, UserStatusChanged, account_service_client::AccountServiceClient,
};

mod stores;
use stores::{channel, on_every_database};

/// Events of a backlog.
const EVENTS: u64 = 20_000;
/// Users whose events they are, in turn.
const USERS: u64 = 1_000;
/// Rows that one statement writes.
const ROWS: u64 = 500;
/// Callers during an outage.
const CALLERS: usize = 16;
/// How long NATS is away.
const OUTAGE: Duration = Duration::from_mins(1);
/// How often the outbox is looked at while it drains.
const LOOK: Duration = Duration::from_millis(10);

#[tokio::main]
async fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let (events, outage) = if quick { (2_000, Duration::from_secs(2)) } else { (EVENTS, OUTAGE) };
    let nats = std::env::var("TRIVET_TEST_NATS_URL").ok();
    if nats.is_none() {
        println!("left out on NATS: TRIVET_TEST_NATS_URL is not set");
    }
    println!("{:<26} {:>8} {:>10} {:>10} {:>8}", "backlog", "events", "told/s", "felt/s", "x one");
    on_every_database(async |database, config| {
        let one = one_by_one(config, events / 10).await;
        backlog(&format!("{database}, in the process"), config, events, one).await;
        if let Some(url) = &nats {
            let stream = Stream::fresh();
            backlog(&format!("{database}, NATS"), &stream.config(config, url), events, one).await;
            stream.delete(url).await;
        }
    })
    .await;
    on_every_database(async |database, config| away(database, config, outage).await).await;
}

/// A stream of this run's own.
struct Stream(String);

impl Stream {
    fn fresh() -> Self {
        Self(format!("BENCH_{}", id::fresh("run", &Clock::system())))
    }

    fn config(&self, config: &Config, url: &str) -> Config {
        let mut config = config.clone();
        config.events.nats_url = url.to_owned().into();
        config.events.nats_stream.clone_from(&self.0);
        config
    }

    async fn delete(self, url: &str) {
        let client = async_nats::connect(url).await.unwrap();
        async_nats::jetstream::new(client).delete_stream(&self.0).await.unwrap();
    }
}

async fn start(config: &Config) -> Running {
    let plan = plan(config, &RoleName::ALL, Telemetry::quiet().unwrap(), Clock::system()).unwrap();
    plan.bind().await.unwrap().start().await.unwrap()
}

async fn store(config: &Config, role: RoleName) -> Store {
    let location = role.config(config).location(role.as_str(), &config.data_dir).unwrap();
    Store::open(location).await.unwrap()
}

async fn count(store: &Store, text: &str) -> u64 {
    mesh::store::count(store.reader(), text, []).await.unwrap().try_into().unwrap()
}

/// What one task does that feels each event in a transaction of its own, events a second.
async fn one_by_one(config: &Config, events: u64) -> f64 {
    start(config).await.drain(std::future::pending()).await;
    let product = store(config, RoleName::Product).await;
    let context = Context::own(Tenant::default_tenant(), Duration::from_mins(10));
    let began = Instant::now();
    for number in 0..events {
        let unit = product.unit(&context).run((number, Clock::system().now()), |(number, now), transaction| {
            Box::pin(async move {
                let text = "insert into inbox (event_id, tenant_id, type, state, receive_time)
                            values ($1, 'bench', 'user.created', 'FELT', $2)";
                let values = [format!("one_{number}").into(), (*now).into()];
                transaction.execute_raw(sql(transaction, text, values)).await?;
                let text = "insert into buyers (tenant_id, user_id, status, version, as_of_time)
                            values ('bench', $1, 'ACTIVE', 1, 0)";
                transaction.execute_raw(sql(transaction, text, [format!("one_{number}").into()])).await?;
                Ok(())
            })
        });
        unit.await.unwrap();
    }
    let rate = events as f64 / began.elapsed().as_secs_f64();
    product.close().await.unwrap();
    rate
}

/// Lets a backlog of this many events drain.
async fn backlog(what: &str, config: &Config, events: u64, one: f64) {
    let (account, product) = (store(config, RoleName::Account).await, store(config, RoleName::Product).await);
    fill(&account, events).await;
    let felt_before = count(&product, "select count(*) from inbox").await;
    let began = Instant::now();
    let running = start(config).await;
    let (told, felt) = drained(&account, &product, felt_before + events).await;
    running.drain(std::future::pending()).await;
    let rate = |end: Instant| events as f64 / (end - began).as_secs_f64();
    println!("{what:<26} {events:>8} {:>10.0} {:>10.0} {:>8.1}", rate(told), rate(felt), rate(felt) / one);
    account.close().await.unwrap();
    product.close().await.unwrap();
}

/// Waits until account has told everything and product has felt this many events; says when.
async fn drained(account: &Store, product: &Store, events: u64) -> (Instant, Instant) {
    let mut told = None;
    let mut looks = tokio::time::interval(LOOK);
    loop {
        looks.tick().await;
        if told.is_none() && count(account, "select count(*) from outbox_waiting").await == 0 {
            told = Some(Instant::now());
        }
        if let Some(told) = told
            && count(product, "select count(*) from inbox").await >= events
        {
            return (told, Instant::now());
        }
    }
}

/// Writes events into an outbox, as account would: of some users, version after version.
async fn fill(account: &Store, events: u64) {
    let clock = Clock::system();
    let context = Context::own(Tenant::default_tenant(), Duration::from_mins(10));
    let run = id::fresh("run", &clock);
    for first in (0..events).step_by(usize::try_from(ROWS).unwrap()) {
        let rows: Vec<_> = (first..(first + ROWS).min(events))
            .map(|number| {
                let user_id = format!("{run}-{}", number % USERS);
                let (from, to) = (AccountStatus::Active.into(), AccountStatus::Suspended.into());
                let data = UserStatusChanged { user_id: user_id.clone(), from, to }.encode_to_vec();
                (id::fresh("evt", &clock), user_id, i64::try_from(number / USERS).unwrap() + 1, data)
            })
            .collect();
        let unit = account.unit(&context).run((rows, clock.now()), |(rows, now), transaction| {
            Box::pin(async move {
                let text = format!(
                    "insert into outbox (event_id, tenant_id, type, aggregate, subject, aggregate_version, time,
                                         traceparent, causation_id, data_schema, data) values {}",
                    tuples(rows.len(), 11)
                );
                let values = rows.iter().flat_map(|(event_id, user_id, version, data)| {
                    [
                        event_id.clone().into(),
                        "default".into(),
                        "user.status_changed".into(),
                        "user".into(),
                        user_id.clone().into(),
                        (*version).into(),
                        (*now).into(),
                        "".into(),
                        "".into(),
                        "trivet.account.v1.UserStatusChanged".into(),
                        data.clone().into(),
                    ]
                });
                transaction.execute_raw(sql(transaction, &text, values)).await?;
                Ok(())
            })
        });
        unit.await.unwrap();
    }
}

/// A NATS server of this run's own, which can be stopped.
struct Server {
    port: u16,
    folder: TempDir,
    process: Option<Child>,
}

impl Server {
    /// `None` where no `nats-server` is installed.
    fn find() -> Option<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self { port, folder: tempfile::tempdir().unwrap(), process: None };
        server.start().then_some(server)
    }

    fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    fn start(&mut self) -> bool {
        let mut command = Command::new("nats-server");
        command.args(["-a", "127.0.0.1", "-p", &self.port.to_string(), "-js", "-sd"]).arg(self.folder.path());
        command.stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        self.process = command.spawn().ok();
        self.process.is_some()
    }

    async fn stop(&mut self) {
        self.process.take().unwrap().kill().await.unwrap();
    }
}

/// Kills NATS under load, starts it again after a while, and lets everything drain.
async fn away(database: &str, config: &Config, outage: Duration) {
    let Some(mut nats) = Server::find() else {
        println!("left out: the outage, for no nats-server is installed");
        return;
    };
    let config = Stream::fresh().config(config, &nats.url());
    let running = start(&config).await;
    let (account, product) = (store(&config, RoleName::Account).await, store(&config, RoleName::Product).await);
    nats.stop().await;
    let (ended, number, failed) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let accounts = AccountServiceClient::new(channel(*running.addresses.get("account").unwrap()));
    let caller = async |_: usize| {
        let mut accounts = accounts.clone();
        let mut longest = Duration::ZERO;
        while !ended.load(Ordering::Relaxed) {
            let user_id = format!("user-{}", number.fetch_add(1, Ordering::Relaxed));
            let person = EnsureAccountRequest {
                email: format!("{user_id}@example.com"),
                name: "Somebody".to_owned(),
                user_id,
                subscription_tier: 0,
            };
            let began = Instant::now();
            if accounts.ensure_account(person).await.is_err() {
                failed.fetch_add(1, Ordering::Relaxed);
            }
            longest = longest.max(began.elapsed());
        }
        longest
    };
    let wait = async {
        tokio::time::sleep(outage).await;
        ended.store(true, Ordering::Relaxed);
    };
    let (longest, ()) = tokio::join!(futures_util::future::join_all((0..CALLERS).map(caller)), wait);
    let waiting = count(&account, "select count(*) from outbox_waiting").await;
    let events = count(&account, "select count(*) from outbox").await;
    nats.start();
    let began = Instant::now();
    let (told, felt) = drained(&account, &product, events).await;
    let stale = count(&product, "select count(*) from inbox where state <> 'FELT'").await;
    running.drain(std::future::pending()).await;
    let rate = |end: Instant| waiting as f64 / (end - began).as_secs_f64();
    println!(
        "{database}: NATS away for {} s: {} calls, {} failed, the longest took {} ms; {waiting} events waited, then \
         {:.0}/s told, {:.0}/s felt (reconnecting included), {stale} out of order",
        outage.as_secs(),
        number.load(Ordering::Relaxed),
        failed.load(Ordering::Relaxed),
        longest.into_iter().max().unwrap_or_default().as_millis(),
        rate(told),
        rate(felt),
    );
    account.close().await.unwrap();
    product.close().await.unwrap();
}
