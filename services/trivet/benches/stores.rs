//! Databases for benches: fresh ones, and a house on them.

use std::net::SocketAddr;

use mesh::{
    Clock, Running, Telemetry,
    config::{Sources, load},
};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tonic::transport::Channel;
use trivet::{Config, RoleName, plan};

/// The binary's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Does the work on SQLite, and where `TRIVET_TEST_POSTGRES_URL` says so on PostgreSQL, each time with a house on a
/// database that nothing has touched.
#[allow(dead_code, reason = "each bench uses what it needs")]
pub(crate) async fn on_every_store(work: impl AsyncFn(&'static str, &Config, &Running)) {
    on_every_database(async |database, config| {
        let plan = plan(config, &RoleName::ALL, Telemetry::quiet().unwrap(), Clock::system()).unwrap();
        let running = plan.bind().await.unwrap().start().await.unwrap();
        work(database, config, &running).await;
        running.drain(std::future::pending()).await;
    })
    .await;
}

/// Does the work with the settings of a house on SQLite, unless `--without-sqlite` is said, and where it is there on
/// PostgreSQL: databases that nothing has touched.
pub(crate) async fn on_every_database(work: impl AsyncFn(&'static str, &Config)) {
    if std::env::args().all(|argument| argument != "--without-sqlite") {
        let folder = tempfile::tempdir().unwrap();
        work("SQLite", &config(vec![("data_dir".to_owned(), folder.path().display().to_string())])).await;
    }
    let Ok(server) = std::env::var("TRIVET_TEST_POSTGRES_URL") else {
        println!("left out on PostgreSQL: TRIVET_TEST_POSTGRES_URL is not set");
        return;
    };
    let name = format!("trivet_bench_{}", mesh::id::fresh("run", &Clock::system()));
    let mut connection = PgConnection::connect(&server).await.unwrap();
    connection.execute(AssertSqlSafe(format!("create database {name}"))).await.unwrap();
    let url = format!("{}/{name}", server.rsplit_once('/').unwrap().0);
    let flags = RoleName::ALL.map(|role| (format!("{}.database_url", role.as_str()), url.clone())).to_vec();
    work("PostgreSQL", &config(flags)).await;
    connection.execute(AssertSqlSafe(format!("drop database {name} with (force)"))).await.unwrap();
}

fn config(mut flags: Vec<(String, String)>) -> Config {
    for key in ["server.admin_port", "account.port", "product.port", "billing.port", "server.announce_ms"] {
        flags.push((key.to_owned(), "0".to_owned()));
    }
    load(&Sources { flags, ..Sources::default() }).unwrap()
}

/// A connection as a caller in a hurry has it.
pub(crate) fn channel(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().tcp_nodelay(true).connect_lazy()
}
