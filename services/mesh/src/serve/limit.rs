//! How much is taken on at once: unary calls beyond a limit are refused at once, before they are old, and the limit follows
//! what the handlers can do.
//!
//! It is not the usual gradient of latencies: work that is committed together takes longer the more there is of it, and that
//! is how it gets done. The limit falls while calls take longer than anybody should wait for them and longer than they do
//! when little is going on; else it grows, as long as it is used. Reads leave some room for what moves money. Streams are
//! bounded by their connections; health, reflection and status are never refused.

use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use http::Request;
use tokio::time::Instant;
use tonic::body::Body;
use trivet_proto::{Idempotency, Method};

use crate::{
    Context, Reason, Refusal,
    serve::complete::refuse,
    stack::{Next, Reply, Stage},
};

/// The limit is never less or more than this.
const LEAST: u32 = 20;
const MOST: u32 = 2_000;
/// What reads leave to others, as a part of the limit: one in so many.
const ROOM: u32 = 5;
/// How long a call may take on average before there is too much of it: a tenth of the time that callers of the mesh have.
const PATIENCE: Duration = Duration::from_secs(1);
/// And how many times as long as when little is going on.
const SLOWER: u32 = 2;
/// The limit is set anew this often, if there were so many calls.
const WINDOW: Duration = Duration::from_millis(100);
const CALLS: u32 = 10;
/// So few at once are little.
const LITTLE: u32 = 8;
/// What a caller is asked to wait.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// Services whose calls are never refused: they say how things are.
const EXEMPT: [&str; 2] = ["/trivet.mesh.v1.StatusService/", "/trivet.mesh.v1.ObserveService/"];

/// See the module.
#[derive(Clone, Default)]
pub(crate) struct Limit(Arc<Gate>);

impl Stage<Infallible> for Limit {
    async fn run(&self, request: &mut Request<Body>, next: &impl Next<Infallible>) -> Reply<Infallible> {
        let limited = |method: &&Method| method.unary && !EXEMPT.iter().any(|exempt| method.path.starts_with(exempt));
        let context = request.extensions().get::<Context>();
        let Some((context, method)) = context.and_then(|context| Some((context, context.method.filter(limited)?)))
        else {
            return next.go(request).await;
        };
        let Some(place) = self.0.enter(method.idempotency == Idempotency::NoSideEffects) else {
            let message = "more is asked for than can be done in time; nothing was begun";
            return Ok(refuse(&context.request_id, Refusal::new(Reason::Overloaded, message).retry_after(RETRY_AFTER)));
        };
        let reply = next.go(request).await;
        place.done();
        reply
    }
}

/// The limit and what it follows.
struct Gate {
    in_flight: AtomicU32,
    limit: AtomicU32,
    window: Mutex<Window>,
}

/// What was seen since the limit was set.
struct Window {
    began: Instant,
    calls: u32,
    took: Duration,
    /// The most that were in flight.
    most: u32,
    /// How long a call takes when little is going on; nothing where that is not known.
    usual: Option<Duration>,
}

impl Default for Gate {
    fn default() -> Self {
        let window = Window { began: Instant::now(), calls: 0, took: Duration::ZERO, most: 0, usual: None };
        // Nothing is known yet, and who is refused for nothing is refused wrongly.
        Self { in_flight: AtomicU32::new(0), limit: AtomicU32::new(MOST), window: Mutex::new(window) }
    }
}

impl Gate {
    /// A place, if there is one.
    fn enter(&self, read: bool) -> Option<Place<'_>> {
        let limit = self.limit.load(Ordering::Relaxed);
        let limit = if read { limit - limit / ROOM } else { limit };
        let one_more = |in_flight| if in_flight < limit { Some(in_flight + 1) } else { None };
        let before = self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Place { gate: self, began: Instant::now(), among: before + 1 })
    }

    /// Learns from a call that was done.
    fn learn(&self, took: Duration, among: u32, now: Instant) {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.calls += 1;
        window.took = window.took.saturating_add(took);
        window.most = window.most.max(among);
        if window.calls < CALLS || now.saturating_duration_since(window.began) < WINDOW {
            return;
        }
        let average = window.took / window.calls;
        if window.most <= LITTLE {
            // Slowly, so that one slow second is not taken for how things are.
            window.usual = Some(window.usual.map_or(average, |usual| (usual * 7 + average) / 8));
        }
        let limit = next(self.limit.load(Ordering::Relaxed), average, window.usual, window.most);
        self.limit.store(limit, Ordering::Relaxed);
        *window = Window { began: now, calls: 0, took: Duration::ZERO, most: 0, usual: window.usual };
    }
}

