//! The rows of `outbox`: the record of what was told, of which every stream is a copy.

mod changes;
mod schema;

use sea_orm::{ConnectionTrait, DbBackend};

use super::{
    CloudEvent, Draft, Origin,
    cloud::PROTOBUF,
    dead::{BUS, DeadLetter},
    flow::Pending,
};
pub(super) use changes::changes;
pub(super) use schema::{MIGRATION, ORDER, POSITIONS};

use crate::{
    Tenant, Time, id,
    store::{Kind, Row as QueryRow, Rows, StoreError, Writes, placeholders, sql},
};

/// What is written of an event.
const INSERTED: [(&str, Kind); 11] = [
    ("event_id", Kind::Text),
    ("tenant_id", Kind::Text),
    ("type", Kind::Text),
    ("aggregate", Kind::Text),
    ("subject", Kind::Text),
    ("aggregate_version", Kind::Number),
    ("time", Kind::Number),
    ("traceparent", Kind::Text),
    ("causation_id", Kind::Text),
    ("data_schema", Kind::Text),
    ("data", Kind::Bytes),
];

/// Adds to what is written that these events are appended, in their order.
pub(super) fn insert(writes: &mut Writes, drafts: Vec<(Origin, Draft)>) -> Result<(), StoreError> {
    let row = |(origin, draft): (Origin, Draft)| {
        [
            id::fresh("evt", &origin.clock).into(),
            origin.tenant.clone().into(),
            draft.kind.into(),
            draft.aggregate.into(),
            draft.subject.into(),
            draft.aggregate_version.into(),
            origin.time.into(),
            origin.traceparent().into(),
            origin.causation_id.into(),
            draft.data_schema.into(),
            draft.data.into(),
        ]
    };
    // Positions are given out in the order of the rows.
    let short = StoreError::Impossible("an event was not written down");
    writes.add(Rows::new(INSERTED, drafts.into_iter().map(row)), short, |columns, rows| {
        format!("insert into outbox ({columns}) select {columns} from {rows} where true")
    })
}

/// Rows that a purge takes at once: small enough that nobody waits for it.
const PURGED: i64 = 1_000;

/// The columns of an event, of which `$1` is the source.
const EVENT: &str = "event_id, cast($1 as text) as source, type as kind, tenant_id, aggregate, subject,
    aggregate_version, time, traceparent, causation_id, data_schema, data, '' as fault";

/// Events that the bus refused and nobody has discarded; mostly none. Materialized, because PostgreSQL would otherwise
/// look for them once for each event that waits, whenever its statistics are from before the wait.
const REFUSED: &str = "refused as materialized (
    select tenant_id, aggregate, subject, position from outbox where refused_time is not null and sent_time is null)";

/// That `waiting` is to be told: no bus has refused it, nor one that it stands behind.
const WAITING: &str = "waiting.sent_time is null and waiting.refused_time is null
    and not exists (select 1 from refused
                     where refused.tenant_id = waiting.tenant_id and refused.aggregate = waiting.aggregate
                       and refused.subject = waiting.subject and refused.position < waiting.position)";

/// An event with its place in the outbox.
#[derive(QueryRow)]
pub(super) struct Kept {
    pub(super) position: i64,
    pub(super) commit_order: i64,
    #[sea_orm(nested)]
    pub(super) event: CloudEvent,
}

impl Kept {
    /// Where it stands in the order of commits.
    pub(super) fn place(&self) -> Place {
        Place { commit_order: self.commit_order, position: self.position }
    }
}

/// The oldest events after a position that are to be told. Not those that the bus refused, nor what waits behind them.
pub(super) async fn unsent(
    connection: &impl ConnectionTrait,
    source: &str,
    after: i64,
    limit: u64,
) -> Result<Vec<Kept>, StoreError> {
    let text = format!(
        "with {REFUSED}
         select position, commit_order, {EVENT}, '{PROTOBUF}' as content_type from outbox waiting
          where {WAITING} and position > $2 order by position limit $3"
    );
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let statement = sql(connection, &text, [source.into(), after.into(), limit.into()]);
    Ok(Kept::find_by_statement(statement).all(connection).await?)
}

/// Notes that these were told.
pub(super) async fn mark_sent(
    connection: &impl ConnectionTrait,
    positions: &[i64],
    now: Time,
) -> Result<(), StoreError> {
    if positions.is_empty() {
        return Ok(());
    }
    let rows = Rows::new([("position", Kind::Number)], positions.iter().map(|position| [(*position).into()]));
    let mut values = vec![now.into()];
    let text = format!(
        // By their positions alone: where many wait, going through those that do would take longer the more there are.
        "update outbox set sent_time = $1 from {} where outbox.position = k.position",
        rows.bind(connection, "k", &mut values)?
    );
    connection.execute_raw(sql(connection, &text, values)).await?;
    Ok(())
}

