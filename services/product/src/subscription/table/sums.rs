//! What subscriptions come to, counted and summed up by the database.

use mesh::{
    Slug, StoreError, Tenant, Time,
    store::{Row, sql},
};
use sea_orm::ConnectionTrait;

use super::super::Status;
use crate::plan::Cycle;

/// How many subscriptions to a plan stand in one way.
#[derive(Clone, Debug, Row)]
pub(crate) struct Held {
    pub(crate) status: Status,
    pub(crate) plan_id: Slug,
    pub(crate) total: i64,
}

/// How many subscriptions there are, by status and plan.
pub(crate) async fn held(connection: &impl ConnectionTrait, tenant: &Tenant) -> Result<Vec<Held>, StoreError> {
    let text = "select status, plan_id, count(*) as total from subscriptions where tenant_id = $1
                 group by status, plan_id order by status, plan_id";
    Ok(Held::find_by_statement(sql(connection, text, [tenant.clone().into()])).all(connection).await?)
}

/// How many came and went in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Row)]
pub(crate) struct Flow {
    pub(crate) created: i64,
    pub(crate) ended: i64,
    /// That had begun before the time, and not ended.
    pub(crate) living_at_start: i64,
    /// How many of those ended in the time.
    pub(crate) lost: i64,
}

/// How many came and went from `start` to before `end`.
pub(crate) async fn flow(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    (start, end): (Time, Time),
) -> Result<Flow, StoreError> {
    let text = "select
        (select count(*) from subscriptions where tenant_id = $1 and create_time >= $2 and create_time < $3) as created,
        (select count(*) from subscriptions where tenant_id = $1 and end_time >= $2 and end_time < $3) as ended,
        (select count(*) from subscriptions
          where tenant_id = $1 and create_time < $2 and (end_time is null or end_time >= $2)) as living_at_start,
        (select count(*) from subscriptions
          where tenant_id = $1 and create_time < $2 and end_time >= $2 and end_time < $3) as lost";
    let statement = sql(connection, text, [tenant.clone().into(), start.into(), end.into()]);
    let flow = Flow::find_by_statement(statement).one(connection).await?;
    flow.ok_or(StoreError::Impossible("a count has no row"))
}

/// What the subscriptions of one cycle and currency cost in a period of theirs, in two parts that cannot overflow:
/// millions of minor units, and what is left.
#[derive(Clone, Debug, Row)]
pub(crate) struct Recurring {
    pub(crate) currency: String,
    pub(crate) billing_cycle: Cycle,
    pub(crate) millions: i64,
    pub(crate) rest: i64,
}

/// What comes in again and again: what is paid for, or should be.
pub(crate) async fn recurring(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
) -> Result<Vec<Recurring>, StoreError> {
    let text = "select currency, billing_cycle, cast(sum(amount / 1000000) as bigint) as millions,
                       cast(sum(amount % 1000000) as bigint) as rest
                  from subscriptions where tenant_id = $1 and status in ('ACTIVE', 'PAST_DUE')
                 group by currency, billing_cycle order by currency, billing_cycle";
    Ok(Recurring::find_by_statement(sql(connection, text, [tenant.clone().into()])).all(connection).await?)
}
