//! Time and fresh ids, handed in rather than asked of the machine, so that a test can hold them.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime},
};

use uuid::{ContextV7, Timestamp, Uuid};

/// A point in time: microseconds since 1970-01-01T00:00:00Z, as the store keeps it and as finely as PostgreSQL could.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    sea_orm::DeriveValueType,
)]
pub struct Time(i64);

impl Time {
    /// A time from microseconds since the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// This time as the wire carries it.
    pub fn to_wire(self) -> prost_types::Timestamp {
        let nanos = i32::try_from(self.0.rem_euclid(1_000_000)).unwrap_or(0).saturating_mul(1_000);
        prost_types::Timestamp { seconds: self.0.div_euclid(1_000_000), nanos }
    }

    /// The time `duration` later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }
}

/// Where the time of day and the randomness of ids come from. Cheap to clone; clones share one source.
#[derive(Clone)]
pub struct Clock(Arc<Inner>);

struct Inner {
    /// Microseconds at which a test holds the clock; `None` in production.
    held: Option<AtomicI64>,
    /// Keeps ids of the same millisecond in the order in which they were made.
    order: Mutex<ContextV7>,
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self::with(None)
    }

    /// A clock that stands at `time` until [`Clock::advance`] moves it.
    pub fn held(time: Time) -> Self {
        Self::with(Some(AtomicI64::new(time.0)))
    }

    fn with(held: Option<AtomicI64>) -> Self {
        Self(Arc::new(Inner { held, order: Mutex::new(ContextV7::new()) }))
    }

    /// The time of day.
    pub fn now(&self) -> Time {
        match &self.0.held {
            Some(held) => Time(held.load(Ordering::SeqCst)),
            None => machine_time(),
        }
    }

    /// Moves a held clock forward. A running clock moves by itself and stays as it is.
    pub fn advance(&self, by: Duration) {
        if let Some(held) = &self.0.held {
            held.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
        }
    }

    /// A UUID of version 7 (RFC 9562): its order is the order of making, within this process.
    pub(crate) fn uuid(&self) -> Uuid {
        let micros = u64::try_from(self.now().0).unwrap_or(0);
        let nanos = u32::try_from(micros % 1_000_000).unwrap_or(0).saturating_mul(1_000);
        Uuid::new_v7(Timestamp::from_unix(&self.0.order, micros / 1_000_000, nanos))
    }
}

#[allow(clippy::disallowed_methods, reason = "this is where the machine's clock is read")]
fn machine_time() -> Time {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Time(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
}
