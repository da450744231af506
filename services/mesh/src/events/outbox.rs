//! The rows of `outbox`: the record of what was told, of which every stream is a copy.

use sea_orm::ConnectionTrait;

use super::{Aggregate, Origin};
use crate::store::{Migration, StoreError, sql};

/// The table behind it; a migration of every service that publishes.
pub const MIGRATION: Migration = Migration::new("m0000_outbox", "")
    .on_postgres(
        "
    create table outbox (
        -- the order of commits of each aggregate, since its row was locked first; of nothing else
        position          bigint generated always as identity primary key,
        event_id          text not null unique,
        tenant_id         text not null,
        type              text not null,
        -- what the event is about: a kind of thing, and which one; its events keep the order of its versions
        aggregate         text not null,
        subject           text not null,
        aggregate_version bigint not null,
        time              bigint not null,
        -- the W3C trace context of the call that made it; empty where there was none
        traceparent       text not null,
        -- the event whose handling made it; empty where a call did
        causation_id      text not null,
        -- the full name of the message that `data` is
        data_schema       text not null,
        data              bytea not null,
        -- when it was told; null until then
        sent_time         bigint
    );
    create index outbox_unsent on outbox (position) where sent_time is null;
    create index outbox_sent on outbox (sent_time) where sent_time is not null;
    ",
    )
    .on_sqlite(
        "
    create table outbox (
        position          integer primary key autoincrement,
        event_id          text not null unique,
        tenant_id         text not null,
        type              text not null,
        aggregate         text not null,
        subject           text not null,
        aggregate_version integer not null,
        time              integer not null,
        traceparent       text not null,
        causation_id      text not null,
        data_schema       text not null,
        data              blob not null,
        sent_time         integer
    ) strict;
    create index outbox_unsent on outbox (position) where sent_time is null;
    create index outbox_sent on outbox (sent_time) where sent_time is not null;
    ",
    );

/// What a row says of the event itself.
pub(super) struct Row {
    pub(super) event_id: String,
    pub(super) kind: &'static str,
    pub(super) data_schema: &'static str,
    pub(super) data: Vec<u8>,
}

/// Appends an event.
pub(super) async fn insert(
    connection: &impl ConnectionTrait,
    origin: &Origin,
    aggregate: Aggregate<'_>,
    row: Row,
) -> Result<(), StoreError> {
    let statement = sql(
        connection,
        "insert into outbox (event_id, tenant_id, type, aggregate, subject, aggregate_version, time, traceparent,
                             causation_id, data_schema, data)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        [
            row.event_id.into(),
            origin.tenant.clone().into(),
            row.kind.into(),
            aggregate.kind.into(),
            aggregate.id.into(),
            aggregate.version.into(),
            origin.time.into(),
            origin.traceparent().into(),
            origin.causation_id.clone().into(),
            row.data_schema.into(),
            row.data.into(),
        ],
    );
    connection.execute_raw(statement).await?;
    Ok(())
}
