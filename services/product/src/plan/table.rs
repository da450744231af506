//! The rows of `plans` and `plan_versions`, and every statement on them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use mesh::{
    Slug, StoreError, Tenant, Time,
    store::{self, Row, lock_clause, placeholders, sql},
};
use money::{Amount, Currency};
use sea_orm::{ConnectionTrait, Value};

use super::{Cycle, Filter, Plan, Seats, Status, Terms, Tier};

const COLUMNS: &str = "p.plan_id, v.version, v.name, v.tier, v.currency, v.prices, v.included, v.features, v.trial_days, \
                       v.min_seats, v.max_seats, p.status, p.revision, p.create_time, p.update_time";
/// Plans with their latest versions.
const LATEST: &str = "plans p join plan_versions v on v.tenant_id = p.tenant_id and v.plan_id = p.plan_id
                                                  and v.version = p.version";

/// A plan with one of its versions.
#[derive(Row)]
struct PlanRow {
    plan_id: Slug,
    version: i64,
    name: String,
    tier: Tier,
    currency: String,
    prices: String,
    included: String,
    features: String,
    trial_days: i64,
    min_seats: i64,
    max_seats: i64,
    status: Status,
    revision: i64,
    create_time: Time,
    update_time: Time,
}

impl TryFrom<PlanRow> for Plan {
    type Error = StoreError;

    fn try_from(row: PlanRow) -> Result<Self, StoreError> {
        let damaged = StoreError::Impossible("a plan holds a currency or a number that is none");
        let (Ok(currency), Ok(trial_days), Ok(min), Ok(max)) = (
            Currency::parse(&row.currency),
            i32::try_from(row.trial_days),
            i32::try_from(row.min_seats),
            i32::try_from(row.max_seats),
        ) else {
            return Err(damaged);
        };
        let prices: BTreeMap<Cycle, i64> = serde_json::from_str(&row.prices)?;
        let terms = Terms {
            name: row.name,
            tier: row.tier,
            currency,
            prices: prices.into_iter().map(|(cycle, minor)| (cycle, Amount::from_minor(currency, minor))).collect(),
            trial_days,
            included: serde_json::from_str(&row.included)?,
            features: serde_json::from_str(&row.features)?,
            seats: Seats { min, max: (max > 0).then_some(max) },
        };
        let PlanRow { plan_id, version, status, revision, create_time, update_time, .. } = row;
        Ok(Self { plan_id, version, terms, status, revision, create_time, update_time })
    }
}

/// Inserts the plan without its version; false where its id is taken.
pub(super) async fn insert(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    plan: &Plan,
) -> Result<bool, StoreError> {
    let text = "insert into plans (tenant_id, plan_id, version, tier, status, revision, create_time, update_time)
                values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing";
    let values = [
        tenant.clone().into(),
        plan.plan_id.clone().into(),
        plan.version.into(),
        plan.terms.tier.into(),
        plan.status.into(),
        plan.revision.into(),
        plan.create_time.into(),
        plan.update_time.into(),
    ];
    Ok(connection.execute_raw(sql(connection, text, values)).await?.rows_affected() == 1)
}

/// Inserts what the plan's version says.
pub(super) async fn insert_version(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    plan: &Plan,
) -> Result<(), StoreError> {
    let Terms { name, tier, currency, prices, trial_days, included, features, seats } = &plan.terms;
    let prices: BTreeMap<Cycle, i64> = prices.iter().map(|(cycle, amount)| (*cycle, amount.minor())).collect();
    let values: [Value; 13] = [
        tenant.clone().into(),
        plan.plan_id.clone().into(),
        plan.version.into(),
        name.clone().into(),
        (*tier).into(),
        currency.code().into(),
        serde_json::to_string(&prices)?.into(),
        serde_json::to_string(included)?.into(),
        serde_json::to_string(features)?.into(),
        i64::from(*trial_days).into(),
        i64::from(seats.min).into(),
        i64::from(seats.max.unwrap_or(0)).into(),
        plan.update_time.into(),
    ];
    let text = format!(
        "insert into plan_versions (tenant_id, plan_id, version, name, tier, currency, prices, included, features,
                                    trial_days, min_seats, max_seats, create_time)
         values ({})",
        placeholders(1, values.len())
    );
    connection.execute_raw(sql(connection, &text, values)).await?;
    Ok(())
}

