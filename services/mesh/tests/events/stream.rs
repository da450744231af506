//! The stream is a copy: it can be lost, or be otherwise than it must be, and nothing of that is felt.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy};

use crate::{
    felt,
    ground::{self, Backend},
    house::House,
    server,
    told::{self, Change, Says},
    waiting::{eventually, reaches},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_stream_is_restored_from_the_outbox_and_nothing_is_felt_twice() {
    ground::on(&Backend::ON_NATS, async |ground| {
        // One that hears everything, and one that is away when the stream is lost.
        let house = House::open(ground).await;
        let basin = House::of(ground, &["basin"]).await;
        house.load(100).await;
        felt::once_and_in_order(&house.source(), &[&house.sink(), &basin.store("basin")]).await;
        basin.drain().await;
        house.load(200).await;
        house.settles().await;
        server::jetstream(&ground.nats_url).await.delete_stream(&ground.stream).await.unwrap();
        told::tell_all_again(&house.source()).await;
        let basin = House::of(ground, &["basin"]).await;
        felt::once_and_in_order(&house.source(), &[&house.sink(), &basin.store("basin")]).await;
        house.load(300).await;
        felt::once_and_in_order(&house.source(), &[&house.sink(), &basin.store("basin")]).await;
        let restored = server::stream(ground).await.cached_info().state.messages;
        assert_eq!(restored, 300, "the stream has everything again");
        house.drain().await;
        basin.drain().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_somebody_deleted_is_made_anew() {
    ground::on(&Backend::ON_NATS, async |ground| {
        let house = House::open(ground).await;
        for round in 1..=3 {
            house.load(100 * round).await;
            house.settles().await;
            server::stream(ground).await.delete_consumer("sink").await.unwrap();
        }
        house.load(400).await;
        house.settles().await;
        house.drain().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_otherwise_than_it_must_be_is_set_right() {
    ground::on(&Backend::ON_NATS, async |ground| {
        let wrong = Config {
            name: ground.stream.clone(),
            subjects: vec![format!("{}.elsewhere", ground.stream.to_lowercase())],
            discard: DiscardPolicy::Old,
            max_age: Duration::from_secs(1),
            duplicate_window: Duration::from_secs(1),
            ..Config::default()
        };
        server::jetstream(&ground.nats_url).await.create_stream(wrong).await.unwrap();
        let house = House::open(ground).await;
        house.load(100).await;
        house.settles().await;
        let config = server::stream(ground).await.cached_info().config.clone();
        assert_eq!(config.subjects, [format!("{}.>", ground.stream.to_lowercase())]);
        assert_eq!(config.discard, DiscardPolicy::New);
        assert_eq!(config.max_age, Duration::from_hours(7 * 24));
        assert_eq!(config.duplicate_window, Duration::from_mins(2));
        house.drain().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_the_stream_does_not_take_now_stops_its_aggregate_and_no_other() {
    ground::on(&Backend::ON_NATS, async |ground| {
        let house = House::open(ground).await;
        house.tell("ada", 1).await;
        house.settles().await;
        let narrow = |bytes| async move {
            let mut config = server::stream(ground).await.cached_info().config.clone();
            config.max_message_size = bytes;
            server::jetstream(&ground.nats_url).await.update_stream(&config).await.unwrap();
        };
        narrow(10_000).await;
        Change::saying("ada", Says::Much(20_000)).commit(&house.source()).await.unwrap();
        // More than the relay takes at once.
        Change { changes: 600, ..Change::of("ada") }.commit(&house.source()).await.unwrap();
        house.tell("bob", 3).await;
        assert_eq!(felt::versions_once_there_are(&house.sink(), "bob", 3).await, [1, 2, 3]);
        eventually("bob is told", async || told::waiting(&house.source()).await == 601).await;
        assert_eq!(felt::versions(&house.sink(), "ada").await, [1]);
        narrow(-1).await;
        house.settles().await;
        house.drain().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_full_takes_no_more_and_loses_nothing() {
    ground::on(&Backend::ON_NATS, async |ground| {
        let house = House::with(ground, &["source", "sink"], |mut plan| {
            plan.events.nats_max_bytes = 20_000;
            plan
        })
        .await;
        house.load(200).await;
        let mut stream = server::stream(ground).await;
        eventually("it is full", async || stream.info().await.unwrap().state.bytes > 19_000).await;
        assert!(told::waiting(&house.source()).await > 100);
        house.drain().await;

        let house = House::open(ground).await;
        house.settles().await;
        house.drain().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_as_json_are_felt_like_any_other() {
    ground::on(&Backend::ON_NATS, async |ground| {
        let house = House::with(ground, &["source", "sink"], |mut plan| {
            plan.events.nats_json = true;
            plan
        })
        .await;
        house.load(100).await;
        Change::saying("ada", Says::Much(10)).commit(&house.source()).await.unwrap();
        house.settles().await;
        let stream = server::stream(ground).await;
        let mut events = Vec::new();
        // The one that says much may come first.
        for sequence in 1..=2 {
            let message = stream.get_raw_message(sequence).await.unwrap();
            events.push(serde_json::from_slice::<serde_json::Value>(&message.payload).unwrap());
        }
        let event = events.iter().find(|event| event["type"] == "user.status_changed").unwrap();
        assert_eq!(event["source"], "trivet.dev/source");
        assert_eq!(event["data"]["userId"], event["subject"]);
        // And back: who goes over to the other way of telling loses nothing.
        house.drain().await;
        let house = House::open(ground).await;
        house.load(200).await;
        reaches("telling", 200, async || told::told(&house.source()).await).await;
        house.settles().await;
        house.drain().await;
    })
    .await;
}
