//! Where a service keeps its rows: SQLite on a laptop, PostgreSQL in a cluster, the same statements on both.
//!
//! SQLite has one writer, and every transaction takes it at once (BEGIN IMMEDIATE): a deferred one fails with BUSY as
//! soon as two of them want to write. PostgreSQL keeps each service in a schema of its own, so that three services can
//! share a database or not.

mod columns;
mod error;
mod hurry;
mod lead;
mod migrate;
mod open;
mod rows;
mod session;
mod together;
mod unit;
mod writes;

use std::sync::Arc;

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement, Value};
use tokio::sync::{Semaphore, watch};
use tokio_util::task::TaskTracker;

pub use columns::UnknownName;
pub use error::StoreError;
pub(crate) use lead::{Candidate, Lead};
pub use migrate::{Migration, MigrationState};
pub use open::Location;
pub use rows::{Kind, Rows};
pub use sea_orm::{ConnectionTrait as Connection, DeriveValueType as Column, FromQueryResult as Row, Value as Cell};
pub use session::{Session, Transaction};
pub use together::{bytes, read_together};
pub use unit::{AtOnce, Unit, Work};
pub use writes::Writes;

use crate::{Context, TokenKey};
use session::Sessions;

/// A service's database. Cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    location: Location,
    writer: DatabaseConnection,
    reader: DatabaseConnection,
    /// Connections of the writer.
    sessions: Sessions,
    /// As many units of work at once as there are connections for them: a flood of calls that are given up does not
    /// become a flood of transactions.
    permits: Arc<Semaphore>,
    /// The units under way. Drain waits for them.
    units: TaskTracker,
    /// Says that a unit of work was committed, here or, to a process that leads, elsewhere.
    committed: watch::Sender<()>,
}

impl Store {
    /// The connection for statements that only read. Money is read here too: on PostgreSQL it is the primary.
    pub fn reader(&self) -> &DatabaseConnection {
        &self.0.reader
    }

    /// Whether units of work run one after the other, whatever they write.
    pub(crate) fn has_one_writer(&self) -> bool {
        self.0.writer.get_database_backend() == DbBackend::Sqlite
    }

    /// Prepares a unit of work: the only way to write.
    pub fn unit<'s>(&'s self, context: &'s Context) -> Unit<'s> {
        Unit::new(self, context)
    }

    /// Changes after every commit of a unit of work in this process, and when another process wakes a leader.
    pub fn committed(&self) -> watch::Receiver<()> {
        self.0.committed.subscribe()
    }

    /// What page tokens of this service are authenticated with: made once, kept in the database, shared by all replicas.
    pub async fn token_key(&self) -> Result<TokenKey, StoreError> {
        let fresh: [u8; 32] = rand::random();
        let _permit = self.0.permits.acquire().await.map_err(|_| StoreError::Closed)?;
        let writer = self.0.sessions.take().await?;
        let insert = "insert into secrets (name, secret) values ('page_token', $1) on conflict do nothing";
        writer.execute_raw(sql(&writer, insert, [fresh.to_vec().into()])).await?;
        let select = sql(&writer, "select secret from secrets where name = 'page_token'", []);
        let row =
            writer.query_one_raw(select).await?.ok_or(StoreError::Impossible("the page token key is not there"))?;
        self.0.sessions.give_back(writer);
        let secret: Vec<u8> = row.try_get("", "secret")?;
        Ok(TokenKey(secret.try_into().map_err(|_| StoreError::Impossible("the page token key has not 32 bytes"))?))
    }

