//! Statements on many rows of `accounts`, and those on `account_counts`.
//!
//! On PostgreSQL one trigram index finds texts, and the planner weighs it against walking the list (`Role::postgres` has
//! it plan for the text at hand: how common a text is decides which is faster). SQLite's planner cannot know, so that a
//! text of three letters or more goes through its full-text index, which answers in the order of `number` by itself.

use std::fmt::Write as _;

use mesh::{
    StoreError, Tenant, Time,
    store::{self, contains_pattern, sql},
};
use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult as _, Value};

use super::{Count, Filter, Listed, Summary};
use crate::account::{COLUMNS, Standing, Tier, folded};

const SUMMARY: &str = "user_id, email, name, status, subscription_tier";

/// Letters that make a trigram.
const TRIGRAM: usize = 3;

/// Where the rows of a list come from, in which order, and what is asked of them.
struct Selection {
    from: &'static str,
    /// The column that counts accounts in the order of their making.
    order: &'static str,
    conditions: String,
    values: Vec<Value>,
}

impl Selection {
    fn new(tenant: &Tenant, status: Standing) -> Self {
        let conditions = "tenant_id = $1 and status = $2".to_owned();
        Self { from: "accounts", order: "number", conditions, values: vec![tenant.clone().into(), status.into()] }
    }

    /// Asks one thing more; `?` stands for the value.
    fn and(&mut self, condition: &str, value: impl Into<Value>) {
        self.values.push(value.into());
        let _ = write!(self.conditions, " and {}", condition.replace('?', &format!("${}", self.values.len())));
    }

    fn of_tier(mut self, tier: Option<Tier>) -> Self {
        if let Some(tier) = tier {
            self.and("subscription_tier = ?", tier);
        }
        self
    }

    /// Asks that name or address hold this folded text.
    fn holding(mut self, backend: DbBackend, text: &str) -> Self {
        if text.is_empty() {
            return self;
        }
        let telling = telling(text);
        match backend {
            DbBackend::Sqlite if telling.chars().count() >= TRIGRAM => {
                self.from = "accounts_search cross join accounts on accounts.number = accounts_search.rowid";
                self.order = "accounts_search.rowid";
                self.and("accounts_search match ?", format!("\"{}\"", telling.replace('"', "\"\"")));
                if telling != text {
                    self.and("instr(accounts.search_key, ?) > 0", text);
                }
            }
            DbBackend::Sqlite => self.and("instr(accounts.search_key, ?) > 0", text),
            _ => {
                self.and(r"search_key like ? escape '\'", contains_pattern(telling));
                if telling != text {
                    self.and("position(? in search_key) > 0", text);
                }
            }
        }
        self
    }

    fn before(mut self, number: Option<i64>) -> Self {
        if let Some(number) = number {
            self.and(&format!("{} < ?", self.order), number);
        }
        self
    }

    fn text(&self, columns: &str, limit: u64) -> String {
        let Self { from, order, conditions, .. } = self;
        format!("select {columns} from {from} where {conditions} order by {order} desc limit {limit}")
    }
}

/// The part of a text that the index is asked for; the rows it finds are then asked for all of it. What stands before
/// the `@` tells people apart; what stands behind it they share by the thousands, and an index that is asked for common
/// trigrams reads long lists to no end. The `@` stays: it says where the mailbox ends.
fn telling(text: &str) -> &str {
    match text.split_inclusive('@').next() {
        Some(mailbox) if mailbox.chars().count() > TRIGRAM => mailbox,
        _ => text,
    }
}

fn selection(backend: DbBackend, tenant: &Tenant, filter: &Filter) -> Selection {
    Selection::new(tenant, filter.status).of_tier(filter.subscription_tier).holding(backend, &filter.query)
}

/// Up to `limit` accounts of the list before this place, newest first.
pub(super) async fn list(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    filter: &Filter,
    before: Option<i64>,
    limit: u64,
) -> Result<Vec<Listed>, StoreError> {
    let selection = selection(connection.get_database_backend(), tenant, filter).before(before);
    let text = selection.text(&format!("number, {COLUMNS}"), limit);
    Ok(Listed::find_by_statement(sql(connection, &text, selection.values)).all(connection).await?)
}

/// How many accounts the list holds, or `limit` where it holds more.
pub(super) async fn count(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    filter: &Filter,
    limit: u64,
) -> Result<i64, StoreError> {
    let Selection { from, conditions, values, .. } = selection(connection.get_database_backend(), tenant, filter);
    let text =
        format!("select count(*) as n from (select 1 as one from {from} where {conditions} limit {limit}) as matches");
    store::count(connection, &text, values).await
}

/// Accounts whose name or address is this text, newest first.
pub(super) async fn same(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    text: &str,
    standings: &[Standing],
    limit: usize,
) -> Result<Vec<Summary>, StoreError> {
    let standings = listed(standings);
    let by = |column: &str| {
        format!(
            "select * from (select {SUMMARY}, number from accounts
              where tenant_id = $1 and {column} = $2 and status in ({standings})
              order by number desc limit {limit}) as by_{column}"
        )
    };
    let (by_name, by_email) = (by("name_folded"), by("email_folded"));
    let query = format!("select * from ({by_name} union {by_email}) as found order by number desc");
    let values = [tenant.clone().into(), text.into()];
    Ok(Summary::find_by_statement(sql(connection, &query, values)).all(connection).await?)
}

