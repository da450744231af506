//! Who has subscribed to what. Ids sort by the time of making, so that a list, newest first, is one range of one index
//! read backwards: of all, or of a user, an organization or a plan. A list narrowed by status walks past the others in
//! that range: a handful for a user or an organization; a rare status among all has no index, for nobody asks yet.

use mesh::store::Migration;

pub(super) const MIGRATION: Migration = Migration::new(
    "m0002_subscriptions",
    "
    create table subscriptions (
        tenant_id            text not null,
        subscription_id      text not null,
        user_id              text not null,
        -- empty: none
        organization_id      text not null,
        plan_id              text not null,
        status               text not null check (status in ('INCOMPLETE', 'TRIALING', 'ACTIVE', 'PAST_DUE', 'PAUSED',
                                                             'CANCELED', 'EXPIRED')),
        period_end_time      bigint not null,
        -- SQLite would take any number
        cancel_at_period_end boolean not null check (cancel_at_period_end in (false, true)),
        create_time          bigint not null,
        primary key (tenant_id, subscription_id)
    );
    create index subscriptions_by_user on subscriptions (tenant_id, user_id, subscription_id);
    create index subscriptions_by_organization on subscriptions (tenant_id, organization_id, subscription_id);
    create index subscriptions_by_plan on subscriptions (tenant_id, plan_id, subscription_id);
    ",
)
.on_postgres(
    r#"
    -- Compared byte by byte, as SQLite does, whatever the database's locale: in the indexes above and in every statement.
    alter table subscriptions alter column subscription_id type text collate "C";
    "#,
);