/// Updates the plan's row; its version is inserted by itself.
pub(super) async fn update(connection: &impl ConnectionTrait, tenant: &Tenant, plan: &Plan) -> Result<(), StoreError> {
    let text = "update plans set version = $3, tier = $4, status = $5, revision = $6, update_time = $7
                 where tenant_id = $1 and plan_id = $2";
    let values = [
        tenant.clone().into(),
        plan.plan_id.clone().into(),
        plan.version.into(),
        plan.terms.tier.into(),
        plan.status.into(),
        plan.revision.into(),
        plan.update_time.into(),
    ];
    connection.execute_raw(sql(connection, text, values)).await?;
    Ok(())
}

/// The plan at a version; at its latest where none is named.
pub(crate) async fn find(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    plan_id: &Slug,
    version: Option<i64>,
) -> Result<Option<Plan>, StoreError> {
    let (version, mut values) = match version {
        None => ("p.version", vec![]),
        Some(version) => ("$3", vec![Value::from(version)]),
    };
    values.splice(0..0, [tenant.clone().into(), plan_id.clone().into()]);
    let text = format!(
        "select {COLUMNS} from plans p join plan_versions v on v.tenant_id = p.tenant_id and v.plan_id = p.plan_id
          where p.tenant_id = $1 and p.plan_id = $2 and v.version = {version}"
    );
    PlanRow::find_by_statement(sql(connection, &text, values)).one(connection).await?.map(Plan::try_from).transpose()
}

/// The latest version of a plan, which nobody else changes until the transaction ends.
pub(super) async fn lock(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    plan_id: &Slug,
) -> Result<Option<Plan>, StoreError> {
    let text = format!("select 1 from plans where tenant_id = $1 and plan_id = $2{}", lock_clause(connection));
    let statement = sql(connection, &text, [tenant.clone().into(), plan_id.clone().into()]);
    match connection.query_one_raw(statement).await? {
        // Read by a second statement: only that one sees what whoever held the lock before has committed.
        Some(_) => find(connection, tenant, plan_id, None).await,
        None => Ok(None),
    }
}

/// The latest versions of these plans, in no order.
pub(super) async fn find_all(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    plan_ids: &[Slug],
) -> Result<Vec<Plan>, StoreError> {
    let text = format!(
        "select {COLUMNS} from {LATEST} where p.tenant_id = $1 and p.plan_id in ({})",
        placeholders(2, plan_ids.len())
    );
    let values = std::iter::once(tenant.clone().into()).chain(plan_ids.iter().map(|id| id.clone().into()));
    plans(connection, &text, values.collect()).await
}

/// Up to `limit` plans of the list after this place, newest first.
pub(super) async fn list(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    filter: &Filter,
    after: Option<(Time, &Slug)>,
    limit: u64,
) -> Result<Vec<Plan>, StoreError> {
    let (mut conditions, mut values) = conditions(tenant, filter);
    if let Some((time, plan_id)) = after {
        let places = placeholders(values.len().saturating_add(1), 2);
        let _ = write!(conditions, " and (p.create_time, p.plan_id) < ({places})");
        values.extend::<[Value; 2]>([time.into(), plan_id.clone().into()]);
    }
    let order = "order by p.create_time desc, p.plan_id desc";
    let text = format!("select {COLUMNS} from {LATEST} where {conditions} {order} limit {limit}");
    plans(connection, &text, values).await
}

/// How many plans the list holds.
pub(super) async fn count(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    filter: &Filter,
) -> Result<i64, StoreError> {
    let (conditions, values) = conditions(tenant, filter);
    store::count(connection, &format!("select count(*) as total from plans p where {conditions}"), values).await
}

async fn plans(connection: &impl ConnectionTrait, text: &str, values: Vec<Value>) -> Result<Vec<Plan>, StoreError> {
    let rows = PlanRow::find_by_statement(sql(connection, text, values)).all(connection).await?;
    rows.into_iter().map(Plan::try_from).collect()
}

fn conditions(tenant: &Tenant, filter: &Filter) -> (String, Vec<Value>) {
    let mut conditions = "p.tenant_id = $1".to_owned();
    let mut values: Vec<Value> = vec![tenant.clone().into()];
    let wished = [("status", filter.status.map(Value::from)), ("tier", filter.tier.map(Value::from))];
    for (column, value) in wished {
        if let Some(value) = value {
            values.push(value);
            let _ = write!(conditions, " and p.{column} = ${}", values.len());
        }
    }
    (conditions, values)
}