/// Notes that the bus does not take this one.
pub(super) async fn mark_refused(
    connection: &impl ConnectionTrait,
    position: i64,
    refusal: &str,
    now: Time,
) -> Result<(), StoreError> {
    let text = "update outbox set refused_time = $2, refusal = $3 where position = $1 and sent_time is null";
    connection.execute_raw(sql(connection, text, [position.into(), now.into(), refusal.into()])).await?;
    Ok(())
}

/// Forgets what was told before `horizon`, a piece of it; says how many rows that were.
pub(super) async fn purge(connection: &impl ConnectionTrait, horizon: Time) -> Result<u64, StoreError> {
    let text = "delete from outbox where position in
                    (select position from outbox where sent_time < $1 order by sent_time limit $2)";
    let statement = sql(connection, text, [horizon.into(), PURGED.into()]);
    Ok(connection.execute_raw(statement).await?.rows_affected())
}

/// A place in the order of commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, QueryRow)]
pub(super) struct Place {
    pub(super) commit_order: i64,
    pub(super) position: i64,
}

/// Where this event is, if it is there.
pub(super) async fn place(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    event_id: &str,
) -> Result<Option<Place>, StoreError> {
    let text = "select commit_order, position from outbox where tenant_id = $1 and event_id = $2";
    let statement = sql(connection, text, [tenant.clone().into(), event_id.into()]);
    Ok(Place::find_by_statement(statement).one(connection).await?)
}

/// The place before everything that is not committed yet: no event will ever come before it that is not there now.
pub(super) async fn present(connection: &impl ConnectionTrait) -> Result<Place, StoreError> {
    let text = match connection.get_database_backend() {
        DbBackend::Postgres => {
            "select pg_snapshot_xmin(pg_current_snapshot())::text::bigint as commit_order, cast(0 as bigint) as position"
        }
        _ => "select 0 as commit_order, coalesce(max(position), 0) as position from outbox",
    };
    let place = Place::find_by_statement(sql(connection, text, [])).one(connection).await?;
    place.ok_or(StoreError::Impossible("there is no present"))
}

/// Which events to show, and between which places.
pub(super) struct Stretch<'a> {
    pub(super) tenant: &'a Tenant,
    pub(super) after: Place,
    /// A [`present`], or transactions under way could precede what is shown.
    pub(super) until: Place,
    /// None means all.
    pub(super) kinds: &'a [String],
    /// Empty means any.
    pub(super) subject: &'a str,
}

/// The first events of a stretch, in the order of their commits.
pub(super) async fn told(
    connection: &impl ConnectionTrait,
    source: &str,
    asked: &Stretch<'_>,
    limit: usize,
) -> Result<Vec<Kept>, StoreError> {
    let kinds = if asked.kinds.is_empty() {
        String::new()
    } else {
        format!("and type in ({})", placeholders(8, asked.kinds.len()))
    };
    let (between, order) = match connection.get_database_backend() {
        DbBackend::Postgres => {
            ("(commit_order, position) > ($2, $3) and (commit_order, position) <= ($4, $5)", "commit_order, position")
        }
        // Its commit orders are all 0, and it would look for them alone.
        _ => ("$2 = $4 and position > $3 and position <= $5", "position"),
    };
    let text = format!(
        "select position, commit_order, {EVENT}, '{PROTOBUF}' as content_type from outbox
          where {between} and tenant_id = $6 and ($7 = '' or subject = $7) {kinds}
          order by {order} limit {limit}"
    );
    let fixed = [
        source.into(),
        asked.after.commit_order.into(),
        asked.after.position.into(),
        asked.until.commit_order.into(),
        asked.until.position.into(),
        asked.tenant.clone().into(),
        asked.subject.into(),
    ];
    let values = fixed.into_iter().chain(asked.kinds.iter().map(|kind| kind.clone().into()));
    Ok(Kept::find_by_statement(sql(connection, &text, values)).all(connection).await?)
}

/// What there is to tell again.
#[derive(Clone, Copy, Debug, QueryRow)]
pub(super) struct Past {
    pub(super) total: i64,
    /// The first and the last position; none where there is nothing.
    pub(super) first: Option<i64>,
    pub(super) last: Option<i64>,
}

/// The events that were told at or after a time or wait to be, all tenants'. Not those that the bus refused: they wait
/// for a person, or were discarded by one.
pub(super) async fn past(connection: &impl ConnectionTrait, from: Time) -> Result<Past, StoreError> {
    let text = "select count(*) as total, min(position) as first, max(position) as last from outbox
                 where time >= $1 and refused_time is null";
    let past = Past::find_by_statement(sql(connection, text, [from.into()])).one(connection).await?;
    past.ok_or(StoreError::Impossible("a count has no row"))
}

