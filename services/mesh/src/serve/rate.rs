//! How often one caller may call: a token bucket (GCRA) for each API key and workload. Services of the house are not held
//! back: what they ask was let in elsewhere.

use std::{convert::Infallible, num::NonZeroU32, sync::Arc};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock as _};
use http::Request;
use tonic::body::Body;

use super::identity::IdentitySettings;
use crate::{
    Caller, Context, Reason, Refusal,
    serve::complete::refuse,
    stack::{Next, Reply, Stage},
};

/// Callers that are remembered before those are forgotten who have not called for a while.
const CALLERS: usize = 10_000;

/// See the module.
#[derive(Clone)]
pub(crate) struct Rate(Option<Arc<DefaultKeyedRateLimiter<Caller>>>);

impl Rate {
    /// The rate that the settings name; none where they name none.
    pub(crate) fn new(settings: &IdentitySettings) -> Self {
        let quota = NonZeroU32::new(settings.calls_per_second)
            .map(|calls| Quota::per_second(calls).allow_burst(NonZeroU32::new(settings.burst).unwrap_or(calls)));
        Self(quota.map(|quota| Arc::new(RateLimiter::keyed(quota))))
    }

    /// What a caller is told that calls too often.
    fn check(&self, caller: &Caller) -> Result<(), Refusal> {
        let (Some(limiter), Caller::Key(_) | Caller::Workload(_)) = (&self.0, caller) else { return Ok(()) };
        limiter.check_key(caller).map_err(|early| {
            if limiter.len() > CALLERS {
                limiter.retain_recent();
            }
            let wait = early.wait_time_from(limiter.clock().now());
            let message = format!("{caller} calls more often than it may; nothing was begun");
            Refusal::new(Reason::RateLimited, message).with("caller", caller).retry_after(wait)
        })
    }
}

impl Stage<Infallible> for Rate {
    async fn run(&self, request: &mut Request<Body>, next: &impl Next<Infallible>) -> Reply<Infallible> {
        let Some(context) = request.extensions().get::<Context>() else { return next.go(request).await };
        match self.check(&context.caller) {
            Ok(()) => next.go(request).await,
            Err(refusal) => Ok(refuse(&context.request_id, refusal)),
        }
    }
}
