//! The rows of `charges` and `charged_usages`, and every statement on them.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
};

use mesh::{
    Slug, StoreError, Tenant, Time, UserId,
    store::{self, Kind, Row, Rows, Transaction, Writes, sql},
};
use money::Amount;
use sea_orm::{ConnectionTrait, DbErr, Value};

use super::{Charge, ChargeState, Filter, Owed, Reversed, Source, settle::AT_ONCE};
use crate::ledger::{self, WalletKey, currency};

#[derive(Row)]
struct ChargeRow {
    tenant_id: Tenant,
    charge_id: Slug,
    user_id: UserId,
    currency: String,
    amount: i64,
    credited_amount: i64,
    set_off_amount: i64,
    forgiven_amount: i64,
    source: Source,
    event_id: String,
    ordinal: i64,
    subscription_id: String,
    organization_id: String,
    product_id: String,
    plan_id: String,
    reversed_id: String,
    state: ChargeState,
    tried: i64,
    create_time: Time,
    end_time: Option<Time>,
    void_reason: String,
    transaction_id: String,
}

const COLUMNS: &str =
    "c.tenant_id, c.charge_id, c.user_id, c.currency, c.amount, c.credited_amount, c.set_off_amount,
    c.forgiven_amount, c.source, c.event_id, c.ordinal, c.subscription_id, c.organization_id, c.product_id, c.plan_id, c.reversed_id, c.state, c.tried,
    c.create_time, c.end_time, c.void_reason, c.transaction_id";

impl TryFrom<ChargeRow> for Charge {
    type Error = StoreError;

    fn try_from(row: ChargeRow) -> Result<Self, StoreError> {
        const DAMAGED: StoreError = StoreError::Impossible("a charge holds what is never written");
        let currency = currency(&row.currency)?;
        let slug = |text: &str| Slug::parse_optional(text).map_err(|_| DAMAGED);
        Ok(Self {
            charge_id: row.charge_id,
            user_id: row.user_id,
            amount: Amount::from_minor(currency, row.amount),
            credited: Amount::from_minor(currency, row.credited_amount),
            set_off: Amount::from_minor(currency, row.set_off_amount),
            forgiven: Amount::from_minor(currency, row.forgiven_amount),
            source: row.source,
            event_id: row.event_id,
            ordinal: row.ordinal,
            subscription_id: slug(&row.subscription_id)?,
            organization_id: slug(&row.organization_id)?,
            product_id: slug(&row.product_id)?,
            plan_id: slug(&row.plan_id)?,
            reversed_id: slug(&row.reversed_id)?,
            state: row.state,
            tried: row.tried != 0,
            create_time: row.create_time,
            end_time: row.end_time,
            void_reason: row.void_reason,
            transaction_id: row.transaction_id,
        })
    }
}

async fn read(
    connection: &impl ConnectionTrait,
    text: &str,
    values: Vec<Value>,
) -> Result<Vec<(Tenant, Charge)>, StoreError> {
    let rows = ChargeRow::find_by_statement(sql(connection, text, values)).all(connection).await?;
    rows.into_iter().map(|row| Ok((row.tenant_id.clone(), row.try_into()?))).collect()
}

/// The charge with this id.
pub(crate) async fn find(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    charge_id: &Slug,
) -> Result<Option<Charge>, StoreError> {
    let text = format!("select {COLUMNS} from charges c where c.tenant_id = $1 and c.charge_id = $2");
    let found = read(connection, &text, vec![tenant.clone().into(), charge_id.clone().into()]).await?.pop();
    Ok(found.map(|(_, charge)| charge))
}

const KEY: [(&str, Kind); 3] = [("tenant_id", Kind::Text), ("user_id", Kind::Text), ("currency", Kind::Text)];