/// Takes back that up to `limit` events between two positions, the last included, were told; answers their positions,
/// in order.
pub(super) async fn tell_again(
    connection: &impl ConnectionTrait,
    from: Time,
    (after, last): (i64, i64),
    limit: usize,
) -> Result<Vec<i64>, StoreError> {
    #[derive(QueryRow)]
    struct Position {
        position: i64,
    }
    let text = format!(
        "update outbox set sent_time = null where position in
            (select position from outbox
              where time >= $1 and refused_time is null and position > $2 and position <= $3
              order by position limit {limit})
         returning position"
    );
    let statement = sql(connection, &text, [from.into(), after.into(), last.into()]);
    let rows = Position::find_by_statement(statement).all(connection).await?;
    let mut positions: Vec<i64> = rows.into_iter().map(|row| row.position).collect();
    positions.sort_unstable();
    Ok(positions)
}

/// The events that no bus takes, oldest refusal first, after this time and position.
pub(super) async fn dead(
    connection: &impl ConnectionTrait,
    source: &str,
    tenant: &Tenant,
    (after, position): (Time, i64),
    limit: u64,
) -> Result<Vec<DeadLetter>, StoreError> {
    // What waits behind all of the page is counted in one go: no index leads from an aggregate to what it has unsent.
    let text = format!(
        "with page as (
            select position, event_id, type as kind, tenant_id, aggregate, subject, aggregate_version, time,
                   refusal as cause, refused_time as fail_time
              from outbox where tenant_id = $2 and refused_time is not null and sent_time is null
               and (refused_time, position) > ($3, $4)
             order by refused_time, position limit {limit}
         ), behind as (
            select page.position, count(*) as waiting from page join outbox later
                on later.tenant_id = page.tenant_id and later.aggregate = page.aggregate
               and later.subject = page.subject and later.position > page.position
             where later.sent_time is null group by page.position
         )
         select page.position, '{BUS}' as consumer, event_id, kind, cast($1 as text) as source, subject,
                aggregate_version, time, cast(1 as bigint) as attempts, cause, fail_time,
                coalesce(behind.waiting, 0) as waiting
           from page left join behind on behind.position = page.position
          order by fail_time, page.position"
    );
    let values = [source.into(), tenant.clone().into(), after.into(), position.into()];
    Ok(DeadLetter::find_by_statement(sql(connection, &text, values)).all(connection).await?)
}

/// Has the bus asked again whether it takes this one; false where it is none that the bus refused.
pub(super) async fn retry(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    event_id: &str,
) -> Result<bool, StoreError> {
    let text = "update outbox set refused_time = null, refusal = ''
                 where tenant_id = $1 and event_id = $2 and refused_time is not null and sent_time is null";
    let statement = sql(connection, text, [tenant.clone().into(), event_id.into()]);
    Ok(connection.execute_raw(statement).await?.rows_affected() > 0)
}

/// Takes a refused event out of the way of those behind it, as if it had been told; false where it is none that the bus
/// refused.
pub(super) async fn discard(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    event_id: &str,
    now: Time,
) -> Result<bool, StoreError> {
    let text = "update outbox set sent_time = $3
                 where tenant_id = $1 and event_id = $2 and refused_time is not null and sent_time is null";
    let statement = sql(connection, text, [tenant.clone().into(), event_id.into(), now.into()]);
    Ok(connection.execute_raw(statement).await?.rows_affected() > 0)
}

/// What is to be told, by type; no more than `limit` of them.
pub(super) async fn pending(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    limit: usize,
) -> Result<Vec<Pending>, StoreError> {
    let text = format!(
        "select type as kind, count(refused_time) as dead, count(*) - count(refused_time) as waiting,
                min(case when refused_time is null then time end) as oldest
           from outbox where sent_time is null and tenant_id = $1 group by type order by type limit {limit}"
    );
    Ok(Pending::find_by_statement(sql(connection, &text, [tenant.clone().into()])).all(connection).await?)
}

/// Nobody needs to know exactly how many more wait, and counting them each second would cost more than telling them.
const COUNTED: i64 = 100_000;

/// How many events wait to be told, and since when the oldest does.
#[derive(QueryRow)]
pub(super) struct Backlog {
    pub(super) waiting: i64,
    pub(super) oldest: Option<Time>,
}

/// How far telling is behind; what waits is counted up to [`COUNTED`].
pub(super) async fn backlog(connection: &impl ConnectionTrait) -> Result<Backlog, StoreError> {
    let text = format!(
        "with {REFUSED}
         select (select count(*) from (select 1 from outbox waiting where {WAITING} limit {COUNTED}) counted) as waiting,
                (select time from outbox waiting where {WAITING} order by position limit 1) as oldest"
    );
    let backlog = Backlog::find_by_statement(sql(connection, &text, [])).one(connection).await?;
    backlog.ok_or(StoreError::Impossible("a count has no row"))
}
