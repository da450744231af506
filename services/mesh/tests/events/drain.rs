//! The end of a process: what was committed is told before it goes.

use mesh::Phase;
use tokio::sync::oneshot;

use crate::{
    felt,
    ground::{self, Backend},
    house::House,
    told::{self, Change},
    waiting::{eventually, in_time},
};

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_committed_while_a_process_drains_are_told_before_it_ends() {
    ground::on(&Backend::ALL, async |ground| {
        let house = House::with(ground, &["source", "sink"], |mut plan| {
            plan.server.announce_ms = 3_600_000;
            plan
        })
        .await;
        // Whoever is still waiting for the lead or for a stream has no time to lose, and may leave words to the next.
        house.tell("ada", 1).await;
        house.settles().await;
        let (source, life) = (house.source(), house.running.life.clone());
        let (hurry, hurried) = oneshot::channel::<()>();
        let draining = tokio::spawn(house.running.drain(async { hurried.await.unwrap() }));
        eventually("draining", async || life.phase() == Phase::Draining).await;
        let change = Change { subjects: (0..100).map(|user| format!("user_{user:03}")).collect(), ..Change::of("") };
        Change { changes: 5, ..change }.commit(&source).await.unwrap();
        hurry.send(()).unwrap();
        in_time("the drain", draining).await.unwrap();
        let source = ground.store("source").await;
        assert_eq!((told::waiting(&source).await, told::told(&source).await), (0, 501));
        if ground.is_on_nats() {
            // What was told and not felt any more is felt by the next process.
            House::open(ground).await.drain_once_settled().await;
        }
        assert_eq!(felt::count(&ground.store("sink").await).await, 501);
    })
    .await;
}
