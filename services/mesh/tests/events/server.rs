//! NATS as an operator or a stranger sees it: not through the mesh.

use async_nats::{HeaderMap, jetstream};

use crate::{ground::Ground, waiting::in_time};

/// A connection of the test's own.
pub(crate) async fn jetstream(url: &str) -> jetstream::Context {
    jetstream::new(in_time("NATS", async_nats::connect(url)).await.unwrap())
}

/// The stream of this ground, as it is now.
pub(crate) async fn stream(ground: &Ground) -> jetstream::stream::Stream {
    let jetstream = jetstream(&ground.nats_url).await;
    in_time("the stream", jetstream.get_stream(&ground.stream)).await.unwrap()
}

/// Tells a message that no relay wrote, and answers where it stands in the stream.
pub(crate) async fn tell(ground: &Ground, headers: &[(&str, &str)], body: Vec<u8>) -> u64 {
    let jetstream = jetstream(&ground.nats_url).await;
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, *value);
    }
    let subject = format!("{}.stranger", ground.stream.to_lowercase());
    let told = jetstream.publish_with_headers(subject, map, body.into()).await.unwrap();
    in_time("the acknowledgement", async { told.await.unwrap().sequence }).await
}

/// The place in the stream of the message that this subject acknowledges (ADR-15 of NATS).
pub(crate) fn place_of(acknowledgement: &str) -> u64 {
    let tokens: Vec<&str> = acknowledgement.split('.').collect();
    let place = if tokens.len() < 11 { 5 } else { 7 };
    tokens[place].parse().unwrap()
}

/// The id of the event at this place in the stream.
pub(crate) async fn event_id_at(stream: &jetstream::stream::Stream, place: u64) -> String {
    let message = in_time("the message", stream.get_raw_message(place)).await.unwrap();
    message.headers.get(async_nats::header::NATS_MESSAGE_ID).unwrap().as_str().to_owned()
}

/// How large a message may be.
pub(crate) async fn max_payload(ground: &Ground) -> usize {
    in_time("NATS", async_nats::connect(&ground.nats_url)).await.unwrap().server_info().max_payload
}
