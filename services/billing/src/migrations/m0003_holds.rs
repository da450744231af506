//! Money that is set aside until it is taken, given back, or nobody wants it any more.

use mesh::store::Migration;

pub(super) const MIGRATION: Migration = Migration::new(
    "m0003_holds",
    "
    create table holds (
        tenant_id       text not null,
        hold_id         text not null,
        request_id      text not null,
        user_id         text not null,
        currency        text not null,
        amount          bigint not null check (amount > 0),
        state           text not null check (state in ('OPEN', 'CAPTURED', 'RELEASED', 'EXPIRED')),
        -- how much of it was taken in the end
        captured_amount bigint not null check (captured_amount >= 0 and captured_amount <= amount),
        create_time     bigint not null,
        expire_time     bigint not null,
        -- when it was captured or released or expired; null while it is open
        end_time        bigint,
        primary key (tenant_id, hold_id),
        check ((state = 'OPEN') = (end_time is null)),
        check ((state = 'CAPTURED') = (captured_amount > 0))
    );
    create index holds_user on holds (tenant_id, user_id, hold_id);
    create index holds_due on holds (expire_time) where state = 'OPEN';
    create index holds_open on holds (tenant_id, user_id, currency) where state = 'OPEN';
    ",
);
