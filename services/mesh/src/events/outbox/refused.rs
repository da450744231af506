//! What no bus takes, and what a person does about it.

use sea_orm::ConnectionTrait;

use super::super::dead::{BUS, DeadLetter};
use crate::{
    Tenant, Time,
    store::{Row as _, StoreError, sql},
};

/// Notes that the bus does not take this one, where it still waits.
pub(in crate::events) async fn mark_refused(
    connection: &impl ConnectionTrait,
    position: i64,
    refusal: &str,
    now: Time,
) -> Result<(), StoreError> {
    let no_more = "delete from outbox_waiting where position = $1";
    if connection.execute_raw(sql(connection, no_more, [position.into()])).await?.rows_affected() == 0 {
        return Ok(());
    }
    let refused = "insert into outbox_refused (position, tenant_id, aggregate, subject)
                       select position, tenant_id, aggregate, subject from outbox where position = $1
                       on conflict do nothing";
    connection.execute_raw(sql(connection, refused, [position.into()])).await?;
    let why = "update outbox set refused_time = $2, refusal = $3 where position = $1";
    connection.execute_raw(sql(connection, why, [position.into(), now.into(), refusal.into()])).await?;
    Ok(())
}

/// The events that no bus takes, oldest refusal first, after this time and position.
pub(in crate::events) async fn dead(
    connection: &impl ConnectionTrait,
    source: &str,
    tenant: &Tenant,
    (after, position): (Time, i64),
    limit: u64,
) -> Result<Vec<DeadLetter>, StoreError> {
    // What waits behind all of the page is counted in one go: no index leads from an aggregate to what of it waits.
    let text = format!(
        "with page as (
            select position, event_id, type as kind, tenant_id, aggregate, subject, aggregate_version, time,
                   refusal as cause, refused_time as fail_time
              from outbox where tenant_id = $2 and refused_time is not null and (refused_time, position) > ($3, $4)
               and (select 1 from outbox_refused refused where refused.position = outbox.position) is not null
             order by refused_time, position limit {limit}
         ), behind as (
            select page.position, count(*) as waiting from page join outbox_waiting later
                on later.tenant_id = page.tenant_id and later.aggregate = page.aggregate
               and later.subject = page.subject and later.position > page.position
             group by page.position
         )
         select page.position, '{BUS}' as consumer, event_id, kind, cast($1 as text) as source, subject,
                aggregate_version, time, cast(1 as bigint) as attempts, cause, fail_time,
                coalesce(behind.waiting, 0) as waiting
           from page left join behind on behind.position = page.position
          order by fail_time, page.position"
    );
    let values = [source.into(), tenant.clone().into(), after.into(), position.into()];
    Ok(DeadLetter::find_by_statement(sql(connection, &text, values)).all(connection).await?)
}

/// Has the bus asked again whether it takes this one; false where it is none that the bus refused.
pub(in crate::events) async fn retry(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    event_id: &str,
) -> Result<bool, StoreError> {
    if !discard(connection, tenant, event_id).await? {
        return Ok(false);
    }
    let key = || [tenant.clone().into(), event_id.into()];
    let as_new = "update outbox set refused_time = null, refusal = '' where tenant_id = $1 and event_id = $2";
    connection.execute_raw(sql(connection, as_new, key())).await?;
    let wait = "insert into outbox_waiting (position, tenant_id, aggregate, subject)
                    select position, tenant_id, aggregate, subject from outbox where tenant_id = $1 and event_id = $2
                    on conflict do nothing";
    connection.execute_raw(sql(connection, wait, key())).await?;
    Ok(true)
}

/// Takes a refused event out of the way of those behind it, as if it had been told; false where it is none that the bus
/// refused.
pub(in crate::events) async fn discard(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    event_id: &str,
) -> Result<bool, StoreError> {
    let event = "select position from outbox where tenant_id = $1 and event_id = $2 and refused_time is not null";
    let key = || [tenant.clone().into(), event_id.into()];
    let refused = format!("delete from outbox_refused where position in ({event})");
    if connection.execute_raw(sql(connection, &refused, key())).await?.rows_affected() == 0 {
        return Ok(false);
    }
    // A replay that did not see yet that it was refused may have it wait as well.
    let waiting = format!("delete from outbox_waiting where position in ({event})");
    connection.execute_raw(sql(connection, &waiting, key())).await?;
    Ok(true)
}
