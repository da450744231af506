//! What the audit reads.

mod rows;

use mesh::{
    StoreError, Tenant, UserId,
    store::{Kind as Column, Row, Transaction, read_together, sql},
};
use sea_orm::{ConnectionTrait, Value};

use super::{Finding, Kind, Verdict};
use crate::ledger;
use rows::{CHANGE, lenient};
pub(super) use rows::{ChangeRow, WalletRow};

/// Where in the ledger: a wallet, or one of its changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub(super) struct Place {
    pub(super) user_id: String,
    pub(super) currency: String,
    pub(super) version: i64,
}

/// Whose ledger: a tenant's, all of it or one user's.
#[derive(Clone, Debug)]
pub(super) struct Whose {
    pub(super) tenant: Tenant,
    pub(super) user_id: Option<UserId>,
}

impl Whose {
    fn condition(&self, alias: &str, values: &mut Vec<Value>) -> String {
        values.push(self.tenant.clone().into());
        let tenant = format!("{alias}.tenant_id = ${}", values.len());
        match &self.user_id {
            None => tenant,
            Some(user_id) => {
                values.push(user_id.clone().into());
                format!("{tenant} and {alias}.user_id = ${}", values.len())
            }
        }
    }
}

/// How many wallets there are.
pub(super) async fn count_wallets(connection: &impl ConnectionTrait, whose: &Whose) -> Result<i64, StoreError> {
    let mut values = Vec::new();
    let text = format!("select count(*) from wallets w where {}", whose.condition("w", &mut values));
    mesh::store::count(connection, &text, values).await
}

/// Up to `limit` wallets after this one, in the order of their keys.
pub(super) async fn wallets(
    connection: &impl ConnectionTrait,
    whose: &Whose,
    after: &Place,
    limit: usize,
) -> Result<Vec<WalletRow>, StoreError> {
    let mut values: Vec<Value> = vec![after.user_id.clone().into(), after.currency.clone().into()];
    let text = format!(
        "select w.user_id, w.currency, w.balance, w.held, w.version, w.fault, w.hash from wallets w
          where {} and (w.user_id, w.currency) > ($1, $2) order by w.user_id, w.currency limit {limit}",
        whose.condition("w", &mut values)
    );
    Ok(WalletRow::find_by_statement(sql(connection, &text, values)).all(connection).await?)
}

/// Up to `limit` changes after this one and of no wallet after `last`, in the order of their wallets' keys and their
/// versions.
pub(super) async fn changes(
    connection: &impl ConnectionTrait,
    whose: &Whose,
    after: &Place,
    last: Option<(&str, &str)>,
    limit: usize,
) -> Result<Vec<ChangeRow>, StoreError> {
    let mut values: Vec<Value> =
        vec![after.user_id.clone().into(), after.currency.clone().into(), after.version.into()];
    let (only, whose) = (whose.user_id.as_ref(), whose.condition("t", &mut values));
    let until = match last {
        None => String::new(),
        Some((user_id, currency)) => {
            values.extend([user_id.into(), currency.into()]);
            format!("and (t.user_id, t.currency) <= (${}, ${})", values.len().saturating_sub(1), values.len())
        }
    };
    // Of a single user they are few enough to look at their requests here; of all, see `unanswered`.
    let (answered, requests) = match only {
        None => ("1".to_owned(), ""),
        Some(_) => (
            format!("case when {} then 1 else 0 end", answered("t")),
            "left join requests r on r.tenant_id = t.tenant_id and r.request_id = t.request_id",
        ),
    };
    let answered = format!("cast({answered} as bigint) as answered");
    let columns: Vec<_> = CHANGE.into_iter().chain([(answered.as_str(), Column::Number)]).collect();
    let which = format!(
        "from transactions t {requests}
          where {whose} and (t.user_id, t.currency, t.wallet_version) > ($1, $2, $3) {until}
          order by t.user_id, t.currency, t.wallet_version limit {limit}"
    );
    read_together(connection, &columns, &which, values).await
}

