//! A connection for as long as somebody needs it for himself: a unit of work, or a statement that is one.
//!
//! A pool asks whoever comes back whether he still lives, and hands its connections out in turn. Beside one caller that is a
//! second way to PostgreSQL for each unit of work, and another of its processes each time, which knows nothing yet; and it is a
//! turn of SQLite's one writer between any two batches. So some sessions stay here after a unit of work that the database
//! answered, and the one that was used last is taken first. Who waits at the pool comes before that.

use std::{
    sync::{Mutex as Quick, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::TryStreamExt as _;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult, RuntimeErr, Statement,
    prelude::async_trait::async_trait, sea_query::Values,
};
use sea_query_sqlx::SqlxValues;
use sqlx::{
    AssertSqlSafe, Connection as _, Database, Error, Executor as _, IntoArguments, Postgres, SqlSafeStr as _, Sqlite,
    pool::PoolConnection, query::Query,
};
use sqlx_core::transaction::TransactionManager as _;
use tokio::{sync::Mutex, time::Instant};

use super::{
    StoreError,
    migrate::wrapped,
    open::{CONNECT_TIMEOUT, IDLE_BEFORE_PING},
};

/// One that was kept for so long goes back to its pool, which knows when a connection has got too old.
const KEPT: Duration = Duration::from_mins(5);

/// One connection. Every statement on it is a transaction in itself, unless it is that of a [`Transaction`].
pub struct Session {
    connection: Mutex<Connection>,
    backend: DbBackend,
    /// Whether it is all that there is of its database.
    only: bool,
    /// Whether a transaction is under way.
    begun: bool,
    /// When it left its pool.
    left: Instant,
}

enum Connection {
    Postgres(PoolConnection<Postgres>),
    Sqlite(PoolConnection<Sqlite>),
}

/// Does the same with either kind of connection.
macro_rules! with {
    ($connection:expr, $name:ident: $kind:ident => $work:expr) => {
        match $connection {
            Connection::Postgres($name) => {
                type $kind = Postgres;
                $work
            }
            Connection::Sqlite($name) => {
                type $kind = Sqlite;
                $work
            }
        }
    };
}

/// A running transaction; made and ended by [`Unit::run`](super::Unit::run) only.
pub struct Transaction(Session);

impl Session {
    fn new(connection: Connection, backend: DbBackend, only: bool) -> Self {
        Self { connection: Mutex::new(connection), backend, only, begun: false, left: Instant::now() }
    }

    /// Has it closed rather than used again.
    pub(super) fn give_up(mut self) {
        self.close_on_drop();
    }

    fn close_on_drop(&mut self) {
        match self.connection.get_mut() {
            Connection::Postgres(connection) => connection.close_on_drop(),
            Connection::Sqlite(connection) if !self.only => connection.close_on_drop(),
            // All that it holds would be gone with it.
            Connection::Sqlite(_) => {}
        }
    }

    /// Whether it still lives.
    async fn answers(&mut self) -> bool {
        let ping = async {
            match self.connection.get_mut() {
                Connection::Postgres(connection) => connection.ping().await,
                Connection::Sqlite(connection) => connection.ping().await,
            }
        };
        matches!(tokio::time::timeout(CONNECT_TIMEOUT, ping).await, Ok(Ok(())))
    }

    /// Begins a transaction, on SQLite as the one that writes.
    #[allow(clippy::disallowed_methods, reason = "the one place where transactions begin")]
    pub(super) async fn begin(mut self) -> Result<Transaction, StoreError> {
        let immediate = (self.backend == DbBackend::Sqlite).then(|| "begin immediate".into_sql_str());
        // Before it is asked for: who gives up meanwhile may have begun it.
        self.begun = true;
        with!(self.connection.get_mut(), connection: Kind => {
            <Kind as Database>::TransactionManager::begin(connection, immediate).await
        })
        .map_err(asked)?;
        Ok(Transaction(self))
    }
}

impl Transaction {
    pub(super) async fn commit(self) -> Result<Session, StoreError> {
        let mut session = self.0;
        with!(session.connection.get_mut(), connection: Kind => {
            <Kind as Database>::TransactionManager::commit(connection).await
        })
        .map_err(asked)?;
        session.begun = false;
        Ok(session)
    }

    pub(super) async fn rollback(self) -> Result<Session, StoreError> {
        let mut session = self.0;
        with!(session.connection.get_mut(), connection: Kind => {
            <Kind as Database>::TransactionManager::rollback(connection).await
        })
        .map_err(asked)?;
        session.begun = false;
        Ok(session)
    }

    /// Carries out the statements of a text, one after the other, each with the parameters that come after those of the one
    /// before; says how many rows each wrote. For SQLite: PostgreSQL takes one at a time.
    pub(super) async fn execute_each(&self, statements: Statement) -> Result<Vec<u64>, StoreError> {
        let Connection::Sqlite(connection) = &mut *self.0.connection.lock().await else {
            return Err(StoreError::Impossible("several statements cannot be sent to PostgreSQL as one"));
        };
        let ended = connection.fetch_many(query::<Sqlite>(statements));
        let counts = ended.try_filter_map(async |ended| Ok(ended.left().map(|ended| ended.rows_affected())));
        Ok(counts.try_collect().await.map_err(executed)?)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.begun {
            return;
        }
        match self.connection.get_mut() {
            Connection::Sqlite(connection) if self.only => {
                <Sqlite as Database>::TransactionManager::start_rollback(connection);
            }
            // Nobody knows how far it has come; where its disk is full, SQLite ends it by itself, and sqlx does not know.
            _ => self.close_on_drop(),
        }
    }
}

fn query<Kind: Database>(statement: Statement) -> Query<'static, Kind, SqlxValues>
where
    SqlxValues: IntoArguments<Kind>,
{
    let values = statement.values.unwrap_or_else(|| Values(Vec::new()));
    sqlx::query_with(AssertSqlSafe(statement.sql), SqlxValues(values))
}

fn asked(error: Error) -> DbErr {
    DbErr::Query(RuntimeErr::SqlxError(error.into()))
}

fn executed(error: Error) -> DbErr {
    DbErr::Exec(RuntimeErr::SqlxError(error.into()))
}

#[async_trait]
impl ConnectionTrait for Session {
    fn get_database_backend(&self) -> DbBackend {
        self.backend
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        with!(&mut *self.connection.lock().await, connection: Kind => {
            query::<Kind>(statement).execute(&mut **connection).await.map(ExecResult::from)
        })
        .map_err(executed)
    }

    async fn execute_unprepared(&self, text: &str) -> Result<ExecResult, DbErr> {
        with!(&mut *self.connection.lock().await, connection: Kind => {
            sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut **connection).await.map(<ExecResult as From<<Kind as Database>::QueryResult>>::from)
        })
        .map_err(executed)
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        with!(&mut *self.connection.lock().await, connection: Kind => {
            query::<Kind>(statement).fetch_optional(&mut **connection).await.map(|row| row.map(QueryResult::from))
        })
        .map_err(asked)
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        with!(&mut *self.connection.lock().await, connection: Kind => {
            query::<Kind>(statement).fetch_all(&mut **connection).await.map(|rows| rows.into_iter().map(QueryResult::from).collect())
        })
        .map_err(asked)
    }
}

