//! The stream: made where there is none, set right where it is not as it must be.

use std::time::Duration;

use async_nats::jetstream::{
    Context,
    context::GetStreamErrorKind,
    stream::{Config, DiscardPolicy, RetentionPolicy, StorageType, Stream},
};
use futures_util::StreamExt as _;
use tracing::warn;

use crate::{chain, events::EventSettings};

/// How long the server knows that it took an id. A relay that was killed comes again within seconds; what comes later,
/// the inbox knows.
const DUPLICATES: Duration = Duration::from_mins(2);

/// The subject of a type of event, `trivet.account.user.created`.
pub(super) fn subject(settings: &EventSettings, source: &str, kind: &str) -> String {
    format!("{}.{source}.{kind}", settings.nats_stream.to_lowercase())
}

/// The parts of a stream's configuration that the guarantees rest on, or that are settings.
fn wanted(settings: &EventSettings, config: Config) -> Config {
    Config {
        name: settings.nats_stream.clone(),
        subjects: vec![format!("{}.>", settings.nats_stream.to_lowercase())],
        // A stream in memory would lose with the server what the outboxes no longer tell by themselves.
        storage: StorageType::File,
        // Every service has its own place in it, and strangers too.
        retention: RetentionPolicy::Limits,
        // A stream that is full takes no more, and loses nothing that somebody has not heard yet.
        discard: DiscardPolicy::New,
        duplicate_window: DUPLICATES,
        max_age: Duration::from_secs(settings.nats_max_age_hours.saturating_mul(3_600)),
        max_bytes: settings.nats_max_bytes,
        num_replicas: settings.nats_replicas,
        ..config
    }
}

/// Makes the stream, or sets right what of it is otherwise. The error says what the server does not do.
pub(super) async fn make_or_check(jetstream: &Context, settings: &EventSettings) -> Result<(), String> {
    let name = &settings.nats_stream;
    let fresh = Config {
        description: Some("What the services of Trivet tell each other".to_owned()),
        max_messages: -1,
        max_messages_per_subject: -1,
        max_message_size: -1,
        ..Config::default()
    };
    match jetstream.get_stream(name).await {
        Ok(stream) => {
            forget_who_is_ahead(&stream).await?;
            let found = stream.cached_info().config.clone();
            let wanted = wanted(settings, found.clone());
            if wanted == found {
                return Ok(());
            }
            let updated = jetstream.update_stream(&wanted).await;
            updated.map(|_| ()).map_err(|error| format!("stream {name} cannot be set right: {}", chain(&error)))
        }
        Err(error) if is_missing(&error.kind()) => {
            let made = jetstream.create_stream(wanted(settings, fresh)).await;
            made.map(|_| ()).map_err(|error| format!("stream {name} cannot be made: {}", chain(&error)))
        }
        Err(error) => Err(format!("JetStream does not answer: {}", chain(&error))),
    }
}

/// What a consumer of ours says of itself: the others are their owners' business.
pub(super) fn description(consumer: &str) -> String {
    format!("What {consumer} hears")
}

/// Takes away every consumer of ours that has heard more than there is: a server that lost power may have kept how far they were
/// and lost what they heard last. They would pass over as many events as were lost; made anew, they hear all that there
/// is, and the inboxes know what they felt. This must be before anything new is told.
async fn forget_who_is_ahead(stream: &Stream) -> Result<(), String> {
    let last = stream.cached_info().state.last_sequence;
    let mut consumers = stream.consumers();
    while let Some(consumer) = consumers.next().await {
        let consumer = consumer.map_err(|error| chain(&error))?;
        let ours = consumer.config.description.as_ref().is_some_and(|text| *text == description(&consumer.name));
        let heard = consumer.delivered.stream_sequence.max(consumer.ack_floor.stream_sequence);
        if ours && heard > last {
            warn!("The stream lost events that {} has heard: it hears all that is left again", consumer.name);
            stream.delete_consumer(&consumer.name).await.map_err(|error| chain(&error))?;
        }
    }
    Ok(())
}

fn is_missing(kind: &GetStreamErrorKind) -> bool {
    matches!(kind, GetStreamErrorKind::JetStream(error)
        if error.error_code() == async_nats::jetstream::ErrorCode::STREAM_NOT_FOUND)
}
