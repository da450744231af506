//! The schema of `outbox`, step by step.

use crate::store::Migration;

/// The table behind it.
pub(in crate::events) const MIGRATION: Migration = Migration::new("m0000_outbox", "")
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

/// What the table gained: the order in which its rows were committed, and which of them no bus takes.
pub(in crate::events) const ORDER: Migration = Migration::new("m0000_outbox_order", "")
    .on_postgres(
        "
    -- Positions are handed out before the commit, and so are not the order of commits of different aggregates. The
    -- number of the transaction tells, once no lower one is under way. A transaction can have its number before it
    -- waits for an aggregate that a higher one holds: then that number counts, which is the last to have ended.
    alter table outbox add column commit_order bigint not null default
        (greatest(pg_current_xact_id()::text::bigint, pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1));
    -- when the bus refused it for good, and why; null until then
    alter table outbox add column refused_time bigint;
    alter table outbox add column refusal text not null default '';
    create index outbox_commit_order on outbox (commit_order, position);
    create index outbox_time on outbox (time);
    create index outbox_refused on outbox (tenant_id, aggregate, subject, position)
        where refused_time is not null and sent_time is null;
    create index outbox_dead on outbox (tenant_id, refused_time, position)
        where refused_time is not null and sent_time is null;
    ",
    )
    .on_sqlite(
        "
    -- One writer: the position is the order of commits.
    alter table outbox add column commit_order integer not null default 0;
    alter table outbox add column refused_time integer;
    alter table outbox add column refusal text not null default '';
    create index outbox_commit_order on outbox (commit_order, position);
    create index outbox_time on outbox (time);
    create index outbox_refused on outbox (tenant_id, aggregate, subject, position)
        where refused_time is not null and sent_time is null;
    create index outbox_dead on outbox (tenant_id, refused_time, position)
        where refused_time is not null and sent_time is null;
    ",
    );

/// What SQLite's table lost: an index of commit orders, which are all the same there, costs each event a row.
pub(in crate::events) const POSITIONS: Migration =
    Migration::new("m0000_outbox_positions", "").on_sqlite("drop index outbox_commit_order;");

/// What waits to be told, and what no bus takes, as tables of their own: who notes that an event was told deletes a few bytes,
/// where before it made the event's row and the entries of all its indexes anew, which cost PostgreSQL twice what writing the
/// event had. Triggers keep them true, whoever writes an event or forgets one.
pub(in crate::events) const WAITING: Migration = Migration::new(
    "m0000_outbox_waiting",
    "
    drop index outbox_unsent;
    drop index outbox_sent;
    drop index outbox_refused;
    drop index outbox_dead;
    create table outbox_waiting (
        position  bigint primary key,
        -- as in the outbox: an event waits behind one of the same that no bus takes
        tenant_id text not null,
        aggregate text not null,
        subject   text not null
    );
    -- and was not discarded since; the outbox says why
    create table outbox_refused (
        position  bigint primary key,
        tenant_id text not null,
        aggregate text not null,
        subject   text not null
    );
    insert into outbox_waiting (position, tenant_id, aggregate, subject)
        select position, tenant_id, aggregate, subject from outbox where sent_time is null and refused_time is null;
    insert into outbox_refused (position, tenant_id, aggregate, subject)
        select position, tenant_id, aggregate, subject from outbox where sent_time is null and refused_time is not null;
    alter table outbox drop column sent_time;
    create index outbox_refused_of on outbox_refused (tenant_id, aggregate, subject, position);
    create index outbox_dead on outbox (tenant_id, refused_time, position) where refused_time is not null;
",
)
.on_postgres(
    "
    -- With the name of the schema, so that they do not depend on the search path of who writes.
    do $$ begin
        execute format('
            create function outbox_appended() returns trigger language plpgsql as $body$ begin
                insert into %1$I.outbox_waiting (position, tenant_id, aggregate, subject)
                    select position, tenant_id, aggregate, subject from appended;
                return null;
            end $body$', current_schema());
        execute format('
            create function outbox_forgotten() returns trigger language plpgsql as $body$ begin
                delete from %1$I.outbox_waiting
                 where position >= (select min(position) from forgotten)
                   and position <= (select max(position) from forgotten)
                   and position in (select position from forgotten);
                delete from %1$I.outbox_refused where position in (select position from forgotten);
                return null;
            end $body$', current_schema());
    end $$;
    create trigger outbox_appended after insert on outbox referencing new table as appended
        for each statement execute function outbox_appended();
    create trigger outbox_forgotten after delete on outbox referencing old table as forgotten
        for each statement execute function outbox_forgotten();
    ",
)
.on_sqlite(
    "
    create trigger outbox_appended after insert on outbox begin
        insert into outbox_waiting (position, tenant_id, aggregate, subject)
            values (new.position, new.tenant_id, new.aggregate, new.subject);
    end;
    create trigger outbox_forgotten after delete on outbox begin
        delete from outbox_waiting where position = old.position;
        delete from outbox_refused where position = old.position;
    end;
    ",
);
