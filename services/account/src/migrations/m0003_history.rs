//! Who changed what, when and why, but never from what to what: values are personal data, and history outlives them.

use mesh::store::Migration;

pub(super) const MIGRATION: Migration = Migration::new(
    "m0003_history",
    "
    create table history (
        tenant_id  text not null,
        kind       text not null check (kind in ('ACCOUNT', 'ORGANIZATION', 'API_KEY', 'TENANT')),
        subject_id text not null,
        -- counts the subject's changes without a gap
        sequence   bigint not null check (sequence > 0),
        time       bigint not null,
        actor      text not null,
        action     text not null,
        -- the names of the fields that changed, with commas
        fields     text not null,
        reason     text not null,
        request_id text not null,
        primary key (tenant_id, kind, subject_id, sequence)
    );
    ",
);
