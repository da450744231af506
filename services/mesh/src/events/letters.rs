//! The rows of `letters`: events that were received and are not felt yet, because a try failed or because they wait
//! behind one that did; and those that were given up.

use sea_orm::{ConnectionTrait, Value};

use super::{CloudEvent, cloud::AggregateKey, dead::DeadLetter, flow::Pending};
use crate::{
    Tenant, Time,
    store::{Migration, Row, StoreError, lock_clause, sql, tuples},
};

/// The table behind it.
pub(super) const MIGRATION: Migration =
    Migration::new("m0000_letters", "").on_postgres(LETTERS).on_sqlite(LETTERS_ON_SQLITE);

const LETTERS: &str = "
    create table letters (
        -- the order of receiving: within an aggregate, that of telling
        position          bigint generated always as identity primary key,
        event_id          text not null unique,
        source            text not null,
        tenant_id         text not null,
        type              text not null,
        aggregate         text not null,
        subject           text not null,
        aggregate_version bigint not null,
        time              bigint not null,
        traceparent       text not null,
        causation_id      text not null,
        data_schema       text not null,
        content_type      text not null,
        data              bytea not null,
        -- what could not be read of its attributes
        fault             text not null,
        attempts          bigint not null,
        -- why the last try failed; empty for one that only waits
        cause             text not null,
        -- when it is tried next; null once it was given up
        retry_time        bigint,
        fail_time         bigint,
        check ((retry_time is null) = (fail_time is not null))
    );
    create index letters_aggregate on letters (tenant_id, source, aggregate, subject, position);
    create index letters_retry_time on letters (retry_time) where retry_time is not null;
    create index letters_dead on letters (tenant_id, fail_time, position) where fail_time is not null;
";

/// The same in SQLite's words.
const LETTERS_ON_SQLITE: &str = "
    create table letters (
        position          integer primary key autoincrement,
        event_id          text not null unique,
        source            text not null,
        tenant_id         text not null,
        type              text not null,
        aggregate         text not null,
        subject           text not null,
        aggregate_version integer not null,
        time              integer not null,
        traceparent       text not null,
        causation_id      text not null,
        data_schema       text not null,
        content_type      text not null,
        data              blob not null,
        fault             text not null,
        attempts          integer not null,
        cause             text not null,
        retry_time        integer,
        fail_time         integer,
        check ((retry_time is null) = (fail_time is not null))
    ) strict;
    create index letters_aggregate on letters (tenant_id, source, aggregate, subject, position);
    create index letters_retry_time on letters (retry_time) where retry_time is not null;
    create index letters_dead on letters (tenant_id, fail_time, position) where fail_time is not null;
";

/// Those among these aggregates of which an event waits or was given up.
pub(super) async fn blocked(
    connection: &impl ConnectionTrait,
    keys: &[AggregateKey],
) -> Result<Vec<AggregateKey>, StoreError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let text = format!(
        "select distinct tenant_id, source, aggregate, subject from letters
          where (tenant_id, source, aggregate, subject) in (values {})",
        tuples(keys.len(), 4)
    );
    let values = keys.iter().flat_map(|key| {
        [
            key.tenant_id.clone().into(),
            key.source.clone().into(),
            key.aggregate.clone().into(),
            key.subject.clone().into(),
        ]
    });
    Ok(AggregateKey::find_by_statement(sql(connection, &text, values)).all(connection).await?)
}

/// How an event that is not felt stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It waits behind another one.
    Behind,
    /// It failed, and is tried again.
    Failed { attempts: i64, cause: String, retry_time: Time },
    /// It was given up.
    Dead { attempts: i64, cause: String },
}

impl Standing {
    fn columns(&self, now: Time) -> [Value; 4] {
        let none = || Value::from(None::<i64>);
        match self {
            Self::Behind => [0_i64.into(), "".into(), now.into(), none()],
            Self::Failed { attempts, cause, retry_time } => {
                [(*attempts).into(), cause.clone().into(), (*retry_time).into(), none()]
            }
            Self::Dead { attempts, cause } => [(*attempts).into(), cause.clone().into(), none(), now.into()],
        }
    }
}

/// Keeps an event that is not felt yet.
pub(super) async fn keep(
    connection: &impl ConnectionTrait,
    event: &CloudEvent,
    standing: &Standing,
    now: Time,
) -> Result<(), StoreError> {
    let CloudEvent { event_id, source, kind, tenant_id, aggregate, subject, aggregate_version, .. } = event.clone();
    let CloudEvent { time, traceparent, causation_id, data_schema, content_type, data, fault, .. } = event.clone();
    let values: [Value; 14] = [
        event_id.into(),
        source.into(),
        tenant_id.into(),
        kind.into(),
        aggregate.into(),
        subject.into(),
        aggregate_version.into(),
        time.into(),
        traceparent.into(),
        causation_id.into(),
        data_schema.into(),
        content_type.into(),
        data.into(),
        fault.into(),
    ];
    let text = format!(
        "insert into letters (event_id, source, tenant_id, type, aggregate, subject, aggregate_version, time,
                              traceparent, causation_id, data_schema, content_type, data, fault,
                              attempts, cause, retry_time, fail_time)
         values {}",
        tuples(1, 18)
    );
    connection.execute_raw(sql(connection, &text, values.into_iter().chain(standing.columns(now)))).await?;
    Ok(())
}

