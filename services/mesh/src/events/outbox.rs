//! The rows of `outbox`: the record of what is told, of which every stream is a copy; and of `outbox_waiting`, what of it is
//! to be told yet, which the database itself adds to.

mod changes;
mod refused;
mod schema;

use sea_orm::{ConnectionTrait, DbBackend, Value};

use super::{CloudEvent, Draft, Origin, cloud::PROTOBUF, flow::Pending};
pub(super) use changes::changes;
pub(super) use refused::{dead, discard, mark_refused, retry};
pub(super) use schema::{MIGRATION, ORDER, POSITIONS, WAITING};

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

/// That an event of the outbox is done with: it neither waits to be told nor was refused without having been discarded since.
/// Not `not exists`, of which PostgreSQL may make a join, through all that waits; nor `is null`, of which it thinks that it is
/// mostly false.
const DONE: &str =
    "coalesce((select false from outbox_waiting left_over where left_over.position = outbox.position), true)
    and coalesce((select false from outbox_refused left_over where left_over.position = outbox.position), true)";

/// That `waiting` is to be told: a bus has neither refused it nor an event that it stands behind. Mostly none is, which is looked at
/// once; where some are, each event is compared as it comes, and what waits is in its order already.
const FREE: &str = "((select 1 from outbox_refused limit 1) is null
    or (select 1 from outbox_refused refused
         where refused.tenant_id = waiting.tenant_id and refused.aggregate = waiting.aggregate
           and refused.subject = waiting.subject and refused.position <= waiting.position limit 1) is null)";

#[derive(QueryRow)]
struct Position {
    position: i64,
}

/// The condition that a row is at one of these positions, which are in their order, with its values. The bounds say nothing
/// new, but however PostgreSQL then goes about it, it stays between them.
fn at(connection: &impl ConnectionTrait, positions: &[i64], values: &mut Vec<Value>) -> Result<String, StoreError> {
    let rows = Rows::new([("position", Kind::Number)], positions.iter().map(|position| [(*position).into()]));
    let rows = rows.bind(connection, "k", values)?;
    let (first, last) = (positions.first().copied().unwrap_or(0), positions.last().copied().unwrap_or(0));
    values.extend([first.into(), last.into()]);
    let count = values.len();
    Ok(format!("position >= ${} and position <= ${count} and position in (select position from {rows})", count - 1))
}

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
    // Two statements: of one, PostgreSQL may make a walk through the whole outbox beside what waits.
    let text = format!(
        "select position from outbox_waiting waiting where position > $1 and {FREE} order by position limit {limit}"
    );
    let found = Position::find_by_statement(sql(connection, &text, [after.into()])).all(connection).await?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let positions: Vec<i64> = found.into_iter().map(|row| row.position).collect();
    let mut values = vec![source.into()];
    let at = at(connection, &positions, &mut values)?;
    let text = format!(
        "select position, commit_order, {EVENT}, '{PROTOBUF}' as content_type from outbox where {at} order by position"
    );
    let kept = Kept::find_by_statement(sql(connection, &text, values)).all(connection).await?;
    if kept.is_empty() {
        return Err(StoreError::Impossible("what waits to be told is not in the outbox"));
    }
    Ok(kept)
}

/// Notes that these, in their order, were told.
pub(super) async fn mark_told(connection: &impl ConnectionTrait, positions: &[i64]) -> Result<(), StoreError> {
    if positions.is_empty() {
        return Ok(());
    }
    let mut values = Vec::new();
    let text = format!("delete from outbox_waiting where {}", at(connection, positions, &mut values)?);
    connection.execute_raw(sql(connection, &text, values)).await?;
    Ok(())
}

