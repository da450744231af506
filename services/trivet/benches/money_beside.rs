//! What the database does by itself with the same rows, in the same tables and for a tenant of its own, whose hashes nobody
//! verifies: on PostgreSQL by pgbench, on SQLite through one connection.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use mesh::{Store, store::sql};
use sea_orm::{ConnectionTrait as _, DbBackend};
use sqlx::{Connection as _, Executor as _, sqlite::SqliteConnectOptions};
use tokio::sync::Mutex;
use trivet::Config;

use crate::load::{Load, machine_time};

/// Connections of pgbench; a server takes a hundred as it comes, and the house has some of them.
const CONNECTIONS: usize = 56;

/// Whose wallets are charged.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// One after the other.
    Uniform { wallets: u64 },
    /// The same one always.
    Hot,
}

impl Shape {
    pub(crate) fn user(self, number: u64) -> String {
        match self {
            // A stride, so that neighbours are not charged together.
            Self::Uniform { wallets } => format!("user-{}", number.wrapping_mul(7_919) % wallets),
            Self::Hot => "user-0".to_owned(),
        }
    }

    const fn wallets(self) -> u64 {
        match self {
            Self::Uniform { wallets } => wallets,
            Self::Hot => 1,
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uniform { wallets } => write!(formatter, "{wallets} wallets"),
            Self::Hot => formatter.write_str("one wallet"),
        }
    }
}

/// How it is done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// One transaction of four statements.
    Naive,
    /// One statement that does all of it.
    Single,
}

/// Makes what it needs: the wallets of its tenant, and a table like the outbox, of which nothing waits to be told. The service
/// under measurement is not to tell its rivals' events.
pub(crate) async fn furnish(billing: &Store, wallets: u64) {
    let connection = billing.reader();
    let (numbers, outbox) = if connection.get_database_backend() == DbBackend::Postgres {
        let like = "create table if not exists beside (like outbox including all)";
        (format!("select n from generate_series(0, {}) n", wallets - 1), vec![like.to_owned()])
    } else {
        let text = "select sql from sqlite_master where tbl_name = 'outbox' and type <> 'trigger' and sql is not null
                     order by type desc";
        let made = connection.query_all_raw(sql(connection, text, [])).await.unwrap();
        let made = made.iter().map(|row| row.try_get_by_index::<String>(0).unwrap().replace("outbox", "beside"));
        let numbers = "with recursive k(n) as (select 0 union all select n + 1 from k where n + 1 <";
        (format!("{numbers} {wallets}) select n from k"), made.collect())
    };
    for made in outbox {
        connection.execute_unprepared(&made).await.unwrap();
    }
    let insert = format!(
        "insert into wallets (tenant_id, user_id, currency, balance, held, version, state, create_time, update_time)
         select 'beside', 'user-' || n, 'USDC', 1000000000000000, 0, 0, 'ACTIVE', 0, 0 from ({numbers}) as k"
    );
    connection.execute_unprepared(&insert).await.unwrap();
}

/// So many callers for so long; `None` where it cannot be done.
pub(crate) async fn run(config: &Config, shape: Shape, way: Way, callers: usize, time: Duration) -> Option<Load> {
    let url = config.billing.database_url.reveal();
    if url.is_empty() {
        // SQLite has no statement that writes several tables.
        return if way == Way::Naive { Some(sqlite(config, shape, callers, time).await) } else { None };
    }
    pgbench(url, shape, way, connections(config, callers), time).await
}

/// How many connections so many callers have.
pub(crate) fn connections(config: &Config, callers: usize) -> usize {
    if config.billing.database_url.reveal().is_empty() { callers } else { callers.min(CONNECTIONS) }
}

const CLAIM: &str = "insert into billing.requests (tenant_id, request_id, method, fields, state, outcome, create_time)
    values ('beside', 'pg-' || :r::text, 'Deduct', repeat('x', 191), 'APPLIED', repeat('y', 150), 1)
    on conflict do nothing";
