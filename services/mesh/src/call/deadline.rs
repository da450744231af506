//! Gives every call an end no later than its caller's: the incoming deadline less a margin, or our own default. What is
//! late already is not begun.

use http::Request;
use tokio::time::{Instant, timeout_at};
use tonic::{Status, body::Body};

use super::{CallSettings, attempt::Course};
use crate::{
    Context, Reason, Refusal,
    stack::{Next, Reply, Stage},
};

/// See the module.
#[derive(Clone)]
pub(super) struct Deadline {
    pub(super) peer: &'static str,
    pub(super) settings: CallSettings,
}

impl Stage<Status> for Deadline {
    async fn run(&self, request: &mut Request<Body>, next: &impl Next<Status>) -> Reply<Status> {
        let now = Instant::now();
        let own = now + self.settings.default_deadline;
        let incoming = request.extensions().get::<Context>().map(|context| context.deadline);
        let deadline = incoming.map_or(own, |incoming| own.min(incoming - self.settings.margin));
        if deadline <= now {
            return Err(late(self.peer, "no time was left to ask"));
        }
        request.extensions_mut().insert(Course::until(deadline));
        match timeout_at(deadline, next.go(request)).await {
            Ok(reply) => reply,
            Err(_) => Err(late(self.peer, "no answer in time from")),
        }
    }
}

fn late(peer: &'static str, what: &str) -> Status {
    Refusal::new(Reason::DeadlineExceeded, format!("{what} {peer}")).with("peer", peer).into()
}
