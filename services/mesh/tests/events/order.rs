//! What holds without anybody being killed: once, in order, with what made it.

use mesh::{
    Clock,
    events::{self, Aggregate, Effect, Handlers, Origin},
    store::Migration,
};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use trivet_proto::account::v1::{UserProfileUpdated, UserStatusChanged};

use crate::{
    felt::{self, Mood, Moods},
    ground::{self, Backend},
    house::{House, Stores, role},
    told::{self, Change},
    waiting::{eventually, reaches},
};

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_fast_transactions_at_once_are_felt_in_the_order_of_each_aggregate() {
    ground::on(&Backend::ALL, async |ground| {
        let house = House::open(ground).await;
        house.load(1_000).await;
        house.settles().await;
        house.drain().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_told_again_and_again_is_felt_once() {
    ground::on(&Backend::ALL, async |ground| {
        let house = House::open(ground).await;
        house.load(100).await;
        house.settles().await;
        for _ in 0..3 {
            told::tell_all_again(&house.source()).await;
            house.settles().await;
        }
        // Whatever was on its way then came before this one.
        house.load(101).await;
        house.settles().await;
        assert_eq!(felt::received(&house.sink(), "FELT").await, 101);
        assert_eq!(felt::counted(&house.source(), "TOLD").await, 401, "a replay counts again");
        assert_eq!(felt::counted(&house.sink(), "RECEIVED").await, 101);
        assert_eq!(felt::counted(&house.sink(), "FELT").await, 101);
        house.drain().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_comes_late_is_recorded_without_effect_where_the_handler_says_so() {
    ground::on(&Backend::ALL, async |ground| {
        let house = House::open(ground).await;
        house.moods.set("ada", Mood::FeelsTheLatest);
        for version in [2, 1, 3] {
            told::tell_version(&house.source(), "ada", version).await;
        }
        reaches("feeling", 3, async || felt::versions(&house.sink(), "ada").await.last().copied().unwrap_or(0)).await;
        assert_eq!(felt::versions(&house.sink(), "ada").await, [2, 3]);
        assert_eq!(felt::received(&house.sink(), "STALE").await, 1);
        assert_eq!(felt::received(&house.sink(), "FELT").await, 2);
        house.drain().await;
    })
    .await;
}

/// Keeps nothing of its own.
const NOTHING: Migration = Migration::new("m0001_nothing", "select 1");

/// A role that answers an event with one of its own.
fn echo(stores: &Stores) -> mesh::Role {
    let handlers = Handlers::default().on::<UserStatusChanged, _>(|heard, event, transaction| {
        Box::pin(async move {
            let aggregate = Aggregate { kind: "echo", id: &event.user_id, version: heard.event.aggregate_version };
            let answer = UserProfileUpdated { user_id: event.user_id.clone(), changed_fields: Vec::new() };
            events::publish(transaction, &heard.origin(), aggregate, &answer).await?;
            Ok(Effect::Felt)
        })
    });
    role("echo", NOTHING, stores, handlers)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_says_in_which_trace_it_was_made_and_by_which_event() {
    ground::on(&Backend::ALL, async |ground| {
        let (stores, moods) = (Stores::default(), Moods::default());
        let roles =
            vec![told::source(&stores, Handlers::default()), echo(&stores), felt::sink("sink", &stores, &moods)];
        let house = House::start(ground.plan(roles), stores, moods).await;
        let (trace, span) = (TraceId::from_bytes([7; 16]), SpanId::from_bytes([9; 8]));
        let trace = SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::NONE);
        let context = mesh::Context { trace, ..told::context() };
        let change = Change { origin: Origin::of(&context, &Clock::system()), ..Change::of("ada") };
        change.commit(&house.source()).await.unwrap();
        eventually("both are felt", async || felt::count(&house.sink()).await == 2).await;
        let mut felt = felt::all(&house.sink()).await;
        // They are of two aggregates, and may be felt in any order.
        felt.sort_by_key(|felt| felt.causation_id.clone());
        let traceparent = "00-07070707070707070707070707070707-0909090909090909-01";
        assert!(felt.iter().all(|felt| felt.traceparent == traceparent), "{felt:?}");
        assert_eq!((felt[0].causation_id.as_str(), &felt[1].causation_id), ("", &felt[0].event_id));
        house.drain().await;
    })
    .await;
}
