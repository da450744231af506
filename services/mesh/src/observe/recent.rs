//! What was called lately, as both sides saw it: rings of fixed size, the oldest out first. Several of them, so that calls
//! that end at the same moment do not wait for each other; nobody holds one for longer than it takes to look through it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use opentelemetry::trace::{SpanId, TraceId};
use serde::{Deserialize, Serialize};
use tonic::Code;

use super::{Filter, View, edges::Key};
use crate::call::lock;

/// Rings. A process has few processors, and each is in one for well under a microsecond.
const RINGS: usize = 8;
/// What a request id takes on the average, with the counts beside it: ours have 30 bytes. Longer ones drive out others.
const ID_BYTES: usize = 64;
/// The counts of an `Arc`.
const ARC_BYTES: usize = 16;

/// One call as one side saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Between whom, and who saw it.
    pub(crate) key: Key,
    /// How it ended.
    pub(crate) code: Code,
    /// When it began, as the time since the process did.
    pub(crate) began: Duration,
    /// How long it took.
    pub(crate) took: Duration,
    pub(crate) trace_id: TraceId,
    pub(crate) span_id: SpanId,
    /// [`SpanId::INVALID`] where there is none.
    pub(crate) parent_id: SpanId,
    pub(crate) request_id: Arc<str>,
}

/// Where a reader of recent calls is: at the last one that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Cursor {
    ended_nanos: u64,
    span_id: u64,
}

/// What a trace goes by.
pub(super) enum Known {
    Trace(TraceId),
    Request(String),
}

/// See the module.
pub(super) struct Recent {
    rings: [Mutex<Ring>; RINGS],
    limits: Limits,
}

/// What one ring holds.
#[derive(Clone, Copy)]
struct Limits {
    records: usize,
    id_bytes: usize,
}

#[derive(Default)]
struct Ring {
    records: VecDeque<Record>,
    id_bytes: usize,
}

impl Record {
    fn ended(&self) -> Duration {
        self.began.saturating_add(self.took)
    }

    /// Whether it stands for its call: what the same process sees from its other side does not count again.
    pub(crate) fn counts(&self) -> bool {
        self.key.view != View::Echo
    }
}

impl Cursor {
    pub(super) fn of(record: &Record) -> Self {
        let ended_nanos = u64::try_from(record.ended().as_nanos()).unwrap_or(u64::MAX);
        Self { ended_nanos, span_id: u64::from_be_bytes(record.span_id.to_bytes()) }
    }
}

impl Recent {
    /// Rings that hold so many bytes together; none where that is less than a record each.
    pub(super) fn new(bytes: usize) -> Self {
        let records = bytes / RINGS / (size_of::<Record>() + ID_BYTES);
        let limits = Limits { records, id_bytes: records * ID_BYTES };
        Self { rings: Default::default(), limits }
    }

    /// Keeps a record, and lets go of the oldest where there is no room.
    pub(super) fn keep(&self, record: Record) {
        let [.., last] = record.span_id.to_bytes();
        let Some(ring) = self.rings.get(usize::from(last) % RINGS) else { return };
        let mut ring = lock(ring);
        if ring.records.capacity() == 0 {
            // At once and for good, so that it never grows past its share; the system gives memory as it is touched.
            ring.records.reserve_exact(self.limits.records);
        }
        ring.keep(record, self.limits);
    }

    /// Calls that the filter lets through and that ended before the cursor, the last to end first, this many at most.
    pub(super) fn calls(&self, filter: &Filter, before: Option<Cursor>, most: u64) -> Vec<Record> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let wanted = |record: &&Record| {
            record.counts() && filter.takes(record) && before.is_none_or(|before| Cursor::of(record) < before)
        };
        self.last(most, wanted)
    }

    /// All that belongs to a trace, the last to end first, this many at most.
    pub(super) fn trace(&self, known: &Known, most: usize) -> Vec<Record> {
        self.last(most, |record| match known {
            Known::Trace(trace_id) => record.trace_id == *trace_id,
            Known::Request(request_id) => *record.request_id == **request_id,
        })
    }

    fn last(&self, most: usize, wanted: impl Fn(&&Record) -> bool) -> Vec<Record> {
        let mut found = Vec::new();
        for ring in &self.rings {
            found.extend(lock(ring).records.iter().rev().filter(&wanted).take(most).cloned());
        }
        found.sort_unstable_by_key(|record| std::cmp::Reverse(Cursor::of(record)));
        found.truncate(most);
        found
    }
}

