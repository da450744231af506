//! The rows of `usage_records`.

use std::{collections::HashMap, fmt::Write as _};

use mesh::{
    RequestId, Slug, StoreError, Tenant, Time, UserId,
    store::{self, Kind, Row, Rows, Transaction, lock_clause, sql},
};
use money::{Amount, Cost, Currency, Quantity};
use sea_orm::{ConnectionTrait, Value};

use super::super::{Charge, Filter, Usage, Voided};

const COLUMNS: [(&str, Kind); 22] = [
    ("tenant_id", Kind::Text),
    ("usage_id", Kind::Text),
    ("request_id", Kind::Text),
    ("user_id", Kind::Text),
    ("organization_id", Kind::Text),
    ("subscription_id", Kind::Text),
    ("product_id", Kind::Text),
    ("session_id", Kind::Text),
    ("event_time", Kind::Number),
    ("attributes", Kind::Text),
    ("quantity", Kind::Text),
    ("included_quantity", Kind::Text),
    ("free_quantity", Kind::Text),
    ("billable_quantity", Kind::Text),
    ("amount", Kind::Number),
    ("currency", Kind::Text),
    ("price_id", Kind::Text),
    ("total_before", Kind::Text),
    ("cost_before", Kind::Text),
    ("period_start_time", Kind::Number),
    ("period_end_time", Kind::Number),
    ("create_time", Kind::Number),
];

/// A row of `usage_records`.
#[derive(Row)]
struct UsageRow {
    tenant_id: Tenant,
    usage_id: Slug,
    request_id: RequestId,
    user_id: UserId,
    organization_id: String,
    subscription_id: String,
    product_id: Slug,
    session_id: String,
    event_time: Time,
    attributes: String,
    quantity: String,
    included_quantity: String,
    free_quantity: String,
    billable_quantity: String,
    amount: i64,
    currency: String,
    price_id: String,
    total_before: String,
    cost_before: String,
    period_start_time: Time,
    period_end_time: Time,
    create_time: Time,
    void_time: Option<Time>,
    void_reason: Option<String>,
    void_amount: Option<i64>,
}

const DAMAGED: StoreError = StoreError::Impossible("a usage record holds what is never written");

fn quantity(text: &str) -> Result<Quantity, StoreError> {
    Quantity::parse(text).map_err(|_| DAMAGED)
}

fn optional(text: &str) -> Result<Option<Slug>, StoreError> {
    Slug::parse_optional(text).map_err(|_| DAMAGED)
}

impl TryFrom<UsageRow> for Usage {
    type Error = StoreError;

    fn try_from(row: UsageRow) -> Result<Self, StoreError> {
        let currency = if row.currency.is_empty() { None } else { Currency::parse(&row.currency).ok() };
        let charge = match (optional(&row.price_id)?, currency) {
            (Some(price_id), Some(currency)) => Some(Charge {
                price_id,
                free: quantity(&row.free_quantity)?,
                billable: quantity(&row.billable_quantity)?,
                amount: Amount::from_minor(currency, row.amount),
                before: quantity(&row.total_before)?,
                cost_before: Cost::parse(&row.cost_before).map_err(|_| DAMAGED)?,
            }),
            _ => None,
        };
        let voided = match (row.void_time, row.void_reason, row.void_amount) {
            (Some(time), Some(reason), Some(minor)) => {
                let amount = currency.map(|currency| Amount::from_minor(currency, minor));
                Some(Voided { time, reason, amount })
            }
            _ => None,
        };
        Ok(Self {
            usage_id: row.usage_id,
            request_id: row.request_id,
            user_id: row.user_id,
            product_id: row.product_id,
            organization_id: optional(&row.organization_id)?,
            subscription_id: optional(&row.subscription_id)?,
            session_id: optional(&row.session_id)?,
            event_time: row.event_time,
            attributes: serde_json::from_str(&row.attributes)?,
            quantity: quantity(&row.quantity)?,
            included: quantity(&row.included_quantity)?,
            charge,
            period_start: row.period_start_time,
            period_end: row.period_end_time,
            create_time: row.create_time,
            voided,
        })
    }
}

fn record(tenant: &Tenant, usage: &Usage) -> Result<[Value; 22], StoreError> {
    let slug = |slug: &Option<Slug>| slug.as_ref().map_or("", Slug::as_str).to_owned();
    let charge = usage.charge.as_ref();
    let quantity = |quantity: Option<Quantity>| quantity.unwrap_or(Quantity::ZERO).to_string().into();
    Ok([
        tenant.clone().into(),
        usage.usage_id.clone().into(),
        usage.request_id.clone().into(),
        usage.user_id.clone().into(),
        slug(&usage.organization_id).into(),
        slug(&usage.subscription_id).into(),
        usage.product_id.clone().into(),
        slug(&usage.session_id).into(),
        usage.event_time.into(),
        serde_json::to_string(&usage.attributes)?.into(),
        quantity(Some(usage.quantity)),
        quantity(Some(usage.included)),
        quantity(charge.map(|charge| charge.free)),
        quantity(charge.map(|charge| charge.billable)),
        charge.map_or(0, |charge| charge.amount.minor()).into(),
        charge.map_or("", |charge| charge.amount.currency().code()).into(),
        charge.map_or("", |charge| charge.price_id.as_str()).into(),
        charge.map_or_else(String::new, |charge| charge.before.to_string()).into(),
        charge.map_or_else(String::new, |charge| charge.cost_before.to_string()).into(),
        usage.period_start.into(),
        usage.period_end.into(),
        usage.create_time.into(),
    ])
}

