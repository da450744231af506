//! Time and fresh ids, handed in rather than asked of the machine, so that a test can hold them.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::sync::watch;
use uuid::{ContextV7, Timestamp, Uuid};

/// Who waits for a time of day looks this often: the machine's clock may be set meanwhile.
const LOOK: Duration = Duration::from_secs(1);

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

    /// Reads a time as the wire carries it. What is finer than a microsecond is cut off.
    pub fn from_wire(wire: &prost_types::Timestamp) -> Result<Self, &'static str> {
        // The years 1 to 9999, as google/protobuf/timestamp.proto has it.
        let in_range = (-62_135_596_800..=253_402_300_799).contains(&wire.seconds);
        if in_range && (0..1_000_000_000).contains(&wire.nanos) {
            Ok(Self(wire.seconds * 1_000_000 + i64::from(wire.nanos) / 1_000))
        } else {
            Err("must be a time of the years 1 to 9999, its nanos between 0 and 999,999,999")
        }
    }

    /// The time `duration` later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// The time `duration` earlier.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long ago `earlier` was; nothing where it is still to come.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// Where the time of day and the randomness of ids come from. Cheap to clone; clones share one source.
#[derive(Clone)]
pub struct Clock(Arc<Inner>);

struct Inner {
    /// Microseconds at which a test holds the clock; `None` in production.
    held: Option<AtomicI64>,
    /// Changes whenever a held clock is moved.
    moved: watch::Sender<()>,
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
        Self(Arc::new(Inner { held, moved: watch::Sender::new(()), order: Mutex::new(ContextV7::new()) }))
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
            self.0.moved.send_replace(());
        }
    }

    /// Changes whenever a held clock is moved; of a running clock never. Who waits for a time of day waits for this, too.
    pub fn moved(&self) -> watch::Receiver<()> {
        self.0.moved.subscribe()
    }

    /// Waits until it is this time.
    pub(crate) async fn reach(&self, time: Time) {
        let mut moved = self.moved();
        loop {
            let left = time.since(self.now());
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(left.min(LOOK)) => {}
                Ok(()) = moved.changed() => {}
            }
        }
    }

    /// 256 bits that nobody can guess, for a secret: from the generator that the system seeds. Never held, not even by a
    /// held clock: a secret that can be foretold is none.
    pub fn secret_bytes(&self) -> [u8; 32] {
        rand::random()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_comes_back_from_the_wire_as_it_went() {
        for micros in [0, 1, -1, 1_700_000_000_123_456, -62_135_596_800_000_000, 253_402_300_799_999_999] {
            let time = Time::from_micros(micros);
            assert_eq!(Time::from_wire(&time.to_wire()), Ok(time));
        }
        assert_eq!(Time::from_wire(&prost_types::Timestamp { seconds: 1, nanos: 1_999 }), Ok(Time(1_000_001)));
    }

    #[test]
    fn a_time_that_no_calendar_has_is_refused() {
        for (seconds, nanos) in
            [(253_402_300_800, 0), (-62_135_596_801, 0), (i64::MAX, 0), (i64::MIN, 0), (0, -1), (0, 1_000_000_000)]
        {
            assert!(Time::from_wire(&prost_types::Timestamp { seconds, nanos }).is_err(), "{seconds} {nanos}");
        }
    }

    #[test]
    fn a_held_clock_holds_the_time_and_no_secret() {
        let clock = Clock::held(Time::from_micros(1));
        assert_eq!(clock.now(), clock.now());
        assert_ne!(clock.secret_bytes(), clock.secret_bytes());
    }
}
