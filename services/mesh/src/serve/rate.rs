//! How often one caller may call: a token bucket (GCRA) for each API key and workload. Services of the house are not held
//! back: what they ask was let in elsewhere.

use std::{convert::Infallible, num::NonZeroU32, sync::Arc};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter, clock::Clock as _};
use http::Request;
use moka::{future::Cache, policy::EvictionPolicy};
use tonic::body::Body;

use super::identity::IdentitySettings;
use crate::{
    Caller, Context, Reason, Refusal,
    serve::complete::refuse,
    stack::{Next, Reply, Stage},
};

/// Callers that are remembered: some megabytes. Of more than that the one is forgotten who has not called for longest.
const CALLERS: u64 = 10_000;

/// See the module.
#[derive(Clone)]
pub(crate) struct Rate(Option<Buckets>);

/// What each caller still has.
#[derive(Clone)]
struct Buckets {
    quota: Quota,
    callers: Cache<Caller, Arc<DefaultDirectRateLimiter>>,
}

impl Rate {
    /// The rate that the settings name; none where they name none.
    pub(crate) fn new(settings: &IdentitySettings) -> Self {
        let quota = NonZeroU32::new(settings.calls_per_second)
            .map(|calls| Quota::per_second(calls).allow_burst(NonZeroU32::new(settings.burst).unwrap_or(calls)));
        let callers = || Cache::builder().max_capacity(CALLERS).eviction_policy(EvictionPolicy::lru()).build();
        Self(quota.map(|quota| Buckets { quota, callers: callers() }))
    }

    /// What a caller is told that calls too often.
    async fn check(&self, caller: &Caller) -> Result<(), Refusal> {
        let (Some(Buckets { quota, callers }), Caller::Key(_) | Caller::Workload(_)) = (&self.0, caller) else {
            return Ok(());
        };
        let bucket = match callers.get(caller).await {
            Some(bucket) => bucket,
            // On the heap, where it is no part of the way of all the others.
            None => Box::pin(callers.get_with(caller.clone(), async { Arc::new(RateLimiter::direct(*quota)) })).await,
        };
        bucket.check().map_err(|early| {
            let wait = early.wait_time_from(bucket.clock().now());
            let message = format!("{caller} calls more often than it may; nothing was begun");
            Refusal::new(Reason::RateLimited, message).with("caller", caller).retry_after(wait)
        })
    }
}

impl Stage<Infallible> for Rate {
    async fn run(&self, request: &mut Request<Body>, next: &impl Next<Infallible>) -> Reply<Infallible> {
        let Some(context) = request.extensions().get::<Context>() else { return next.go(request).await };
        match self.check(&context.caller).await {
            Ok(()) => next.go(request).await,
            Err(refusal) => Ok(refuse(&context.request_id, refusal)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn callers_without_end_are_not_remembered_and_who_calls_now_is() {
        let settings = IdentitySettings { calls_per_second: 1, burst: 2, ..IdentitySettings::default() };
        let rate = Rate::new(&settings);
        let caller = |number: u64| Caller::Key(number.to_string().into());
        for number in 0..2 * CALLERS {
            rate.check(&caller(number)).await.unwrap();
        }
        let last = caller(2 * CALLERS - 1);
        rate.check(&last).await.unwrap();
        assert_eq!(rate.check(&last).await.unwrap_err().reason(), Reason::RateLimited);
        rate.check(&caller(0)).await.unwrap();
        let Rate(Some(Buckets { callers, .. })) = rate else { panic!("there is a rate") };
        callers.run_pending_tasks().await;
        assert!(callers.entry_count() <= CALLERS, "{}", callers.entry_count());
    }
}