    /// Takes what was overwritten out of the files beside the database, too: SQLite's log keeps old pages until it is
    /// written into the file and cut. False where somebody read the old pages for so long that they are still there.
    /// PostgreSQL's own files need `vacuum full`, which is for an operator to choose the hour of.
    pub async fn forget_the_past(&self) -> Result<bool, StoreError> {
        if !self.has_one_writer() {
            return Ok(true);
        }
        let permit = self.0.permits.clone().acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let store = self.clone();
        // In a task of its own: a statement that is given up half way would come back to the pool under way.
        let checkpoint = self.0.units.spawn(async move {
            let _permit = permit;
            let writer = store.0.sessions.take().await?;
            let row = writer.query_one_raw(sql(&writer, "pragma wal_checkpoint(truncate)", [])).await?;
            store.0.sessions.give_back(writer);
            let busy: i64 = row.ok_or(StoreError::Impossible("a checkpoint says nothing"))?.try_get("", "busy")?;
            Ok(busy == 0)
        });
        checkpoint.await.map_err(StoreError::Panicked)?
    }

    /// Asks the database for nothing, to see whether it answers. Whoever stops waiting does no harm.
    pub(crate) async fn answers(&self) -> Result<(), StoreError> {
        let reader = self.0.reader.clone();
        // In a task of its own: a statement that is given up half way would come back to the pool under way.
        let asked = self.0.units.spawn(async move {
            reader.query_one_raw(sql(&reader, "select 1", [])).await?;
            Ok(())
        });
        asked.await.map_err(StoreError::Panicked)?
    }

    /// Waits until every unit of work has ended, then closes the connections.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.0.permits.close();
        self.0.units.close();
        self.0.units.wait().await;
        self.0.sessions.close();
        self.0.writer.close_by_ref().await?;
        self.0.reader.close_by_ref().await?;
        Ok(())
    }
}

/// A raw statement. Parameters are `$1`, `$2`, .. on both databases.
pub fn sql(connection: &impl ConnectionTrait, text: &str, values: impl IntoIterator<Item = Value>) -> Statement {
    Statement::from_sql_and_values(connection.get_database_backend(), text, values)
}

/// The number that a statement of one row and one column answers, `select count(*) ..` mostly.
pub async fn count(
    connection: &impl ConnectionTrait,
    text: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<i64, StoreError> {
    let row = connection.query_one_raw(sql(connection, text, values)).await?;
    Ok(row.ok_or(StoreError::Impossible("a count has no row"))?.try_get_by_index(0)?)
}

/// `$first, ..` for a list of `count` parameters.
pub fn placeholders(first: usize, count: usize) -> String {
    let names: Vec<String> = (first..first + count).map(|position| format!("${position}")).collect();
    names.join(", ")
}

/// `($1, $2), ($3, $4)` for this many rows of this width.
pub fn tuples(rows: usize, width: usize) -> String {
    let tuple = |row: usize| {
        let names: Vec<String> = (1..=width).map(|column| format!("${}", row * width + column)).collect();
        format!("({})", names.join(", "))
    };
    (0..rows).map(tuple).collect::<Vec<_>>().join(", ")
}

/// What every service's schema begins with: secrets that its replicas share.
pub const SECRETS: Migration = Migration::new(
    "m0000_secrets",
    "
    create table secrets (
        name   text primary key,
        secret bytea not null
    );
    ",
);

/// The clause that keeps a row read in a transaction from changing until its end. SQLite needs none: the transaction
/// holds the one writer already.
pub fn lock_clause(connection: &impl ConnectionTrait) -> &'static str {
    match connection.get_database_backend() {
        DbBackend::Postgres => " for update",
        _ => "",
    }
}

/// A pattern for `like .. escape '\'` that finds `text` anywhere; `%` and `_` in it mean themselves.
pub fn contains_pattern(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for character in text.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_question_whose_asker_goes_away_is_still_asked_to_its_end() {
        let store = Store::open(Location::Memory).await.unwrap();
        for _ in 0..10 {
            assert!(futures_util::poll!(Box::pin(store.answers())).is_pending(), "it takes a while, and is given up");
        }
        assert_eq!(store.0.units.len(), 10, "statements that the closing waits for");
        store.answers().await.unwrap();
        store.close().await.unwrap();
        assert!(store.0.units.is_empty());
        assert!(matches!(store.answers().await, Err(StoreError::Unavailable(_))));
    }
}
