//! Asks a second endpoint beside one that is slow, and takes whichever answer comes first (gRFC A6, "Hedging Policy", with
//! one hedged attempt), out of the budget of retries.
//!
//! What may be sent twice is sent a second time once half of its time is gone: an endpoint that takes calls and never answers
//! would leave none for another attempt. Where hedging is on, a read that takes longer than 95 of the last hundred of its rpc
//! is, too.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::{Either, select};
use opentelemetry::KeyValue;
use tokio::time::Instant;
use tonic::Status;
use trivet_proto::{Idempotency, Method};

use super::{
    attempt::{Call, is_illness},
    balance::lock,
    budget::Budget,
};
use crate::{
    Telemetry,
    stack::{Next, Reply},
    telemetry::code_of,
};

/// Answers that are remembered of each rpc, and how many there must be before one can be called slow.
const REMEMBERED: usize = 100;
const ENOUGH: usize = 20;
/// With less time than this, half of it is no fair trial.
const FAIR: Duration = Duration::from_secs(1);

/// How long the last answers of each rpc took.
type Times = Arc<Mutex<HashMap<&'static str, VecDeque<Duration>>>>;

/// See the module.
#[derive(Clone)]
pub(super) struct Hedge {
    /// Where hedging is on.
    times: Option<Times>,
    telemetry: Arc<Telemetry>,
    budget: Budget,
}

impl Hedge {
    pub(super) fn new(on: bool, telemetry: Arc<Telemetry>, budget: Budget) -> Self {
        Self { times: on.then(Times::default), telemetry, budget }
    }

    /// When a second endpoint is asked.
    fn when(&self, method: &Method, began: Instant, deadline: Instant) -> Option<Instant> {
        let half = Some(deadline.saturating_duration_since(began) / 2).filter(|half| *half >= FAIR);
        half.into_iter().chain(self.slow(method)).min().map(|wait| began + wait)
    }

    /// What only five of a hundred reads take longer than.
    fn slow(&self, method: &Method) -> Option<Duration> {
        let times = lock(self.times.as_ref()?);
        let times = times.get(method.path).filter(|times| times.len() >= ENOUGH)?;
        let mut sorted: Vec<Duration> = times.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() * 95 / 100).copied()
    }

    fn answered(&self, method: &Method, began: Instant) {
        let Some(times) = self.times.as_ref().filter(|_| method.idempotency == Idempotency::NoSideEffects) else {
            return;
        };
        let mut times = lock(times);
        let times = times.entry(method.path).or_default();
        if times.len() == REMEMBERED {
            times.pop_front();
        }
        times.push_back(began.elapsed());
    }
}

impl Hedge {
    /// Sends a call once more, after so many attempts; and a second time beside that, where it is slow and harms nobody.
    pub(super) async fn send(
        &self,
        (method, repeatable): (&'static Method, bool),
        (call, previous): (&Call, u32),
        next: &impl Next<Status>,
    ) -> Reply<Status> {
        let began = Instant::now();
        let when = if repeatable { self.when(method, began, call.course.deadline) } else { None };
        let mut request = call.request(previous);
        let mut first = std::pin::pin!(next.go(&mut request));
        let reply = match when {
            None => first.await,
            Some(when) => match tokio::time::timeout_at(when, first.as_mut()).await {
                Ok(reply) => reply,
                Err(_) if !self.budget.allows() => first.await,
                Err(_) => {
                    let what = [KeyValue::new("rpc.method", method.path.trim_start_matches('/'))];
                    self.telemetry.client_hedges.add(1, &what);
                    let mut request = call.request(previous);
                    // On the heap: rare, and as large as the first.
                    either(first, Box::pin(next.go(&mut request))).await
                }
            },
        };
        if is_well(&reply) {
            self.answered(method, began);
        }
        reply
    }
}

/// The first good answer; where neither is good, the later.
async fn either(
    first: impl Future<Output = Reply<Status>> + Unpin,
    second: impl Future<Output = Reply<Status>> + Unpin,
) -> Reply<Status> {
    match select(first, second).await {
        Either::Left((reply, _)) | Either::Right((reply, _)) if is_well(&reply) => reply,
        Either::Left((_, second)) => second.await,
        Either::Right((_, first)) => first.await,
    }
}

/// Whether a reply says something of what was asked for, be it a refusal.
fn is_well(reply: &Reply<Status>) -> bool {
    reply.as_ref().is_ok_and(|response| !is_illness(code_of(response)))
}
