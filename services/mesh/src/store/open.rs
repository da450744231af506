//! Opening a database so that what it acknowledges is there after a crash.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection,
    sqlx::{postgres::PgConnectOptions, sqlite},
};
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;

use super::{Inner, Store, StoreError, hurry::hurry, session::Sessions, sql};

/// How long a reader of SQLite waits for a checkpoint, and the writer for another process's.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long opening a connection may take.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Readers beside the one writer of a SQLite file: more than two cores never gain.
const SQLITE_READERS: u32 = 4;
/// Pages that SQLite keeps in memory, in KiB with a minus before them; by itself 2 MiB, which ids that come in no order
/// outgrow at once. Where a page of an index was split, the writer's commit looks at all that it keeps.
const WRITER_CACHE: &str = "-16384";
const READER_CACHE: &str = "-8192";
/// Bytes of the file that are seen as memory, the most that SQLite takes: a look at the whole ledger reads every page of it
/// many times, and copying them is half of what that takes. The writer copies without a call of the system.
const MAP: &str = "2147418112";
/// Pages of the log after which they are written into the file, 256 MiB: by itself a thousand, which is a hundred
/// deductions. Most pages of a busy day are changed again and again, and calls wait while they are written.
const CHECKPOINT: &str = "65536";
/// Statements of SQLite that are kept prepared: those that write many rows have some twenty sizes each.
const STATEMENTS: usize = 256;
/// One in so many connections to PostgreSQL may stay with those who write; the others are there for readers, too.
const KEPT_OF: u32 = 3;
/// A PostgreSQL connection that was idle this long is asked whether it still lives before it is used.
pub(super) const IDLE_BEFORE_PING: Duration = Duration::from_secs(10);

/// Where a service's rows are.
#[derive(Clone, PartialEq, Eq)]
pub enum Location {
    /// SQLite in this process's memory: gone with it.
    Memory,
    /// A SQLite file.
    File(PathBuf),
    /// A PostgreSQL database.
    Postgres {
        /// `postgres://user:password@host:port/database`. A secret.
        url: String,
        /// The schema that holds the service's tables; made if it is not there.
        schema: String,
        /// How many connections this process opens at most.
        connections: u32,
    },
}

impl fmt::Debug for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{self}")
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => formatter.write_str("SQLite in memory"),
            Self::File(path) => write!(formatter, "SQLite {}", path.display()),
            Self::Postgres { schema, .. } => write!(formatter, "PostgreSQL, schema {schema}"),
        }
    }
}

impl Store {
    /// Opens the database and makes sure that it keeps what it acknowledges.
    pub async fn open(location: Location) -> Result<Self, StoreError> {
        Self::open_with(location, &[]).await
    }

    /// The same, with further settings for connections to PostgreSQL.
    pub(crate) async fn open_with(
        location: Location,
        settings: &'static [(&'static str, &'static str)],
    ) -> Result<Self, StoreError> {
        // With how many units of work there are at once, and how many sessions they may keep to themselves.
        let (writer, reader, permits, kept) = match &location {
            // One connection is the whole database: a second one would not see it, and readers need it, too.
            Location::Memory => {
                let only = Database::connect(sqlite_options(None, 1)).await?;
                (only.clone(), only, 1, 0)
            }
            Location::File(path) => {
                // Turning a new file to WAL answers BUSY, and waits for nobody, where others do the same.
                let _lock = super::migrate::lock_file(path.with_extension("lock")).await?;
                let writer = Database::connect(sqlite_options(Some(path), 1)).await?;
                let reader = Database::connect(sqlite_options(Some(path), SQLITE_READERS)).await?;
                (writer, reader, 1, 1)
            }
            Location::Postgres { url, schema, connections } => {
                let pool = Database::connect(postgres_options(url, schema, *connections, settings)).await?;
                must_be_durable(&pool).await?;
                (pool.clone(), pool, *connections, connections / KEPT_OF)
            }
        };
        let number = |number: u32| usize::try_from(number).unwrap_or(1);
        let permits = Arc::new(Semaphore::new(number(permits)));
        let sessions = Sessions::new(writer.clone(), location == Location::Memory, number(kept));
        let (units, committed) = (TaskTracker::new(), watch::Sender::new(()));
        Ok(Self(Arc::new(Inner { location, writer, reader, sessions, permits, units, committed })))
    }
}

