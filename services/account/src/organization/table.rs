//! The rows of `organizations` and `members`, and every statement on them.

use mesh::{
    Slug, StoreError, Tenant, Time,
    store::{self, lock_clause, sql},
};
use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult as _, Value};

use super::{Filter, Member, Membership, Organization, Place};

const COLUMNS: &str = "o.organization_id, o.name, o.version, o.create_time, o.update_time";
const MEMBER_COLUMNS: &str = "m.organization_id, m.user_id, m.role, m.create_time, m.update_time";
/// Members whose accounts are neither deleted nor erased: the others belong to nothing until they are restored.
const LIVING_MEMBERS: &str = "members m join accounts a on a.tenant_id = m.tenant_id and a.user_id = m.user_id
                                                       and a.status in ('ACTIVE', 'SUSPENDED')";

/// Inserts the organization; false where its id is taken.
pub(super) async fn insert(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    organization: &Organization,
) -> Result<bool, StoreError> {
    let statement = sql(
        connection,
        "insert into organizations (tenant_id, organization_id, name, version, create_time, update_time)
         values ($1, $2, $3, $4, $5, $6)
         on conflict do nothing",
        [
            tenant.clone().into(),
            organization.organization_id.clone().into(),
            organization.name.clone().into(),
            organization.version.into(),
            organization.create_time.into(),
            organization.update_time.into(),
        ],
    );
    Ok(connection.execute_raw(statement).await?.rows_affected() == 1)
}

/// The organization with this id.
pub(super) async fn find(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    organization_id: &Slug,
) -> Result<Option<Organization>, StoreError> {
    by_id(connection, tenant, organization_id, "").await
}

/// The organization with this id, which with its members nobody else changes until the transaction ends.
pub(super) async fn lock(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    organization_id: &Slug,
) -> Result<Option<Organization>, StoreError> {
    by_id(connection, tenant, organization_id, lock_clause(connection)).await
}

async fn by_id(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    organization_id: &Slug,
    lock: &str,
) -> Result<Option<Organization>, StoreError> {
    let text = format!("select {COLUMNS} from organizations o where o.tenant_id = $1 and o.organization_id = $2{lock}");
    let statement = sql(connection, &text, [tenant.clone().into(), organization_id.clone().into()]);
    Ok(Organization::find_by_statement(statement).one(connection).await?)
}

/// Up to `limit` organizations of the list after this place, newest first.
pub(super) async fn list(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    filter: &Filter,
    after: Option<(Time, &Slug)>,
    limit: u64,
) -> Result<Vec<Organization>, StoreError> {
    let (rows, mut values) = rows(tenant, filter);
    // A user's organizations are read in the order of their memberships' index, which holds the same two values.
    let (time, id) = match filter.user_id {
        None => ("o.create_time", "o.organization_id"),
        Some(_) => ("m.organization_create_time", "m.organization_id"),
    };
    let beyond = match after {
        None => String::new(),
        Some((after_time, after_id)) => {
            let first = values.len() + 1;
            values.extend::<[Value; 2]>([after_time.into(), after_id.clone().into()]);
            format!(" and ({time}, {id}) < (${first}, ${})", first + 1)
        }
    };
    let text = format!("select {COLUMNS} from {rows}{beyond} order by {time} desc, {id} desc limit {limit}");
    Ok(Organization::find_by_statement(sql(connection, &text, values)).all(connection).await?)
}

/// How many organizations the list holds.
pub(super) async fn count(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    filter: &Filter,
) -> Result<i64, StoreError> {
    let (rows, values) = rows(tenant, filter);
    total(connection, &rows, values).await
}

/// The rows of a list of organizations: what stands behind `from`.
fn rows(tenant: &Tenant, filter: &Filter) -> (String, Vec<Value>) {
    let Some(user_id) = &filter.user_id else {
        return ("organizations o where o.tenant_id = $1".to_owned(), vec![tenant.clone().into()]);
    };
    let rows = "members m join organizations o on o.tenant_id = m.tenant_id and o.organization_id = m.organization_id
                 where m.tenant_id = $1 and m.user_id = $2
                   and exists (select 1 from accounts
                                where tenant_id = $1 and user_id = $2 and status in ('ACTIVE', 'SUSPENDED'))";
    (rows.to_owned(), vec![tenant.clone().into(), user_id.clone().into()])
}

async fn total(connection: &impl ConnectionTrait, rows: &str, values: Vec<Value>) -> Result<i64, StoreError> {
    let text = format!("select count(*) as total from {rows}");
    store::count(connection, &text, values).await
}

