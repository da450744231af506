//! The rows of `subscriptions`, their periods and their history, and the trials that were had; and every statement on them.

mod cover;
mod read;
mod sums;

use mesh::{
    Slug, StoreError, Tenant, Time,
    store::{Row, Transaction, placeholders, sql, tuples},
};
use sea_orm::{ConnectionTrait, DbBackend, Value};

use super::{
    Author, Subscription, Terms,
    life::{Course, What},
};

pub(crate) use cover::covers;
pub(super) use read::{Past, count, due, find, history, is_anything_due, list, lives, living, lock, user_tier};
pub(super) use sums::{Flow, Held, Recurring, flow, held, recurring};

/// The columns of a subscription after its keys, in the order of [`values`].
const SET: [&str; 25] = [
    "plan_id",
    "plan_version",
    "status",
    "billing_cycle",
    "seats",
    "currency",
    "amount",
    "anchor_time",
    "anchor_periods",
    "period_number",
    "period_start_time",
    "period_end_time",
    "trial_end_time",
    "cancel_at_period_end",
    "canceled_time",
    "cancel_reason",
    "change_plan_id",
    "change_plan_version",
    "change_billing_cycle",
    "change_currency",
    "change_amount",
    "due_time",
    "version",
    "update_time",
    "end_time",
];

/// Rows of one statement: far from the 32,766 parameters that SQLite takes.
const ROWS: usize = 500;

fn keys(tenant: &Tenant, subscription: &Subscription) -> [Value; 5] {
    [
        tenant.clone().into(),
        subscription.subscription_id.clone().into(),
        subscription.user_id.clone().into(),
        subscription.organization_id.as_ref().map_or("", Slug::as_str).into(),
        subscription.create_time.into(),
    ]
}

fn values(subscription: &Subscription) -> [Value; 25] {
    let Terms { plan_id, plan_version, cycle, price } = &subscription.terms;
    let change = subscription.change.as_ref();
    [
        plan_id.clone().into(),
        (*plan_version).into(),
        subscription.status.into(),
        (*cycle).into(),
        i64::from(subscription.seats).into(),
        price.currency().code().into(),
        price.minor().into(),
        subscription.anchor.time.into(),
        subscription.anchor.periods.into(),
        subscription.period.number.into(),
        subscription.period.start.into(),
        subscription.period.end.into(),
        subscription.trial_end.into(),
        subscription.cancel_at_period_end.into(),
        subscription.canceled_time.into(),
        subscription.cancel_reason.clone().into(),
        change.map_or("", |change| change.plan_id.as_str()).into(),
        change.map_or(0, |change| change.plan_version).into(),
        change.map_or("", |change| change.cycle.as_str()).into(),
        change.map_or("", |change| change.price.currency().code()).into(),
        change.map_or(0, |change| change.price.minor()).into(),
        subscription.due().into(),
        subscription.version.into(),
        subscription.update_time.into(),
        subscription.end_time.into(),
    ]
}

/// Inserts the subscription; false where its user or organization lives with that plan already.
pub(super) async fn insert(
    transaction: &Transaction,
    tenant: &Tenant,
    subscription: &Subscription,
) -> Result<bool, StoreError> {
    let values: Vec<Value> = keys(tenant, subscription).into_iter().chain(values(subscription)).collect();
    let text = format!(
        "insert into subscriptions (tenant_id, subscription_id, user_id, organization_id, create_time, {})
         values ({}) on conflict do nothing",
        SET.join(", "),
        placeholders(1, values.len())
    );
    Ok(transaction.execute_raw(sql(transaction, &text, values)).await?.rows_affected() == 1)
}

/// Takes out what was inserted in this transaction, and that nothing refers to yet.
pub(super) async fn remove(
    transaction: &Transaction,
    tenant: &Tenant,
    subscription_id: &Slug,
) -> Result<(), StoreError> {
    let text = "delete from subscriptions where tenant_id = $1 and subscription_id = $2";
    let statement = sql(transaction, text, [tenant.clone().into(), subscription_id.clone().into()]);
    transaction.execute_raw(statement).await?;
    Ok(())
}