/// Accounts whose name or address begins with this text, in the order of what does.
pub(super) async fn beginning(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    text: &str,
    standings: &[Standing],
    limit: usize,
) -> Result<Vec<Summary>, StoreError> {
    let standings = listed(standings);
    let by = |column: &str| {
        format!(
            "select * from (select {SUMMARY}, {column} as matched, number from accounts
              where tenant_id = $1 and {column} >= $2 and {column} < $3 and status in ({standings})
              order by {column}, number limit {limit}) as by_{column}"
        )
    };
    let (by_name, by_email) = (by("name_folded"), by("email_folded"));
    let query = format!("select * from ({by_name} union all {by_email}) as found order by matched, number");
    // Every text that begins with this one is before it with the last of all characters behind.
    let values = [tenant.clone().into(), text.into(), format!("{text}\u{10ffff}").into()];
    Ok(Summary::find_by_statement(sql(connection, &query, values)).all(connection).await?)
}

/// A match, and when it was made.
#[derive(Debug, sea_orm::FromQueryResult)]
struct Match {
    number: i64,
    #[sea_orm(nested)]
    summary: Summary,
}

/// Accounts whose name or address holds this text, newest first.
pub(super) async fn holding(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    text: &str,
    standings: &[Standing],
    limit: usize,
) -> Result<Vec<Summary>, StoreError> {
    let columns = format!("number, {SUMMARY}");
    let mut found = Vec::new();
    // One walk for each standing: an index that holds all of them in one order would be for this alone.
    for standing in standings {
        let selection = Selection::new(tenant, *standing).holding(connection.get_database_backend(), text);
        let query = selection.text(&columns, u64::try_from(limit).unwrap_or(u64::MAX));
        found.extend(Match::find_by_statement(sql(connection, &query, selection.values)).all(connection).await?);
    }
    found.sort_unstable_by_key(|found| std::cmp::Reverse(found.number));
    Ok(found.into_iter().map(|found| found.summary).collect())
}

/// Standings as a list of SQL.
fn listed(standings: &[Standing]) -> String {
    standings.iter().map(|standing| format!("'{standing}'")).collect::<Vec<_>>().join(", ")
}

/// The kept counts of a tenant.
pub(super) async fn counts(connection: &impl ConnectionTrait, tenant: &Tenant) -> Result<Vec<Count>, StoreError> {
    let text = "select status, subscription_tier, cast(sum(accounts) as bigint) as accounts from account_counts
                 where tenant_id = $1 group by status, subscription_tier";
    Ok(Count::find_by_statement(sql(connection, text, [tenant.clone().into()])).all(connection).await?)
}

/// How many accounts were made since then.
pub(super) async fn made_since(
    connection: &impl ConnectionTrait,
    tenant: &Tenant,
    since: Time,
) -> Result<i64, StoreError> {
    let text = "select count(*) as n from accounts where tenant_id = $1 and create_time >= $2";
    store::count(connection, text, [tenant.clone().into(), since.into()]).await
}

/// An account that cannot be found by what it is called now.
#[derive(Debug, sea_orm::FromQueryResult)]
struct Unfolded {
    number: i64,
    version: i64,
    name: String,
    email: String,
}

/// Makes up to `limit` accounts searchable that an older release wrote, and says how many.
pub(super) async fn fold_some(connection: &impl ConnectionTrait, limit: u64) -> Result<usize, StoreError> {
    // Another replica may be at the same work; its rows are not waited for.
    let skip = if connection.get_database_backend() == DbBackend::Postgres { " for update skip locked" } else { "" };
    let text = format!(
        "select number, version, name, email from accounts where folded_version <> version
          order by number limit {limit}{skip}"
    );
    let rows = Unfolded::find_by_statement(sql(connection, &text, [])).all(connection).await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let places = (0..rows.len()).map(|row| {
        let at = |column: usize| row * 5 + column;
        let [one, two, three, four, five] = [at(1), at(2), at(3), at(4), at(5)];
        format!("(cast(${one} as bigint), ${two}, ${three}, ${four}, cast(${five} as bigint))")
    });
    let text = format!(
        "with found (number, name_folded, email_folded, search_key, version) as (values {})
         update accounts set name_folded = found.name_folded, email_folded = found.email_folded,
                             search_key = found.search_key, folded_version = found.version
           from found where accounts.number = found.number and accounts.version = found.version",
        places.collect::<Vec<_>>().join(", ")
    );
    let values = rows
        .iter()
        .flat_map(|row| std::iter::once(row.number.into()).chain(folded(&row.name, &row.email, row.version)));
    connection.execute_raw(sql(connection, &text, values)).await?;
    Ok(rows.len())
}