#[async_trait]
impl ConnectionTrait for Transaction {
    fn get_database_backend(&self) -> DbBackend {
        self.0.backend
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.0.execute_raw(statement).await
    }

    async fn execute_unprepared(&self, text: &str) -> Result<ExecResult, DbErr> {
        self.0.execute_unprepared(text).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.0.query_one_raw(statement).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.0.query_all_raw(statement).await
    }
}

/// The sessions of those who write.
pub(super) struct Sessions {
    pool: DatabaseConnection,
    /// Whether the pool's one connection is the whole database.
    only: bool,
    /// How many are kept.
    most: usize,
    here: Quick<Here>,
}

#[derive(Default)]
struct Here {
    /// The one that was used last at the end, each with when that was.
    kept: Vec<(Session, Instant)>,
    /// How many wait at the pool: whoever comes after them must not get a session first.
    waiting: usize,
    closed: bool,
}

/// Somebody who waits at the pool.
struct Waits<'s>(&'s Sessions);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.here().waiting -= 1;
    }
}

impl Sessions {
    pub(super) fn new(pool: DatabaseConnection, only: bool, most: usize) -> Self {
        Self { pool, only, most, here: Quick::default() }
    }

    fn here(&self) -> MutexGuard<'_, Here> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session. Whoever takes one has a permit, so that there is one for him.
    pub(super) async fn take(&self) -> Result<Session, StoreError> {
        while let Some((mut session, since)) = self.kept() {
            if since.elapsed() < IDLE_BEFORE_PING || session.answers().await {
                return Ok(session);
            }
            session.give_up();
        }
        let _waits = Waits(self);
        let backend = self.pool.get_database_backend();
        let connection = match backend {
            DbBackend::Postgres => self.pool.get_postgres_connection_pool().acquire().await.map(Connection::Postgres),
            _ => self.pool.get_sqlite_connection_pool().acquire().await.map(Connection::Sqlite),
        };
        Ok(Session::new(connection.map_err(wrapped)?, backend, self.only))
    }