/// That request `r` was answered with a change: with all that each answer says of one; those of refunds and holds go on.
fn answered(change: &str) -> String {
    let answer = format!(
        r#"'{{"Ok":{{"transaction_id":"' || {change}.transaction_id || '","balance_after":{{"currency":"'
            || {change}.currency || '","minor":' || {change}.balance_after || '}},"wallet_version":'
            || {change}.wallet_version || ',"time":' || {change}.create_time"#
    );
    format!(
        "coalesce(r.state = 'APPLIED' and (r.outcome = {answer} || '}}}}'
            or substr(r.outcome, 1, length({answer}) + 1) = {answer} || ','), false)"
    )
}

/// A change whose request was not answered with it.
#[derive(Debug)]
pub(super) struct Unanswered {
    pub(super) transaction_id: String,
    pub(super) request_id: String,
    pub(super) user_id: String,
    pub(super) currency: String,
}

lenient! {
    Unanswered { transaction_id: text, request_id: text, user_id: text, currency: text }
}

/// A request that was carried out, and of which there is no transaction.
#[derive(Debug)]
pub(super) struct Forgotten {
    pub(super) request_id: String,
    pub(super) outcome: String,
    all: i64,
}

lenient! {
    Forgotten { request_id: text, outcome: text, all: value }
}

/// How many there are beyond those that were read.
fn more(all: Option<i64>, read: usize) -> i64 {
    all.unwrap_or(0).saturating_sub(i64::try_from(read).unwrap_or(i64::MAX)).max(0)
}

/// Of up to `limit` changes after this one, in the order of their ids: the last, `None` where there is none, and those whose
/// requests were not answered with them.
pub(super) async fn unanswered(
    connection: &impl ConnectionTrait,
    whose: &Whose,
    after: &str,
    limit: usize,
) -> Result<(Option<String>, Vec<Unanswered>), StoreError> {
    #[derive(Row)]
    struct Found {
        is_last: i64,
        #[sea_orm(nested)]
        change: Unanswered,
    }
    let mut values: Vec<Value> = vec![after.into()];
    let text = format!(
        "with page as materialized (
             select t.tenant_id, t.transaction_id, t.request_id, t.user_id, t.currency, t.balance_after, t.wallet_version,
                    t.create_time
               from transactions t
              where {} and t.transaction_id > $1 order by t.transaction_id limit {limit})
         select cast(0 as bigint) as is_last, p.transaction_id, p.request_id, p.user_id, p.currency
           from page p left join requests r on r.tenant_id = p.tenant_id and r.request_id = p.request_id
          where p.request_id <> '' and not {}
         union all
         select cast(1 as bigint), coalesce(max(transaction_id), ''), '', '', '' from page",
        whose.condition("t", &mut values),
        answered("p"),
    );
    let rows = Found::find_by_statement(sql(connection, &text, values)).all(connection).await?;
    let (last, unanswered): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.is_last == 1);
    let last = last.into_iter().map(|row| row.change.transaction_id).find(|last| !last.is_empty());
    Ok((last, unanswered.into_iter().map(|row| row.change).collect()))
}

/// Up to `limit` requests that were carried out and of which there is no transaction, with their answers, and how many more
/// there are; looked for where there are not as many of the ones as of the others at one moment.
pub(super) async fn forgotten(
    connection: &impl ConnectionTrait,
    whose: &Whose,
    limit: usize,
) -> Result<(Vec<Forgotten>, i64), StoreError> {
    let mut values = Vec::new();
    let text = format!(
        "select (select count(*) from requests r where {} and r.state = 'APPLIED')
              - (select count(*) from transactions t where {} and t.request_id <> '')",
        whose.condition("r", &mut values),
        whose.condition("t", &mut values),
    );
    if mesh::store::count(connection, &text, values).await? == 0 {
        return Ok((Vec::new(), 0));
    }
    let mut values = Vec::new();
    let text = format!(
        r#"select r.request_id, r.outcome, count(*) over () as "all"
           from requests r left join transactions t on t.tenant_id = r.tenant_id and t.request_id = r.request_id
          where {} and r.state = 'APPLIED' and t.request_id is null limit {limit}"#,
        whose.condition("r", &mut values),
    );
    let rows = Forgotten::find_by_statement(sql(connection, &text, values)).all(connection).await?;
    let more = more(rows.first().map(|row| row.all), rows.len());
    Ok((rows, more))
}