/// The next limit.
fn next(limit: u32, average: Duration, usual: Option<Duration>, most: u32) -> u32 {
    let too_slow = average > PATIENCE && usual.is_none_or(|usual| average > usual * SLOWER);
    if too_slow {
        // From what there was rather than from what there might have been.
        return (limit.min(most) * 9 / 10).clamp(LEAST, MOST);
    }
    let used = most >= limit / 2;
    if used { (limit + limit / 10 + 1).min(MOST) } else { limit }
}

/// A call under way.
struct Place<'g> {
    gate: &'g Gate,
    began: Instant,
    /// How many there were with it when it began.
    among: u32,
}

impl Place<'_> {
    /// It came to its end; one that was given up says nothing of how long it would have taken.
    fn done(self) {
        let now = Instant::now();
        self.gate.learn(now - self.began, self.among, now);
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.gate.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Duration = Duration::from_millis(1_600);
    const QUICK: Duration = Duration::from_millis(5);

    /// Has the gate see this many windows of such calls.
    fn see(gate: &Gate, windows: u32, took: Duration, among: u32) {
        for _ in 0..windows {
            let end = Instant::now() + WINDOW * 2;
            gate.window.lock().unwrap().began = end - WINDOW;
            (0..CALLS).for_each(|_| gate.learn(took, among, end));
        }
    }

    fn limit(gate: &Gate) -> u32 {
        gate.limit.load(Ordering::Relaxed)
    }

    #[test]
    fn it_falls_while_calls_are_too_slow_and_grows_again_once_they_are_not() {
        let gate = Gate::default();
        see(&gate, 10, QUICK, 4);
        assert_eq!(limit(&gate), MOST);
        see(&gate, 1, SLOW, 500);
        assert_eq!(limit(&gate), 450, "from what there was");
        see(&gate, 100, SLOW, 500);
        assert_eq!(limit(&gate), LEAST);
        see(&gate, 100, QUICK, 5);
        assert_eq!(limit(&gate), LEAST, "it does not grow where it is not used");
        for _ in 0..100 {
            see(&gate, 1, QUICK, limit(&gate));
        }
        assert_eq!(limit(&gate), MOST);
    }

    #[test]
    fn what_always_takes_long_is_not_too_much_of_it() {
        let gate = Gate::default();
        see(&gate, 50, SLOW, 2);
        see(&gate, 50, SLOW * 3 / 2, 100);
        assert_eq!(limit(&gate), MOST);
        see(&gate, 1, SLOW * 3, 100);
        assert_eq!(limit(&gate), 90);
    }

    #[test]
    fn what_takes_longer_with_more_of_it_is_let_be_while_nobody_waits_for_long() {
        let gate = Gate::default();
        see(&gate, 50, Duration::from_millis(1), 1);
        see(&gate, 50, Duration::from_millis(900), 1_024);
        assert_eq!(limit(&gate), MOST);
    }

    #[test]
    fn reads_leave_room_and_whoever_goes_gives_the_place_back() {
        let gate = Gate::default();
        gate.limit.store(100, Ordering::Relaxed);
        let reads: Vec<_> = (0..200).filter_map(|_| gate.enter(true)).collect();
        assert_eq!(reads.len(), 80);
        let writes: Vec<_> = (0..200).filter_map(|_| gate.enter(false)).collect();
        assert_eq!(writes.len(), 20);
        drop(reads);
        assert!(gate.enter(true).is_some());
        drop(writes);
        assert_eq!(gate.in_flight.load(Ordering::Relaxed), 0);
    }
}