/// Notes how a letter stands after another try.
pub(super) async fn restand(
    connection: &impl ConnectionTrait,
    event_id: &str,
    standing: &Standing,
    now: Time,
) -> Result<(), StoreError> {
    let text = "update letters set attempts = $2, cause = $3, retry_time = $4, fail_time = $5 where event_id = $1";
    let values = std::iter::once(event_id.into()).chain(standing.columns(now));
    connection.execute_raw(sql(connection, text, values)).await?;
    Ok(())
}

/// An event that waits, with how often it was tried.
#[derive(Row)]
pub(super) struct Letter {
    pub(super) attempts: i64,
    #[sea_orm(nested)]
    pub(super) event: CloudEvent,
}

const LETTER: &str = "attempts, event_id, source, type as kind, tenant_id, aggregate, subject, aggregate_version, time,
    traceparent, causation_id, data_schema, content_type, data, fault";

/// Letters whose time has come and which nothing of their aggregate stands before, oldest first.
pub(super) async fn due(connection: &impl ConnectionTrait, now: Time, limit: i64) -> Result<Vec<Letter>, StoreError> {
    let text = format!(
        "select {LETTER} from letters l where retry_time <= $1
            and not exists (select 1 from letters earlier
                             where earlier.tenant_id = l.tenant_id and earlier.source = l.source
                               and earlier.aggregate = l.aggregate and earlier.subject = l.subject
                               and earlier.position < l.position)
          order by position limit $2"
    );
    Ok(Letter::find_by_statement(sql(connection, &text, [now.into(), limit.into()])).all(connection).await?)
}

/// Holds a letter until the end of the transaction; false where it is gone, or given up.
pub(super) async fn take(connection: &impl ConnectionTrait, event_id: &str) -> Result<bool, StoreError> {
    let lock = lock_clause(connection);
    let text = format!("select 1 as one from letters where event_id = $1 and retry_time is not null{lock}");
    Ok(connection.query_one_raw(sql(connection, &text, [event_id.into()])).await?.is_some())
}

/// Takes a letter away: it was felt, or discarded.
pub(super) async fn remove(connection: &impl ConnectionTrait, event_id: &str) -> Result<(), StoreError> {
    connection.execute_raw(sql(connection, "delete from letters where event_id = $1", [event_id.into()])).await?;
    Ok(())
}

/// How many letters wait, and how many were given up.
#[derive(Row)]
pub(super) struct Pile {
    pub(super) waiting: i64,
    pub(super) dead: i64,
}

/// How high the letters pile up.
pub(super) async fn pile(connection: &impl ConnectionTrait) -> Result<Pile, StoreError> {
    let text = "select (select count(*) from letters where fail_time is null) as waiting,
                       (select count(*) from letters where fail_time is not null) as dead";
    let pile = Pile::find_by_statement(sql(connection, text, [])).one(connection).await?;
    pile.ok_or(StoreError::Impossible("a count has no row"))
}

/// The letters that were given up, oldest failure first, after this time and position.
pub(super) async fn dead(
    connection: &impl ConnectionTrait,
    consumer: &str,
    tenant: &Tenant,
    (after, position): (Time, i64),
    limit: u64,
) -> Result<Vec<DeadLetter>, StoreError> {
    let text = format!(
        "select position, cast($1 as text) as consumer, event_id, type as kind, source, subject, aggregate_version,
                time, attempts, cause, fail_time,
                (select count(*) from letters later
                  where later.tenant_id = l.tenant_id and later.source = l.source and later.aggregate = l.aggregate
                    and later.subject = l.subject and later.position > l.position) as waiting
           from letters l
          where tenant_id = $2 and fail_time is not null and (fail_time, position) > ($3, $4)
          order by fail_time, position limit {limit}"
    );
    let values = [consumer.into(), tenant.clone().into(), after.into(), position.into()];
    Ok(DeadLetter::find_by_statement(sql(connection, &text, values)).all(connection).await?)
}

/// Has a letter that was given up tried anew; false where it is none.
pub(super) async fn retry(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    event_id: &str,
    now: Time,
) -> Result<bool, StoreError> {
    let text = "update letters set attempts = 0, retry_time = $3, fail_time = null
                 where tenant_id = $1 and event_id = $2 and fail_time is not null";
    let statement = sql(connection, text, [tenant.clone().into(), event_id.into(), now.into()]);
    Ok(connection.execute_raw(statement).await?.rows_affected() > 0)
}

/// Takes a letter away that was given up; false where it is none.
pub(super) async fn discard(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    event_id: &str,
) -> Result<bool, StoreError> {
    let text = "delete from letters where tenant_id = $1 and event_id = $2 and fail_time is not null";
    let statement = sql(connection, text, [tenant.clone().into(), event_id.into()]);
    Ok(connection.execute_raw(statement).await?.rows_affected() > 0)
}

/// What is to be felt, by type; no more than `limit` of them.
pub(super) async fn pending(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    limit: usize,
) -> Result<Vec<Pending>, StoreError> {
    let text = format!(
        "select type as kind, count(fail_time) as dead, count(*) - count(fail_time) as waiting,
                min(case when fail_time is null then time end) as oldest
           from letters where tenant_id = $1 group by type order by type limit {limit}"
    );
    Ok(Pending::find_by_statement(sql(connection, &text, [tenant.clone().into()])).all(connection).await?)
}
