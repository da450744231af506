//! When keys were last used. Authentication only notes it in memory: a write for every call that comes in would cost more
//! than the call. Every few seconds what was noted is written down, all of it at once.

use std::{
    collections::HashMap,
    future::Future,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mesh::{Context, Slug, Store, Tenant, Time, chain};
use tracing::warn;

use super::table;

/// How often it is written down: the `few seconds` of the contract.
const PERIOD: Duration = Duration::from_secs(5);
/// How much time there is to begin writing. Less than a drain grants work in the background.
const BUDGET: Duration = Duration::from_secs(3);
/// Keys that are remembered between two writings, some 2 MB of them. What is used beyond that is not noted until the
/// next writing makes room: the time that a key was used last is then late, as after a crash.
pub(super) const CAPACITY: usize = 10_000;
/// Keys written at once: two parameters each, of which SQLite takes 32,766.
const ROWS: usize = 1_000;

/// What was noted and not written down yet. Cheap to clone; clones share it.
#[derive(Clone, Default)]
pub(super) struct Usage(Arc<Mutex<HashMap<Slug, Time>>>);

impl Usage {
    /// Notes that a key was used.
    pub(super) fn note(&self, key_id: &Slug, time: Time) {
        let mut noted = self.noted();
        if let Some(last) = noted.get_mut(key_id) {
            *last = time.max(*last);
        } else if noted.len() < CAPACITY {
            noted.insert(key_id.clone(), time);
        }
    }

    /// Writes down what is noted, every few seconds until `end` and once more then.
    pub(super) async fn keep(self, store: Store, end: impl Future<Output = ()>) {
        let mut end = pin!(end);
        loop {
            let ended = tokio::select! {
                () = &mut end => true,
                () = tokio::time::sleep(PERIOD) => false,
            };
            self.write_down(&store).await;
            if ended {
                return;
            }
        }
    }

    /// Writes down what is noted. What cannot be written stays noted.
    pub(super) async fn write_down(&self, store: &Store) {
        let context = Context::own(Tenant::default_tenant(), BUDGET);
        let mut left = self.take();
        while !left.is_empty() {
            let rows = left.split_off(left.len().saturating_sub(ROWS));
            let unit = store.unit(&context);
            let written =
                unit.run(rows.clone(), |rows, transaction| Box::pin(table::note_usage(transaction, rows))).await;
            if let Err(error) = written {
                left.extend(rows);
                warn!(keys = left.len(), "When API keys were last used is not written down yet: {}", chain(&error));
                for (key_id, time) in left {
                    self.note(&key_id, time);
                }
                return;
            }
        }
    }

    /// Hands out what is noted, and forgets it.
    pub(super) fn take(&self) -> Vec<(Slug, Time)> {
        let mut noted: Vec<_> = self.noted().drain().collect();
        // In one order everywhere, so that two replicas do not lock the same rows crosswise.
        noted.sort_unstable();
        noted
    }

    /// The notes; nothing is awaited and nothing can panic while they are held.
    fn noted(&self) -> MutexGuard<'_, HashMap<Slug, Time>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
