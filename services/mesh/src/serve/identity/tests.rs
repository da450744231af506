//! What is true whoever calls.

use super::*;
use crate::{Telemetry, telemetry::code_of};

/// Handlers that nobody is to reach.
struct Nobody;

impl Next<Infallible> for Nobody {
    async fn go(&self, request: &mut Request<Body>) -> Reply<Infallible> {
        panic!("{request:?} is let in")
    }
}

#[tokio::test]
async fn a_call_that_nobody_opened_is_a_mistake_of_ours_and_let_in_nowhere() {
    for mode in [IdentityMode::Off, IdentityMode::Audit, IdentityMode::Enforce] {
        let identity = Identity(Arc::new(Inner {
            mode,
            house: String::new(),
            workloads: Arc::default(),
            keys: None,
            word: None,
            clock: Clock::system(),
            denied: Telemetry::quiet().unwrap().meter().u64_counter("denied").build(),
            said: RateLimiter::direct(Quota::per_second(SAID)),
        }));
        let response = identity.run(&mut Request::new(Body::empty()), &Nobody).await.unwrap();
        assert_eq!(code_of(&response), tonic::Code::Internal, "{mode:?}");
    }
}
