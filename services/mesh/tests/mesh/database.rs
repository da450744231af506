//! Fresh databases for the tests of the store: a SQLite file always, PostgreSQL where it is given.

use std::{io::Write as _, panic::AssertUnwindSafe, time::Duration};

use futures_util::{FutureExt as _, future::BoxFuture};
use mesh::{
    Clock, Context, Store, StoreError, Tenant, claim, id,
    store::{Location, Migration, Row, Transaction, sql},
};
use sea_orm::ConnectionTrait as _;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use crate::house::in_time;

/// Connections of one store to PostgreSQL; more than one, so that calls really meet.
const CONNECTIONS: u32 = 4;

const NOTES: Migration = Migration::new(
    "m0001_notes",
    "
    create table notes (
        note text primary key,
        line bigint not null
    );
    ",
);

/// The schema that the tests write to.
pub(crate) const MIGRATIONS: &[Migration] = &[mesh::store::SECRETS, claim::MIGRATION, NOTES];

/// An empty database, that any number of stores can be opened on.
pub(crate) struct Database {
    location: Location,
}

impl Database {
    /// A store, as one process has it.
    pub(crate) async fn open(&self) -> Store {
        Store::open(self.location.clone()).await.unwrap()
    }

    /// A store with its schema.
    pub(crate) async fn store(&self) -> Store {
        let store = self.open().await;
        store.migrate(MIGRATIONS).await.unwrap();
        store
    }

    /// Where it is.
    pub(crate) fn location(&self) -> Location {
        self.location.clone()
    }

    /// How many units of work a store has under way at once.
    pub(crate) fn units(&self) -> usize {
        if let Location::Postgres { .. } = self.location { usize::try_from(CONNECTIONS).unwrap() } else { 1 }
    }

    /// Takes the database away from under this store. PostgreSQL's is dropped; a file cannot be taken from who has it
    /// open, so that there the connections go.
    pub(crate) async fn take_away(&self, store: &Store) {
        let Location::Postgres { url, .. } = &self.location else { return store.close().await.unwrap() };
        let name = url.split('?').next().and_then(|url| url.rsplit('/').next()).unwrap();
        let mut admin = PgConnection::connect(&setting("TRIVET_TEST_POSTGRES_URL").unwrap()).await.unwrap();
        admin.execute(AssertSqlSafe(format!("drop database {name} with (force)"))).await.unwrap();
    }

    /// Closes this store and counts the lines of a note with another one: what is there, is there for all.
    pub(crate) async fn lines_after(&self, store: Store, note: &str) -> i64 {
        store.close().await.unwrap();
        lines(&self.open().await, note).await
    }
}

/// Runs the test on every sort of database there is, each time on a fresh one.
pub(crate) async fn on_each_database(test: impl AsyncFn(&Database)) {
    let folder = tempfile::tempdir().unwrap();
    let file = Database { location: Location::File(folder.path().join("test.db")) };
    in_time("SQLite", test(&file)).await;
    record("sqlite");
    match setting("TRIVET_TEST_POSTGRES_URL") {
        Some(url) => {
            on_postgres(&url, &test).await;
            record("postgres");
        }
        // Past the capture of a passing test's output: who runs the tests must hear of it.
        None => writeln!(std::io::stderr(), "left out on PostgreSQL: TRIVET_TEST_POSTGRES_URL is not set").unwrap(),
    }
}

async fn on_postgres(url: &str, test: &impl AsyncFn(&Database)) {
    let name = id::fresh("mesh_test", &Clock::system());
    let mut admin = PgConnection::connect(url).await.unwrap();
    admin.execute(AssertSqlSafe(format!("create database {name}"))).await.unwrap();
    let url = at_database(url, &name);
    let database =
        Database { location: Location::Postgres { url, schema: "notes".to_owned(), connections: CONNECTIONS } };
    let ended = AssertUnwindSafe(in_time("PostgreSQL", test(&database))).catch_unwind().await;
    admin.execute(AssertSqlSafe(format!("drop database if exists {name} with (force)"))).await.unwrap();
    if let Err(panic) = ended {
        eprintln!("on PostgreSQL:");
        std::panic::resume_unwind(panic);
    }
}

/// The same server, another database.
fn at_database(url: &str, name: &str) -> String {
    let (server, parameters) = url.split_once('?').map_or((url, None), |(server, rest)| (server, Some(rest)));
    let (server, _) = server.rsplit_once('/').unwrap();
    parameters.map_or(format!("{server}/{name}"), |parameters| format!("{server}/{name}?{parameters}"))
}

/// Says that a test ran on this sort of database, to whoever must make sure of it.
fn record(backend: &str) {
    if let Some(path) = setting("TRIVET_TEST_RECORD") {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(format!("{backend}\n").as_bytes()).unwrap();
    }
}

#[allow(clippy::disallowed_methods, reason = "what tests are steered with is no setting of the mesh")]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A call with time enough.
pub(crate) fn context() -> Context {
    Context::own(Tenant::default_tenant(), Duration::from_secs(20))
}

/// How many lines this note has.
pub(crate) async fn lines(store: &Store, note: &str) -> i64 {
    #[derive(Row)]
    struct Count {
        lines: i64,
    }
    let reader = store.reader();
    let text = "select count(*) as lines from notes where note = $1 or note like $2";
    let count = sql(reader, text, [note.into(), format!("{note}/%").into()]);
    Count::find_by_statement(count).one(reader).await.unwrap().unwrap().lines
}

/// Work that writes a note of two lines, one after the other.
pub(crate) fn write<'a>(note: &'a String, transaction: &'a Transaction) -> BoxFuture<'a, Result<(), StoreError>> {
    Box::pin(async move {
        for line in 1..=2_i64 {
            let text = "insert into notes (note, line) values ($1, $2)";
            let insert = sql(transaction, text, [format!("{note}/{line}").into(), line.into()]);
            transaction.execute_raw(insert).await?;
        }
        Ok(())
    })
}
