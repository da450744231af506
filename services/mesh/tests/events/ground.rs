//! The ground that a test stands on: fresh databases, and where NATS is given a stream of its own.

use std::{collections::BTreeMap, io::Write as _, panic::AssertUnwindSafe, path::PathBuf, sync::Arc};

use futures_util::FutureExt as _;
use mesh::{
    CallSettings, Clock, EventSettings, Placement, Plan, Role, ServerSettings, Store, Telemetry, TlsSettings,
    config::Secret, id, store::Location,
};
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, SqliteConnection};

use crate::{server, waiting::in_time};

/// Connections of the role that tells: enough for twenty transactions at once and what goes on beside them.
const CONNECTIONS: u32 = 24;
/// Connections of the others.
const FEW_CONNECTIONS: u32 = 4;
/// The setting that says where NATS is.
pub(crate) const NATS_URL: &str = "TRIVET_TEST_NATS_URL";
/// The setting that says where PostgreSQL is.
const POSTGRES_URL: &str = "TRIVET_TEST_POSTGRES_URL";

/// Databases and bus of one test. It travels to the processes that the test starts.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Ground {
    database: Database,
    /// Where NATS is; empty for the bus inside of the process.
    pub(crate) nats_url: String,
    pub(crate) stream: String,
}

#[derive(Clone, Serialize, Deserialize)]
enum Database {
    /// A file for each role, in this folder.
    Sqlite(PathBuf),
    /// A schema for each role, in the database of this URL.
    Postgres(String),
}

/// What a test may stand on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    EmbeddedSqlite,
    EmbeddedPostgres,
    NatsSqlite,
    NatsPostgres,
}

impl Backend {
    pub(crate) const ALL: [Self; 4] =
        [Self::EmbeddedSqlite, Self::EmbeddedPostgres, Self::NatsSqlite, Self::NatsPostgres];
    pub(crate) const ON_NATS: [Self; 2] = [Self::NatsSqlite, Self::NatsPostgres];
    pub(crate) const ON_POSTGRES: [Self; 2] = [Self::EmbeddedPostgres, Self::NatsPostgres];

    fn has_postgres(self) -> bool {
        Self::ON_POSTGRES.contains(&self)
    }

    fn has_nats(self) -> bool {
        Self::ON_NATS.contains(&self)
    }

    /// The first setting that it needs and that nobody made.
    fn missing(self) -> Option<&'static str> {
        let needs = [("PostgreSQL", POSTGRES_URL, self.has_postgres()), ("NATS", NATS_URL, self.has_nats())];
        let missing = needs.into_iter().find(|(_, name, needed)| *needed && setting(name).is_none());
        if let Some((what, name, _)) = missing {
            // Past the capture of a passing test's output: who runs the tests must hear of it.
            writeln!(std::io::stderr(), "left out on {what}: {name} is not set").unwrap();
        }
        missing.map(|(_, name, _)| name)
    }
}

/// Runs the test on each of these, as far as they are given, each time on fresh ground.
pub(crate) async fn on(backends: &[Backend], test: impl AsyncFn(&Ground)) {
    for backend in backends.iter().copied().filter(|backend| backend.missing().is_none()) {
        let folder = tempfile::tempdir().unwrap();
        let name = id::fresh("events_test", &Clock::system());
        let database = if backend.has_postgres() {
            Database::Postgres(make_database(&name).await)
        } else {
            Database::Sqlite(folder.path().to_owned())
        };
        let nats_url = if backend.has_nats() { setting(NATS_URL).unwrap() } else { String::new() };
        let ground = Ground { database, nats_url, stream: name.to_uppercase() };
        let ended = AssertUnwindSafe(test(&ground)).catch_unwind().await;
        ground.clear(&name).await;
        if let Err(panic) = ended {
            eprintln!("on {backend:?}:");
            std::panic::resume_unwind(panic);
        }
        record(if backend.has_postgres() { "postgres" } else { "sqlite" });
        if backend.has_nats() {
            record("nats");
        }
    }
}

/// Makes an empty database, and answers its URL.
async fn make_database(name: &str) -> String {
    let url = setting(POSTGRES_URL).unwrap();
    let mut admin = PgConnection::connect(&url).await.unwrap();
    admin.execute(AssertSqlSafe(format!("create database {name}"))).await.unwrap();
    // Where the setting does not ask for TLS there is none: a handshake costs a tenth of a second in a debug build, and
    // sixty lives of a process have thirty connections each.
    let (server, parameters) = url.split_once('?').unwrap_or((&url, "sslmode=disable"));
    let (server, _) = server.rsplit_once('/').unwrap();
    format!("{server}/{name}?{parameters}")
}