/// What each of these wallets owes, oldest first: no more of it than is paid in one sitting and one more, and as many that
/// it was not asked for yet, wherever they are; and of what the house owes it likewise. The wallets must be locked.
pub(crate) async fn owed(
    transaction: &Transaction,
    keys: &[&WalletKey],
) -> Result<HashMap<WalletKey, Owed>, StoreError> {
    #[derive(Row)]
    struct Placed {
        #[sea_orm(nested)]
        charge: ChargeRow,
        asked_for: i64,
    }
    let rows =
        keys.iter().map(|key| [key.tenant.clone().into(), key.user_id.clone().into(), key.currency.code().into()]);
    let rows = Rows::new(KEY, rows);
    let limit = i64::try_from(AT_ONCE).unwrap_or(i64::MAX).saturating_add(1);
    let mut values = vec![limit.into()];
    let text = format!(
        "select {COLUMNS}, c.asked_for from
             (select c.*,
                     row_number() over (partition by c.tenant_id, c.user_id, c.currency, c.amount > 0
                                        order by c.charge_id) as place,
                     row_number() over (partition by c.tenant_id, c.user_id, c.currency, c.amount > 0, c.tried
                                        order by c.charge_id) as turn,
                     cast(sum(case when c.amount > 0 then c.tried else 0 end)
                         over (partition by c.tenant_id, c.user_id, c.currency) as bigint) as asked_for
                from {} join charges c on c.tenant_id = k.tenant_id and c.user_id = k.user_id
                 and c.currency = k.currency and c.state = 'OPEN') c
          where c.place <= $1 or (c.tried = 0 and c.turn <= $1) order by c.charge_id",
        rows.bind(transaction, "k", &mut values)?
    );
    let mut owed: HashMap<WalletKey, Owed> = keys.iter().map(|key| ((*key).clone(), Owed::from(Vec::new()))).collect();
    for row in Placed::find_by_statement(sql(transaction, &text, values)).all(transaction).await? {
        let tenant = row.charge.tenant_id.clone();
        let charge = Charge::try_from(row.charge)?;
        let of_wallet = owed.entry(charge.wallet(&tenant)).or_insert_with(|| Owed::from(Vec::new()));
        if of_wallet.charges.is_empty() {
            of_wallet.unread = usize::try_from(row.asked_for).unwrap_or(usize::MAX);
        }
        let known = usize::from(charge.tried && charge.amount.is_positive());
        of_wallet.unread = of_wallet.unread.saturating_sub(known);
        of_wallet.charges.push_back(charge);
    }
    Ok(owed)
}

/// What a charge `o` below zero gave: in money once that was done, and as less of what else is owed.
const GIVEN: &str = "o.set_off_amount + case when o.state = 'PAID' then -(o.amount + o.credited_amount) else 0 end";

/// These charges, each with what became of what took it back before.
pub(crate) async fn reversed(
    transaction: &Transaction,
    charges: &[(Tenant, Slug)],
) -> Result<HashMap<(Tenant, Slug), Reversed>, StoreError> {
    #[derive(Row)]
    struct Taken {
        #[sea_orm(nested)]
        charge: ChargeRow,
        forgiven: i64,
        given: i64,
    }
    let rows = charges.iter().map(|(tenant, charge_id)| [tenant.clone().into(), charge_id.clone().into()]);
    let rows = Rows::new([("tenant_id", Kind::Text), ("charge_id", Kind::Text)], rows);
    let mut values = Vec::new();
    let text = format!(
        "select {COLUMNS},
                (select cast(coalesce(sum(o.forgiven_amount), 0) as bigint) from charges o
                  where o.tenant_id = c.tenant_id and o.reversed_id <> '' and o.reversed_id = c.charge_id) as forgiven,
                (select cast(coalesce(sum({GIVEN}), 0) as bigint) from charges o
                  where o.tenant_id = c.tenant_id and o.reversed_id <> '' and o.reversed_id = c.charge_id) as given
           from {} join charges c on c.tenant_id = k.tenant_id and c.charge_id = k.charge_id",
        rows.bind(transaction, "k", &mut values)?
    );
    let rows = Taken::find_by_statement(sql(transaction, &text, values)).all(transaction).await?;
    let taken = |row: Taken| {
        let tenant = row.charge.tenant_id.clone();
        let charge = Charge::try_from(row.charge)?;
        let amount = |minor| Amount::from_minor(charge.amount.currency(), minor);
        let (forgiven, given) = (amount(row.forgiven), amount(row.given));
        Ok(((tenant, charge.charge_id.clone()), Reversed { charge, forgiven, given }))
    };
    rows.into_iter().map(taken).collect()
}

/// How much was given back, other than by refunds, of what each of these transactions took for a charge: as money, or by
/// owing less for something else.
pub(crate) async fn given_back(
    transaction: &Transaction,
    transactions: &[(Tenant, String)],
) -> Result<Vec<(Tenant, String, Amount)>, StoreError> {
    let by_credits = |transactions: &str| {
        format!(
            "select k.tenant_id, k.transaction_id, t.currency, cast(sum({GIVEN}) as bigint) as sum
               from {transactions}
               join transactions t on t.tenant_id = k.tenant_id and t.transaction_id = k.transaction_id
                and t.kind = 'CHARGE'
               join charges o on o.tenant_id = t.tenant_id and o.reversed_id <> '' and o.reversed_id = t.related_id
              group by k.tenant_id, k.transaction_id, t.currency"
        )
    };
    ledger::sums(transaction, transactions, by_credits).await
}

