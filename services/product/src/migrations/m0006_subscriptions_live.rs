//! Subscriptions that live: with terms, periods, and a history. The table of before is made anew: no release has ever
//! written a row of it, and every column that one read is here again.

use mesh::store::Migration;

pub(super) const MIGRATION: Migration = Migration::new(
    "m0006_subscriptions_live",
    "
    drop table subscriptions;
    create table subscriptions (
        tenant_id            text not null,
        subscription_id      text not null,
        user_id              text not null,
        -- empty: none
        organization_id      text not null,
        plan_id              text not null,
        plan_version         bigint not null,
        status               text not null check (status in ('INCOMPLETE', 'TRIALING', 'ACTIVE', 'PAST_DUE', 'PAUSED',
                                                             'CANCELED', 'EXPIRED')),
        billing_cycle        text not null check (billing_cycle in ('MONTHLY', 'QUARTERLY', 'YEARLY')),
        seats                bigint not null check (seats > 0),
        -- what one period costs, all seats together: minor units
        currency             text not null,
        amount               bigint not null check (amount >= 0),
        -- the begin of the first period since which all were of this cycle: periods are counted from there in months
        anchor_time          bigint not null,
        -- how many periods have begun since then, the one that runs included; 0 during a trial
        anchor_periods       bigint not null check (anchor_periods >= 0),
        -- the one that runs
        period_number        bigint not null check (period_number > 0),
        period_start_time    bigint not null,
        period_end_time      bigint not null,
        trial_end_time       bigint,
        -- SQLite would take any number
        cancel_at_period_end boolean not null check (cancel_at_period_end in (false, true)),
        canceled_time        bigint,
        cancel_reason        text not null,
        -- what it becomes when the period ends, and what a period costs then; empty and 0: it stays
        change_plan_id       text not null,
        change_plan_version  bigint not null,
        change_billing_cycle text not null,
        change_currency      text not null,
        change_amount        bigint not null,
        -- when time has something to do with it next; null: never
        due_time             bigint,
        version              bigint not null check (version > 0),
        create_time          bigint not null,
        update_time          bigint not null,
        -- when it came to its end; null until then
        end_time             bigint,
        primary key (tenant_id, subscription_id),
        foreign key (tenant_id, plan_id, plan_version) references plan_versions (tenant_id, plan_id, version),
        check (period_start_time < period_end_time),
        check ((change_plan_id = '') = (change_billing_cycle = '')),
        check ((status in ('CANCELED', 'EXPIRED')) = (end_time is not null)),
        check (end_time is null or due_time is null)
    );
    create index subscriptions_by_user on subscriptions (tenant_id, user_id, subscription_id);
    create index subscriptions_by_organization on subscriptions (tenant_id, organization_id, subscription_id);
    create index subscriptions_by_plan on subscriptions (tenant_id, plan_id, subscription_id);
    -- Nobody subscribes twice to one plan.
    create unique index subscriptions_plan_id on subscriptions (tenant_id, user_id, organization_id, plan_id)
        where end_time is null;
    create index subscriptions_due on subscriptions (due_time) where due_time is not null;
    create index subscriptions_created on subscriptions (tenant_id, create_time);
    create index subscriptions_ended on subscriptions (tenant_id, end_time) where end_time is not null;

    -- Every period that ever began: each once, and each where the one before ends.
    create table subscription_periods (
        tenant_id       text not null,
        subscription_id text not null,
        number          bigint not null check (number > 0),
        start_time      bigint not null,
        end_time        bigint not null,
        plan_id         text not null,
        plan_version    bigint not null,
        currency        text not null,
        amount          bigint not null check (amount >= 0),
        primary key (tenant_id, subscription_id, number),
        foreign key (tenant_id, subscription_id) references subscriptions (tenant_id, subscription_id),
        check (start_time < end_time)
    );
    create unique index subscription_periods_start_time
        on subscription_periods (tenant_id, subscription_id, start_time);

    create table subscription_history (
        tenant_id       text not null,
        subscription_id text not null,
        -- of the subscription afterwards
        version         bigint not null check (version > 0),
        time            bigint not null,
        actor           text not null,
        action          text not null,
        -- empty: it was made
        from_status     text not null,
        to_status       text not null,
        reason          text not null,
        feedback        text not null,
        primary key (tenant_id, subscription_id, version),
        foreign key (tenant_id, subscription_id) references subscriptions (tenant_id, subscription_id)
    );

    -- A trial is had once, however often somebody subscribes.
    create table trials (
        tenant_id       text not null,
        user_id         text not null,
        plan_id         text not null,
        subscription_id text not null,
        primary key (tenant_id, user_id, plan_id)
    );
    ",
)
.on_postgres(
    r#"
    -- Compared byte by byte, as SQLite does, whatever the database's locale: in the indexes above and in every statement.
    alter table subscription_periods drop constraint subscription_periods_tenant_id_subscription_id_fkey;
    alter table subscription_history drop constraint subscription_history_tenant_id_subscription_id_fkey;
    alter table subscriptions alter column subscription_id type text collate "C";
    alter table subscription_periods alter column subscription_id type text collate "C";
    alter table subscription_history alter column subscription_id type text collate "C";
    alter table subscription_periods add foreign key (tenant_id, subscription_id)
        references subscriptions (tenant_id, subscription_id);
    alter table subscription_history add foreign key (tenant_id, subscription_id)
        references subscriptions (tenant_id, subscription_id);
    "#,
);