const TAKE: &str = "update billing.wallets set balance = balance - 1, version = version + 1, update_time = 1,
        hash = sha256(hash || 'x')
  where tenant_id = 'beside' and user_id = 'user-' || :u::text and currency = 'USDC' and balance - held >= 1";
const COLUMNS: &str = "(tenant_id, transaction_id, kind, request_id, user_id, currency, wallet, held, revenue, payments,
    wallet_version, balance_after, available_after, related_id, api_id, endpoint_id, api_key_id, details, create_time, hash)";
const EVENT: &str =
    "insert into billing.beside (event_id, tenant_id, type, aggregate, subject, aggregate_version, time,
    traceparent, causation_id, data_schema, data)";

/// An id that sorts by the time of its making, as those of the service do.
const ID: &str =
    "lpad((extract(epoch from now()) * 1000000)::bigint::text, 16, '0') || lpad((:r % 10000000000)::text, 10, '0')";

/// A script, one command a line.
fn script(shape: Shape, way: Way) -> String {
    let commands = match way {
        Way::Naive => [
            "begin".to_owned(),
            CLAIM.to_owned(),
            format!("{TAKE} returning version, balance, balance - held as available \\gset"),
            format!(
                "insert into billing.transactions {COLUMNS} values ('beside', 'txn_' || {ID}, 'DEDUCTION',
                    'pg-' || :r::text, 'user-' || :u::text, 'USDC', -1, 0, 1, 0, :version, :balance, :available, '', 'chat',
                    'chat.completions', 'key_1', '', 1, sha256('x'))"
            ),
            format!(
                "{EVENT} values ('evt_' || {ID}, 'beside', 'deduction.made', 'deduction',
                    'txn_' || {ID}, 1, 1, '', '', 'trivet.billing.v1.DeductionMade', repeat('z', 150)::bytea)"
            ),
            "commit".to_owned(),
        ]
        .join(";\n"),
        Way::Single => format!(
            "with claimed as ({CLAIM} returning request_id),
                  taken as ({TAKE} and exists (select 1 from claimed) returning user_id, version, balance, held, hash),
                  written as (insert into billing.transactions {COLUMNS}
                     select 'beside', 'txn_' || {ID}, 'DEDUCTION', 'pg-' || :r::text, user_id, 'USDC', -1, 0,
                            1, 0, version, balance, balance - held, '', 'chat', 'chat.completions', 'key_1', '', 1, hash
                       from taken)
             {EVENT} select 'evt_' || {ID}, 'beside', 'deduction.made', 'deduction',
                    'txn_' || {ID}, 1, 1, '', '', 'trivet.billing.v1.DeductionMade', repeat('z', 150)::bytea
               from taken"
        ),
    };
    let commands =
        commands.replace(";\n", ";\u{0}").replace('\n', " ").replace(";\u{0}", ";\n").replace("\\gset;", "\\gset");
    format!(
        "\\set u random(0, {})\n\\set r random(1, 9000000000000000000)\n{commands};\n",
        shape.wallets().saturating_sub(1)
    )
}

async fn pgbench(url: &str, shape: Shape, way: Way, connections: usize, time: Duration) -> Option<Load> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("script.sql");
    std::fs::write(&path, script(shape, way)).unwrap();
    let log = folder.path().join("log");
    let before = machine_time();
    let began = Instant::now();
    let output = tokio::process::Command::new("pgbench")
        .args(["--no-vacuum", "--protocol", "prepared", "--log", "--jobs", "2", "--client", &connections.to_string()])
        .args(["--time", &time.as_secs().max(1).to_string(), "--log-prefix", &log.display().to_string()])
        .args(["--file", &path.display().to_string(), url])
        .output()
        .await;
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            println!("left out: pgbench cannot be run: {error}");
            return None;
        }
    };
    let elapsed = began.elapsed();
    let spent = machine_time().zip(before).map(|(after, before)| after.saturating_sub(before));
    if !output.status.success() {
        // A server without room for that many, mostly.
        println!("left out: pgbench says {}", String::from_utf8_lossy(&output.stderr).trim());
        return None;
    }
    let mut taken = Vec::new();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        if file.file_name().to_string_lossy().starts_with("log.") {
            let text = std::fs::read_to_string(file.path()).unwrap();
            // client, transaction, microseconds, ..
            let micros = text.lines().filter_map(|line| line.split(' ').nth(2)?.parse().ok());
            taken.extend(micros.map(Duration::from_micros));
        }
    }
    let seconds = time.as_secs().max(1);
    Some(Load::of(taken, elapsed.min(Duration::from_secs(seconds)), spent))
}

