//! Taps: who wants to see calls as they end. Calls pay a look at one number while nobody does, and never wait for anybody
//! who is slow to read.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use tokio::sync::mpsc::{self, Receiver, Sender};

use super::{Filter, recent::Record};

/// Taps of a process at once: each is asked of every call.
pub(super) const TAPS: usize = 16;
/// Calls that wait for the reader of a tap; a tenth of a second of ten thousand calls a second.
const WAITING: usize = 1_024;

/// Everybody who listens.
#[derive(Default)]
pub(super) struct Taps {
    /// How many there are: all that a call looks at while it is none.
    count: AtomicUsize,
    ends: RwLock<Vec<Arc<End>>>,
}

/// A call, and how many before it were to be shown and found no room.
type Shown = (Arc<Record>, u64);

/// Our end of a tap.
struct End {
    filter: Filter,
    sender: Sender<Shown>,
    /// Since the last one that found room.
    missed: AtomicU64,
}

/// A tap, up to its drop.
pub(crate) struct Tap {
    receiver: Receiver<Shown>,
    end: Arc<End>,
    taps: Arc<Taps>,
}

impl Taps {
    /// Begins to listen; `None` where too many do.
    pub(super) fn listen(self: &Arc<Self>, filter: Filter) -> Option<Tap> {
        let (sender, receiver) = mpsc::channel(WAITING);
        let end = Arc::new(End { filter, sender, missed: AtomicU64::new(0) });
        let mut ends = self.ends.write().unwrap_or_else(PoisonError::into_inner);
        if ends.len() >= TAPS {
            return None;
        }
        ends.push(end.clone());
        self.count.store(ends.len(), Ordering::Relaxed);
        drop(ends);
        Some(Tap { receiver, end, taps: self.clone() })
    }

    /// Shows a call to whoever wants to see it.
    pub(super) fn show(&self, record: &Record) {
        if self.count.load(Ordering::Relaxed) == 0 || !record.counts() {
            return;
        }
        let ends = self.ends.read().unwrap_or_else(PoisonError::into_inner);
        let mut shared = None;
        for end in ends.iter().filter(|end| end.filter.takes(record)) {
            let record = shared.get_or_insert_with(|| Arc::new(record.clone())).clone();
            let missed = end.missed.swap(0, Ordering::Relaxed);
            if end.sender.try_send((record, missed)).is_err() {
                end.missed.fetch_add(missed + 1, Ordering::Relaxed);
            }
        }
    }
}

impl Tap {
    /// The next call.
    pub(super) async fn next(&mut self) -> Option<Shown> {
        self.receiver.recv().await
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        let mut ends = self.taps.ends.write().unwrap_or_else(PoisonError::into_inner);
        ends.retain(|end| !Arc::ptr_eq(end, &self.end));
        self.taps.count.store(ends.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use opentelemetry::trace::{SpanId, TraceId};
    use tonic::Code;

    use super::*;
    use crate::observe::{View, edges::Key};

    fn record(view: View, method: &'static str, code: Code) -> Record {
        Record {
            key: Key { view, caller: "product", callee: "account", method },
            code,
            began: Duration::ZERO,
            took: Duration::ZERO,
            trace_id: TraceId::INVALID,
            span_id: SpanId::INVALID,
            parent_id: SpanId::INVALID,
            request_id: "a".into(),
        }
    }

    #[tokio::test]
    async fn a_tap_shows_what_its_filter_lets_through_and_each_call_once() {
        let taps = Arc::new(Taps::default());
        let check = async |filter: Filter, shown: &[&str]| {
            let mut tap = taps.listen(filter).unwrap();
            taps.show(&record(View::Caller, "/trivet.account.v1.AccountService/GetAccount", Code::NotFound));
            taps.show(&record(View::Echo, "/trivet.account.v1.AccountService/GetAccount", Code::NotFound));
            taps.show(&record(View::Callee, "/trivet.account.v1.ApiKeyService/ListApiKeys", Code::Ok));
            for method in shown {
                let (record, missed) = tap.next().await.unwrap();
                assert!(record.key.method.ends_with(method), "{record:?}");
                assert_eq!(missed, 0);
            }
            assert!(tap.receiver.try_recv().is_err());
        };
        let any = Filter::default;
        check(any(), &["GetAccount", "ListApiKeys"]).await;
        check(Filter { method: "trivet.account.v1.Acc".into(), ..any() }, &["GetAccount"]).await;
        check(Filter { method: "/trivet.account.v1.Api".into(), ..any() }, &["ListApiKeys"]).await;
        check(Filter { caller: "billing".into(), ..any() }, &[]).await;
        check(Filter { callee: "account".into(), code: Some(Code::Ok), ..any() }, &["ListApiKeys"]).await;
    }

    #[tokio::test]
    async fn who_does_not_read_holds_up_nobody_and_hears_what_was_missed() {
        let taps = Arc::new(Taps::default());
        let mut tap = taps.listen(Filter::default()).unwrap();
        let call = record(View::Callee, "/trivet.a/B", Code::Ok);
        let (many, waiting) = (u64::try_from(WAITING).unwrap() + 500, u64::try_from(WAITING).unwrap());
        (0..many).for_each(|_| taps.show(&call));
        for _ in 0..waiting {
            assert_eq!(tap.next().await.unwrap().1, 0);
        }
        taps.show(&call);
        assert_eq!(tap.next().await.unwrap().1, 500);
        taps.show(&call);
        assert_eq!(tap.next().await.unwrap().1, 0, "it is told once");
    }

    #[tokio::test]
    async fn a_tap_that_is_dropped_makes_room_for_another() {
        let taps = Arc::new(Taps::default());
        let all: Vec<_> = (0..TAPS).map(|_| taps.listen(Filter::default()).unwrap()).collect();
        assert!(taps.listen(Filter::default()).is_none());
        drop(all);
        assert_eq!(taps.count.load(Ordering::Relaxed), 0, "calls look at nothing else again");
        assert!(taps.listen(Filter::default()).is_some());
    }
}
