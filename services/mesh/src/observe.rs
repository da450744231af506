//! What flows through a process: who calls whom, how fast, and how that goes; the last calls, with their traces; and
//! calls as they end, for whoever wants to see them. All of it in memory and bounded. What is seen of a call has no part
//! of its messages, and nothing of whom it is about.
//!
//! A call pays some atomics and a short look into one of several rings for it, and makes nothing on the heap.

mod edges;
mod graph;
mod recent;
mod rpc;
mod slices;
mod taps;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, Weak},
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderValue};
use opentelemetry::trace::{SpanContext, SpanId};
use tonic::Code;

use crate::{Clock, Time, call::lock, header::CALLER};

pub(crate) use edges::Key;
pub(crate) use rpc::server;

use edges::Edges;
use recent::{Recent, Record};
use taps::Taps;

/// What is called in order to look. Observed, it would show the observer.
const LOOKS: [&str; 4] =
    ["/trivet.mesh.v1.ObserveService/", "/trivet.mesh.v1.StatusService/", "/grpc.health.v1.", "/grpc.reflection.v1"];

/// A clock that is further off than this from where it should be by now was set.
const CLOCK_SET: Duration = Duration::from_millis(1);

/// From where a call is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum View {
    /// By its caller.
    Caller,
    /// By its callee.
    Callee,
    /// By its callee, where its caller is in the same process and sees it, too.
    Echo,
}

/// Who a caller turned out to be: a service by its name, and what others are known by. It rides in the response, out to
/// where the call began to be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind(pub(crate) &'static str);

impl Kind {
    /// Who may not make the call, whoever it is.
    pub(crate) const NOBODY: Self = Self("refused");
}

/// Which calls to show. What is empty lets everything through.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// How the method begins.
    method: String,
    caller: String,
    callee: String,
    code: Option<Code>,
}

impl Filter {
    fn takes(&self, record: &Record) -> bool {
        let is = |wanted: &str, name: &str| wanted.is_empty() || wanted == name;
        let method = record.key.method.trim_start_matches('/').starts_with(self.method.trim_start_matches('/'));
        method
            && is(&self.caller, record.key.caller)
            && is(&self.callee, record.key.callee)
            && self.code.is_none_or(|code| code == record.code)
    }
}

/// What the breakers of a caller say of its calls to a peer, from the best to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Breakers {
    /// Every endpoint is called.
    Closed,
    /// One that was left alone is tried.
    HalfOpen,
    /// One is left alone.
    Open,
}

/// Who can say how its breakers are.
pub(crate) trait HasBreakers: Send + Sync {
    /// The worst of them.
    fn breakers(&self) -> Breakers;
}

/// Whose breakers.
struct Breakered {
    caller: &'static str,
    peer: &'static str,
    endpoints: Weak<dyn HasBreakers>,
}

/// What one process sees of its calls. Cheap to clone; clones share what they see.
#[derive(Clone)]
pub(crate) struct Observer(Arc<Inner>);

struct Inner {
    began: Instant,
    /// When that was by the clock, as it was last found.
    origin: Mutex<Option<Time>>,
    /// Who this process is to others: made up anew each time that it begins.
    process: String,
    /// By what this process knows calls of its own: told to peers and to nobody else.
    mark: String,
    /// The services of the contract that call each other: whoever else says that he calls, nobody knows.
    services: BTreeSet<&'static str>,
    /// Those that are served here.
    serving: Mutex<BTreeSet<&'static str>>,
    breakered: Mutex<Vec<Breakered>>,
    edges: Edges,
    recent: Recent,
    taps: Arc<Taps>,
}

/// One side of one call: who is between, where in its trace, for which request.
pub(crate) struct Place<'p> {
    pub(crate) key: Key,
    pub(crate) trace: &'p SpanContext,
    pub(crate) parent_id: SpanId,
    pub(crate) request_id: &'p Arc<str>,
}

/// A call under way. Dropped before its end, it was given up: CANCELLED.
pub(crate) struct Watch {
    observer: Observer,
    began: Instant,
    record: Option<Record>,
}

/// A role as it calls others.
#[derive(Clone, Debug)]
pub(crate) struct Label {
    pub(crate) role: &'static str,
    pub(crate) header: HeaderValue,
}

impl Observer {
    /// An observer that remembers so many bytes of recent calls.
    pub(crate) fn new(bytes: usize) -> Self {
        let id = || format!("{:016x}", rand::random::<u64>());
        let service = |method: &trivet_proto::Method| method.path.strip_prefix("/trivet.")?.split('.').next();
        let services = trivet_proto::METHODS.iter().filter_map(service).filter(|service| *service != "mesh");
        Self(Arc::new(Inner {
            began: Instant::now(),
            origin: Mutex::default(),
            process: id(),
            mark: id(),
            services: services.collect(),
            serving: Mutex::default(),
            breakered: Mutex::default(),
            edges: Edges::default(),
            recent: Recent::new(bytes),
            taps: Arc::default(),
        }))
    }

