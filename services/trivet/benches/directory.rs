//! What a directory of a million accounts costs: pages, totals, searches and counts through gRPC, on SQLite and, where
//! `TRIVET_TEST_POSTGRES_URL` is set, on PostgreSQL.
//!
//! `cargo bench -p trivet --bench directory`; `-- --accounts 50000` takes fewer, `-- --quick` only looks whether it runs.
//! One caller, so that the figures are those of one call. Compare rows of one run with each other, page 1 with page
//! 10,000 above all; never two runs on different days.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::float_arithmetic,
    clippy::cast_precision_loss,
    clippy::disallowed_methods
)]

mod stores;

use std::{
    fmt::Display,
    time::{Duration, Instant},
};

use mesh::Store;
use sea_orm::{ConnectionTrait as _, DbBackend};
use tonic::transport::Channel;
use trivet_proto::account::v1::{
    AccountStatus, EnsureAccountRequest, GetAccountStatsRequest, ListAccountsRequest, ListAccountsResponse,
    SearchAccountsRequest, SubscriptionTier, account_service_client::AccountServiceClient,
};

type Accounts = AccountServiceClient<Channel>;

/// Rows of one statement while the table is filled.
const BATCH: usize = 20_000;
/// Accounts of a page.
const PAGE: i32 = 50;
/// Calls behind one row of the report.
const CALLS: usize = 200;

const FIRST: [&str; 24] = [
    "Ada",
    "Alan",
    "Barbara",
    "Carlos",
    "Chen",
    "Dmitri",
    "Edsger",
    "Emma",
    "Fatima",
    "Grace",
    "Hiro",
    "Ingrid",
    "Jamal",
    "Katherine",
    "Liam",
    "Margaret",
    "Noor",
    "Olga",
    "Priya",
    "Quentin",
    "Radia",
    "Sofia",
    "Tariq",
    "Yuki",
];
const LAST: [&str; 24] = [
    "Anderson",
    "Babbage",
    "Castro",
    "Dijkstra",
    "Eriksson",
    "Fernandez",
    "Garcia",
    "Hopper",
    "Ivanov",
    "Johnson",
    "Kim",
    "Lovelace",
    "Mueller",
    "Nakamura",
    "Okafor",
    "Petrov",
    "Rossi",
    "Smith",
    "Turing",
    "Usman",
    "Vasquez",
    "Wong",
    "Yamada",
    "Zhang",
];

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let asked =
        arguments.iter().position(|argument| argument == "--accounts").map(|at| arguments[at + 1].parse().unwrap());
    let accounts: usize = asked.unwrap_or(if quick { 2_000 } else { 1_000_000 });
    let calls = if quick { 5 } else { CALLS };
    stores::on_every_store(async |database, config, running| {
        println!("\n{database}, {accounts} accounts\n");
        let store = Store::open(config.account.location("account", &config.data_dir).unwrap()).await.unwrap();
        fill(&store, accounts).await;
        store.close().await.unwrap();
        println!("| {:<64} | {:>9} | {:>9} | {:>8} |", "call", "p50 ms", "p99 ms", "answers");
        println!("|{0:-<66}|{0:->10}:|{0:->10}:|{0:->9}:|", "");
        let client = AccountServiceClient::new(stores::channel(running.addresses["account"]));
        pages(&client, accounts, calls).await;
        totals(&client, calls).await;
        searches(&client, accounts, calls).await;
        others(&client, calls).await;
    })
    .await;
}

