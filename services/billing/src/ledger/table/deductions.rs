//! Lists of deductions.

use std::fmt::Write as _;

use mesh::{Slug, StoreError, Tenant, Time, UserId, store};
use sea_orm::{ConnectionTrait, Value};
use serde::Serialize;

use super::{
    super::Change,
    changes::{CHANGE, read},
};

/// Which deductions a list holds. All of it is part of its page tokens.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Filter {
    pub(crate) user_id: Option<UserId>,
    pub(crate) api_id: Option<Slug>,
    pub(crate) api_key_id: Option<Slug>,
    pub(crate) start_time: Option<Time>,
    pub(crate) end_time: Option<Time>,
}

/// Up to `limit` deductions of the list after this one, newest first.
pub(crate) async fn deductions(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    filter: &Filter,
    after: Option<&str>,
    limit: u64,
) -> Result<Vec<Change>, StoreError> {
    let (mut conditions, mut values) = conditions(tenant, filter);
    if let Some(transaction_id) = after {
        values.push(transaction_id.into());
        let _ = write!(conditions, " and t.transaction_id < ${}", values.len());
    }
    let text =
        format!("select {CHANGE} from transactions t where {conditions} order by t.transaction_id desc limit {limit}");
    read(connection, &text, values).await
}

/// How many deductions a list holds.
pub(crate) async fn count_deductions(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    filter: &Filter,
) -> Result<i64, StoreError> {
    let (conditions, values) = conditions(tenant, filter);
    store::count(connection, &format!("select count(*) from transactions t where {conditions}"), values).await
}

/// What a filter asks of a row. The narrow indexes have only rows that name an API or a key.
fn conditions(tenant: &Tenant, filter: &Filter) -> (String, Vec<Value>) {
    let mut conditions = "t.tenant_id = $1 and t.kind = 'DEDUCTION'".to_owned();
    let mut values: Vec<Value> = vec![tenant.clone().into()];
    let asked = [
        ("t.user_id = ", filter.user_id.clone().map(Value::from)),
        ("t.api_id <> '' and t.api_id = ", filter.api_id.clone().map(Value::from)),
        ("t.api_key_id <> '' and t.api_key_id = ", filter.api_key_id.clone().map(Value::from)),
        ("t.create_time >= ", filter.start_time.map(Value::from)),
        ("t.create_time < ", filter.end_time.map(Value::from)),
    ];
    for (condition, value) in asked {
        if let Some(value) = value {
            values.push(value);
            let _ = write!(conditions, " and {condition}${}", values.len());
        }
    }
    (conditions, values)
}
