//! Processes that are killed, again and again, while twenty transactions at once write twenty thousand events: none is
//! lost, none is felt twice, none is out of order.

use std::{io::Write as _, time::Instant};

use mesh::Store;

use crate::{
    child::{Acknowledged, Child, Errand},
    felt,
    ground::{self, Backend, Ground},
    house::House,
    proxy::Proxy,
    server,
    told::{self, Change, Load},
    waiting::{eventually, reaches},
};

/// How many events there are in the end.
const EVENTS: i64 = 20_000;
/// How many transactions write them at once.
const WRITERS: usize = 20;
/// How many things they are about.
const THINGS: usize = 60;
/// How often who tells is killed while it does.
const RELAY_KILLS: i64 = 10;
/// How often who hears is killed, between its commit and its acknowledgement.
const CONSUMER_KILLS: i64 = 50;

#[tokio::test(flavor = "multi_thread")]
async fn sixty_kills_lose_nothing_and_repeat_nothing_in_one_process_with_sqlite() {
    ground::on(&[Backend::EmbeddedSqlite], in_one_process).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_kills_lose_nothing_and_repeat_nothing_in_one_process_with_postgres() {
    ground::on(&[Backend::EmbeddedPostgres], in_one_process).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_kills_lose_nothing_and_repeat_nothing_over_nats_with_postgres() {
    ground::on(&[Backend::NatsPostgres], in_two_processes).await;
}

/// The databases, seen from outside of the processes that are killed.
struct Outside {
    source: Store,
    sink: Store,
    began: Instant,
}

impl Outside {
    async fn of(ground: &Ground) -> Self {
        // They are there before anybody is killed over them.
        House::open(ground).await.drain().await;
        Self { source: ground.store("source").await, sink: ground.store("sink").await, began: Instant::now() }
    }

    async fn check(&self, acknowledged: &Acknowledged, what: &str) {
        felt::once_and_in_order(&self.source, &[&self.sink]).await;
        let outbox = told::outbox(&self.source).await;
        acknowledged.are_in(&outbox);
        assert!(outbox.len() >= usize::try_from(EVENTS).unwrap(), "{} events", outbox.len());
        let (events, seconds) = (outbox.len(), self.began.elapsed().as_secs_f64());
        let rate = outbox.len() as u64 / self.began.elapsed().as_secs().max(1);
        writeln!(std::io::stderr(), "{what}: {events} events in {seconds:.1} s, kills included: {rate}/s").unwrap();
    }
}

async fn in_one_process(ground: &Ground) {
    let outside = Outside::of(ground).await;
    let acknowledged = Acknowledged::default();
    let kills = RELAY_KILLS + CONSUMER_KILLS;
    let start = |goal| {
        let load = Some(Load { writers: WRITERS, things: THINGS, goal });
        Child::start(&Errand { ground: ground.clone(), source: true, sink: true, load }, &acknowledged)
    };
    for kill in 1..=kills {
        // Always ahead of what is felt at the time of the kill, so that the load goes on.
        let child = start(EVENTS * (kill + 1) / (kills + 1));
        let before = felt::count(&outside.sink).await;
        let due = before.max(EVENTS * (kill - 1) / (kills + 1)) + 1;
        reaches("feeling", due, async || felt::count(&outside.sink).await).await;
        if kill % (kills / RELAY_KILLS) == 0 {
            child.kill().await;
        } else {
            kill_between_commit_and_mark(ground, &outside, child).await;
        }
    }
    let last = start(EVENTS);
    reaches("writing", EVENTS, async || told::waiting_or_told(&outside.source).await).await;
    outside
        .check(&acknowledged, if ground.is_on_postgres() { "embedded, PostgreSQL" } else { "embedded, SQLite" })
        .await;
    last.kill().await;
}

/// Kills a process once it has committed effects whose events are not marked as told, and cannot be.
async fn kill_between_commit_and_mark(ground: &Ground, outside: &Outside, child: Child) {
    loop {
        let hold = ground.hold_outbox().await;
        let told = told::told(&outside.source).await;
        if told::waiting(&outside.source).await > 0 {
            reaches("feeling", told + 1, async || felt::count(&outside.sink).await).await;
            child.kill().await;
            return drop(hold);
        }
        // There was nothing to tell just then.
        drop(hold);
        Change::of("user_outside").commit(&outside.source).await.unwrap();
    }
}

async fn in_two_processes(ground: &Ground) {
    let outside = Outside::of(ground).await;
    let acknowledged = Acknowledged::default();
    let proxy = Proxy::to(&ground.nats_url).await;
    let (source, sink) =
        tokio::join!(kill_relays(ground, &outside, &acknowledged), kill_consumers(ground, &outside, &proxy));
    reaches("writing", EVENTS, async || told::waiting_or_told(&outside.source).await).await;
    outside.check(&acknowledged, "NATS, PostgreSQL").await;
    source.kill().await;
    sink.kill().await;
}

/// Kills who tells while it tells; answers the last one, which goes on.
async fn kill_relays(ground: &Ground, outside: &Outside, acknowledged: &Acknowledged) -> Child {
    let start = || {
        let load = Some(Load { writers: WRITERS, things: THINGS, goal: EVENTS });
        Child::start(&Errand { ground: ground.clone(), source: true, sink: false, load }, acknowledged)
    };
    let mut child = start();
    for kill in 1..=RELAY_KILLS {
        let due = EVENTS * kill / (RELAY_KILLS + 1);
        reaches("telling", due, async || told::told(&outside.source).await).await;
        child.kill().await;
        child = start();
    }
    child
}

/// Kills who hears when it has committed effects that it did not get to acknowledge; answers the last one, which goes on.
async fn kill_consumers(ground: &Ground, outside: &Outside, proxy: &Proxy) -> Child {
    let nobody = Acknowledged::default();
    let start = || {
        let errand = Errand { ground: ground.through(proxy), source: false, sink: true, load: None };
        Child::start(&errand, &nobody)
    };
    for kill in 0..CONSUMER_KILLS {
        // At the first acknowledgement, in the middle of a batch's, between those of two.
        proxy.let_acknowledge(kill * 37 % 300);
        let child = start();
        let acknowledgement = proxy.withheld().await;
        child.kill().await;
        let stream = server::stream(ground).await;
        let event_id = server::event_id_at(&stream, server::place_of(&acknowledgement)).await;
        let felt = felt::times(&outside.sink, &event_id).await;
        assert_eq!(felt, 1, "{event_id} was committed before it was to be acknowledged");
    }
    proxy.let_acknowledge(i64::MAX);
    let child = start();
    eventually("feeling", async || felt::count(&outside.sink).await > 0).await;
    child
}
