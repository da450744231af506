//! EventService: tailing what a service tells, and how its events flow.

use std::time::Duration;

use mesh::{
    Clock, Context, Store, Tenant,
    store::{self, sql},
};
use prost::Message as _;
use sea_orm::{ConnectionTrait as _, Value};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt as _;
use trivet::{Config, RoleName};
use trivet_proto::{
    account::v1::{AccountStatus, ChangeAccountStatusRequest, UpdateAccountRequest, UserCreated},
    mesh::v1::{EventFlow, GetEventFlowRequest, TailEventsRequest, TailEventsResponse},
};

use crate::{
    harness::{Databases, House, PATIENCE, config, eventually, on_every_store, person, reason},
    tenants::of,
};

/// For as long as this, nothing comes that does not come at all: a tail looks every 250 ms.
const QUIET: Duration = Duration::from_millis(600);

/// An event as a service writes it down.
#[derive(Clone)]
pub(crate) struct Row {
    pub(crate) event_id: &'static str,
    pub(crate) tenant: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) subject: &'static str,
    pub(crate) version: i64,
    pub(crate) data: Vec<u8>,
}

impl Row {
    /// One of the default tenant's that says nothing.
    pub(crate) fn of(event_id: &'static str, kind: &'static str, subject: &'static str) -> Self {
        Self { event_id, tenant: "default", kind, subject, version: 1, data: Vec::new() }
    }
}

/// Another process at a service's database.
#[derive(Clone)]
pub(crate) struct Other(Store);

impl Other {
    pub(crate) async fn at(config: &Config, role: RoleName) -> Self {
        let location = role.config(config).location(role.as_str(), &config.data_dir).unwrap();
        Self(Store::open(location).await.unwrap())
    }

    pub(crate) async fn write(&self, text: impl Into<String>, values: Vec<Value>) {
        self.write_each(vec![(text.into(), values)]).await;
    }

    /// Writes all of it in one transaction.
    pub(crate) async fn write_each(&self, statements: Vec<(String, Vec<Value>)>) {
        let context = Context::own(Tenant::default_tenant(), PATIENCE);
        let written = self.0.unit(&context).run(statements, |statements, transaction| {
            Box::pin(async move {
                for (text, values) in statements {
                    transaction.execute_raw(sql(transaction, text, values.clone())).await?;
                }
                Ok(())
            })
        });
        written.await.unwrap();
    }

    /// Tells something.
    pub(crate) async fn tell(&self, row: Row) {
        let values = [row.event_id, row.tenant, row.kind, row.subject].map(Into::into);
        let now = Clock::system().now().micros();
        let values = values.into_iter().chain([row.version.into(), now.into(), row.data.into()]).collect();
        let text = "insert into outbox (event_id, tenant_id, type, aggregate, subject, aggregate_version, time,
                                        traceparent, causation_id, data_schema, data)
                    values ($1, $2, $3, 'user', $4, $5, $6, '', '', 'trivet.account.v1.UserCreated', $7)";
        self.write(text, values).await;
    }

    pub(crate) async fn count(&self, text: &str) -> i64 {
        store::count(self.0.reader(), text, []).await.unwrap()
    }
}

/// A tail of what account tells.
pub(crate) async fn tail(
    house: &House,
    request: impl tonic::IntoRequest<TailEventsRequest>,
) -> Streaming<TailEventsResponse> {
    house.events("account").tail_events(request).await.unwrap().into_inner()
}

/// A tail of everything that comes after an event.
fn after(event_id: &str) -> TailEventsRequest {
    TailEventsRequest { after_event_id: event_id.to_owned(), ..TailEventsRequest::default() }
}

pub(crate) async fn next<T>(stream: &mut Streaming<T>) -> T {
    let next = tokio::time::timeout(PATIENCE, stream.message()).await.expect("something comes in time");
    next.unwrap().expect("the stream goes on")
}

/// Sees that nothing comes.
async fn quiet(tail: &mut Streaming<TailEventsResponse>) {
    let came = tokio::time::timeout(QUIET, tail.message()).await;
    assert!(came.is_err(), "{came:?}");
}

pub(crate) async fn rename(house: &House, user_id: &str, name: &str) {
    let name = Some(name.to_owned());
    let update = UpdateAccountRequest { user_id: user_id.to_owned(), name, ..UpdateAccountRequest::default() };
    house.accounts().update_account(update).await.unwrap();
}