impl Ground {
    pub(crate) fn is_on_nats(&self) -> bool {
        !self.nats_url.is_empty()
    }

    pub(crate) fn is_on_postgres(&self) -> bool {
        matches!(self.database, Database::Postgres(_))
    }

    /// Where a role keeps its rows.
    pub(crate) fn location(&self, role: &str) -> Location {
        match &self.database {
            Database::Sqlite(folder) => Location::File(folder.join(format!("{role}.db"))),
            Database::Postgres(url) => {
                let connections = if role == "source" { CONNECTIONS } else { FEW_CONNECTIONS };
                Location::Postgres { url: url.clone(), schema: role.to_owned(), connections }
            }
        }
    }

    /// A look at the rows of a role from outside of the process that it runs in.
    pub(crate) async fn store(&self, role: &str) -> Store {
        let location = match self.location(role) {
            Location::Postgres { url, schema, .. } => Location::Postgres { url, schema, connections: 2 },
            other => other,
        };
        in_time("opening", Store::open(location)).await.unwrap()
    }

    /// A connection to PostgreSQL itself.
    pub(crate) async fn postgres(&self) -> PgConnection {
        let Database::Postgres(url) = &self.database else { panic!("it does not stand on PostgreSQL") };
        PgConnection::connect(url).await.unwrap()
    }

    /// The URL of PostgreSQL.
    pub(crate) fn postgres_url(&self) -> &str {
        let Database::Postgres(url) = &self.database else { panic!("it does not stand on PostgreSQL") };
        url
    }

    /// Keeps everybody from writing to the outbox of the source for as long as the answer lives. It can be read.
    pub(crate) async fn hold_outbox(&self) -> Box<dyn Send> {
        match self.location("source") {
            Location::Postgres { .. } => {
                let mut connection = self.postgres().await;
                let lock = "begin; lock table source.outbox, source.outbox_waiting in exclusive mode";
                in_time("the lock", connection.execute(lock)).await.unwrap();
                Box::new(connection)
            }
            Location::File(path) => {
                let url = format!("sqlite://{}", path.display());
                let mut connection = SqliteConnection::connect(&url).await.unwrap();
                let mut tries = tokio::time::interval(std::time::Duration::from_millis(1));
                // Sooner than SQLite's own waiting finds a gap between the writers.
                connection.execute("pragma busy_timeout = 0").await.unwrap();
                let lock = async {
                    while connection.execute("begin immediate").await.is_err() {
                        tries.tick().await;
                    }
                };
                in_time("the lock", lock).await;
                Box::new(connection)
            }
            Location::Memory => panic!("nobody else sees a database in memory"),
        }
    }

    /// What carries events here.
    pub(crate) fn settings(&self) -> EventSettings {
        let nats_url: Secret = serde_json::from_value(serde_json::json!(self.nats_url)).unwrap();
        EventSettings { nats_url, nats_stream: self.stream.clone(), retry_ms: 1, ..EventSettings::default() }
    }

    /// The same ground, reached by another way.
    pub(crate) fn through(&self, proxy: &crate::proxy::Proxy) -> Self {
        Self { nats_url: format!("nats://{}", proxy.address), ..self.clone() }
    }

    /// A process of these roles.
    pub(crate) fn plan(&self, roles: Vec<Role>) -> Plan {
        let place = |role: Role| Placement { location: self.location(role.name), role, port: 0 };
        Plan {
            server: ServerSettings { admin_port: 0, announce_ms: 0, grace_ms: 10_000, ..ServerSettings::default() },
            placements: roles.into_iter().map(place).collect(),
            peers: BTreeMap::new(),
            calls: CallSettings::default(),
            tls: TlsSettings::default(),
            identity: mesh::IdentitySettings::default(),
            events: self.settings(),
            telemetry: Arc::new(Telemetry::quiet().unwrap()),
            clock: Clock::system(),
        }
    }

    async fn clear(&self, name: &str) {
        if self.is_on_nats() {
            let jetstream = server::jetstream(&self.nats_url).await;
            // There is none where nobody told anything.
            let _ = jetstream.delete_stream(&self.stream).await;
        }
        if self.is_on_postgres() {
            let mut admin = PgConnection::connect(&setting(POSTGRES_URL).unwrap()).await.unwrap();
            admin.execute(AssertSqlSafe(format!("drop database {name} with (force)"))).await.unwrap();
        }
    }
}

/// Says that a test ran on this backend, to whoever must make sure of it.
fn record(backend: &str) {
    if let Some(path) = setting("TRIVET_TEST_RECORD") {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(format!("{backend}\n").as_bytes()).unwrap();
    }
}

#[allow(clippy::disallowed_methods, reason = "what tests are steered with is no setting of the mesh")]
pub(crate) fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
