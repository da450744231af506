//! The role that tells: things with versions, each change of one an event in the same transaction.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use futures_util::future::{BoxFuture, join_all};
use mesh::{
    Clock, Context, Role, Store, StoreError, Tenant,
    events::{self, Aggregate, Handlers, Origin},
    store::{self, Migration, Row, Transaction, sql},
};
use sea_orm::{ConnectionTrait as _, DbBackend};
use serde::{Deserialize, Serialize};
use trivet_proto::{
    Event, EventKind,
    account::v1::{AccountStatus, UserProfileUpdated, UserStatusChanged},
};

use crate::house::{Stores, role};

const THINGS: Migration = Migration::new(
    "m0001_things",
    "
    create table things (
        id      text primary key,
        version bigint not null
    );
    ",
);

/// The role.
pub(crate) fn source(stores: &Stores, handlers: Handlers) -> Role {
    role("source", THINGS, stores, handlers)
}

/// What an event says.
#[derive(Clone, Copy)]
pub(crate) enum Says {
    /// Somebody's status has changed.
    Status,
    /// Something of this many bytes.
    Much(usize),
    /// What only a later release knows.
    Unheard,
    /// What nobody can read.
    Garbage,
}

/// An event of a release that is not there yet.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct UserTeleported {
    #[prost(string, tag = "1")]
    pub(crate) user_id: String,
}

impl Event for UserTeleported {
    const KIND: EventKind = EventKind { kind: "user.teleported", message: "trivet.account.v1.UserTeleported" };
}

/// A transaction that changes things, and tells each change.
pub(crate) struct Change {
    pub(crate) origin: Origin,
    /// In their order, for two transactions that lock the same.
    pub(crate) subjects: Vec<String>,
    /// Changes of each of them.
    pub(crate) changes: i64,
    pub(crate) slow: bool,
    pub(crate) says: Says,
}

impl Change {
    /// One change of one thing.
    pub(crate) fn of(subject: &str) -> Self {
        Self {
            origin: Origin::of(&context(), &Clock::system()),
            subjects: vec![subject.to_owned()],
            changes: 1,
            slow: false,
            says: Says::Status,
        }
    }

    /// One change that says something else.
    pub(crate) fn saying(subject: &str, says: Says) -> Self {
        Self { says, ..Self::of(subject) }
    }

    /// Does it. Acknowledged are the things with the version that they have then.
    pub(crate) async fn commit(self, store: &Store) -> Result<Vec<(String, i64)>, StoreError> {
        store.unit(&context()).run(self, write).await
    }
}

/// A call with time enough.
pub(crate) fn context() -> Context {
    Context::own(Tenant::default_tenant(), Duration::from_secs(20))
}

fn write<'a>(
    change: &'a Change,
    transaction: &'a Transaction,
) -> BoxFuture<'a, Result<Vec<(String, i64)>, StoreError>> {
    Box::pin(async move {
        let mut acknowledged = Vec::new();
        for subject in &change.subjects {
            // The lock of the aggregate's row comes first.
            let text = "insert into things (id, version) values ($1, $2)
                        on conflict (id) do update set version = things.version + excluded.version returning version";
            let version = store::count(transaction, text, [subject.as_str().into(), change.changes.into()]).await?;
            for version in version - change.changes + 1..=version {
                tell(change, subject, version, transaction).await?;
                if change.slow {
                    linger(transaction).await?;
                }
            }
            acknowledged.push((subject.clone(), version));
        }
        Ok(acknowledged)
    })
}

/// Takes its time, with the locks held.
async fn linger(transaction: &Transaction) -> Result<(), StoreError> {
    let text = match transaction.get_database_backend() {
        DbBackend::Postgres => "select 1 from pg_sleep_for('5 milliseconds')",
        _ => "with recursive n(i) as (select 1 union all select i + 1 from n where i < 2000) select count(*) from n",
    };
    transaction.query_one_raw(sql(transaction, text, [])).await?;
    Ok(())
}

async fn tell(change: &Change, subject: &str, version: i64, transaction: &Transaction) -> Result<(), StoreError> {
    let (user_id, origin) = (subject.to_owned(), &change.origin);
    let aggregate = Aggregate { kind: "user", id: subject, version };
    match change.says {
        Says::Status => {
            let (from, to) = (AccountStatus::Active.into(), AccountStatus::Suspended.into());
            events::publish(transaction, origin, aggregate, &UserStatusChanged { user_id, from, to }).await
        }
        Says::Much(bytes) => {
            let event = UserProfileUpdated { user_id, changed_fields: vec!["x".repeat(bytes)] };
            events::publish(transaction, origin, aggregate, &event).await
        }
        Says::Unheard => events::publish(transaction, origin, aggregate, &UserTeleported { user_id }).await,
        Says::Garbage => {
            events::publish(transaction, origin, aggregate, &UserStatusChanged::default()).await?;
            let text = "update outbox set data = $1 where subject = $2 and aggregate_version = $3";
            let values = [b"\xff garbage".to_vec().into(), subject.into(), version.into()];
            Ok(transaction.execute_raw(sql(transaction, text, values)).await.map(|_| ())?)
        }
    }
}

