//! What can be subscribed to. A version of a plan never changes: who subscribed to it keeps it.

use mesh::store::Migration;

pub(super) const MIGRATION: Migration = Migration::new(
    "m0005_plans",
    "
    create table plans (
        tenant_id   text not null,
        plan_id     text not null,
        -- the latest
        version     bigint not null check (version > 0),
        -- of the latest version, so that lists are narrowed by it
        tier        text not null check (tier in ('FREE', 'BASIC', 'PREMIUM', 'ENTERPRISE')),
        status      text not null check (status in ('ACTIVE', 'ARCHIVED')),
        -- counts every change, archiving too
        revision    bigint not null check (revision > 0),
        create_time bigint not null,
        update_time bigint not null,
        primary key (tenant_id, plan_id)
    );
    -- Lists are newest first.
    create index plans_newest on plans (tenant_id, create_time, plan_id);

    create table plan_versions (
        tenant_id   text not null,
        plan_id     text not null,
        version     bigint not null check (version > 0),
        name        text not null,
        tier        text not null check (tier in ('FREE', 'BASIC', 'PREMIUM', 'ENTERPRISE')),
        currency    text not null,
        -- JSON lists and a JSON object; amounts are minor units, quantities text
        prices      text not null,
        included    text not null,
        features    text not null,
        trial_days  bigint not null check (trial_days between 0 and 30),
        min_seats   bigint not null check (min_seats > 0),
        -- 0: no limit
        max_seats   bigint not null check (max_seats = 0 or max_seats >= min_seats),
        create_time bigint not null,
        primary key (tenant_id, plan_id, version),
        foreign key (tenant_id, plan_id) references plans (tenant_id, plan_id)
    );
    ",
)
.on_postgres(
    "
    create trigger plan_versions_append_only before update or delete or truncate on plan_versions
        for each statement execute function refuse_change();
    ",
)
.on_sqlite(
    "
    create trigger plan_versions_no_update before update on plan_versions
        begin select raise(abort, 'plan_versions is append-only'); end;
    create trigger plan_versions_no_delete before delete on plan_versions
        begin select raise(abort, 'plan_versions is append-only'); end;
    ",
);