/// Writes the accounts straight into the table; what the service makes of a write it finds there: counts and indexes.
async fn fill(store: &Store, accounts: usize) {
    let connection = store.reader();
    let began = Instant::now();
    let array = |names: &[&str], position: &str| {
        let quoted: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
        match connection.get_database_backend() {
            DbBackend::Postgres => format!("(array[{}])[1 + ({position})]", quoted.join(",")),
            _ => format!("(json_array({}) ->> ({position}))", quoted.join(",")),
        }
    };
    // Every name with every other, and no two neighbours alike.
    let (first, last) = (array(&FIRST, "(n * 7 % 24)::int"), array(&LAST, "(n / 24 * 11 % 24)::int"));
    let mut done = 0;
    while done < accounts {
        let end = (done + BATCH).min(accounts);
        let numbers = match connection.get_database_backend() {
            DbBackend::Postgres => format!("select n from generate_series({}::bigint, {end}) as g(n)", done + 1),
            _ => format!(
                "with recursive g(n) as (select {} union all select n + 1 from g where n < {end}) select n from g",
                done + 1
            ),
        };
        let insert = format!(
            "insert into accounts (tenant_id, user_id, name, email, name_folded, email_key, email_folded, search_key, folded_version, subscription_tier,
                                   status, status_reason, version, create_time, update_time, delete_time)
             select 'default', 'user-' || n, name, lower(mail), lower(name), lower(mail), lower(mail),
                    lower(name || '{line}' || mail), 1,
                    case when n % 1000 = 0 then 'ENTERPRISE' when n % 50 = 0 then 'PREMIUM'
                         when n % 6 = 0 then 'BASIC' else 'FREE' end,
                    case when n % 100 = 7 then 'DELETED' when n % 50 = 8 then 'SUSPENDED' else 'ACTIVE' end, '', 1,
                    {epoch} - ({accounts} - n) * 1000000, {epoch} - ({accounts} - n) * 1000000,
                    case when n % 100 = 7 then {epoch} end
               from (select n, name, replace(name, ' ', '.') || '.' || n || '@example.com' as mail
                       from (select n, {first} || ' ' || {last} as name from ({numbers}) as numbers) as named) as people",
            line = '\n',
            epoch = now_micros(),
        );
        let insert = match connection.get_database_backend() {
            DbBackend::Postgres => insert,
            _ => insert.replace("::int", ""),
        };
        connection.execute_unprepared(&insert).await.unwrap();
        done = end;
        if done % (BATCH * 10) == 0 || done == accounts {
            eprintln!("  {done} accounts after {} s", began.elapsed().as_secs());
        }
    }
    let tidy = match connection.get_database_backend() {
        DbBackend::Postgres => "vacuum analyze accounts",
        _ => "analyze",
    };
    connection.execute_unprepared(tidy).await.unwrap();
}

fn now_micros() -> i64 {
    mesh::Clock::system().now().micros()
}

/// Walks lists to their end, and shows the first pages, those around page 10,000, and the last.
async fn pages(client: &Accounts, accounts: usize, calls: usize) {
    walk(client, "ListAccounts", ListAccountsRequest { page_size: PAGE, ..ListAccountsRequest::default() }, calls)
        .await;
    // A query that every 24th matches, and one that is among the oldest only.
    for (what, query) in [("query smith, 1 of 24", "smith".to_owned()), ("query .12@, one match", ".12@".to_owned())] {
        let list = ListAccountsRequest { page_size: PAGE, query, ..ListAccountsRequest::default() };
        walk(client, &format!("ListAccounts, {what}"), list, calls).await;
    }
    let tier = SubscriptionTier::Enterprise.into();
    let list = ListAccountsRequest { page_size: PAGE, subscription_tier: tier, ..ListAccountsRequest::default() };
    walk(client, &format!("ListAccounts, ENTERPRISE, {} of them", accounts / 1_000), list, calls).await;
}

async fn walk(client: &Accounts, what: &str, mut list: ListAccountsRequest, calls: usize) {
    /// No list is walked further.
    const PAGES: usize = 10_000;
    let mut taken = Vec::new();
    let mut found = 0;
    loop {
        let began = Instant::now();
        let page: ListAccountsResponse = client.clone().list_accounts(list.clone()).await.unwrap().into_inner();
        taken.push(began.elapsed());
        found = found.max(page.accounts.len());
        list.page_token = page.next_page_token;
        if list.page_token.is_empty() || taken.len() == PAGES {
            break;
        }
    }
    let (pages, part) = (taken.len(), calls.min(taken.len() / 2).max(1));
    report(&format!("{what}: pages 1 to {part}"), taken[..part].to_vec(), found);
    if pages > part {
        report(&format!("{what}: pages {} to {pages}", pages - part + 1), taken[pages - part..].to_vec(), found);
    }
}