impl Ring {
    fn keep(&mut self, record: Record, limits: Limits) {
        let bytes = record.request_id.len() + ARC_BYTES;
        while self.records.len() >= limits.records || self.id_bytes + bytes > limits.id_bytes {
            let Some(oldest) = self.records.pop_front() else { return };
            self.id_bytes -= oldest.request_id.len() + ARC_BYTES;
        }
        self.id_bytes += bytes;
        self.records.push_back(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(number: u64, request_id: &str) -> Record {
        let method = if number.is_multiple_of(2) { "/trivet.a/Even" } else { "/trivet.a/Odd" };
        Record {
            key: Key { view: View::Caller, caller: "product", callee: "account", method },
            code: Code::Ok,
            began: Duration::from_micros(number),
            took: Duration::from_millis(1),
            trace_id: TraceId::from(u128::from(number / 10) + 1),
            span_id: SpanId::from(number + 1),
            parent_id: SpanId::INVALID,
            request_id: request_id.into(),
        }
    }

    fn bytes(recent: &Recent) -> usize {
        let ring = |ring: &Mutex<Ring>| {
            let ring = ring.lock().unwrap();
            let ids: usize = ring.records.iter().map(|record| record.request_id.len() + ARC_BYTES).sum();
            assert_eq!(ids, ring.id_bytes);
            ring.records.capacity() * size_of::<Record>() + ids
        };
        recent.rings.iter().map(ring).sum()
    }

    #[test]
    fn the_oldest_go_and_the_bytes_stay_under_the_cap() {
        const CAP: usize = 256 * 1024;
        for length in [1, 30, 128] {
            let recent = Recent::new(CAP);
            let id = "x".repeat(length);
            for number in 0..10_000 {
                recent.keep(record(number, &id));
                assert!(number % 100 > 0 || bytes(&recent) <= CAP, "{}", bytes(&recent));
            }
            assert!(bytes(&recent) <= CAP, "{}", bytes(&recent));
            let kept = recent.calls(&Filter::default(), None, 10_000);
            assert!((400..2_000).contains(&kept.len()), "{} with ids of {length} bytes", kept.len());
            let expected: Vec<u64> = (0..10_000).rev().take(kept.len() - RINGS).collect();
            let last = kept.iter().map(|record| u64::try_from(record.began.as_micros()).unwrap());
            assert_eq!(last.take(expected.len()).collect::<Vec<_>>(), expected, "the last ones, in order");
        }
    }

    #[test]
    fn what_has_no_room_for_a_record_keeps_none() {
        let recent = Recent::new(1_000);
        recent.keep(record(1, "a"));
        assert_eq!(recent.calls(&Filter::default(), None, 10), []);
    }

    #[test]
    fn pages_go_on_where_the_one_before_ended_while_others_come() {
        let recent = Recent::new(1024 * 1024);
        (0..95).for_each(|number| recent.keep(record(number, "a")));
        let (mut seen, mut cursor) = (Vec::new(), None);
        for _ in 0..11 {
            let page = recent.calls(&Filter::default(), cursor, 10);
            cursor = page.last().map(Cursor::of).or(cursor);
            seen.extend(page.iter().map(|record| record.began.as_micros()));
            recent.keep(record(1_000 + u64::try_from(seen.len()).unwrap(), "a"));
        }
        assert_eq!(seen, (0..95).rev().collect::<Vec<_>>());
    }

    #[test]
    fn a_trace_is_found_by_its_id_and_by_the_request_that_it_was_made_for() {
        let recent = Recent::new(1024 * 1024);
        (0..100).for_each(|number| recent.keep(record(number, if number < 7 { "first" } else { "later" })));
        let found = |known| recent.trace(&known, 50).len();
        assert_eq!(found(Known::Trace(TraceId::from(3_u128))), 10);
        assert_eq!(found(Known::Trace(TraceId::from(300_u128))), 0);
        assert_eq!(found(Known::Request("first".to_owned())), 7);
        assert_eq!(found(Known::Request("later".to_owned())), 50, "no more than asked for");
    }
}
