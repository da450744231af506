//! Databases for tests: SQLite's files always, PostgreSQL where it is.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io::Write as _,
    sync::Once,
};

use mesh::{Clock, Store, store::Location};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};
use tempfile::TempDir;
use trivet::{Config, RoleName};

use crate::harness::{record, variable};

/// Databases that nothing has touched, gone when the test is done.
pub(crate) enum Databases {
    Sqlite(TempDir),
    Postgres { server: String, name: String },
}

impl Databases {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    /// A fresh database on the server of `TRIVET_TEST_POSTGRES_URL`; `None` where there is none.
    pub(crate) async fn postgres() -> Option<Self> {
        Some(Self::on(&server()?).await)
    }

    /// The same, with its schemas: a copy of one that was migrated once, since migrating takes longer than most tests do.
    pub(crate) async fn furnished() -> Option<Self> {
        let server = server()?;
        let template = template(&server).await;
        Some(Self::made(&server, &format!("template {template}")).await)
    }

    /// A fresh database on this server.
    pub(crate) async fn on(server: &str) -> Self {
        Self::made(server, "").await
    }

    async fn made(server: &str, how: &str) -> Self {
        let name = format!("trivet_test_{}", mesh::id::fresh("db", &Clock::system()));
        let mut connection = PgConnection::connect(server).await.unwrap();
        connection.execute(AssertSqlSafe(format!("create database {name} {how}"))).await.unwrap();
        Self::Postgres { server: server.to_owned(), name }
    }

    /// The settings that make a house of these databases.
    pub(crate) fn settings(&self) -> Vec<(String, String)> {
        match self {
            Self::Sqlite(folder) => vec![("data_dir".to_owned(), folder.path().display().to_string())],
            Self::Postgres { server, name } => {
                let url = |role: RoleName| (format!("{}.database_url", role.as_str()), url(server, name));
                RoleName::ALL.map(url).to_vec()
            }
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres { .. } => "postgres",
        }
    }

    /// Says, for whoever counts, that a test ran on this database; and takes the database away.
    pub(crate) async fn done(self) {
        record(self.kind());
        if let Self::Postgres { server, name } = self {
            let mut connection = PgConnection::connect(&server).await.unwrap();
            connection.execute(AssertSqlSafe(format!("drop database {name} with (force)"))).await.unwrap();
        }
    }
}

/// The server of `TRIVET_TEST_POSTGRES_URL`, if there is one.
fn server() -> Option<String> {
    static SAID: Once = Once::new();
    let server = variable("TRIVET_TEST_POSTGRES_URL");
    if server.is_none() {
        // Past the capture of a passing test's output: who runs the tests must hear of it.
        SAID.call_once(|| {
            let left_out = "left out on PostgreSQL: TRIVET_TEST_POSTGRES_URL is not set";
            writeln!(std::io::stderr(), "{left_out}").unwrap();
        });
    }
    server
}

/// Another database of the same server, without encryption unless that is asked for: sqlx 0.9.0 takes 90 ms for each
/// encrypted connection (Nagle's algorithm holds the handshake back), and a house opens dozens.
pub(crate) fn url(server: &str, name: &str) -> String {
    let (server, parameters) = server.split_once('?').unwrap_or((server, "sslmode=disable"));
    let (server, _) = server.rsplit_once('/').unwrap();
    format!("{server}/{name}?{parameters}")
}

/// The name of a database with the schemas of all services as these tests know them, which is made by whoever asks first and
/// stays; those of other schemas go.
async fn template(server: &str) -> String {
    const BEGINNING: &str = "trivet_template_";
    let roles = RoleName::ALL.map(|name| (name.as_str(), name.role(&Config::default()).migrations));
    let mut hasher = DefaultHasher::new();
    format!("{roles:?}").hash(&mut hasher);
    let name = format!("{BEGINNING}{:016x}", hasher.finish());
    let mut connection = PgConnection::connect(server).await.unwrap();
    let mut run = async |statement: String| connection.execute(AssertSqlSafe(statement)).await.unwrap().rows_affected();
    // One at a time; the lock ends with the connection.
    run("select pg_advisory_lock(7278383)".to_owned()).await;
    if run(format!("select 1 from pg_database where datname = '{name}'")).await == 1 {
        return name;
    }
    let unfinished = format!("{name}_unfinished");
    run(format!("drop database if exists {unfinished} with (force)")).await;
    run(format!("create database {unfinished}")).await;
    for (role, migrations) in roles {
        let (url, schema) = (url(server, &unfinished), role.to_owned());
        let location = Location::Postgres { url, schema, connections: 2 };
        let store = Store::open(location).await.unwrap();
        store.migrate(&migrations).await.unwrap();
        store.close().await.unwrap();
    }
    run(format!("alter database {unfinished} rename to {name}")).await;
    let others = format!("select datname from pg_database where datname like '{BEGINNING}%' and datname <> '{name}'");
    let others = connection.fetch_all(AssertSqlSafe(others)).await.unwrap();
    for row in others {
        let other: String = row.get(0);
        // Somebody with other schemas may be at it; then it stays.
        let _ = connection.execute(AssertSqlSafe(format!("drop database if exists \"{other}\""))).await;
    }
    name
}

/// Whether a process of this connection's database waits for what another one holds.
pub(crate) async fn is_one_waiting(watcher: &mut PgConnection) -> bool {
    how_many_wait(watcher).await > 0
}

/// How many processes of this connection's database wait for what others hold. Not for a connection within a transaction, to
/// which PostgreSQL shows the processes that there were at its first look.
pub(crate) async fn how_many_wait(watcher: &mut PgConnection) -> i64 {
    let waiting = "select count(*) from pg_stat_activity
                    where datname = current_database() and wait_event_type = 'Lock'";
    sqlx::query_scalar(waiting).fetch_one(watcher).await.unwrap()
}
