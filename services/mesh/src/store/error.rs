//! What can go wrong with a store, told apart by what a caller can do about it.

use std::time::Duration;

use sea_orm::{DbErr, RuntimeErr};
use sqlx::Error as SqlxError;

use crate::{Reason, Refusal};

/// After what time asking a store again makes sense.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// A store that did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection, or it broke. Nothing was done.
    #[error("the database cannot be reached")]
    Unavailable(#[source] DbErr),
    /// Others were at the same rows. Nothing was done.
    #[error("the transaction collided with others")]
    Conflict(#[source] DbErr),
    /// Others kept rows for longer than one waits for them. Nothing was done.
    #[error("others hold the rows")]
    Held(#[source] DbErr),
    /// A unique constraint stood in the way. Nothing was done.
    #[error("{constraint} is taken")]
    Unique {
        /// The constraint's name on PostgreSQL; on SQLite the columns it is over.
        constraint: String,
        /// What the database said.
        #[source]
        source: DbErr,
    },
    /// The connection broke while COMMIT was under way: it may have been done.
    #[error("the connection broke during the commit")]
    OutcomeUnknown(#[source] DbErr),
    /// The deadline was too near to begin. Nothing was done.
    #[error("there was no time left to begin")]
    OutOfTime,
    /// The unit of work panicked. Nothing was done.
    #[error("the unit of work panicked")]
    Panicked(#[source] tokio::task::JoinError),
    /// The store is closed: the process is going away. Nothing was done.
    #[error("the store is closed")]
    Closed,
    /// A row that holds what the code never writes.
    #[error("a stored outcome cannot be read or written")]
    Row(#[from] serde_json::Error),
    /// The work gave up, and says why. Nothing was done.
    #[error("{cause}")]
    GivenUp {
        /// Why.
        cause: String,
        /// Whether trying again is of no use.
        for_good: bool,
    },
    /// The rows contradict each other.
    #[error("{0}")]
    Impossible(&'static str),
    /// The database is set up so that it could lose what it acknowledged.
    #[error("{0}")]
    NotDurable(String),
    /// The file that keeps two processes from migrating at once cannot be had.
    #[error("the migration lock cannot be taken")]
    Lock(#[source] std::io::Error),
    /// What went wrong with a commit of several.
    #[error(transparent)]
    Together(std::sync::Arc<StoreError>),
    /// Anything else: a bug, or a database that is not what it should be.
    #[error("a statement failed")]
    Statement(#[source] DbErr),
}

impl StoreError {
    /// That others hold what is asked for, which was found out without waiting for it.
    pub fn held(cause: &'static str) -> Self {
        Self::Held(DbErr::Custom(cause.to_owned()))
    }

    /// Whether it says something of the database and nothing of what was asked of it: the same again may well do.
    pub fn is_passing(&self) -> bool {
        if let Self::Together(error) = self {
            return error.is_passing();
        }
        matches!(
            self,
            Self::Unavailable(_)
                | Self::OutcomeUnknown(_)
                | Self::OutOfTime
                | Self::Closed
                | Self::Conflict(_)
                | Self::Held(_)
        )
    }

    /// Whether the unique constraint of this name stood in the way. Such constraints are named `table_column`, after
    /// their last column, because SQLite tells the columns and not the name.
    pub fn violates(&self, name: &str) -> bool {
        match self {
            Self::Unique { constraint, .. } => {
                constraint == name || constraint.split(", ").any(|column| column.replacen('.', "_", 1) == name)
            }
            _ => false,
        }
    }
}

impl From<DbErr> for StoreError {
    fn from(error: DbErr) -> Self {
        let kind = match &error {
            DbErr::ConnectionAcquire(_) => Kind::Unavailable,
            DbErr::Conn(RuntimeErr::SqlxError(cause))
            | DbErr::Exec(RuntimeErr::SqlxError(cause))
            | DbErr::Query(RuntimeErr::SqlxError(cause)) => classify(cause),
            _ => Kind::Statement,
        };
        match kind {
            Kind::Unavailable => Self::Unavailable(error),
            Kind::Conflict => Self::Conflict(error),
            Kind::Held => Self::Held(error),
            Kind::Unique(constraint) => Self::Unique { constraint, source: error },
            Kind::Statement => Self::Statement(error),
        }
    }
}

enum Kind {
    Unavailable,
    Conflict,
    Held,
    Unique(String),
    Statement,
}

fn classify(error: &SqlxError) -> Kind {
    let SqlxError::Database(database) = error else {
        return match error {
            SqlxError::Io(_)
            | SqlxError::Tls(_)
            | SqlxError::Protocol(_)
            | SqlxError::PoolTimedOut
            | SqlxError::PoolClosed
            | SqlxError::WorkerCrashed => Kind::Unavailable,
            _ => Kind::Statement,
        };
    };
    if database.is_unique_violation() {
        // SQLite: "UNIQUE constraint failed: accounts.tenant_id, accounts.email_key".
        let told = database.message().rsplit("failed: ").next().unwrap_or_default();
        return Kind::Unique(database.constraint().unwrap_or(told).to_owned());
    }
    match database.code().as_deref() {
        // PostgreSQL: serialization failure, deadlock. SQLite: BUSY, LOCKED, BUSY_RECOVERY, BUSY_SNAPSHOT.
        Some("40001" | "40P01" | "5" | "6" | "261" | "517") => Kind::Conflict,
        // PostgreSQL: lock timeout. A statement that ran into its timeout waited for others, too.
        Some("55P03" | "57014") => Kind::Held,
        // PostgreSQL: a primary that became a replica, a connection left in a failed transaction, and a database that does
        // not take connections at present.
        Some("25006" | "25P03" | "55000") => Kind::Unavailable,
        // PostgreSQL: the server is starting, stopping or full (classes 57 and 53), or the connection failed (class 08).
        Some(code) if code.starts_with("57") || code.starts_with("53") || code.starts_with("08") => Kind::Unavailable,
        _ => Kind::Statement,
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let kind = match &error {
            StoreError::Together(shared) => shared,
            alone => alone,
        };
        match kind {
            StoreError::Unavailable(_) | StoreError::Closed => {
                Self::new(Reason::StoreUnavailable, "the database cannot be reached; nothing was done")
                    .retry_after(RETRY_AFTER)
                    .because(error)
            }
            StoreError::Conflict(_) | StoreError::Held(_) => {
                Self::new(Reason::Conflict, "others were changing the same rows; nothing was done, send it again")
                    .retry_after(RETRY_AFTER)
                    .because(error)
            }
            StoreError::OutcomeUnknown(_) => {
                Self::new(Reason::OutcomeUnknown, "the call may have happened; the same request id tells")
                    .retry_after(RETRY_AFTER)
                    .because(error)
            }
            StoreError::OutOfTime => Self::new(Reason::DeadlineExceeded, "no time was left to begin; nothing was done"),
            StoreError::Unique { .. }
            | StoreError::Panicked(_)
            | StoreError::Row(_)
            | StoreError::GivenUp { .. }
            | StoreError::Impossible(_)
            | StoreError::NotDurable(_)
            | StoreError::Lock(_)
            | StoreError::Together(_)
            | StoreError::Statement(_) => Self::internal(error),
        }
    }
}

impl From<StoreError> for tonic::Status {
    fn from(error: StoreError) -> Self {
        Refusal::from(error).into()
    }
}