/// Forgets what happened before `horizon` and is done with, a piece of it; says how many rows that were.
pub(super) async fn purge(connection: &impl ConnectionTrait, horizon: Time) -> Result<u64, StoreError> {
    let text = format!(
        "delete from outbox where position in
            (select position from outbox where time < $1 and {DONE} order by time limit {PURGED})"
    );
    Ok(connection.execute_raw(sql(connection, &text, [horizon.into()])).await?.rows_affected())
}

/// What could be seen at a moment.
#[derive(Clone, Copy, Debug, Default, QueryRow)]
pub(super) struct Sight {
    /// All transactions with a lower number had ended.
    pub(super) all_before: i64,
    /// None with this number or a higher one had.
    pub(super) none_from: i64,
    /// The first event that a bus had refused and nobody discarded.
    pub(super) refused: Option<i64>,
}

/// What can be seen now. On SQLite all that is committed has a position before all that is not, and needs no numbers.
pub(super) async fn sight(connection: &impl ConnectionTrait) -> Result<Sight, StoreError> {
    let (all_before, none_from) = match connection.get_database_backend() {
        DbBackend::Postgres => (
            "pg_snapshot_xmin(pg_current_snapshot())::text::bigint",
            "pg_snapshot_xmax(pg_current_snapshot())::text::bigint",
        ),
        _ => ("0", "0"),
    };
    let text = format!(
        "select {all_before} as all_before, {none_from} as none_from, (select min(position) from outbox_refused) as refused"
    );
    let sight = Sight::find_by_statement(sql(connection, &text, [])).one(connection).await?;
    sight.ok_or(StoreError::Impossible("a look sees nothing"))
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

/// Has up to `limit` events between two positions, the last included, wait to be told again; answers their positions, in
/// order.
pub(super) async fn tell_again(
    connection: &impl ConnectionTrait,
    from: Time,
    (after, last): (i64, i64),
    limit: usize,
) -> Result<Vec<i64>, StoreError> {
    // Held, so that none is forgotten before it waits: who forgets it then forgets that it waits, too.
    let held = if connection.get_database_backend() == DbBackend::Postgres { "for key share" } else { "" };
    let text = format!(
        "select position from outbox
          where time >= $1 and refused_time is null and position > $2 and position <= $3
          order by position limit {limit} {held}"
    );
    let statement = sql(connection, &text, [from.into(), after.into(), last.into()]);
    let found = Position::find_by_statement(statement).all(connection).await?;
    let positions: Vec<i64> = found.into_iter().map(|row| row.position).collect();
    if let Some(last) = positions.last() {
        // What waits already is told once.
        let text = "insert into outbox_waiting (position, tenant_id, aggregate, subject)
                        select position, tenant_id, aggregate, subject from outbox
                         where time >= $1 and refused_time is null and position > $2 and position <= $3
                        on conflict do nothing";
        connection.execute_raw(sql(connection, text, [from.into(), after.into(), (*last).into()])).await?;
    }
    Ok(positions)
}

/// What is to be told, by type; no more than `limit` of them.
pub(super) async fn pending(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    limit: usize,
) -> Result<Vec<Pending>, StoreError> {
    // The bound says nothing new, but not even a walk through the outbox begins before it.
    let text = format!(
        "with left_over as not materialized (
            select position, tenant_id from outbox_waiting union all select position, tenant_id from outbox_refused)
         select type as kind, count(refused_time) as dead, count(*) - count(refused_time) as waiting,
                min(case when refused_time is null then time end) as oldest
           from outbox where position >= (select min(position) from left_over)
            and position in (select position from left_over where tenant_id = $1)
          group by type order by type limit {limit}"
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
        "select (select count(*) from (select 1 from outbox_waiting waiting where {FREE} limit {COUNTED}) counted) as waiting,
                (select time from outbox where position =
                    (select position from outbox_waiting waiting where {FREE} order by position limit 1)) as oldest"
    );
    let backlog = Backlog::find_by_statement(sql(connection, &text, [])).one(connection).await?;
    backlog.ok_or(StoreError::Impossible("a count has no row"))
}