/// One commit for each call: callers wait for the one connection that writes.
async fn sqlite(config: &Config, shape: Shape, callers: usize, time: Duration) -> Load {
    let path = std::path::Path::new(&config.data_dir).join("billing.db");
    let options = SqliteConnectOptions::new().filename(path).busy_timeout(Duration::from_secs(10));
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    connection.execute("pragma synchronous = full").await.unwrap();
    let connection = Arc::new(Mutex::new(connection));
    let (start, before) = (Instant::now(), machine_time());
    let end = start + time;
    let one = async |caller: usize| {
        let mut taken = Vec::new();
        let mut number = 0_u64;
        while Instant::now() < end {
            let began = Instant::now();
            let id = format!("sq-{caller}-{}-{number}", start.elapsed().as_nanos());
            let user = shape.user(number * callers as u64 + caller as u64);
            charge(&mut *connection.lock().await, &id, &user).await;
            number += 1;
            taken.push(began.elapsed());
        }
        taken
    };
    let taken = futures_util::future::join_all((0..callers).map(one)).await.concat();
    let elapsed = start.elapsed();
    Load::of(taken, elapsed, machine_time().zip(before).map(|(after, before)| after.saturating_sub(before)))
}

async fn charge(connection: &mut sqlx::SqliteConnection, id: &str, user: &str) {
    let mut transaction = connection.begin_with("begin immediate").await.unwrap();
    let unique = format!("{id}-{user}");
    sqlx::query(
        "insert into requests (tenant_id, request_id, method, fields, state, outcome, create_time)
         values ('beside', $1, 'Deduct', printf('%191s', 'x'), 'APPLIED', printf('%150s', 'y'), 1)",
    )
    .bind(&unique)
    .execute(&mut *transaction)
    .await
    .unwrap();
    let (version, balance): (i64, i64) = sqlx::query_as(
        "update wallets set balance = balance - 1, version = version + 1, update_time = 1
          where tenant_id = 'beside' and user_id = $1 and currency = 'USDC' and balance - held >= 1
          returning version, balance",
    )
    .bind(user)
    .fetch_one(&mut *transaction)
    .await
    .unwrap();
    sqlx::query(
        "insert into transactions (tenant_id, transaction_id, kind, request_id, user_id, currency, wallet, held, revenue,
             payments, wallet_version, balance_after, available_after, related_id, api_id, endpoint_id, api_key_id, details,
             create_time, hash)
         values ('beside', 'txn_' || $1, 'DEDUCTION', $1, $2, 'USDC', -1, 0, 1, 0, $3, $4, $4, '', 'chat',
                 'chat.completions', 'key_1', '', 1, zeroblob(32))",
    )
    .bind(&unique)
    .bind(user)
    .bind(version)
    .bind(balance)
    .execute(&mut *transaction)
    .await
    .unwrap();
    sqlx::query(
        "insert into beside (event_id, tenant_id, type, aggregate, subject, aggregate_version, time, traceparent,
             causation_id, data_schema, data)
         values ('evt_' || $1, 'beside', 'deduction.made', 'deduction', $1, 1, 1, '', '',
                 'trivet.billing.v1.DeductionMade', zeroblob(150))",
    )
    .bind(&unique)
    .execute(&mut *transaction)
    .await
    .unwrap();
    transaction.commit().await.unwrap();
}