/// Wallets that were not asked yet for something that they owe, up to `limit`.
pub(super) async fn untried(connection: &impl ConnectionTrait, limit: usize) -> Result<Vec<WalletKey>, StoreError> {
    #[derive(Row)]
    struct Key {
        tenant_id: Tenant,
        user_id: UserId,
        currency: String,
    }
    let text = format!(
        "select distinct tenant_id, user_id, currency from
             (select tenant_id, user_id, currency from charges where state = 'OPEN' and tried = 0
               order by charge_id limit {limit}) c"
    );
    let keys = Key::find_by_statement(sql(connection, &text, [])).all(connection).await?;
    let key =
        |key: Key| Ok(WalletKey { tenant: key.tenant_id, user_id: key.user_id, currency: currency(&key.currency)? });
    keys.into_iter().map(key).collect()
}

const INSERTED: [(&str, Kind); 15] = [
    ("charge_id", Kind::Text),
    ("user_id", Kind::Text),
    ("currency", Kind::Text),
    ("amount", Kind::Number),
    ("source", Kind::Text),
    ("event_id", Kind::Text),
    ("ordinal", Kind::Number),
    ("subscription_id", Kind::Text),
    ("organization_id", Kind::Text),
    ("product_id", Kind::Text),
    ("plan_id", Kind::Text),
    ("reversed_id", Kind::Text),
    ("state", Kind::Text),
    ("tried", Kind::Number),
    ("create_time", Kind::Number),
];

/// Writes charges that are owed from now on.
pub(super) async fn insert(transaction: &Transaction, tenant: &Tenant, charges: &[Charge]) -> Result<(), StoreError> {
    if charges.is_empty() {
        return Ok(());
    }
    let slug = |slug: &Option<Slug>| Value::from(slug.as_ref().map_or("", Slug::as_str));
    let row = |charge: &Charge| -> [Value; 15] {
        [
            charge.charge_id.clone().into(),
            charge.user_id.clone().into(),
            charge.amount.currency().code().into(),
            charge.amount.minor().into(),
            charge.source.into(),
            charge.event_id.clone().into(),
            charge.ordinal.into(),
            slug(&charge.subscription_id),
            slug(&charge.organization_id),
            slug(&charge.product_id),
            slug(&charge.plan_id),
            slug(&charge.reversed_id),
            charge.state.into(),
            i64::from(charge.tried).into(),
            charge.create_time.into(),
        ]
    };
    let rows = Rows::new(INSERTED, charges.iter().map(row));
    let (names, mut values) = (rows.names(), vec![tenant.clone().into()]);
    let text = format!(
        "insert into charges (tenant_id, {names}, credited_amount, void_reason, transaction_id)
         select $1, {names}, 0, '', '' from {} where true",
        rows.bind(transaction, "k", &mut values)?
    );
    transaction.execute_raw(sql(transaction, &text, values)).await?;
    Ok(())
}

const CHANGED: [(&str, Kind); 10] = [
    ("tenant_id", Kind::Text),
    ("charge_id", Kind::Text),
    ("credited_amount", Kind::Number),
    ("set_off_amount", Kind::Number),
    ("forgiven_amount", Kind::Number),
    ("state", Kind::Text),
    ("tried", Kind::Number),
    // -1 stands for none
    ("end_time", Kind::Number),
    ("void_reason", Kind::Text),
    ("transaction_id", Kind::Text),
];

/// Adds to what is written open charges as they are now. Their wallets must be locked; a charge that is not open any more
/// is a conflict.
pub(crate) fn update(writes: &mut Writes, charges: &BTreeMap<(Tenant, Slug), Charge>) -> Result<(), StoreError> {
    let row = |((tenant, charge_id), charge): (&(Tenant, Slug), &Charge)| -> [Value; 10] {
        [
            tenant.clone().into(),
            charge_id.clone().into(),
            charge.credited.minor().into(),
            charge.set_off.minor().into(),
            charge.forgiven.minor().into(),
            charge.state.into(),
            i64::from(charge.tried).into(),
            charge.end_time.map_or(-1, Time::micros).into(),
            charge.void_reason.clone().into(),
            charge.transaction_id.clone().into(),
        ]
    };
    let short = StoreError::Conflict(DbErr::Custom("a charge is not open any more".to_owned()));
    writes.add(Rows::new(CHANGED, charges.iter().map(row)), short, |_, rows| {
        format!(
            "update charges set credited_amount = k.credited_amount, set_off_amount = k.set_off_amount,
                                forgiven_amount = k.forgiven_amount, state = k.state, tried = k.tried, end_time = nullif(k.end_time, -1),
                                void_reason = k.void_reason, transaction_id = k.transaction_id
               from {rows}
              where charges.tenant_id = k.tenant_id and charges.charge_id = k.charge_id and charges.state = 'OPEN'"
        )
    })
}