async fn suspend(house: &House, user_id: &str) {
    let suspend = ChangeAccountStatusRequest {
        user_id: user_id.to_owned(),
        status: AccountStatus::Suspended.into(),
        reason: "late".to_owned(),
        ..ChangeAccountStatusRequest::default()
    };
    house.accounts().change_account_status(suspend).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_shows_what_is_told_from_now_on_in_order_and_as_json() {
    on_every_store(async |house| {
        house.accounts().ensure_account(person("before")).await.unwrap();
        let mut tail = tail(house, TailEventsRequest::default()).await;
        house.accounts().ensure_account(person("ada")).await.unwrap();
        rename(house, "ada", "Ada L.").await;
        suspend(house, "ada").await;
        for (version, kind, schema, data) in [
            (1, "user.created", "UserCreated", "{\"userId\":\"ada\",\"subscriptionTier\":\"SUBSCRIPTION_TIER_FREE\"}"),
            (2, "user.profile_updated", "UserProfileUpdated", "{\"userId\":\"ada\",\"changedFields\":[\"name\"]}"),
            (
                3,
                "user.status_changed",
                "UserStatusChanged",
                "{\"userId\":\"ada\",\"from\":\"ACCOUNT_STATUS_ACTIVE\",\"to\":\"ACCOUNT_STATUS_SUSPENDED\"}",
            ),
        ] {
            let mut event = next(&mut tail).await;
            // Now begins with the oldest transaction that is under way on the server, which may be another test's.
            while event.subject == "before" {
                event = next(&mut tail).await;
            }
            assert_eq!((event.r#type.as_str(), event.aggregate_version), (kind, version));
            assert_eq!(event.data, data);
            assert_eq!(event.data_schema, format!("trivet.account.v1.{schema}"));
            assert_eq!((event.source.as_str(), event.aggregate.as_str()), ("trivet.dev/account", "user"));
            assert_eq!((event.subject.as_str(), event.causation_id.as_str()), ("ada", ""));
            assert!(event.event_id.starts_with("evt_") && event.traceparent.starts_with("00-"), "{event:?}");
            assert!(event.time.is_some_and(|time| time.seconds > 1_700_000_000), "{event:?}");
        }
        quiet(&mut tail).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_goes_on_after_an_event_without_gap_or_repeat_while_others_write() {
    const WRITERS: usize = 6;
    const EACH: usize = 40;
    on_every_store(async |house| {
        let mut first = tail(house, TailEventsRequest::default()).await;
        let writers = (0..WRITERS).map(async |writer| {
            for each in 0..EACH {
                house.accounts().ensure_account(person(&format!("user-{writer}-{each}"))).await.unwrap();
            }
        });
        let reading = async {
            let mut seen = vec![next(&mut first).await.event_id];
            while seen.len() < WRITERS * EACH {
                // More than a page at a time, and less.
                let mut tail = tail(house, after(seen.last().unwrap())).await;
                for _ in 0..(WRITERS * EACH - seen.len()).min(77) {
                    seen.push(next(&mut tail).await.event_id);
                }
            }
            seen
        };
        let (_, seen) = tokio::join!(futures_util::future::join_all(writers), reading);
        let mut again = tail(house, after(&seen[0])).await;
        for event_id in &seen[1..] {
            assert_eq!(&next(&mut again).await.event_id, event_id, "the order is the same for everybody");
        }
        let once: std::collections::BTreeSet<_> = seen.iter().collect();
        assert_eq!(once.len(), WRITERS * EACH);
        quiet(&mut again).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_hears_of_what_another_process_commits_and_longer_than_a_deadline() {
    on_every_store(async |house| {
        // The first one tells what there is to tell; nobody wakes the second.
        let second = Box::pin(House::start(house.config.clone(), &RoleName::ALL)).await;
        let mut brief = Request::new(TailEventsRequest::default());
        brief.set_timeout(Duration::from_millis(300));
        let mut tail = tail(&second, brief).await;
        quiet(&mut tail).await;
        house.accounts().ensure_account(person("ada")).await.unwrap();
        assert_eq!(next(&mut tail).await.subject, "ada");
        second.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_shows_the_types_and_the_subject_that_it_is_asked_for() {
    on_every_store(async |house| {
        let types = ["user.status_changed", "user.profile_updated"].map(str::to_owned).to_vec();
        let mut some = tail(house, TailEventsRequest { types, ..TailEventsRequest::default() }).await;
        let mut bob =
            tail(house, TailEventsRequest { subject: "bob".to_owned(), ..TailEventsRequest::default() }).await;
        for user_id in ["ada", "bob"] {
            house.accounts().ensure_account(person(user_id)).await.unwrap();
            rename(house, user_id, "Somebody").await;
            suspend(house, user_id).await;
        }
        for (user_id, kind) in [("ada", "profile_updated"), ("ada", "status_changed"), ("bob", "profile_updated")] {
            let event = next(&mut some).await;
            assert_eq!((event.subject.as_str(), event.r#type), (user_id, format!("user.{kind}")));
        }
        for version in 1..=3 {
            let event = next(&mut bob).await;
            assert_eq!((event.subject.as_str(), event.aggregate_version), ("bob", version));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_sees_its_own_events_only() {
    on_every_store(async |house| {
        let mut acme = tail(house, of("acme", TailEventsRequest::default())).await;
        let mut own = tail(house, TailEventsRequest::default()).await;
        house.accounts().ensure_account(person("ada")).await.unwrap();
        let event_id = next(&mut own).await.event_id;
        house.accounts().ensure_account(of("acme", person("eve"))).await.unwrap();
        assert_eq!(next(&mut acme).await.subject, "eve");
        let foreign = house.events("account").tail_events(of("acme", after(&event_id))).await.unwrap_err();
        assert_eq!((foreign.code(), reason(&foreign).as_str()), (Code::NotFound, "EVENT_NOT_FOUND"));
        let nobody = house.events("account").tail_events(after("evt_0")).await.unwrap_err();
        assert_eq!(reason(&nobody), "EVENT_NOT_FOUND");
        eventually("telling", async || flow(house, "account", "acme").await.iter().all(|flow| flow.lag == 0)).await;
        for tenant in ["default", "acme"] {
            let told = flow(house, "account", tenant).await;
            assert_eq!((told.len(), told[0].published), (1, 1), "{told:?}");
        }
        assert_eq!(flow(house, "account", "initech").await, []);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_under_way_holds_back_what_was_committed_after_it_began() {
    with_two_sessions(async |house, mut slow, mut fast| {
        let mut tail = tail(house, TailEventsRequest::default()).await;
        slow.execute("begin").await.unwrap();
        slow.execute(insert("evt_slow", "zoe", 1)).await.unwrap();
        house.accounts().ensure_account(person("ada")).await.unwrap();
        fast.execute(insert("evt_fast", "bob", 1)).await.unwrap();
        quiet(&mut tail).await;
        slow.execute("commit").await.unwrap();
        for subject in ["zoe", "ada", "bob"] {
            assert_eq!(next(&mut tail).await.subject, subject);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aggregate_that_a_later_transaction_had_first_is_shown_in_the_order_of_its_versions() {
    with_two_sessions(async |house, mut first, mut second| {
        let mut tail = tail(house, TailEventsRequest::default()).await;
        first.execute("begin").await.unwrap();
        // As a claim is written before the wallet can be locked.
        first.execute("select pg_current_xact_id()").await.unwrap();
        second.execute(insert("evt_2", "ada", 2)).await.unwrap();
        first.execute(insert("evt_3", "ada", 3)).await.unwrap();
        first.execute("commit").await.unwrap();
        for version in [2, 3] {
            assert_eq!(next(&mut tail).await.aggregate_version, version);
        }
    })
    .await;
}

/// Runs a test with two sessions at account's database; on PostgreSQL only, for SQLite has one writer.
async fn with_two_sessions(test: impl AsyncFn(&House, PgConnection, PgConnection)) {
    let Some(databases) = Databases::postgres().await else { return };
    let Databases::Postgres { server, name } = &databases else { unreachable!() };
    let url = format!("{}/{name}", server.rsplit_once('/').unwrap().0);
    let house = House::start(config(&databases, &[]), &RoleName::ALL).await;
    let session = async || {
        let mut session = PgConnection::connect(&url).await.unwrap();
        session.execute("set search_path to account").await.unwrap();
        session
    };
    test(&house, session().await, session().await).await;
    house.end().await;
    databases.done().await;
}

fn insert(event_id: &str, subject: &str, version: i64) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!(
        "insert into outbox (event_id, tenant_id, type, aggregate, subject, aggregate_version, time, traceparent,
                             causation_id, data_schema, data)
         values ('{event_id}', 'default', 'user.created', 'user', '{subject}', {version}, 1, '', '',
                 'trivet.account.v1.UserCreated', '')"
    ))
}

/// Looks at how a stream ends when the process goes.
fn check_draining(end: &Status) {
    assert_eq!((end.code(), reason(end).as_str()), (Code::Unavailable, "DRAINING"));
    assert!(end.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some()), "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_goes_ends_its_tails_with_draining() {
    for databases in [Some(Databases::sqlite()), Databases::postgres().await].into_iter().flatten() {
        let house = House::start(config(&databases, &[("server.announce_ms", "2500")]), &RoleName::ALL).await;
        let mut tail = tail(&house, TailEventsRequest::default()).await;
        let mut accounts = house.accounts();
        let began = std::time::Instant::now();
        let end = async {
            // It goes on for as long as the process takes calls.
            accounts.ensure_account(person("ada")).await.unwrap();
            next(&mut tail).await;
            tail.message().await.unwrap_err()
        };
        let ((), end) = tokio::join!(house.end(), end);
        check_draining(&end);
        assert!(began.elapsed() < Duration::from_secs(15), "no tail was waited for");
        databases.done().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_goes_ends_a_replay_with_draining() {
    let Some(databases) = Databases::postgres().await else { return };
    let Databases::Postgres { server, name } = &databases else { unreachable!() };
    let mut session = PgConnection::connect(&format!("{}/{name}", server.rsplit_once('/').unwrap().0)).await.unwrap();
    let house = House::start(config(&databases, &[]), &[RoleName::Account]).await;
    house.accounts().ensure_account(person("ada")).await.unwrap();
    let all = trivet_proto::mesh::v1::ReplayEventsRequest { from_time: Some(prost_types::Timestamp::default()) };
    // The replay waits for whoever holds the row.
    session.execute("begin").await.unwrap();
    session.execute("select 1 from account.outbox for update").await.unwrap();
    let mut replay = house.events("account").replay_events(all).await.unwrap().into_inner();
    assert_eq!(next(&mut replay).await.total, 1);
    let released = async {
        let end = replay.message().await.unwrap_err();
        session.execute("commit").await.unwrap();
        end
    };
    let ((), end) = tokio::join!(house.running.drain(std::future::pending()), released);
    check_draining(&end);
    databases.done().await;
}

/// The flow of a tenant's events.
pub(crate) async fn flow(house: &House, service: &str, tenant: &str) -> Vec<EventFlow> {
    house.events(service).get_event_flow(of(tenant, GetEventFlowRequest {})).await.unwrap().into_inner().flows
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_so_many_tails_at_once_and_no_more() {
    on_every_store(async |house| {
        let mut tails = Vec::new();
        for _ in 0..64 {
            tails.push(tail(house, TailEventsRequest::default()).await);
        }
        let refused = house.events("account").tail_events(TailEventsRequest::default()).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "OVERLOADED"));
        tails.pop();
        eventually("letting one go", async || {
            house.events("account").tail_events(TailEventsRequest::default()).await.is_ok()
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_that_nobody_reads_holds_up_nobody() {
    const EVENTS: usize = 80;
    on_every_store(async |house| {
        // 60 kB each: together more than a connection takes ahead.
        let data = UserCreated { user_id: "x".repeat(60_000), ..UserCreated::default() }.encode_to_vec();
        let mut slow = tail(house, TailEventsRequest::default()).await;
        let other = Other::at(&house.config, RoleName::Account).await;
        for number in 0..EVENTS {
            let event_id: &'static str = format!("evt_{number}").leak();
            let row = Row { data: data.clone(), ..Row::of(event_id, "user.created", "ada") };
            other.tell(row).await;
        }
        let mut quick = tail(house, after("evt_0")).await;
        for number in 1..EVENTS {
            assert_eq!(next(&mut quick).await.event_id, format!("evt_{number}"));
        }
        for number in 0..EVENTS {
            assert_eq!(next(&mut slow).await.event_id, format!("evt_{number}"));
        }
    })
    .await;
}
