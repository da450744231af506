//! Settings of events and of what carries them.

use serde::{Deserialize, Serialize};

use crate::config::Secret;

/// Settings of events.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct EventSettings {
    /// What carries events between processes: `nats://user:password@host:4222`, several with commas, with JetStream.
    /// Name and password are percent-encoded, and the same for all.
    /// Empty: nothing does, which is right only where all services run in one process.
    pub nats_url: Secret,
    /// The JetStream stream; made if it is not there. Its name in lower case is what subjects begin with. Two
    /// installations on one NATS have two streams.
    pub nats_stream: String,
    /// On how many servers of the cluster the stream is kept: 1, 3 or 5.
    pub nats_replicas: usize,
    /// Says that the NATS servers write to disk before they answer (`sync_interval: always`), which they cannot be asked.
    /// With one replica and without it, a server that loses power loses what it took last; `trivet events replay` brings
    /// it back.
    pub nats_sync_always: bool,
    /// How long the stream keeps events, in hours: as long as a consumer may be away.
    pub nats_max_age_hours: u64,
    /// How many bytes the stream keeps at most; -1 means as many as the server lets it. A stream that is full takes no
    /// more: events wait in the outboxes.
    pub nats_max_bytes: i64,
    /// Tells events as JSON, CloudEvents' structured mode, instead of protobuf in binary mode: larger and slower, for
    /// consumers that know no protobuf. Every consumer of ours reads both.
    pub nats_json: bool,
    /// How many bytes the data of an event has at most. One that has more is a dead letter. NATS itself takes 1 MiB,
    /// headers included, unless it is told otherwise.
    pub max_bytes: usize,
    /// How long an event that failed waits for its second try, in milliseconds; the wait doubles with each further try,
    /// of which there are eight.
    pub retry_ms: u64,
}

impl Default for EventSettings {
    fn default() -> Self {
        Self {
            nats_url: Secret::default(),
            nats_stream: "TRIVET".to_owned(),
            nats_replicas: 1,
            nats_sync_always: false,
            nats_max_age_hours: 7 * 24,
            nats_max_bytes: -1,
            nats_json: false,
            max_bytes: 1_000_000,
            retry_ms: 1_000,
        }
    }
}
