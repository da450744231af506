//! The rows of `subscriptions`, and every statement on them.

use std::fmt::Write as _;

use mesh::{
    StoreError, Tenant,
    store::{self, placeholders, sql},
};
use sea_orm::{ConnectionTrait, FromQueryResult as _, Value};

use super::{Filter, Subscription};

const COLUMNS: &str =
    "subscription_id, user_id, organization_id, plan_id, status, period_end_time, cancel_at_period_end";

/// Up to `limit` subscriptions of the list after this one, newest first.
pub(super) async fn list(
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
    Ok(Subscription::find_by_statement(sql(connection, &text, values)).all(connection).await?)
}

/// How many subscriptions the list holds.
pub(super) async fn count(
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
        let _ = write!(conditions, " and status in ({})", placeholders(values.len() + 1, filter.statuses.len()));
        values.extend(filter.statuses.iter().map(|status| Value::from(*status)));
    }
    (conditions, values)
}