/// What `with_total` adds.
async fn totals(client: &Accounts, calls: usize) {
    let base = || ListAccountsRequest { page_size: PAGE, with_total: true, ..ListAccountsRequest::default() };
    for (what, list) in [
        ("no filter", base()),
        ("status SUSPENDED", ListAccountsRequest { status: AccountStatus::Suspended.into(), ..base() }),
        ("tier BASIC", ListAccountsRequest { subscription_tier: SubscriptionTier::Basic.into(), ..base() }),
        ("query smith (capped)", ListAccountsRequest { query: "smith".to_owned(), ..base() }),
        ("query .123 (some hundreds)", ListAccountsRequest { query: ".123".to_owned(), ..base() }),
        ("query zq (nothing, two letters)", ListAccountsRequest { query: "zq".to_owned(), ..base() }),
    ] {
        let mut total = 0;
        let taken = repeat(calls.min(50), async |_| {
            let page = client.clone().list_accounts(list.clone()).await.unwrap().into_inner();
            total = page.total_size.unwrap();
        });
        let taken = taken.await;
        report(&format!("ListAccounts with_total, {what}"), taken, total);
    }
}

/// The query of a call, by its number.
type Query = Box<dyn Fn(usize) -> String>;

async fn searches(client: &Accounts, accounts: usize, calls: usize) {
    let somebody = move |call: usize| (call * 7_919) % accounts + 1;
    let name = |call: usize| format!("{} {}", FIRST[call % 24], LAST[call / 24 % 24]);
    let queries: [(&str, Query); 9] = [
        ("a whole e-mail address", Box::new(move |call| mail(somebody(call)))),
        ("a whole name that thousands have", Box::new(name)),
        ("the first 3 letters of a name", Box::new(|call| FIRST[call % 24][..3].to_owned())),
        ("the first letter of a name", Box::new(|call| FIRST[call % 24][..1].to_owned())),
        ("part of many names", Box::new(|call| LAST[call % 24][1..].to_owned())),
        ("part of one address", Box::new(move |call| format!(".{}@exam", somebody(call)))),
        ("nothing holds it", Box::new(|call| format!("nobody{call}"))),
        ("two letters in the middle", Box::new(|call| LAST[call % 24][1..3].to_owned())),
        ("two letters that nothing holds", Box::new(|_| "zq".to_owned())),
    ];
    let mut all = Vec::new();
    for (what, query) in queries {
        let mut found = 0;
        let calls = if what.ends_with("letters that nothing holds") { calls.min(20) } else { calls };
        let taken = repeat(calls, async |call| {
            let search = SearchAccountsRequest { query: query(call), ..SearchAccountsRequest::default() };
            found = client.clone().search_accounts(search).await.unwrap().into_inner().summaries.len();
        });
        let taken = taken.await;
        all.extend(taken.iter().copied());
        report(&format!("SearchAccounts, {what}"), taken, found);
    }
    report("SearchAccounts, all of these", all, "-");
}

/// The address of the account with this number.
fn mail(number: usize) -> String {
    let (first, last) = (FIRST[number * 7 % 24], LAST[number / 24 * 11 % 24]);
    format!("{first}.{last}.{number}@example.com").to_lowercase()
}

async fn others(client: &Accounts, calls: usize) {
    let taken = repeat(calls.min(50), async |_| {
        client.clone().get_account_stats(GetAccountStatsRequest {}).await.unwrap();
    });
    report("GetAccountStats, all made within 30 days", taken.await, 1);
    let taken = repeat(calls, async |call| {
        let person = EnsureAccountRequest {
            user_id: format!("new-{call}"),
            email: format!("new-{call}@example.org"),
            name: "Somebody New".to_owned(),
            subscription_tier: 0,
        };
        assert!(client.clone().ensure_account(person).await.unwrap().into_inner().created);
    });
    report("EnsureAccount, a new one", taken.await, 1);
}

async fn repeat(calls: usize, mut call: impl AsyncFnMut(usize)) -> Vec<Duration> {
    let mut taken = Vec::with_capacity(calls);
    for number in 0..calls {
        let began = Instant::now();
        call(number).await;
        taken.push(began.elapsed());
    }
    taken
}

fn report(what: &str, mut taken: Vec<Duration>, answers: impl Display) {
    taken.sort_unstable();
    let at = |share: usize| taken[(taken.len() * share / 100).min(taken.len() - 1)].as_secs_f64() * 1e3;
    println!("| {what:<64} | {:>9.2} | {:>9.2} | {answers:>8} |", at(50), at(99));
}