/// The version that a wallet has by now; `None` where there is no such wallet.
pub(super) async fn version(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    (user_id, currency): (&str, &str),
) -> Result<Option<i64>, StoreError> {
    #[derive(Row)]
    struct Found {
        version: i64,
    }
    let text = "select version from wallets where tenant_id = $1 and user_id = $2 and currency = $3";
    let values = [tenant.clone().into(), user_id.into(), currency.into()];
    let found = Found::find_by_statement(sql(connection, text, values)).one(connection).await?;
    Ok(found.map(|found| found.version))
}

struct FoundRow {
    user_id: String,
    currency: String,
    transaction_id: String,
    told: String,
    /// How many such there are.
    all: i64,
}

lenient! {
    FoundRow { user_id: text, currency: text, transaction_id: text, told: text, all: value }
}

/// Looks at what cannot be replayed: the kind of what they find, the question, and what the rows that it is about are called.
const LOOKS: [(Kind, &str, &str); 6] = [
    (
        Kind::Hold,
        "select w.user_id, w.currency, '' as transaction_id,
                'the wallet holds ' || w.held || ' minor units, its open holds ' || coalesce(sum(h.amount), 0) as told
           from wallets w left join holds h on h.tenant_id = w.tenant_id and h.user_id = w.user_id
            and h.currency = w.currency and h.state = 'OPEN'
          where {whose} group by w.tenant_id, w.user_id, w.currency, w.held having w.held <> coalesce(sum(h.amount), 0)",
        "w",
    ),
    (
        Kind::Hold,
        "select t.user_id, t.currency, t.transaction_id,
                'hold ' || t.related_id || ' does not agree with it' as told
           from transactions t left join holds h on h.tenant_id = t.tenant_id and h.hold_id = t.related_id
          where {whose} and t.kind in ('HOLD', 'CAPTURE', 'RELEASE')
            and (h.hold_id is null or h.user_id <> t.user_id or h.currency <> t.currency or h.amount <> abs(t.held)
                 or (t.kind = 'CAPTURE' and (h.state <> 'CAPTURED' or h.captured_amount <> t.revenue))
                 or (t.kind = 'RELEASE' and h.state not in ('RELEASED', 'EXPIRED')))",
        "t",
    ),
    (
        Kind::Charge,
        "select w.user_id, w.currency, '' as transaction_id,
                'the wallet knows of ' || w.open_charges || ' open charges, there are ' || count(c.charge_id) as told
           from wallets w left join charges c on c.tenant_id = w.tenant_id and c.user_id = w.user_id
            and c.currency = w.currency and c.state = 'OPEN' and c.tried = 1 and c.amount > 0
          where {whose} group by w.tenant_id, w.user_id, w.currency, w.open_charges
         having (w.open_charges > 0) <> (count(c.charge_id) > 0)",
        "w",
    ),
    (
        Kind::Charge,
        "select c.user_id, c.currency, c.transaction_id,
                'charge ' || c.charge_id || ' of ' || c.amount || ' minor units does not agree with what paid it' as told
           from charges c left join transactions t on t.tenant_id = c.tenant_id
            and t.transaction_id = c.transaction_id
          where {whose} and c.state = 'PAID' and c.transaction_id <> ''
            and (t.transaction_id is null or t.related_id <> c.charge_id or t.user_id <> c.user_id
                 or t.currency <> c.currency
                 or t.revenue <> case when c.amount > 0 then c.amount - c.credited_amount
                                      else c.amount + c.credited_amount end)",
        "c",
    ),
    (
        Kind::Charge,
        "select c.user_id, c.currency, c.transaction_id,
                'charge ' || c.charge_id || ' is of ' || c.amount || ' minor units, its usage of '
                    || sum(u.amount) as told
           from charges c join charged_usages u on u.tenant_id = c.tenant_id and u.charge_id = c.charge_id
          where {whose} group by c.tenant_id, c.charge_id, c.user_id, c.currency, c.transaction_id, c.amount
         having c.amount <> sum(u.amount)",
        "c",
    ),
    (
        Kind::Charge,
        "select t.user_id, t.currency, t.transaction_id,
                'no charge was paid by it' as told
           from transactions t left join charges c on c.tenant_id = t.tenant_id and c.charge_id = t.related_id
            and c.transaction_id = t.transaction_id
          where {whose} and t.kind in ('CHARGE', 'CREDIT') and c.charge_id is null",
        "t",
    ),
];

