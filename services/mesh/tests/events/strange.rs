//! What no handler can feel: bodies that are none, types that nobody knows, and too much of it. A dead letter says why,
//! the next event is felt, and once the cause is gone the letter is, too.

use mesh::events::Handlers;
use prost::Message as _;
use trivet_proto::account::v1::UserStatusChanged;

use crate::{
    felt::{self, Moods},
    ground::{self, Backend, Ground},
    house::{House, Stores},
    server,
    told::{self, Change, Says},
    waiting::{eventually, reaches},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_none_becomes_a_dead_letter_and_the_next_event_is_felt() {
    ground::on(&Backend::ALL, async |ground| {
        let house = House::open(ground).await;
        Change::saying("ada", Says::Garbage).commit(&house.source()).await.unwrap();
        house.tell("bob", 2).await;
        house.tell("ada", 1).await;
        let dead = felt::dead_letters(&house.sink(), 1).await;
        assert!(dead[0].cause.starts_with("its data is no trivet.account.v1.UserStatusChanged: "), "{}", dead[0].cause);
        assert_eq!((dead[0].attempts, dead[0].version), (1, 1), "trying again is of no use");
        assert_eq!(felt::versions_once_there_are(&house.sink(), "bob", 2).await, [1, 2]);
        reaches("waiting", 2, async || felt::received(&house.sink(), "WAITING").await).await;
        // Whoever wrote it writes it as it should have been.
        told::execute(
            &house.sink(),
            "update letters set data = (select data from letters order by position desc limit 1)",
        )
        .await;
        felt::replay_letters(&house.sink()).await;
        house.settles().await;
        house.drain().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_only_a_later_release_knows_waits_for_that_release() {
    ground::on(&Backend::ALL, async |ground| {
        let house = House::open(ground).await;
        Change::saying("ada", Says::Unheard).commit(&house.source()).await.unwrap();
        house.tell("ada", 2).await;
        house.tell("bob", 2).await;
        let dead = felt::dead_letters(&house.sink(), 1).await;
        assert_eq!(dead[0].cause, "its type \"user.teleported\" is not known to this release");
        assert_eq!(felt::versions_once_there_are(&house.sink(), "bob", 2).await, [1, 2]);
        house.drain().await;

        let (stores, moods) = (Stores::default(), Moods::default());
        let roles = vec![told::source(&stores, Handlers::default()), felt::later_sink("sink", &stores, &moods)];
        let house = House::start(ground.plan(roles), stores, moods).await;
        felt::replay_letters(&house.sink()).await;
        house.settles().await;
        house.drain().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_too_large_to_be_told_is_refused_and_only_its_aggregate_waits() {
    ground::on(&Backend::ALL, async |ground| {
        let house = House::open(ground).await;
        Change::saying("ada", Says::Much(2_000_000)).commit(&house.source()).await.unwrap();
        house.tell("ada", 2).await;
        house.tell("bob", 2).await;
        assert_eq!(felt::versions_once_there_are(&house.sink(), "bob", 2).await, [1, 2]);
        let refused = "its data has 2000009 bytes, at most 1000000 are told (events.max_bytes)";
        eventually("the refusal", async || told::outbox(&house.source()).await[0].refusal == refused).await;
        house.tell("bob", 1).await;
        assert_eq!(felt::versions_once_there_are(&house.sink(), "bob", 3).await, [1, 2, 3]);
        let waiting = |told: &told::Told| told.subject == "ada" && !told.is_sent;
        assert_eq!(told::outbox(&house.source()).await.iter().filter(|told| waiting(told)).count(), 3);
        house.drain().await;

        let house = House::with(ground, &["source", "sink"], |mut plan| {
            plan.events.max_bytes = 3_000_000;
            plan
        })
        .await;
        let again = "insert into outbox_waiting select position, tenant_id, aggregate, subject from outbox_refused;
                     delete from outbox_refused;
                     update outbox set refused_time = null, refusal = ''";
        told::execute(&house.source(), again).await;
        if ground.is_on_nats() && server::max_payload(ground).await < 3_000_000 {
            // The limit of the server is as good a reason.
            let refused = async || told::outbox(&house.source()).await[0].refusal.clone();
            eventually("the refusal", async || refused().await.starts_with("NATS does not take it: ")).await;
            house.tell("bob", 1).await;
            assert_eq!(felt::versions_once_there_are(&house.sink(), "bob", 4).await, [1, 2, 3, 4]);
            assert_eq!(felt::versions(&house.sink(), "ada").await, [] as [i64; 0]);
        } else {
            house.settles().await;
        }
        house.drain().await;
    })
    .await;
}

/// The headers of an event that somebody else tells.
fn headers<'a>(event_id: &'a str, kind: &'a str, subject: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("ce-specversion", "1.0"),
        ("ce-id", event_id),
        ("ce-source", "trivet.dev/stranger"),
        ("ce-type", kind),
        ("ce-subject", subject),
        ("ce-time", "2026-01-02T03:04:05Z"),
        ("ce-tenant", "default"),
        ("ce-aggregate", "user"),
        ("ce-aggregateversion", "1"),
    ]
}

/// A body that is one.
fn body(user_id: &str) -> Vec<u8> {
    UserStatusChanged { user_id: user_id.to_owned(), ..UserStatusChanged::default() }.encode_to_vec()
}

/// A process that hears strangers: the stream is there.
async fn hearing(ground: &Ground) -> House {
    let house = House::open(ground).await;
    house.tell("first", 1).await;
    house.settles().await;
    house
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_comes_three_times_is_felt_once_whatever_nats_knows_of_it() {
    ground::on(&Backend::ON_NATS, async |ground| {
        let house = hearing(ground).await;
        let event = headers("evt_1", "user.status_changed", "ada");
        // Three that the server knows to be one; and then others, as if it had forgotten that.
        for message_id in ["a", "a", "a", "b", "c", "d"] {
            let mut event = event.clone();
            event.push(("Nats-Msg-Id", message_id));
            server::tell(ground, &event, body("ada")).await;
        }
        let last = headers("evt_2", "user.status_changed", "bob");
        server::tell(ground, &last, body("bob")).await;
        felt::versions_once_there_are(&house.sink(), "bob", 1).await;
        assert_eq!(felt::times(&house.sink(), "evt_1").await, 1);
        assert_eq!(server::stream(ground).await.cached_info().state.messages, 1 + 4 + 1);
        house.drain().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_strangers_tell_becomes_a_dead_letter_that_says_what_is_wrong_with_it() {
    ground::on(&Backend::ON_NATS, async |ground| {
        let house = House::with(ground, &["source", "sink"], |mut plan| {
            plan.events.max_bytes = 100_000;
            plan
        })
        .await;
        house.tell("first", 1).await;
        house.settles().await;
        let known = "user.status_changed";
        let json = ("Content-Type", "application/cloudevents+json");
        let without = |left_out: &[&str], event_id, subject| {
            let mut headers = headers(event_id, known, subject);
            headers.retain(|(name, _)| !left_out.contains(name));
            headers
        };
        let mut two_faults = without(&["ce-time", "ce-aggregateversion"], "evt_two_faults", "eve");
        two_faults.push(("ce-aggregateversion", "many"));
        let much = 2_000_000.min(server::max_payload(ground).await - 10_000);
        let cases = [
            (
                headers("evt_garbage", known, "ada"),
                b"\xff\xff".to_vec(),
                "its data is no trivet.account.v1.UserStatusChanged",
            ),
            (headers("evt_unknown", "nobody.knows", "bob"), body("bob"), "its type \"nobody.knows\" is not known"),
            (headers("evt_much", known, "cid"), vec![0; much], "bytes, at most 100000 are read (events.max_bytes)"),
            (without(&["ce-id"], "", "dan"), body("dan"), "has no id"),
            (two_faults, body("eve"), "its aggregateversion is no number; its time is no time of RFC 3339"),
            (vec![], b"hello".to_vec(), "has no id; is of specversion \"\", which is not \"1.0\"; has no type"),
            (vec![json], b"hello".to_vec(), "is no JSON: "),
            (vec![json], b"[1]".to_vec(), "is no JSON object"),
        ];
        for (number, (headers, body, cause)) in cases.into_iter().enumerate() {
            let place = server::tell(ground, &headers, body).await;
            let dead = felt::dead_letters(&house.sink(), number + 1).await.pop().unwrap();
            assert!(dead.cause.contains(cause), "{}: {cause}", dead.cause);
            if !headers.iter().any(|(name, _)| *name == "ce-id") {
                assert_eq!(dead.event_id, format!("{}:{place}", ground.stream), "its place is its name");
            }
            house.tell("next", 1).await;
            assert_eq!(felt::versions_once_there_are(&house.sink(), "next", number + 1).await.len(), number + 1);
        }
        house.drain().await;
    })
    .await;
}