/// Writes that the organization was changed.
pub(super) async fn touch(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    organization_id: &Slug,
    now: Time,
) -> Result<(), StoreError> {
    let statement = sql(
        connection,
        "update organizations set version = version + 1, update_time = $3 where tenant_id = $1 and organization_id = $2",
        [tenant.clone().into(), organization_id.clone().into(), now.into()],
    );
    connection.execute_raw(statement).await?;
    Ok(())
}

/// The row of a member, living or not.
pub(super) async fn member(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    place: &Place,
) -> Result<Option<Member>, StoreError> {
    let text = format!(
        "select {MEMBER_COLUMNS} from members m where m.tenant_id = $1 and m.organization_id = $2 and m.user_id = $3"
    );
    let statement = sql(connection, &text, at(tenant, place));
    Ok(Member::find_by_statement(statement).one(connection).await?)
}

/// Whether a living member other than this one owns the organization.
pub(super) async fn has_another_owner(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    place: &Place,
) -> Result<bool, StoreError> {
    // What is found stays so until the transaction ends: a DeleteAccount of the other owner waits.
    let lock = if connection.get_database_backend() == DbBackend::Postgres { " for share of a" } else { "" };
    // In the order of the owners' index: without it PostgreSQL may hope to meet one soon, and walk all members.
    let text = format!(
        "select 1 as one from {LIVING_MEMBERS}
          where m.tenant_id = $1 and m.organization_id = $2 and m.user_id <> $3 and m.role = 'OWNER'
          order by m.user_id limit 1{lock}"
    );
    Ok(connection.query_one_raw(sql(connection, &text, at(tenant, place))).await?.is_some())
}

/// Writes the member, be it new or in a new role.
pub(super) async fn put(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    organization: &Organization,
    member: &Member,
) -> Result<(), StoreError> {
    let statement = sql(
        connection,
        "insert into members (tenant_id, organization_id, user_id, role, organization_create_time, create_time,
                              update_time)
         values ($1, $2, $3, $4, $5, $6, $7)
         on conflict (tenant_id, organization_id, user_id) do update
            set role = excluded.role, update_time = excluded.update_time",
        [
            tenant.clone().into(),
            member.organization_id.clone().into(),
            member.user_id.clone().into(),
            member.role.into(),
            organization.create_time.into(),
            member.create_time.into(),
            member.update_time.into(),
        ],
    );
    connection.execute_raw(statement).await?;
    Ok(())
}

/// Deletes the member's row.
pub(super) async fn delete(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    place: &Place,
) -> Result<(), StoreError> {
    let text = "delete from members where tenant_id = $1 and organization_id = $2 and user_id = $3";
    connection.execute_raw(sql(connection, text, at(tenant, place))).await?;
    Ok(())
}

/// Up to `limit` living members who joined after this time, in the order in which they joined.
pub(super) async fn members(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    organization_id: &Slug,
    after: Option<Time>,
    limit: u64,
) -> Result<Vec<Member>, StoreError> {
    let after = after.unwrap_or(Time::from_micros(i64::MIN));
    let text = format!(
        "select {MEMBER_COLUMNS} from {LIVING_MEMBERS}
          where m.tenant_id = $1 and m.organization_id = $2 and m.create_time > $3
          order by m.create_time limit {limit}"
    );
    let statement = sql(connection, &text, [tenant.clone().into(), organization_id.clone().into(), after.into()]);
    Ok(Member::find_by_statement(statement).all(connection).await?)
}

/// How many living members there are.
pub(super) async fn count_members(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    organization_id: &Slug,
) -> Result<i64, StoreError> {
    let rows = format!("{LIVING_MEMBERS} where m.tenant_id = $1 and m.organization_id = $2");
    total(connection, &rows, vec![tenant.clone().into(), organization_id.clone().into()]).await
}

/// What a user is in an organization; `None` where there is no such organization.
pub(super) async fn membership(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    place: &Place,
) -> Result<Option<Membership>, StoreError> {
    let text = format!(
        "select (select m.role from {LIVING_MEMBERS}
                  where m.tenant_id = o.tenant_id and m.organization_id = o.organization_id and m.user_id = $3) as role
           from organizations o where o.tenant_id = $1 and o.organization_id = $2"
    );
    Ok(Membership::find_by_statement(sql(connection, &text, at(tenant, place))).one(connection).await?)
}

/// The key of a member's row.
fn at(tenant: &Tenant, place: &Place) -> [Value; 3] {
    [tenant.clone().into(), place.organization_id.clone().into(), place.user_id.clone().into()]
}