    /// When the process began, as far as its clock knows by now: clocks are set right while it runs, but no call shall
    /// be told to have been at another time each time that somebody asks.
    fn origin(&self, clock: &Clock) -> Time {
        let found = clock.now().minus(self.0.began.elapsed());
        let mut origin = lock(&self.0.origin);
        let known = origin.filter(|known| known.since(found).max(found.since(*known)) < CLOCK_SET);
        *origin.insert(known.unwrap_or(found))
    }

    /// Notes that this process serves a role.
    pub(crate) fn serves(&self, role: &'static str) {
        lock(&self.0.serving).insert(role);
    }

    /// How a role of this process calls itself.
    pub(crate) fn label(&self, role: &'static str) -> Option<Label> {
        let header = HeaderValue::from_str(&format!("{role}@{}", self.0.mark)).ok()?;
        Some(Label { role, header })
    }

    /// Which service calls with these headers, and from where that is seen; `None` where it is none that we know.
    pub(crate) fn caller(&self, headers: &HeaderMap) -> Option<(&'static str, View)> {
        let (name, mark) = headers.get(&CALLER)?.to_str().ok()?.split_once('@')?;
        let role = self.0.services.iter().find(|known| **known == name)?;
        Some((role, if mark == self.0.mark { View::Echo } else { View::Callee }))
    }

    /// Has the breakers between these two looked at, for as long as they live.
    pub(crate) fn watch_breakers<E>(&self, caller: &'static str, peer: &'static str, of: &Arc<E>)
    where
        E: HasBreakers + 'static,
    {
        let endpoints: Weak<E> = Arc::downgrade(of);
        let mut breakered = lock(&self.0.breakered);
        breakered.retain(|known| known.endpoints.strong_count() > 0);
        breakered.push(Breakered { caller, peer, endpoints });
    }

    /// Begins to watch a call that began then, unless it only looks.
    pub(crate) fn watch(&self, path: &str, began: Instant, place: &Place<'_>) -> Option<Watch> {
        if LOOKS.iter().any(|look| path.starts_with(look)) {
            return None;
        }
        let record = Record {
            key: place.key,
            code: Code::Cancelled,
            began: began.saturating_duration_since(self.0.began),
            took: Duration::ZERO,
            trace_id: place.trace.trace_id(),
            span_id: place.trace.span_id(),
            parent_id: place.parent_id,
            request_id: place.request_id.clone(),
        };
        Some(Watch { observer: self.clone(), began, record: Some(record) })
    }

    /// Counts another attempt of a call that is under way.
    pub(crate) fn retried(&self, key: Key) {
        self.0.edges.of(key).count_retry(self.0.began.elapsed());
    }
}

impl Watch {
    /// The call has ended so, after so long.
    pub(crate) fn end(mut self, code: Code, took: Duration) {
        self.note(code, took);
    }

    /// It is known who called, whatever it was that they said.
    pub(crate) fn by(&mut self, Kind(caller): Kind) {
        if let Some(record) = self.record.as_mut().filter(|record| record.key.caller != caller) {
            (record.key.caller, record.key.view) = (caller, View::Callee);
        }
    }

    fn note(&mut self, code: Code, took: Duration) {
        let Some(record) = self.record.take() else { return };
        let record = Record { code, took, ..record };
        let Inner { edges, recent, taps, .. } = &*self.observer.0;
        edges.of(record.key).count(record.began.saturating_add(took), code, took);
        taps.show(&record);
        recent.keep(record);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.note(Code::Cancelled, self.began.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_told_to_have_been_at_one_time_until_the_clock_is_set() {
        let (observer, clock) = (Observer::new(0), Clock::system());
        let origin = observer.origin(&clock);
        assert!((0..1_000).all(|_| observer.origin(&clock) == origin));
        let set = Clock::held(clock.now().plus(Duration::from_mins(1)));
        assert!(observer.origin(&set).since(origin) > Duration::from_secs(59));
    }

    #[test]
    fn only_a_service_of_the_contract_is_known_as_a_caller_and_only_here_as_one_of_our_own() {
        let (here, elsewhere) = (Observer::new(0), Observer::new(0));
        let seen = |observer: &Observer, value: &HeaderValue| {
            observer.caller(&HeaderMap::from_iter([(CALLER.clone(), value.clone())]))
        };
        let label = here.label("product").unwrap();
        assert_eq!(seen(&here, &label.header), Some(("product", View::Echo)));
        assert_eq!(seen(&elsewhere, &label.header), Some(("product", View::Callee)));
        for nobody in ["product", "mallory@1", "mesh@1", "", "@"] {
            assert_eq!(seen(&here, &HeaderValue::from_static(nobody)), None);
        }
    }
}
