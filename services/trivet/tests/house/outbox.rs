//! What waits to be told: of an older release, of long ago, and while it is told again and forgotten at once.

use mesh::{
    Clock, Store,
    store::{count, sql},
};
use sea_orm::ConnectionTrait as _;
use sqlx::{Connection as _, Executor as _, PgConnection};
use trivet::RoleName;
use trivet_proto::mesh::v1::DiscardDeadLetterRequest;

use crate::{
    databases::{how_many_wait, is_one_waiting},
    dead_letters::{all_again, dead, told_all},
    event_service::{Other, flow, rename},
    harness::{Databases, House, PATIENCE, config, eventually, person},
    tenants::of,
};

const DAY: i64 = 86_400_000_000;

/// Writes events of users as a release before `outbox_waiting` did: what happened so many days ago, told by then or not.
async fn write(store: &Store, columns: &str, events: &str) {
    let reader = store.reader();
    let text = format!(
        "insert into outbox (event_id, tenant_id, type, aggregate, subject, aggregate_version, time, traceparent,
                             causation_id, data_schema, data, {columns})
         with events (event_id, subject, version, days, {columns}) as (values {events})
         select event_id, 'default', 'user.created', 'user', subject, version, $1 - days * {DAY}, '', '',
                'trivet.account.v1.UserCreated', $2, {columns} from events"
    );
    let values = [Clock::system().now().into(), Vec::<u8>::new().into()];
    reader.execute_raw(sql(reader, &text, values)).await.unwrap();
}

/// The ids of the events that there are.
async fn kept(store: &Store) -> Vec<String> {
    let reader = store.reader();
    let rows = reader.query_all_raw(sql(reader, "select event_id from outbox order by event_id", [])).await.unwrap();
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

/// How many events account has told by now.
async fn published(house: &House) -> i64 {
    flow(house, "account", "default").await.iter().map(|flow| flow.published).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_older_release_left_untold_is_told_and_what_is_done_with_is_forgotten_after_thirty_days() {
    for databases in [Some(Databases::sqlite()), Databases::postgres().await].into_iter().flatten() {
        let config = config(&databases, &[]);
        let store = Store::open(config.account.location("account", &config.data_dir).unwrap()).await.unwrap();
        let migrations = RoleName::Account.role(&config).migrations;
        let landed = migrations.iter().position(|step| step.name() == "m0000_outbox_waiting").unwrap();
        store.migrate(&migrations[..landed]).await.unwrap();
        let events = "('evt_1_told', 'ada', 1, 31, 1, cast(null as bigint), ''),
                      ('evt_2_discarded', 'ada', 2, 31, 1, 1, 'too large'),
                      ('evt_3_refused', 'bob', 1, 31, null, 1, 'too large'),
                      ('evt_4_behind_it', 'bob', 2, 31, null, null, ''),
                      ('evt_5_told', 'ada', 3, 29, 1, null, ''),
                      ('evt_6_discarded', 'ada', 4, 29, 1, 1, 'too large'),
                      ('evt_7_waits', 'ada', 5, 29, null, null, '')";
        write(&store, "sent_time, refused_time, refusal", events).await;

        let house = House::start(config, &RoleName::ALL).await;
        let left = ["evt_3_refused", "evt_4_behind_it", "evt_5_told", "evt_6_discarded", "evt_7_waits"];
        eventually("forgetting", async || kept(&store).await == left).await;
        eventually("telling", async || published(&house).await == 1).await;
        let waiting = "select count(*) from outbox_waiting where subject = 'bob'";
        assert_eq!(count(store.reader(), waiting, []).await.unwrap(), 1);
        let letters = dead(&house, "account").await;
        let letters: Vec<_> = letters.iter().map(|letter| (letter.event_id.as_str(), letter.waiting)).collect();
        assert_eq!(letters, [("evt_3_refused", 1)]);
        // Replicas of the older release write on until the last of them is gone.
        write(&store, "refusal", "('evt_8', 'cyd', 1, 0, '')").await;
        eventually("telling", async || published(&house).await == 2).await;
        let all = "select count(*) from outbox_waiting";
        eventually("noting it", async || count(store.reader(), all, []).await.unwrap() == 1).await;
        store.close().await.unwrap();
        house.running.drain(std::future::pending()).await;
        databases.done().await;
    }
}

/// A house that has told that Ada is there, somebody who has done something in its database and not committed it, and somebody
/// who watches. On PostgreSQL, where there is more than one writer.
async fn while_somebody(has_done: &str) -> Option<(Databases, House, PgConnection, PgConnection)> {
    let databases = Databases::postgres().await?;
    let house = House::start(config(&databases, &[]), &RoleName::ALL).await;
    house.accounts().ensure_account(person("ada")).await.unwrap();
    told_all(&house).await;
    let url = house.config.account.database_url.reveal();
    let connect = async || PgConnection::connect(url).await.unwrap();
    let (mut holding, watching) = (connect().await, connect().await);
    let text = format!("set search_path to account; begin; {has_done}");
    holding.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(text))).await.unwrap();
    Some((databases, house, holding, watching))
}

