//! Several processes on one database: one carries its events, and when it is gone another one does.

use sqlx::{Executor as _, PgConnection, postgres::PgListener};

use crate::{
    felt,
    ground::{self, Backend},
    house::House,
    told::{self, Load},
    waiting::{eventually, in_time, reaches},
};

/// How often the leaders lose their sessions.
const TERMINATIONS: i64 = 5;
/// Events that one process commits and another tells, one after the other. With nobody to wake it the other looks once
/// in a second: they would take longer than anything here may.
const ONE_BY_ONE: usize = 60;

/// The sessions that lead, for any purpose.
const LEADERS: &str = "from pg_locks where locktype = 'advisory' and granted
    and database = (select oid from pg_database where datname = current_database())";

async fn leaders(postgres: &mut PgConnection) -> i64 {
    sqlx::query_scalar(sqlx::AssertSqlSafe(format!("select count(*) {LEADERS}"))).fetch_one(postgres).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_takes_over_when_the_leader_loses_its_session() {
    ground::on(&Backend::ON_POSTGRES, async |ground| {
        let (one, other) = (House::open(ground).await, House::open(ground).await);
        let mut postgres = ground.postgres().await;
        let goal = 400 * (TERMINATIONS + 1);
        let load = Load { writers: 8, things: 20, goal };
        let source = one.source();
        let writing = tokio::spawn(async move { load.write(&source, |_| {}).await });
        let source = ground.store("source").await;
        for termination in 1..=TERMINATIONS {
            reaches("telling", 400 * termination, async || told::told(&source).await).await;
            eventually("source and sink are led", async || leaders(&mut postgres).await == 2).await;
            let terminate = format!("select pg_terminate_backend(pid) {LEADERS}");
            postgres.execute(sqlx::AssertSqlSafe(terminate)).await.unwrap();
        }
        in_time("writing", writing).await.unwrap();
        one.settles().await;
        // Both were there all the time, and either may lead now.
        one.drain().await;
        other.load(goal + 100).await;
        other.settles().await;
        other.drain().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_does_not_lead_wakes_the_one_that_does() {
    ground::on(&Backend::ON_POSTGRES, async |ground| {
        let leader = House::open(ground).await;
        let mut postgres = ground.postgres().await;
        eventually("source and sink are led", async || leaders(&mut postgres).await == 2).await;
        let follower = House::open(ground).await;
        let mut ear = PgListener::connect(ground.postgres_url()).await.unwrap();
        ear.listen("trivet.events.source").await.unwrap();
        for event in 1..=ONE_BY_ONE {
            follower.tell("ada", 1).await;
            felt::versions_once_there_are(&leader.sink(), "ada", event).await;
        }
        in_time("a notification", ear.recv()).await.unwrap();
        leader.settles().await;
        leader.drain().await;
        follower.drain().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_a_file_leads_when_the_first_is_gone() {
    ground::on(&[Backend::EmbeddedSqlite, Backend::NatsSqlite], async |ground| {
        let (one, other) = (House::open(ground).await, House::open(ground).await);
        other.load(200).await;
        one.settles().await;
        one.drain().await;
        other.load(400).await;
        other.settles().await;
        other.drain().await;
    })
    .await;
}
