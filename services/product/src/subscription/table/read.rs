//! What is read of subscriptions.

use std::fmt::Write as _;

use mesh::{
    Slug, StoreError, Tenant, Time, UserId,
    store::{self, Row, lock_clause, placeholders, sql},
};
use money::{Amount, Currency};
use sea_orm::{ConnectionTrait, Value};

use super::{
    super::{Anchor, Filter, Period, Status, Subscription, Terms},
    Entry, skip_locked,
};
use crate::plan::{Cycle, Tier};

const COLUMNS: &str = "tenant_id, subscription_id, user_id, organization_id, plan_id, plan_version, status, \
                       billing_cycle, seats, currency, amount, anchor_time, anchor_periods, period_number, \
                       period_start_time, period_end_time, trial_end_time, cancel_at_period_end, canceled_time, \
                       cancel_reason, change_plan_id, change_plan_version, change_billing_cycle, change_currency, \
                       change_amount, version, create_time, update_time, end_time";

/// A row of `subscriptions`.
#[derive(Row)]
struct SubscriptionRow {
    tenant_id: Tenant,
    subscription_id: Slug,
    user_id: UserId,
    organization_id: String,
    plan_id: Slug,
    plan_version: i64,
    status: Status,
    billing_cycle: Cycle,
    seats: i64,
    currency: String,
    amount: i64,
    anchor_time: Time,
    anchor_periods: i64,
    period_number: i64,
    period_start_time: Time,
    period_end_time: Time,
    trial_end_time: Option<Time>,
    cancel_at_period_end: bool,
    canceled_time: Option<Time>,
    cancel_reason: String,
    change_plan_id: String,
    change_plan_version: i64,
    change_billing_cycle: String,
    change_currency: String,
    change_amount: i64,
    version: i64,
    create_time: Time,
    update_time: Time,
    end_time: Option<Time>,
}

const DAMAGED: StoreError = StoreError::Impossible("a subscription holds what is never written");

fn price(currency: &str, minor: i64) -> Result<Amount, StoreError> {
    Ok(Amount::from_minor(Currency::parse(currency).map_err(|_| DAMAGED)?, minor))
}

impl TryFrom<SubscriptionRow> for Subscription {
    type Error = StoreError;

    fn try_from(row: SubscriptionRow) -> Result<Self, StoreError> {
        let change = if row.change_plan_id.is_empty() {
            None
        } else {
            Some(Terms {
                plan_id: Slug::parse(&row.change_plan_id).map_err(|_| DAMAGED)?,
                plan_version: row.change_plan_version,
                cycle: row.change_billing_cycle.parse().map_err(|_| DAMAGED)?,
                price: price(&row.change_currency, row.change_amount)?,
            })
        };
        Ok(Self {
            subscription_id: row.subscription_id,
            user_id: row.user_id,
            organization_id: Slug::parse_optional(&row.organization_id).map_err(|_| DAMAGED)?,
            terms: Terms {
                plan_id: row.plan_id,
                plan_version: row.plan_version,
                cycle: row.billing_cycle,
                price: price(&row.currency, row.amount)?,
            },
            seats: i32::try_from(row.seats).map_err(|_| DAMAGED)?,
            status: row.status,
            anchor: Anchor { time: row.anchor_time, periods: row.anchor_periods },
            period: Period { number: row.period_number, start: row.period_start_time, end: row.period_end_time },
            trial_end: row.trial_end_time,
            cancel_at_period_end: row.cancel_at_period_end,
            canceled_time: row.canceled_time,
            cancel_reason: row.cancel_reason,
            change,
            version: row.version,
            create_time: row.create_time,
            update_time: row.update_time,
            end_time: row.end_time,
        })
    }
}

/// The subscription with this id.
pub(crate) async fn find(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    subscription_id: &Slug,
) -> Result<Option<Subscription>, StoreError> {
    by_id(connection, tenant, subscription_id, "").await
}

/// The subscription with this id, which nobody else changes until the transaction ends.
pub(crate) async fn lock(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    subscription_id: &Slug,
) -> Result<Option<Subscription>, StoreError> {
    by_id(connection, tenant, subscription_id, lock_clause(connection)).await
}

async fn by_id(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    subscription_id: &Slug,
    lock: &str,
) -> Result<Option<Subscription>, StoreError> {
    let text = format!("select {COLUMNS} from subscriptions where tenant_id = $1 and subscription_id = $2{lock}");
    let values = vec![tenant.clone().into(), subscription_id.clone().into()];
    Ok(subscriptions(connection, &text, values).await?.pop().map(|(_, subscription)| subscription))
}

async fn subscriptions(
    connection: &impl ConnectionTrait,
    text: &str,
    values: Vec<Value>,
) -> Result<Vec<(Tenant, Subscription)>, StoreError> {
    let rows = SubscriptionRow::find_by_statement(sql(connection, text, values)).all(connection).await?;
    rows.into_iter().map(|row| Ok((row.tenant_id.clone(), row.try_into()?))).collect()
}

/// Up to `limit` subscriptions of the list after this one, newest first.
pub(crate) async fn list(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    filter: &Filter,
    after: Option<&str>,
    limit: u64,
) -> Result<Vec<Subscription>, StoreError> {
    let (mut conditions, mut values) = conditions(tenant, filter);
    if let Some(subscription_id) = after {
        values.push(subscription_id.into());
        let _ = write!(conditions, " and subscription_id < ${}", values.len());
    }
    let text =
        format!("select {COLUMNS} from subscriptions where {conditions} order by subscription_id desc limit {limit}");
    let listed = subscriptions(connection, &text, values).await?;
    Ok(listed.into_iter().map(|(_, subscription)| subscription).collect())
}

