//! The rows of `inbox`: which events a service has received, so that none is felt twice.

use sea_orm::ConnectionTrait;

use super::{CloudEvent, flow::Count};
use crate::{
    Tenant, Time,
    store::{Migration, Row, StoreError, sql, tuples},
};

/// The tables behind it.
pub(super) const MIGRATION: Migration = Migration::new(
    "m0000_inbox",
    "
    -- What was received. Kept for longer than anything could still repeat it.
    create table inbox (
        event_id     text primary key,
        tenant_id    text not null,
        type         text not null,
        -- WAITING ones are in letters
        state        text not null check (state in ('FELT', 'STALE', 'WAITING', 'DISCARDED')),
        receive_time bigint not null
    );
    create index inbox_receive_time on inbox (receive_time);

    -- Counts that would cost too much to count anew.
    create table event_counts (
        tenant_id text not null,
        type      text not null,
        -- 'TOLD' to the bus; of what was received: 'RECEIVED', 'FELT', 'RETRIED'
        what      text not null,
        n         bigint not null,
        primary key (tenant_id, type, what)
    );
    ",
);

/// What became of an event that was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Felt,
    Stale,
    Waiting,
    Discarded,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Felt => "FELT",
            Self::Stale => "STALE",
            Self::Waiting => "WAITING",
            Self::Discarded => "DISCARDED",
        }
    }
}

/// Rows that a purge takes at once: small enough that nobody waits for it.
const PURGED: i64 = 1_000;

/// Records events as felt; answers which of them were not recorded before. Whoever records the same ones in another
/// transaction is waited for.
pub(super) async fn receive(
    connection: &impl ConnectionTrait,
    events: &[&CloudEvent],
    now: Time,
) -> Result<Vec<String>, StoreError> {
    #[derive(Row)]
    struct New {
        event_id: String,
    }
    if events.is_empty() {
        return Ok(Vec::new());
    }
    let text = format!(
        "insert into inbox (event_id, tenant_id, type, state, receive_time) values {}
         on conflict (event_id) do nothing returning event_id",
        tuples(events.len(), 5)
    );
    let values = events.iter().flat_map(|event| {
        [
            event.event_id.clone().into(),
            event.tenant_id.clone().into(),
            event.kind.clone().into(),
            State::Felt.as_str().into(),
            now.into(),
        ]
    });
    let new = New::find_by_statement(sql(connection, &text, values)).all(connection).await?;
    Ok(new.into_iter().map(|row| row.event_id).collect())
}

/// Notes what became of an event after all.
pub(super) async fn set_state(
    connection: &impl ConnectionTrait,
    event_id: &str,
    state: State,
) -> Result<(), StoreError> {
    let text = "update inbox set state = $2 where event_id = $1";
    connection.execute_raw(sql(connection, text, [event_id.into(), state.as_str().into()])).await?;
    Ok(())
}

/// Forgets what was received before `horizon` and is done with, a piece of it; says how many rows that were.
pub(super) async fn purge(connection: &impl ConnectionTrait, horizon: Time) -> Result<u64, StoreError> {
    let text = "delete from inbox where event_id in
                    (select event_id from inbox where receive_time < $1 and state <> 'WAITING'
                      order by receive_time limit $2)";
    let statement = sql(connection, text, [horizon.into(), PURGED.into()]);
    Ok(connection.execute_raw(statement).await?.rows_affected())
}

/// Events that the bus took.
pub(super) const TOLD: &str = "TOLD";
/// Events that the bus brought for the first time.
pub(super) const RECEIVED: &str = "RECEIVED";
/// Events that were felt.
pub(super) const FELT: &str = "FELT";
/// Tries that failed and were not the last.
pub(super) const RETRIED: &str = "RETRIED";

/// Adds to the counts of a service.
pub(super) async fn count(
    connection: &impl ConnectionTrait,
    counts: &[(Tenant, String, &'static str, i64)],
) -> Result<(), StoreError> {
    if counts.is_empty() {
        return Ok(());
    }
    let text = format!(
        "insert into event_counts (tenant_id, type, what, n) values {}
         on conflict (tenant_id, type, what) do update set n = event_counts.n + excluded.n",
        tuples(counts.len(), 4)
    );
    let values = counts
        .iter()
        .flat_map(|(tenant, kind, what, n)| [tenant.clone().into(), kind.clone().into(), (*what).into(), (*n).into()]);
    connection.execute_raw(sql(connection, &text, values)).await?;
    Ok(())
}

/// The counts of a tenant, by type; no more than `limit`.
pub(super) async fn counts(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    limit: usize,
) -> Result<Vec<Count>, StoreError> {
    let text = format!(
        "select type as kind, what, n from event_counts where tenant_id = $1 order by type, what limit {limit}"
    );
    Ok(Count::find_by_statement(sql(connection, &text, [tenant.clone().into()])).all(connection).await?)
}