    /// The session that was used last. Where there is none, one more waits at the pool.
    fn kept(&self) -> Option<(Session, Instant)> {
        let mut here = self.here();
        let kept = here.kept.pop();
        here.waiting += usize::from(kept.is_none());
        kept
    }

    /// Takes back a session on which nothing is under way.
    pub(super) fn give_back(&self, session: Session) {
        let now = Instant::now();
        let mut here = self.here();
        let room = here.kept.len() < self.most && here.waiting == 0 && !here.closed;
        if room && now.duration_since(session.left) < KEPT {
            here.kept.push((session, now));
        }
    }

    /// Gives those that are kept back to their pool.
    pub(super) fn let_go(&self) {
        self.here().kept.clear();
    }

    /// The same for good.
    pub(super) fn close(&self) {
        self.here().closed = true;
        self.let_go();
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::{ConnectOptions, Database};

    use super::*;

    /// Has time go by.
    async fn after(time: Duration) {
        tokio::time::pause();
        tokio::time::advance(time).await;
        // Timeouts would be over as soon as SQLite takes a moment.
        tokio::time::resume();
    }

    /// Sessions of a database of one connection, one of which may be kept.
    async fn sessions() -> Sessions {
        let mut options = ConnectOptions::new("sqlite::memory:");
        options.max_connections(1);
        Sessions::new(Database::connect(options).await.unwrap(), true, 1)
    }

    #[tokio::test]
    async fn a_session_is_kept_until_it_has_been_for_long() {
        let sessions = sessions().await;
        let first = sessions.take().await.unwrap();
        let left = first.left;
        sessions.give_back(first);
        for idle in [Duration::ZERO, IDLE_BEFORE_PING] {
            after(idle).await;
            let same = sessions.take().await.unwrap();
            assert_eq!(same.left, left);
            sessions.give_back(same);
        }
        after(KEPT).await;
        sessions.give_back(sessions.take().await.unwrap());
        assert_eq!(sessions.here().kept.len(), 0);
    }

    #[tokio::test]
    async fn who_waits_at_the_pool_is_not_overtaken() {
        let sessions = sessions().await;
        let taken = sessions.take().await.unwrap();
        let mut waiting = Box::pin(sessions.take());
        assert!(futures_util::poll!(&mut waiting).is_pending());
        let mut gone = Box::pin(sessions.take());
        assert!(futures_util::poll!(&mut gone).is_pending());
        drop(gone);
        sessions.give_back(taken);
        sessions.give_back(waiting.await.unwrap());
        assert_eq!(sessions.here().kept.len(), 1, "nobody waits any more");
    }

    #[tokio::test]
    async fn nothing_is_kept_once_it_is_closed() {
        let sessions = sessions().await;
        let taken = sessions.take().await.unwrap();
        sessions.close();
        sessions.give_back(taken);
        // The pool waits for all of them.
        tokio::time::timeout(Duration::from_secs(20), sessions.pool.close_by_ref()).await.unwrap().unwrap();
    }
}