/// Has account tell everything again, which waits for somebody who does something else meanwhile.
async fn replay_while(house: &House, watching: &mut PgConnection, meanwhile: impl AsyncFnOnce(&mut PgConnection)) {
    let replay = async {
        let progress = all_again(house, 0).await;
        assert_eq!(progress.last().unwrap().replayed, 1);
    };
    let meanwhile = async {
        while !is_one_waiting(watching).await {
            tokio::task::yield_now().await;
        }
        meanwhile(watching).await;
    };
    tokio::time::timeout(PATIENCE, async { tokio::join!(replay, meanwhile) }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_forgotten_while_it_is_to_be_told_again_does_not_wait_for_ever() {
    // Whoever wants to have it wait, too, has to see first what becomes of this.
    let wait = "insert into outbox_waiting select position, tenant_id, aggregate, subject from outbox";
    let Some((databases, house, mut holding, mut watching)) = while_somebody(wait).await else { return };
    let mut forgetting = PgConnection::connect(house.config.account.database_url.reveal()).await.unwrap();
    replay_while(&house, &mut watching, async |watching| {
        let forget = tokio::spawn(async move { forgetting.execute("delete from account.outbox").await.unwrap() });
        while !forget.is_finished() && how_many_wait(watching).await < 2 {
            tokio::task::yield_now().await;
        }
        holding.execute("rollback").await.unwrap();
        assert_eq!(forget.await.unwrap().rows_affected(), 1);
    })
    .await;
    let account = Other::at(&house.config, RoleName::Account).await;
    assert_eq!(account.count("select count(*) from outbox_waiting").await, 0);
    house.running.drain(std::future::pending()).await;
    databases.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_while_it_is_to_be_told_again_is_refused_and_keeps_nobody_else_waiting() {
    let refuse = "insert into outbox_waiting select position, tenant_id, aggregate, subject from outbox;
                  delete from outbox_waiting;
                  insert into outbox_refused select position, tenant_id, aggregate, subject from outbox;
                  update outbox set refused_time = 1, refusal = 'no bus takes it'";
    let Some((databases, house, mut refusing, mut watching)) = while_somebody(refuse).await else { return };
    replay_while(&house, &mut watching, async |_| {
        refusing.execute("commit").await.unwrap();
    })
    .await;
    let account = Other::at(&house.config, RoleName::Account).await;
    assert_eq!(account.count("select count(*) from outbox_waiting").await, 1, "it has come to be in both");
    rename(&house, "ada", "Ada L.").await;
    house.accounts().ensure_account(person("bob")).await.unwrap();
    eventually("telling of bob", async || published(&house).await == 2).await;
    let letters = dead(&house, "account").await;
    assert_eq!((letters.len(), letters[0].waiting), (1, 1), "{letters:?}");
    let discard = DiscardDeadLetterRequest { event_id: letters[0].event_id.clone() };
    house.events("account").discard_dead_letter(of("default", discard)).await.unwrap();
    told_all(&house).await;
    assert_eq!(published(&house).await, 3, "ada and bob are created, and ada is renamed");
    house.running.drain(std::future::pending()).await;
    databases.done().await;
}