/// What is wrong with holds and charges, each look in one statement and so at one moment: up to `limit` of each, and how many
/// more there are.
pub(super) async fn disagreements(
    connection: &impl ConnectionTrait,
    whose: &Whose,
    limit: usize,
) -> Result<(Vec<Finding>, i64), StoreError> {
    let (mut findings, mut beyond) = (Vec::new(), 0_i64);
    for (kind, look, alias) in LOOKS {
        let mut values = Vec::new();
        let look = look.replace("{whose}", &whose.condition(alias, &mut values));
        let text = format!(r#"select f.*, count(*) over () as "all" from ({look}) f limit {limit}"#);
        let rows = FoundRow::find_by_statement(sql(connection, &text, values)).all(connection).await?;
        beyond = beyond.saturating_add(more(rows.first().map(|row| row.all), rows.len()));
        findings.extend(rows.into_iter().map(|row| Finding {
            kind,
            user_id: row.user_id,
            currency: row.currency,
            transaction_id: row.transaction_id,
            message: row.told,
        }));
    }
    Ok((findings, beyond))
}

/// What the accounts of the ledger hold in one currency, each in two parts.
#[derive(Row)]
pub(super) struct BalanceRow {
    pub(super) currency: String,
    pub(super) transactions: i64,
    pub(super) wallet_high: i64,
    pub(super) wallet_low: i64,
    pub(super) held_high: i64,
    pub(super) held_low: i64,
    pub(super) revenue_high: i64,
    pub(super) revenue_low: i64,
    pub(super) payments_high: i64,
    pub(super) payments_low: i64,
}

/// The trial balance, by currency.
pub(super) async fn trial_balance(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
) -> Result<Vec<BalanceRow>, StoreError> {
    let parts = ["wallet", "held", "revenue", "payments"].map(ledger::summed);
    let text = format!(
        "select currency, count(*) as transactions, {} from transactions where tenant_id = $1
          group by currency order by currency",
        parts.join(", ")
    );
    Ok(BalanceRow::find_by_statement(sql(connection, &text, [tenant.clone().into()])).all(connection).await?)
}

/// Keeps what a verification came to.
pub(super) async fn keep(transaction: &Transaction, tenant: &Tenant, verdict: &Verdict) -> Result<(), StoreError> {
    let text = "insert into verdicts (tenant_id, wallets, transactions, findings, start_time, end_time)
                values ($1, $2, $3, $4, $5, $6)
                on conflict (tenant_id) do update set wallets = excluded.wallets, transactions = excluded.transactions,
                    findings = excluded.findings, start_time = excluded.start_time, end_time = excluded.end_time";
    let values = [
        tenant.clone().into(),
        verdict.wallets.into(),
        verdict.transactions.into(),
        verdict.findings.into(),
        verdict.start_time.into(),
        verdict.end_time.into(),
    ];
    transaction.execute_raw(sql(transaction, text, values)).await?;
    Ok(())
}

/// How many verdicts there are, and what they found together.
pub(super) async fn verdicts(connection: &impl ConnectionTrait) -> Result<(i64, i64), StoreError> {
    #[derive(Row)]
    struct Sum {
        verdicts: i64,
        findings: i64,
    }
    let text = "select count(*) as verdicts, cast(coalesce(sum(findings), 0) as bigint) as findings from verdicts";
    let sum = Sum::find_by_statement(sql(connection, text, [])).one(connection).await?;
    let sum = sum.ok_or(StoreError::Impossible("a count has no row"))?;
    Ok((sum.verdicts, sum.findings))
}
