//! Being the one process that does a thing for a database, and being woken for it.
//!
//! On PostgreSQL it is the one whose session holds an advisory lock; the same session hears NOTIFY. Whoever loses the
//! session has lost the lead. On SQLite it is the one that has locked a file beside the database.

use std::{fs::File, path::Path, time::Duration};

use sea_orm::ConnectionTrait as _;
use sqlx::{Executor as _, Row as _, postgres::PgListener};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Location, Store, StoreError, migrate::wrapped, sql};

/// How long PostgreSQL may take to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A session that has heard nothing for so long is asked whether it lives.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Has PostgreSQL find out within half a minute that the machine of a session is gone, and give its lock away.
const KEEPALIVE: &str = "set tcp_keepalives_idle = 10; set tcp_keepalives_interval = 5; set tcp_keepalives_count = 3";

/// Somebody who could lead.
pub(crate) struct Candidate {
    store: Store,
    purpose: &'static str,
    /// Kept between two tries, so that waiting for the lead costs no connections.
    session: Option<PgListener>,
}

/// The lead. It ends when it is dropped, or when [`Lead::lost`] says so.
pub(crate) struct Lead {
    lost: CancellationToken,
    _hold: Hold,
}

enum Hold {
    /// Nobody else sees a database in memory.
    Alone,
    /// A lock on this file.
    File { _file: File },
    /// The task that holds the session.
    Session(JoinHandle<()>),
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Self::Session(task) = self {
            task.abort();
        }
    }
}

impl Store {
    /// A candidate for the lead in this purpose.
    pub(crate) fn candidate(&self, purpose: &'static str) -> Candidate {
        Candidate { store: self.clone(), purpose, session: None }
    }

    /// Wakes the process that leads in this purpose, wherever it is. What wakes nobody is no error: leaders look by
    /// themselves, too.
    pub(crate) async fn wake_leader(&self, purpose: &'static str) -> Result<(), StoreError> {
        if let Location::Postgres { schema, .. } = &self.0.location {
            let writer = &self.0.writer;
            let channel = channel(purpose, schema);
            writer.execute_raw(sql(writer, "select pg_notify($1, '')", [channel.into()])).await?;
        }
        Ok(())
    }
}

impl Candidate {
    /// Takes the lead if nobody has it.
    pub(crate) async fn lead(&mut self) -> Result<Option<Lead>, StoreError> {
        let lost = CancellationToken::new();
        let hold = match self.store.0.location.clone() {
            Location::Memory => Some(Hold::Alone),
            Location::File(path) => lock_file(&path, self.purpose)?.map(|file| Hold::File { _file: file }),
            Location::Postgres { url, schema, .. } => {
                let channel = channel(self.purpose, &schema);
                let session = tokio::time::timeout(CONNECT_TIMEOUT, self.lead_session(&url, &channel)).await;
                match session.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
                    Ok(session) => session.map(|session| self.hold(session, &lost)),
                    Err(error) => {
                        self.session = None;
                        return Err(wrapped(error));
                    }
                }
            }
        };
        Ok(hold.map(|hold| Lead { lost, _hold: hold }))
    }

    /// The session, once it has the lock and listens.
    async fn lead_session(&mut self, url: &str, channel: &str) -> Result<Option<PgListener>, sqlx::Error> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => PgListener::connect(url).await?,
        };
        // A session that breaks is given up for good: its successor would not hold the lock.
        session.eager_reconnect(false);
        let lock = sqlx::query("select pg_try_advisory_lock(hashtextextended($1, 0)) as locked").bind(channel);
        let locked: bool = session.fetch_one(lock).await?.try_get("locked")?;
        if !locked {
            self.session = Some(session);
            return Ok(None);
        }
        session.execute(KEEPALIVE).await?;
        session.listen(channel).await?;
        Ok(Some(session))
    }

    /// Keeps a session for as long as it lives, and wakes this process whenever another one says so.
    fn hold(&self, mut session: PgListener, lost: &CancellationToken) -> Hold {
        let guard = lost.clone().drop_guard();
        let store = self.store.clone();
        Hold::Session(tokio::spawn(async move {
            loop {
                match tokio::time::timeout(HEARTBEAT, session.try_recv()).await {
                    Ok(Ok(Some(_))) => {
                        store.0.committed.send_replace(());
                    }
                    Ok(_) => break,
                    // A session that only listens would never notice that nobody is there any more.
                    Err(_) => match tokio::time::timeout(CONNECT_TIMEOUT, session.execute("select 1")).await {
                        Ok(Ok(_)) => {}
                        _ => break,
                    },
                }
            }
            drop(guard);
        }))
    }
}

impl Lead {
    /// Comes back once the lead is lost. Until whoever takes it over has begun, two may lead for a moment: what they do
    /// must bear being done twice.
    pub(crate) async fn lost(&self) {
        self.lost.cancelled().await;
    }
}

/// The name of lock and channel alike. The schema is the operator's, not a caller's.
fn channel(purpose: &str, schema: &str) -> String {
    format!("trivet.{purpose}.{schema}")
}

fn lock_file(path: &Path, purpose: &str) -> Result<Option<File>, StoreError> {
    let file = File::create(path.with_extension(purpose)).map_err(StoreError::Lock)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(StoreError::Lock(error)),
    }
}