/// Writes which records of usage a charge is for, each with what it costs.
pub(super) async fn insert_usages(
    transaction: &Transaction,
    tenant: &Tenant,
    usages: Vec<(Slug, Slug, Amount)>,
) -> Result<(), StoreError> {
    if usages.is_empty() {
        return Ok(());
    }
    let columns = [("usage_id", Kind::Text), ("charge_id", Kind::Text), ("amount", Kind::Number)];
    let row = |(usage_id, charge_id, amount): (Slug, Slug, Amount)| {
        [usage_id.into(), charge_id.into(), amount.minor().into()]
    };
    let rows = Rows::new(columns, usages.into_iter().map(row));
    let mut values = vec![tenant.clone().into()];
    let text = format!(
        "insert into charged_usages (tenant_id, usage_id, charge_id, amount)
         select $1, k.usage_id, k.charge_id, k.amount from {} where true",
        rows.bind(transaction, "k", &mut values)?
    );
    transaction.execute_raw(sql(transaction, &text, values)).await?;
    Ok(())
}

/// The charge that a record of usage is part of.
pub(super) async fn of_usage(
    transaction: &Transaction,
    tenant: &Tenant,
    usage_id: &Slug,
) -> Result<Option<Slug>, StoreError> {
    #[derive(Row)]
    struct Found {
        charge_id: Slug,
    }
    let text = "select charge_id from charged_usages where tenant_id = $1 and usage_id = $2";
    let statement = sql(transaction, text, [tenant.clone().into(), usage_id.clone().into()]);
    Ok(Found::find_by_statement(statement).one(transaction).await?.map(|found| found.charge_id))
}

/// The charges of a subscription itself that stand so, oldest first.
pub(super) async fn of_subscription(
    transaction: &Transaction,
    tenant: &Tenant,
    subscription_id: &Slug,
    state: ChargeState,
) -> Result<Vec<Charge>, StoreError> {
    let text = format!(
        "select {COLUMNS} from charges c
          where c.tenant_id = $1 and c.subscription_id <> '' and c.subscription_id = $2 and c.state = $3
            and c.source = 'SUBSCRIPTION' and c.amount > 0
          order by c.charge_id"
    );
    let values = vec![tenant.clone().into(), subscription_id.clone().into(), state.into()];
    Ok(read(transaction, &text, values).await?.into_iter().map(|(_, charge)| charge).collect())
}

/// Up to `limit` charges of the list after this one, newest first.
pub(super) async fn list(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    filter: &Filter,
    after: Option<&Slug>,
    limit: u64,
) -> Result<Vec<Charge>, StoreError> {
    let (mut conditions, mut values) = conditions(tenant, filter);
    if let Some(charge_id) = after {
        values.push(charge_id.clone().into());
        let _ = write!(conditions, " and c.charge_id < ${}", values.len());
    }
    let text = format!("select {COLUMNS} from charges c where {conditions} order by c.charge_id desc limit {limit}");
    Ok(read(connection, &text, values).await?.into_iter().map(|(_, charge)| charge).collect())
}

/// How many charges the list has.
pub(super) async fn count(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    filter: &Filter,
) -> Result<i64, StoreError> {
    let (conditions, values) = conditions(tenant, filter);
    store::count(connection, &format!("select count(*) from charges c where {conditions}"), values).await
}

fn conditions(tenant: &Tenant, filter: &Filter) -> (String, Vec<Value>) {
    let mut conditions = "c.tenant_id = $1".to_owned();
    let mut values: Vec<Value> = vec![tenant.clone().into()];
    let asked = [
        ("c.user_id = ", filter.user_id.clone().map(Value::from)),
        ("c.subscription_id <> '' and c.subscription_id = ", filter.subscription_id.clone().map(Value::from)),
        ("c.state = ", filter.state.map(Value::from)),
    ];
    for (condition, value) in asked {
        if let Some(value) = value {
            values.push(value);
            let _ = write!(conditions, " and {condition}${}", values.len());
        }
    }
    (conditions, values)
}
