//! Who belongs together. A membership outlives the deletion of its account, so that a restored account is where it was.

use mesh::store::Migration;

pub(super) const MIGRATION: Migration = Migration::new(
    "m0004_organizations",
    "
    create table organizations (
        tenant_id       text not null,
        organization_id text not null,
        name            text not null,
        -- counts the changes of the organization and of its members
        version         bigint not null check (version > 0),
        create_time     bigint not null,
        update_time     bigint not null check (update_time >= create_time),
        primary key (tenant_id, organization_id)
    );
    -- Lists are newest first.
    create index organizations_newest on organizations (tenant_id, create_time, organization_id);

    create table members (
        tenant_id                text not null,
        organization_id          text not null,
        user_id                  text not null,
        role                     text not null check (role in ('OWNER', 'ADMIN', 'MEMBER')),
        -- the organization's, which never changes: a user's organizations are listed in the order of it
        organization_create_time bigint not null,
        create_time              bigint not null check (create_time >= organization_create_time),
        update_time              bigint not null check (update_time >= create_time),
        primary key (tenant_id, organization_id, user_id),
        foreign key (tenant_id, organization_id) references organizations (tenant_id, organization_id)
    );
    -- The members of an organization, in the order in which they joined; no two of them at once.
    create unique index members_create_time on members (tenant_id, organization_id, create_time);
    -- The organizations of a user, newest first.
    create index members_of on members (tenant_id, user_id, organization_create_time, organization_id);
    -- Whether somebody else owns it is asked whenever an owner goes.
    create index members_owners on members (tenant_id, organization_id, user_id) where role = 'OWNER';
    ",
);
