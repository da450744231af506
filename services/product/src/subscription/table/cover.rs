//! What subscriptions cover: whose, in which periods, and how much of what.

use std::collections::HashMap;

use mesh::{
    Slug, StoreError, Tenant, Time, UserId,
    store::{Kind, Row, Rows, sql},
};
use sea_orm::ConnectionTrait;

use super::super::{Period, Status};
use crate::plan::Included;

/// A period of a subscription, with what it includes.
#[derive(Clone, Debug)]
pub(crate) struct Covered {
    pub(crate) tenant: Tenant,
    pub(crate) user_id: UserId,
    pub(crate) organization_id: Option<Slug>,
    pub(crate) subscription_id: Slug,
    pub(crate) status: Status,
    pub(crate) period: Period,
    pub(crate) included: Vec<Included>,
}

#[derive(Row)]
struct CoveredRow {
    tenant_id: Tenant,
    user_id: UserId,
    organization_id: String,
    subscription_id: Slug,
    status: Status,
    number: i64,
    start_time: Time,
    end_time: Time,
    included: String,
}

/// The periods of these payers' subscriptions that ended after a time, and the last of each, by the subscriptions' age. The
/// period that runs includes what the plan of now does, the others what theirs did.
pub(crate) async fn covers(
    connection: &impl ConnectionTrait,
    payers: &[(Tenant, UserId, Option<Slug>)],
    since: Time,
) -> Result<Vec<Covered>, StoreError> {
    let key = |(tenant, user_id, organization_id): &(Tenant, UserId, Option<Slug>)| {
        let organization_id = organization_id.as_ref().map_or("", Slug::as_str);
        [tenant.clone().into(), user_id.clone().into(), organization_id.into()]
    };
    let columns = [("tenant_id", Kind::Text), ("user_id", Kind::Text), ("organization_id", Kind::Text)];
    let keys = Rows::new(columns, payers.iter().map(key));
    let mut values = vec![since.into()];
    let text = format!(
        "select s.tenant_id, s.user_id, s.organization_id, s.subscription_id, s.status, p.number, p.start_time,
                p.end_time, v.included
           from {}
           join subscriptions s on s.tenant_id = k.tenant_id and s.user_id = k.user_id
                               and s.organization_id = k.organization_id
           join subscription_periods p on p.tenant_id = s.tenant_id and p.subscription_id = s.subscription_id
                                      and (p.end_time > $1 or p.number = s.period_number)
           join plan_versions v on v.tenant_id = s.tenant_id
            and v.plan_id = case when p.number = s.period_number then s.plan_id else p.plan_id end
            and v.version = case when p.number = s.period_number then s.plan_version else p.plan_version end
          order by s.subscription_id, p.number",
        keys.bind(connection, "k", &mut values)?
    );
    let rows = CoveredRow::find_by_statement(sql(connection, &text, values)).all(connection).await?;
    // Thousands subscribe to few plans: what each includes is read once.
    let mut read: HashMap<String, Vec<Included>> = HashMap::new();
    let mut covered = Vec::with_capacity(rows.len());
    for row in rows {
        let included = match read.get(&row.included) {
            Some(included) => included.clone(),
            None => read.entry(row.included.clone()).or_insert(serde_json::from_str(&row.included)?).clone(),
        };
        let organization_id = Slug::parse_optional(&row.organization_id)
            .map_err(|_| StoreError::Impossible("a subscription holds an id that is none"))?;
        covered.push(Covered {
            tenant: row.tenant_id,
            user_id: row.user_id,
            organization_id,
            subscription_id: row.subscription_id,
            status: row.status,
            period: Period { number: row.number, start: row.start_time, end: row.end_time },
            included,
        });
    }
    Ok(covered)
}