fn names(alias: &str) -> String {
    COLUMNS.map(|(name, _)| format!("{alias}{name}")).join(", ")
}

/// Inserts records, of whatever tenants.
pub(crate) async fn insert(transaction: &Transaction, usages: &[(&Tenant, &Usage)]) -> Result<(), StoreError> {
    let rows = usages.iter().map(|(tenant, usage)| record(tenant, usage)).collect::<Result<Vec<_>, _>>()?;
    let (columns, mut values) = (names(""), Vec::new());
    let rows = Rows::new(COLUMNS, rows).bind(transaction, "k", &mut values)?;
    let text = format!("insert into usage_records ({columns}) select {columns} from {rows}");
    transaction.execute_raw(sql(transaction, &text, values)).await?;
    Ok(())
}

async fn read(connection: &impl ConnectionTrait, text: &str, values: Vec<Value>) -> Result<Vec<UsageRow>, StoreError> {
    Ok(UsageRow::find_by_statement(sql(connection, text, values)).all(connection).await?)
}

/// The records with these ids, each of its tenant.
pub(crate) async fn find_all(
    connection: &impl ConnectionTrait,
    ids: Vec<(Tenant, Slug)>,
) -> Result<HashMap<(Tenant, Slug), Usage>, StoreError> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let keys = ids.into_iter().map(|(tenant, usage_id)| [tenant.into(), usage_id.into()]);
    let keys = Rows::new([("tenant_id", Kind::Text), ("usage_id", Kind::Text)], keys);
    let mut values = Vec::new();
    let text = format!(
        "select distinct {}, void_time, void_reason, void_amount
           from {} join usage_records r on r.tenant_id = k.tenant_id and r.usage_id = k.usage_id",
        names("r."),
        keys.bind(connection, "k", &mut values)?,
    );
    let rows = read(connection, &text, values).await?;
    rows.into_iter().map(|row| Ok(((row.tenant_id.clone(), row.usage_id.clone()), row.try_into()?))).collect()
}

/// The record with this id, which nobody else takes back until the transaction ends.
pub(crate) async fn lock(
    transaction: &Transaction,
    tenant: &Tenant,
    usage_id: &Slug,
) -> Result<Option<Usage>, StoreError> {
    let text = format!(
        "select {}, void_time, void_reason, void_amount from usage_records where tenant_id = $1 and usage_id = $2{}",
        names(""),
        lock_clause(transaction)
    );
    let row = read(transaction, &text, vec![tenant.clone().into(), usage_id.clone().into()]).await?.pop();
    row.map(Usage::try_from).transpose()
}

/// Marks a record as taken back.
pub(crate) async fn void(
    transaction: &Transaction,
    tenant: &Tenant,
    usage_id: &Slug,
    voided: &Voided,
) -> Result<(), StoreError> {
    let text = "update usage_records set void_time = $3, void_reason = $4, void_amount = $5
                 where tenant_id = $1 and usage_id = $2 and void_time is null";
    let values = [
        tenant.clone().into(),
        usage_id.clone().into(),
        voided.time.into(),
        voided.reason.clone().into(),
        voided.amount.map_or(0, Amount::minor).into(),
    ];
    transaction.execute_raw(sql(transaction, text, values)).await?;
    Ok(())
}

/// Up to `limit` records of the list after this one, newest first.
pub(crate) async fn list(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    filter: &Filter,
    after: Option<&Slug>,
    limit: u64,
) -> Result<Vec<Usage>, StoreError> {
    let (mut conditions, mut values) = conditions(tenant, filter);
    if let Some(usage_id) = after {
        values.push(usage_id.clone().into());
        let _ = write!(conditions, " and usage_id < ${}", values.len());
    }
    let text = format!(
        "select {}, void_time, void_reason, void_amount from usage_records where {conditions}
          order by usage_id desc limit {limit}",
        names("")
    );
    read(connection, &text, values).await?.into_iter().map(Usage::try_from).collect()
}

/// How many records the list holds.
pub(crate) async fn count(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    filter: &Filter,
) -> Result<i64, StoreError> {
    let (conditions, values) = conditions(tenant, filter);
    store::count(connection, &format!("select count(*) as total from usage_records where {conditions}"), values).await
}

/// What a filter asks of a row. The narrow indexes have only rows under a subscription or of an organization.
fn conditions(tenant: &Tenant, filter: &Filter) -> (String, Vec<Value>) {
    let mut conditions = "tenant_id = $1".to_owned();
    let mut values: Vec<Value> = vec![tenant.clone().into()];
    let asked = [
        ("user_id = ", filter.user_id.clone().map(Value::from)),
        ("product_id = ", filter.product_id.clone().map(Value::from)),
        ("subscription_id <> '' and subscription_id = ", filter.subscription_id.clone().map(Value::from)),
        ("organization_id <> '' and organization_id = ", filter.organization_id.clone().map(Value::from)),
        ("event_time >= ", filter.start_time.map(Value::from)),
        ("event_time < ", filter.end_time.map(Value::from)),
    ];
    for (condition, value) in asked {
        if let Some(value) = value {
            values.push(value);
            let _ = write!(conditions, " and {condition}${}", values.len());
        }
    }
    (conditions, values)
}
