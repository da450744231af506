//! Events that cannot be felt at once: tried again, given up in the end, and whatever comes later of their aggregate waits.

use crate::{
    felt::{self, Mood},
    ground::{self, Backend},
    house::House,
    told,
    waiting::reaches,
};

/// How often an event is tried.
const TRIES: u32 = 8;

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_fails_twice_is_felt_at_the_third_try_and_in_its_place() {
    ground::on(&Backend::ALL, async |ground| {
        let house = House::open(ground).await;
        house.moods.set("ada", Mood::Refuses(2));
        house.tell("ada", 5).await;
        house.tell("bob", 5).await;
        house.settles().await;
        assert_eq!(house.moods.calls("bob"), 5);
        assert_eq!(felt::received(&house.sink(), "FELT").await, 10);
        house.drain().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_given_up_after_eight_tries_and_only_its_aggregate_waits() {
    ground::on(&Backend::ALL, async |ground| {
        let house = House::open(ground).await;
        house.tell("ada", 1).await;
        felt::versions_once_there_are(&house.sink(), "ada", 1).await;
        house.moods.set("ada", Mood::Refuses(u32::MAX));
        let before = house.moods.calls("ada");
        for _ in 0..3 {
            house.tell("ada", 1).await;
            house.tell("bob", 1).await;
        }
        let dead = felt::dead_letters(&house.sink(), 1).await;
        assert_eq!((dead[0].subject.as_str(), dead[0].version, dead[0].attempts), ("ada", 2, i64::from(TRIES)));
        assert_eq!(dead[0].cause, "nothing of ada today");
        assert_eq!(felt::versions_once_there_are(&house.sink(), "bob", 3).await, [1, 2, 3]);
        reaches("waiting", 3, async || felt::received(&house.sink(), "WAITING").await).await;
        let letters = felt::letters(&house.sink()).await;
        let waiting: Vec<_> = letters.iter().map(|letter| (letter.version, letter.attempts, letter.is_dead)).collect();
        assert_eq!(waiting, [(2, i64::from(TRIES), true), (3, 0, false), (4, 0, false)]);
        assert_eq!(felt::versions(&house.sink(), "ada").await, [1], "what a failed try did is undone");
        assert_eq!(felt::counted(&house.sink(), "RETRIED").await, i64::from(TRIES) - 1);
        // In a transaction of several events a failure counts for none of them: the handler is called once more.
        assert!((TRIES..=TRIES + 1).contains(&(house.moods.calls("ada") - before)));
        // What comes now waits, too, until the cause is gone.
        house.tell("ada", 1).await;
        reaches("waiting", 4, async || felt::received(&house.sink(), "WAITING").await).await;
        house.moods.forget("ada");
        felt::replay_letters(&house.sink()).await;
        assert_eq!(felt::versions_once_there_are(&house.sink(), "ada", 5).await, [1, 2, 3, 4, 5]);
        house.settles().await;
        house.drain().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_panics_is_tried_again_like_one_that_fails() {
    ground::on(&Backend::ALL, async |ground| {
        let house = House::open(ground).await;
        house.moods.set("ada", Mood::Panics(2));
        house.moods.set("eve", Mood::Panics(u32::MAX));
        house.tell("ada", 3).await;
        house.tell("eve", 2).await;
        house.tell("bob", 3).await;
        let dead = felt::dead_letters(&house.sink(), 1).await;
        assert!(dead[0].cause.contains("panicked"), "{}", dead[0].cause);
        for subject in ["ada", "bob"] {
            assert_eq!(felt::versions_once_there_are(&house.sink(), subject, 3).await, [1, 2, 3], "{subject}");
        }
        house.moods.forget("eve");
        felt::replay_letters(&house.sink()).await;
        house.settles().await;
        house.drain().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_kept_from_one_process_to_the_next() {
    ground::on(&Backend::ALL, async |ground| {
        let house = House::open(ground).await;
        house.moods.set("ada", Mood::Refuses(u32::MAX));
        house.tell("ada", 3).await;
        felt::dead_letters(&house.sink(), 1).await;
        reaches("waiting", 3, async || felt::received(&house.sink(), "WAITING").await).await;
        house.drain().await;

        let house = House::open(ground).await;
        house.tell("ada", 1).await;
        reaches("waiting", 4, async || felt::received(&house.sink(), "WAITING").await).await;
        assert_eq!(felt::count(&house.sink()).await, 0, "the dead letter is where it was");
        told::tell_all_again(&house.source()).await;
        felt::replay_letters(&house.sink()).await;
        house.settles().await;
        house.drain().await;
    })
    .await;
}