/// Uses the user's one trial of the plan up; false where they had it.
pub(super) async fn use_trial(
    transaction: &Transaction,
    tenant: &Tenant,
    subscription: &Subscription,
) -> Result<bool, StoreError> {
    let text = "insert into trials (tenant_id, user_id, plan_id, subscription_id) values ($1, $2, $3, $4)
                on conflict do nothing";
    let values = [
        tenant.clone().into(),
        subscription.user_id.clone().into(),
        subscription.terms.plan_id.clone().into(),
        subscription.subscription_id.clone().into(),
    ];
    Ok(transaction.execute_raw(sql(transaction, text, values)).await?.rows_affected() == 1)
}

/// Writes the subscriptions as they are after their courses, with what happened in them.
pub(super) async fn save(transaction: &Transaction, author: &Author, courses: &[&Course]) -> Result<(), StoreError> {
    let set: Vec<String> = SET.iter().zip(3..).map(|(column, place)| format!("{column} = ${place}")).collect();
    let text = format!("update subscriptions set {} where tenant_id = $1 and subscription_id = $2", set.join(", "));
    for Course { subscription, .. } in courses {
        let keys = [author.tenant.clone().into(), subscription.subscription_id.clone().into()];
        let values = keys.into_iter().chain(values(subscription));
        transaction.execute_raw(sql(transaction, &text, values)).await?;
    }
    note(transaction, author, courses).await
}

/// Writes what happened in the courses: history, and the periods that began.
pub(super) async fn note(transaction: &Transaction, author: &Author, courses: &[&Course]) -> Result<(), StoreError> {
    let (mut history, mut periods) = (Vec::new(), Vec::new());
    for course in courses {
        let subscription_id = &course.subscription.subscription_id;
        for done in &course.done {
            history.push(vec![
                author.tenant.clone().into(),
                subscription_id.clone().into(),
                done.version.into(),
                done.time.into(),
                author.actor.clone().into(),
                done.what.action().into(),
                done.from.map_or("", super::Status::as_str).into(),
                done.to.into(),
                done.why.reason.clone().into(),
                done.why.feedback.clone().into(),
            ]);
            if let What::Created(period, amount) | What::Renewed(period, amount) = &done.what {
                periods.push(vec![
                    author.tenant.clone().into(),
                    subscription_id.clone().into(),
                    period.number.into(),
                    period.start.into(),
                    period.end.into(),
                    done.terms.plan_id.clone().into(),
                    done.terms.plan_version.into(),
                    amount.currency().code().into(),
                    amount.minor().into(),
                ]);
            }
        }
    }
    let columns = "tenant_id, subscription_id, version, time, actor, action, from_status, to_status, reason, feedback";
    append(transaction, "subscription_history", columns, &history).await?;
    let columns = "tenant_id, subscription_id, number, start_time, end_time, plan_id, plan_version, currency, amount";
    append(transaction, "subscription_periods", columns, &periods).await
}

async fn append(transaction: &Transaction, table: &str, columns: &str, rows: &[Vec<Value>]) -> Result<(), StoreError> {
    for rows in rows.chunks(ROWS) {
        let width = rows.first().map_or(0, Vec::len);
        let text = format!("insert into {table} ({columns}) values {}", tuples(rows.len(), width));
        transaction.execute_raw(sql(transaction, &text, rows.concat())).await?;
    }
    Ok(())
}

/// Puts a subscription off that time cannot deal with, so that it is not in the way of the others.
pub(super) async fn put_off(
    transaction: &Transaction,
    (tenant, subscription_id): (&Tenant, &Slug),
    until: Time,
) -> Result<(), StoreError> {
    let text = "update subscriptions set due_time = $3
                 where tenant_id = $1 and subscription_id = $2 and due_time is not null";
    let values = [tenant.clone().into(), subscription_id.clone().into(), until.into()];
    transaction.execute_raw(sql(transaction, text, values)).await?;
    Ok(())
}

/// That several replicas take different rows: those that another one holds are passed over.
fn skip_locked(connection: &impl ConnectionTrait) -> &'static str {
    match connection.get_database_backend() {
        DbBackend::Postgres => " for update skip locked",
        _ => "",
    }
}

/// A line of the history.
#[derive(Clone, Debug, Row)]
pub(super) struct Entry {
    pub(super) version: i64,
    pub(super) time: Time,
    pub(super) actor: String,
    pub(super) action: super::life::Action,
    /// Empty: it was made.
    pub(super) from_status: String,
    pub(super) to_status: super::Status,
    pub(super) reason: String,
    pub(super) feedback: String,
}
