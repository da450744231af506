//! NATS that is not there, or not for a while, and a network that loses a message.

use mesh::Phase;

use crate::{
    ground::{self, Backend},
    house::House,
    proxy::Proxy,
    told::{self, Load},
    waiting::{eventually, in_time, reaches},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_process_starts_without_nats_and_tells_once_it_is_there() {
    ground::on(&Backend::ON_NATS, async |ground| {
        let proxy = Proxy::to(&ground.nats_url).await;
        proxy.close();
        let house = House::open(&ground.through(&proxy)).await;
        assert_eq!(house.running.life.phase(), Phase::Serving);
        house.load(300).await;
        assert_eq!(told::waiting(&house.source()).await, 300);
        proxy.open();
        house.settles().await;
        house.drain().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_wait_in_the_outbox_while_nats_is_away_and_are_told_in_order_afterwards() {
    ground::on(&Backend::ON_NATS, async |ground| {
        let proxy = Proxy::to(&ground.nats_url).await;
        let house = House::open(&ground.through(&proxy)).await;
        let source = house.source();
        for cut in 1..=3 {
            // Cut while it is written and told, what waited since the last time too.
            let written = told::waiting_or_told(&source).await;
            let told = told::told(&source).await;
            let (load, writer) = (Load { writers: 8, things: 20, goal: written + 500 }, source.clone());
            let writing = tokio::spawn(async move { load.write(&writer, |_| {}).await });
            reaches("telling", told + 300, async || told::told(&source).await).await;
            proxy.close();
            in_time("writing", writing).await.unwrap();
            house.load(written + 1_000).await;
            assert!(told::waiting(&source).await >= 500, "writes go on, and events wait, at cut {cut}");
            proxy.open();
        }
        house.settles().await;
        house.drain().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_lost_on_its_way_is_felt_before_those_that_came_after_it() {
    ground::on(&Backend::ON_NATS, async |ground| {
        let proxy = Proxy::to(&ground.nats_url).await;
        let house = House::open(&ground.through(&proxy)).await;
        house.tell("ada", 3).await;
        house.settles().await;
        proxy.lose_a_delivery_after(4);
        house.tell("ada", 20).await;
        house.settles().await;
        eventually("losing", async || proxy.has_lost_a_delivery()).await;
        house.drain().await;
    })
    .await;
}