/// Tells one event of a version that the test chooses.
pub(crate) async fn tell_version(store: &Store, subject: &str, version: i64) {
    let input = (Change::of(subject), version);
    let context = context();
    let unit = store.unit(&context).run(input, |(change, version), transaction| {
        Box::pin(async move { tell(change, &change.subjects[0], *version, transaction).await })
    });
    unit.await.unwrap();
}

/// Slow and fast transactions at once, of one event and of several.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Load {
    /// How many transactions at once.
    pub(crate) writers: usize,
    /// How many things they change.
    pub(crate) things: usize,
    /// How many events there are when it ends.
    pub(crate) goal: i64,
}

impl Load {
    /// Writes until there are as many events as there should be. What is acknowledged is said at once.
    pub(crate) async fn write(self, store: &Store, acknowledged: impl Fn(&[(String, i64)])) {
        let written = waiting_or_told(store).await;
        let left = Arc::new(AtomicI64::new(self.goal - written));
        let acknowledged = &acknowledged;
        join_all((0..self.writers).map(async |writer| {
            let mut turn = writer;
            while let Some(change) = self.next(turn, &left) {
                let events = change.changes * i64::try_from(change.subjects.len()).unwrap();
                match change.commit(store).await {
                    Ok(versions) => acknowledged(&versions),
                    Err(StoreError::Closed) => return,
                    // It collided with somebody who held everything up, and did not happen.
                    Err(_) => {
                        left.fetch_add(events, Ordering::Relaxed);
                    }
                }
                turn += 1;
            }
        }))
        .await;
    }

    /// The next transaction of a writer, if anything is left to do.
    fn next(self, turn: usize, left: &AtomicI64) -> Option<Change> {
        let (subjects, changes, slow) = match turn % 4 {
            0 => (1_u8, 1, false),
            1 => (1, 5, true),
            2 => (2, 3, false),
            _ => (1, 1, true),
        };
        let all = i64::from(subjects) * changes;
        let take = |left: i64| (left > 0).then(|| left - all.min(left));
        let before = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok()?;
        let (subjects, changes) = if before < all { (1, before) } else { (subjects, changes) };
        let mut chosen: Vec<usize> = (0..subjects).map(|_| rand::random_range(0..self.things)).collect();
        chosen.sort_unstable();
        if chosen.len() == 2 && chosen[0] == chosen[1] {
            chosen[1] += 1;
        }
        let subjects = chosen.into_iter().map(|thing| format!("user_{thing:03}")).collect();
        Some(Change { subjects, changes, slow, ..Change::of("") })
    }
}

/// A row of the outbox, as far as it matters here.
#[derive(Clone, Debug, Row)]
pub(crate) struct Told {
    pub(crate) event_id: String,
    pub(crate) subject: String,
    pub(crate) version: i64,
    pub(crate) is_sent: bool,
    pub(crate) refusal: String,
}

/// The outbox, in its order.
pub(crate) async fn outbox(source: &Store) -> Vec<Told> {
    let text = "select event_id, subject, aggregate_version as version, refusal,
                       position not in (select position from outbox_waiting union select position from outbox_refused)
                           as is_sent
                  from outbox order by position";
    let reader = source.reader();
    Told::find_by_statement(sql(reader, text, [])).all(reader).await.unwrap()
}

pub(crate) async fn number(store: &Store, text: &str) -> i64 {
    store::count(store.reader(), text, []).await.unwrap()
}

/// How many events there are.
pub(crate) async fn waiting_or_told(source: &Store) -> i64 {
    number(source, "select count(*) from outbox").await
}

/// How many events were told.
pub(crate) async fn told(source: &Store) -> i64 {
    number(source, "select (select count(*) from outbox) - (select count(*) from outbox_waiting) - (select count(*) from outbox_refused)").await
}

/// How many events wait to be told.
pub(crate) async fn waiting(source: &Store) -> i64 {
    number(source, "select (select count(*) from outbox_waiting) + (select count(*) from outbox_refused)").await
}

/// Tells everything again, as an operator does after the bus lost it.
pub(crate) async fn tell_all_again(source: &Store) {
    execute(
        source,
        "insert into outbox_waiting select position, tenant_id, aggregate, subject from outbox
                          where refused_time is null on conflict do nothing",
    )
    .await;
}

/// Changes rows as an operator does, who knows what he does.
pub(crate) async fn execute(store: &Store, text: &'static str) {
    let context = context();
    let unit = store.unit(&context).run(text, |text, transaction| {
        Box::pin(async move { Ok(transaction.execute_unprepared(text).await.map(|_| ())?) })
    });
    unit.await.unwrap();
}