/// How many subscriptions the list holds.
pub(crate) async fn count(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    filter: &Filter,
) -> Result<i64, StoreError> {
    let (conditions, values) = conditions(tenant, filter);
    let text = format!("select count(*) as total from subscriptions where {conditions}");
    store::count(connection, &text, values).await
}

/// What a filter asks of a row. A filter that is not set leaves no condition behind, so that an index serves the rest.
fn conditions(tenant: &Tenant, filter: &Filter) -> (String, Vec<Value>) {
    let mut conditions = "tenant_id = $1".to_owned();
    let mut values: Vec<Value> = vec![tenant.clone().into()];
    let ids = [
        ("user_id", filter.user_id.clone().map(Value::from)),
        ("organization_id", filter.organization_id.clone().map(Value::from)),
        ("plan_id", filter.plan_id.clone().map(Value::from)),
    ];
    for (column, value) in ids {
        if let Some(value) = value {
            values.push(value);
            let _ = write!(conditions, " and {column} = ${}", values.len());
        }
    }
    if !filter.statuses.is_empty() {
        let places = placeholders(values.len().saturating_add(1), filter.statuses.len());
        let _ = write!(conditions, " and status in ({places})");
        values.extend(filter.statuses.iter().map(|status| Value::from(*status)));
    }
    (conditions, values)
}

/// Whether the user or organization behind a subscription lives with this plan, too.
pub(crate) async fn lives(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    subscription: &Subscription,
    plan_id: &Slug,
) -> Result<bool, StoreError> {
    let text = "select count(*) as total from subscriptions
                 where tenant_id = $1 and user_id = $2 and organization_id = $3 and plan_id = $4 and end_time is null
                   and subscription_id <> $5";
    let values = [
        tenant.clone().into(),
        subscription.user_id.clone().into(),
        subscription.organization_id.as_ref().map_or("", Slug::as_str).into(),
        plan_id.clone().into(),
        subscription.subscription_id.clone().into(),
    ];
    Ok(store::count(connection, text, values).await? > 0)
}

/// The subscriptions of a user that have not ended, which nobody else changes until the transaction ends.
pub(crate) async fn living(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    user_id: &UserId,
) -> Result<Vec<Subscription>, StoreError> {
    let text = format!(
        "select {COLUMNS} from subscriptions where tenant_id = $1 and user_id = $2 and end_time is null
          order by subscription_id{}",
        lock_clause(connection)
    );
    let living = subscriptions(connection, &text, vec![tenant.clone().into(), user_id.clone().into()]).await?;
    Ok(living.into_iter().map(|(_, subscription)| subscription).collect())
}

/// How much of a customer a user is, by the best that they have subscribed to for themselves and that has not ended; what
/// was never paid counts for nothing.
pub(crate) async fn user_tier(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    user_id: &UserId,
) -> Result<Tier, StoreError> {
    #[derive(Row)]
    struct Held {
        tier: Tier,
    }
    let text = "select v.tier from subscriptions s
                  join plan_versions v on v.tenant_id = s.tenant_id and v.plan_id = s.plan_id
                                      and v.version = s.plan_version
                 where s.tenant_id = $1 and s.user_id = $2 and s.organization_id = '' and s.end_time is null
                   and s.status <> 'INCOMPLETE'";
    let statement = sql(connection, text, [tenant.clone().into(), user_id.clone().into()]);
    let held = Held::find_by_statement(statement).all(connection).await?;
    Ok(held.into_iter().map(|held| held.tier).max().unwrap_or(Tier::Free))
}

/// Up to `limit` subscriptions, of whatever tenant, that time has something to do with by now, longest overdue first. No
/// other replica takes them until the transaction ends.
pub(crate) async fn due(
    connection: &impl ConnectionTrait,
    now: Time,
    limit: usize,
) -> Result<Vec<(Tenant, Subscription)>, StoreError> {
    let text = format!(
        "select {COLUMNS} from subscriptions where due_time <= $1 order by due_time limit {limit}{}",
        skip_locked(connection)
    );
    subscriptions(connection, &text, vec![now.into()]).await
}

/// Whether time has something to do with any subscription by now.
pub(crate) async fn is_anything_due(connection: &impl ConnectionTrait, now: Time) -> Result<bool, StoreError> {
    let statement = sql(connection, "select 1 from subscriptions where due_time <= $1 limit 1", [now.into()]);
    Ok(connection.query_one_raw(statement).await?.is_some())
}

/// Which part of a history.
pub(crate) struct Past<'a> {
    pub(crate) subscription_id: &'a Slug,
    /// Older than this version.
    pub(crate) before: Option<i64>,
    pub(crate) limit: u64,
}

/// Lines of the history of a subscription, newest first.
pub(crate) async fn history(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    past: Past<'_>,
) -> Result<Vec<Entry>, StoreError> {
    let text = format!(
        "select version, time, actor, action, from_status, to_status, reason, feedback from subscription_history
          where tenant_id = $1 and subscription_id = $2 and version < $3 order by version desc limit {}",
        past.limit
    );
    let before = past.before.unwrap_or(i64::MAX);
    let values = [tenant.clone().into(), past.subscription_id.clone().into(), before.into()];
    Ok(Entry::find_by_statement(sql(connection, &text, values)).all(connection).await?)
}