/// Values of statements are never logged: they are people's data.
fn quiet(url: &str, connections: u32) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options.max_connections(connections).sqlx_logging(false).connect_timeout(CONNECT_TIMEOUT);
    options.acquire_timeout(CONNECT_TIMEOUT);
    options
}

fn sqlite_options(file: Option<&PathBuf>, connections: u32) -> ConnectOptions {
    let mut options = quiet(if file.is_some() { "sqlite://file" } else { "sqlite::memory:" }, connections);
    // A connection that is let go would take a database in memory with it.
    options.min_connections(1).idle_timeout(None).max_lifetime(None).test_before_acquire(false);
    let file = file.cloned();
    options.map_sqlx_sqlite_opts(move |options| {
        // Set here and not in the URL, which would read a `%` or `?` of the path as its own.
        let options = match &file {
            Some(path) => options.filename(path).create_if_missing(true),
            None => options,
        };
        options
            .journal_mode(sqlite::SqliteJournalMode::Wal)
            .synchronous(sqlite::SqliteSynchronous::Full)
            .foreign_keys(true)
            // What is deleted or overwritten is written over with zeros: erased is gone.
            .pragma("secure_delete", "on")
            .pragma("cache_size", if connections == 1 { WRITER_CACHE } else { READER_CACHE })
            .pragma("mmap_size", MAP)
            .pragma("wal_autocheckpoint", CHECKPOINT)
            .statement_cache_capacity(STATEMENTS)
            .busy_timeout(BUSY_TIMEOUT)
    });
    options
}

/// A connection for migrations: a backfill may take its time.
pub(super) async fn connect_for_migrations(url: &str, schema: &str) -> Result<DatabaseConnection, StoreError> {
    let mut options = quiet(url, 2);
    options.set_schema_search_path(schema);
    Ok(Database::connect(options).await?)
}

fn postgres_options(
    url: &str,
    schema: &str,
    connections: u32,
    settings: &'static [(&'static str, &'static str)],
) -> ConnectOptions {
    let mut options = quiet(url, connections);
    options.test_before_acquire_if_idle_for(IDLE_BEFORE_PING);
    let schema = format!("\"{schema}\"");
    // A URL that cannot be read is refused by who connects.
    let port = url.parse::<PgConnectOptions>().map_or(0, |options| options.get_port());
    options.map_sqlx_postgres_pool_opts(move |pool| {
        pool.after_connect(move |_, _| {
            Box::pin(async move {
                if let Err(error) = hurry(port) {
                    tracing::debug!(error = %error, "Connections to PostgreSQL may wait for acknowledgements");
                }
                Ok(())
            })
        })
    });
    options.map_sqlx_postgres_opts(move |options| {
        options.application_name("trivet").options(settings.iter().copied()).options([
            ("search_path", schema.as_str()),
            ("synchronous_commit", "on"),
            ("lock_timeout", "2s"),
            ("statement_timeout", "10s"),
            ("idle_in_transaction_session_timeout", "15s"),
            // No statement is worth compiling, which takes longer than any of them should; one that is planned before its
            // tables were analyzed is compiled all the same.
            ("jit", "off"),
        ])
    });
    options
}

/// Refuses a server that would lose acknowledged money in a crash.
async fn must_be_durable(pool: &DatabaseConnection) -> Result<(), StoreError> {
    let mut off = Vec::new();
    for setting in ["fsync", "full_page_writes", "synchronous_commit"] {
        let row = pool.query_one_raw(sql(pool, "select current_setting($1) as value", [setting.into()])).await?;
        let value: String =
            row.ok_or(StoreError::Impossible("PostgreSQL has no such setting"))?.try_get("", "value")?;
        if value == "off" {
            off.push(setting);
        }
    }
    if off.is_empty() {
        return Ok(());
    }
    Err(StoreError::NotDurable(format!(
        "PostgreSQL runs with {} off: it would lose acknowledged writes",
        off.join(", ")
    )))
}
