//! The rows of `holds`, and every statement on them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
};

use mesh::{
    RequestId, Slug, StoreError, Tenant, Time, UserId,
    store::{self, Kind, Row, Rows, Writes, sql},
};
use money::Amount;
use sea_orm::{ConnectionTrait, DbErr, Value};

use super::{Filter, Hold, HoldState};
use crate::ledger::currency;

#[derive(Row)]
struct HoldRow {
    tenant_id: Tenant,
    hold_id: Slug,
    request_id: RequestId,
    user_id: UserId,
    currency: String,
    amount: i64,
    state: HoldState,
    captured_amount: i64,
    create_time: Time,
    expire_time: Time,
    end_time: Option<Time>,
}

const COLUMNS: &str =
    "h.tenant_id, h.hold_id, h.request_id, h.user_id, h.currency, h.amount, h.state, h.captured_amount,
    h.create_time, h.expire_time, h.end_time";

impl TryFrom<HoldRow> for (Tenant, Hold) {
    type Error = StoreError;

    fn try_from(row: HoldRow) -> Result<Self, StoreError> {
        let currency = currency(&row.currency)?;
        let hold = Hold {
            hold_id: row.hold_id,
            request_id: row.request_id,
            user_id: row.user_id,
            amount: Amount::from_minor(currency, row.amount),
            state: row.state,
            captured: Amount::from_minor(currency, row.captured_amount),
            create_time: row.create_time,
            expire_time: row.expire_time,
            end_time: row.end_time,
        };
        Ok((row.tenant_id, hold))
    }
}

async fn read(
    connection: &impl ConnectionTrait,
    text: &str,
    values: Vec<Value>,
) -> Result<Vec<(Tenant, Hold)>, StoreError> {
    let rows = HoldRow::find_by_statement(sql(connection, text, values)).all(connection).await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// The holds with these ids, of those that there are. What is decided on them needs the locks of their wallets.
pub(crate) async fn find_all(
    connection: &impl ConnectionTrait,
    ids: BTreeSet<(Tenant, Slug)>,
) -> Result<HashMap<(Tenant, Slug), Hold>, StoreError> {
    let ids = ids.into_iter().map(|(tenant, hold_id)| [tenant.into(), hold_id.into()]);
    let ids = Rows::new([("tenant_id", Kind::Text), ("hold_id", Kind::Text)], ids);
    let mut values = Vec::new();
    let text = format!(
        "select {COLUMNS} from {} join holds h on h.tenant_id = k.tenant_id and h.hold_id = k.hold_id",
        ids.bind(connection, "k", &mut values)?
    );
    let holds = read(connection, &text, values).await?;
    Ok(holds.into_iter().map(|(tenant, hold)| ((tenant, hold.hold_id.clone()), hold)).collect())
}

/// Up to `limit` open holds whose time is over.
pub(super) async fn due(
    connection: &impl ConnectionTrait,
    now: Time,
    limit: usize,
) -> Result<Vec<(Tenant, Hold)>, StoreError> {
    let text = format!(
        "select {COLUMNS} from holds h where h.state = 'OPEN' and h.expire_time <= $1 order by h.expire_time limit {limit}"
    );
    read(connection, &text, vec![now.into()]).await
}

const INSERTED: [(&str, Kind); 10] = [
    ("tenant_id", Kind::Text),
    ("hold_id", Kind::Text),
    ("request_id", Kind::Text),
    ("user_id", Kind::Text),
    ("currency", Kind::Text),
    ("amount", Kind::Number),
    ("state", Kind::Text),
    ("captured_amount", Kind::Number),
    ("create_time", Kind::Number),
    ("expire_time", Kind::Number),
];

/// Adds to what is written holds that are placed now.
pub(crate) fn insert(writes: &mut Writes, holds: &[(Tenant, Hold)]) -> Result<(), StoreError> {
    let row = |(tenant, hold): &(Tenant, Hold)| -> [Value; 10] {
        [
            tenant.clone().into(),
            hold.hold_id.clone().into(),
            hold.request_id.clone().into(),
            hold.user_id.clone().into(),
            hold.amount.currency().code().into(),
            hold.amount.minor().into(),
            hold.state.into(),
            hold.captured.minor().into(),
            hold.create_time.into(),
            hold.expire_time.into(),
        ]
    };
    let short = StoreError::Impossible("a hold was not written");
    writes.add(Rows::new(INSERTED, holds.iter().map(row)), short, |names, rows| {
        format!("insert into holds ({names}) select {names} from {rows}")
    })
}

/// Adds to what is written how open holds ended. Their wallets must be locked; one that is not open any more is a
/// conflict.
pub(crate) fn end(writes: &mut Writes, holds: &BTreeMap<(Tenant, Slug), Hold>) -> Result<(), StoreError> {
    let columns = [
        ("tenant_id", Kind::Text),
        ("hold_id", Kind::Text),
        ("state", Kind::Text),
        ("captured_amount", Kind::Number),
        ("end_time", Kind::Number),
    ];
    let row = |((tenant, hold_id), hold): (&(Tenant, Slug), &Hold)| {
        [
            tenant.clone().into(),
            hold_id.clone().into(),
            hold.state.into(),
            hold.captured.minor().into(),
            hold.end_time.map_or(0, Time::micros).into(),
        ]
    };
    let short = StoreError::Conflict(DbErr::Custom("a hold is not open any more".to_owned()));
    writes.add(Rows::new(columns, holds.iter().map(row)), short, |_, rows| {
        format!(
            "update holds set state = k.state, captured_amount = k.captured_amount, end_time = k.end_time from {rows}
              where holds.tenant_id = k.tenant_id and holds.hold_id = k.hold_id and holds.state = 'OPEN'"
        )
    })
}

/// Up to `limit` holds of the list after this one, newest first.
pub(super) async fn list(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    filter: &Filter,
    after: Option<&Slug>,
    limit: u64,
) -> Result<Vec<Hold>, StoreError> {
    let (mut conditions, mut values) = conditions(tenant, filter);
    if let Some(hold_id) = after {
        values.push(hold_id.clone().into());
        let _ = write!(conditions, " and h.hold_id < ${}", values.len());
    }
    let text = format!("select {COLUMNS} from holds h where {conditions} order by h.hold_id desc limit {limit}");
    Ok(read(connection, &text, values).await?.into_iter().map(|(_, hold)| hold).collect())
}

/// How many holds the list has.
pub(super) async fn count(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    filter: &Filter,
) -> Result<i64, StoreError> {
    let (conditions, values) = conditions(tenant, filter);
    store::count(connection, &format!("select count(*) from holds h where {conditions}"), values).await
}

fn conditions(tenant: &Tenant, filter: &Filter) -> (String, Vec<Value>) {
    let mut conditions = "h.tenant_id = $1".to_owned();
    let mut values: Vec<Value> = vec![tenant.clone().into()];
    let asked =
        [("h.user_id = ", filter.user_id.clone().map(Value::from)), ("h.state = ", filter.state.map(Value::from))];
    for (condition, value) in asked {
        if let Some(value) = value {
            values.push(value);
            let _ = write!(conditions, " and {condition}${}", values.len());
        }
    }
    (conditions, values)
}
