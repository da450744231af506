//! The bus inside of one process: telling an event is bringing it to every consumer there is. Its place in the way of
//! events is the outbox itself: an event is told once each consumer has it durably, and what was brought twice, because
//! the process ended in between, is felt once.

use std::sync::OnceLock;

use futures_util::future::join_all;
use tonic::async_trait;

use super::{
    CloudEvent, Consumer,
    bus::{Bus, Fate},
};
use crate::{chain, status::Finding};

/// See the module.
#[derive(Default)]
pub(super) struct Embedded(OnceLock<Vec<Consumer>>);

impl Embedded {
    /// Who is to be told. Said once, when all roles of the process are there.
    pub(super) fn connect(&self, consumers: Vec<Consumer>) {
        // A second time would be a bug, and changes nothing.
        let _ = self.0.set(consumers);
    }
}

#[async_trait]
impl Bus for Embedded {
    async fn tell(&self, events: &[CloudEvent]) -> Vec<Fate> {
        let consumers = self.0.get().map_or(&[][..], Vec::as_slice);
        let received = join_all(consumers.iter().map(async |consumer| {
            consumer.receive(events).await.map_err(|error| format!("{}: {}", consumer.name(), chain(&error)))
        }));
        let fate = received.await.into_iter().find_map(Result::err).map_or(Fate::Told, Fate::Later);
        vec![fate; events.len()]
    }

    async fn bring(&self, _: &Consumer) {
        // Telling does.
        std::future::pending::<()>().await;
    }

    fn is_away(&self) -> bool {
        false
    }

    async fn recovered(&self) {}

    async fn pending(&self, _: &str) -> Option<u64> {
        // What it has not brought is in the outboxes.
        Some(0)
    }

    async fn state(&self) -> Finding {
        Finding::Ok
    }
}
