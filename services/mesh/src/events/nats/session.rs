//! One service's place in the stream: a durable pull consumer, read by the one process that leads for the service's
//! database.
//!
//! JetStream brings what was not acknowledged again only after a while, and until then what came later: out of order.
//! So each session makes the consumer anew, right behind the last message up to which all were acknowledged, and one that
//! notices that a message did not arrive ends. What is heard twice then, the inbox knows.

use std::time::Duration;

use async_nats::jetstream::{
    Context, ErrorCode, Message,
    consumer::{AckPolicy, DeliverPolicy, PullConsumer, ReplayPolicy, pull},
    context::ConsumerInfoErrorKind,
    message::AckKind,
};
use futures_util::StreamExt as _;
use tracing::warn;

use super::{Nats, message, stream::description};
use crate::{
    chain,
    events::{CloudEvent, Consumer, consumer::BATCH},
};

/// How long the server waits for an acknowledgement before it brings a message again.
const ACK_WAIT: Duration = Duration::from_secs(30);
/// Messages that are on the way at once.
const ON_THE_WAY: usize = 512;
/// A session that hears nothing at all for twice this long begins anew.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long one request for messages stands.
const REQUEST: Duration = Duration::from_secs(30);
/// The waits while the service's database is away: the first, and the longest.
const STORE_WAIT: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];

/// Brings the consumer what is told, until that cannot go on; says why.
pub(super) async fn run(nats: &Nats, consumer: &Consumer) -> String {
    let failed = async {
        let stream = nats.settings.nats_stream.as_str();
        let place = place(&nats.jetstream, stream, consumer.name()).await?;
        let messages = place
            .stream()
            .max_messages_per_batch(ON_THE_WAY)
            .heartbeat(HEARTBEAT)
            .expires(REQUEST)
            .messages()
            .await
            .map_err(|error| chain(&error))?;
        nats.said.store(false, std::sync::atomic::Ordering::Relaxed);
        let mut batches = messages.ready_chunks(BATCH);
        let mut expected = 1;
        while let Some(batch) = batches.next().await {
            let batch: Result<Vec<Message>, _> = batch.into_iter().collect();
            let batch = batch.map_err(|error| chain(&error))?;
            receive(consumer, &batch, &mut expected).await?;
        }
        Err::<(), String>("the session ended".to_owned())
    };
    failed.await.err().unwrap_or_default()
}

/// Receives messages in their order, and acknowledges them once that is durable.
async fn receive(consumer: &Consumer, batch: &[Message], expected: &mut u64) -> Result<(), String> {
    let mut events = Vec::with_capacity(batch.len());
    for message in batch {
        let place = message.info().map_err(|error| error.to_string())?;
        if place.consumer_sequence != *expected {
            return Err(format!("message {expected} did not arrive, {} did", place.consumer_sequence));
        }
        *expected += 1;
        events.push(message::read(message, &place));
    }
    receive_for_sure(consumer, &events, batch).await;
    for message in batch {
        message.ack().await.map_err(|error| format!("nothing can be acknowledged: {error}"))?;
    }
    Ok(())
}

/// Waits for a database that is away, and asks the server for patience.
async fn receive_for_sure(consumer: &Consumer, events: &[CloudEvent], batch: &[Message]) {
    let mut wait = STORE_WAIT[0];
    while let Err(error) = consumer.receive(events).await {
        if wait == STORE_WAIT[0] {
            warn!("{} cannot receive events for now: {}", consumer.name(), chain(&error));
        }
        tokio::time::sleep(wait).await;
        wait = wait.saturating_mul(2).min(STORE_WAIT[1]);
        for message in batch {
            // Where even that cannot be said, the messages come again.
            let _ = message.ack_with(AckKind::Progress).await;
        }
    }
}

/// The durable consumer, made anew behind the last message up to which all were acknowledged: whatever was on its way to
/// somebody who is gone comes again at once, and before what is later.
async fn place(jetstream: &Context, stream: &str, name: &str) -> Result<PullConsumer, String> {
    let handle = jetstream.get_stream_no_info(stream).await.map_err(|error| chain(&error))?;
    let begin = match handle.consumer_info(name).await {
        Ok(found) => {
            handle.delete_consumer(name).await.map_err(|error| chain(&error))?;
            DeliverPolicy::ByStartSequence { start_sequence: found.ack_floor.stream_sequence + 1 }
        }
        // From the beginning: what was felt before is known.
        Err(error) if is_missing(&error.kind()) => DeliverPolicy::All,
        Err(error) => return Err(chain(&error)),
    };
    let config = pull::Config {
        durable_name: Some(name.to_owned()),
        description: Some(description(name)),
        deliver_policy: begin,
        ..config()
    };
    handle.create_consumer(config).await.map_err(|error| chain(&error))
}

fn config() -> pull::Config {
    pull::Config {
        ack_policy: AckPolicy::Explicit,
        ack_wait: ACK_WAIT,
        replay_policy: ReplayPolicy::Instant,
        // As often as it takes: what fails is a matter of the service's own letters, not of the bus.
        max_deliver: -1,
        max_ack_pending: i64::try_from(ON_THE_WAY * 2).unwrap_or(i64::MAX),
        ..pull::Config::default()
    }
}

fn is_missing(kind: &ConsumerInfoErrorKind) -> bool {
    match kind {
        ConsumerInfoErrorKind::NotFound => true,
        ConsumerInfoErrorKind::JetStream(error) => error.error_code() == ErrorCode::CONSUMER_NOT_FOUND,
        _ => false,
    }
}
