//! The directory: a million accounts paged, searched and counted at the cost of a few.

pub(crate) mod rpc;
mod table;
mod unfolded;

use std::{collections::BTreeSet, time::Duration};

use mesh::{Context, StoreError, Time, UserId, store::Row};
use serde::Serialize;

use crate::account::{Account, Accounts, Standing, Tier};
pub(crate) use unfolded::keep_folded;

/// Matches of a query are counted up to here: a count costs as much as it counts.
pub(crate) const COUNT_LIMIT: u64 = 10_000;

/// Which accounts a list holds.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Filter {
    pub(crate) status: Standing,
    pub(crate) subscription_tier: Option<Tier>,
    /// Folded; empty means all.
    pub(crate) query: String,
}

/// An account in a list: itself, and the place after which the next page begins.
#[derive(Debug, Row)]
pub(crate) struct Listed {
    /// Counts accounts in the order of their making.
    pub(crate) number: i64,
    #[sea_orm(nested)]
    pub(crate) account: Account,
}

/// A match of a search.
#[derive(Clone, Debug, PartialEq, Eq, Row)]
pub(crate) struct Summary {
    pub(crate) user_id: UserId,
    pub(crate) email: String,
    pub(crate) name: String,
    pub(crate) status: Standing,
    pub(crate) subscription_tier: Tier,
}

/// What somebody looks for.
#[derive(Clone, Debug)]
pub(crate) struct Search {
    /// Folded.
    pub(crate) query: String,
    pub(crate) limit: usize,
    pub(crate) include_inactive: bool,
}

/// Accounts of one standing and one tier.
#[derive(Clone, Copy, Debug, Row)]
pub(crate) struct Count {
    pub(crate) status: Standing,
    pub(crate) subscription_tier: Tier,
    pub(crate) accounts: i64,
}

/// How large a list is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Total {
    Exactly(i64),
    /// More than [`COUNT_LIMIT`].
    Capped,
}

impl Search {
    /// The standings to look among.
    fn standings(&self) -> &'static [Standing] {
        if self.include_inactive {
            &[Standing::Active, Standing::Suspended, Standing::Deleted]
        } else {
            &[Standing::Active]
        }
    }
}

impl Accounts {
    /// Up to `limit` accounts of the list that were made before this one, newest first.
    pub(crate) async fn list(
        &self,
        context: &Context,
        filter: &Filter,
        before: Option<i64>,
        limit: u64,
    ) -> Result<Vec<Listed>, StoreError> {
        table::list(self.store.reader(), &context.tenant, filter, before, limit).await
    }

    /// How many accounts the list holds: a sum of kept counts, or where there is a query a count that ends.
    pub(crate) async fn total(&self, context: &Context, filter: &Filter) -> Result<Total, StoreError> {
        if filter.query.is_empty() {
            let wanted = |count: &&Count| {
                count.status == filter.status
                    && filter.subscription_tier.is_none_or(|tier| tier == count.subscription_tier)
            };
            let counts = self.counts(context).await?;
            return Ok(Total::Exactly(counts.iter().filter(wanted).map(|count| count.accounts).sum()));
        }
        let found = table::count(self.store.reader(), &context.tenant, filter, COUNT_LIMIT + 1).await?;
        Ok(if u64::try_from(found).is_ok_and(|found| found > COUNT_LIMIT) {
            Total::Capped
        } else {
            Total::Exactly(found)
        })
    }

    /// Those whose name or address is the query, then those that begin with it, then those that hold it. What comes
    /// first is found through an index of its own, and nobody looks further than it takes.
    pub(crate) async fn search(&self, context: &Context, search: &Search) -> Result<Vec<Summary>, StoreError> {
        let (reader, tenant) = (self.store.reader(), &context.tenant);
        let (text, standings) = (search.query.as_str(), search.standings());
        let mut found = Found { limit: search.limit, ..Found::default() };
        found.add(table::same(reader, tenant, text, standings, found.wanting()).await?);
        if !found.is_full() {
            found.add(table::beginning(reader, tenant, text, standings, found.wanting()).await?);
        }
        if !found.is_full() {
            found.add(table::holding(reader, tenant, text, standings, found.wanting()).await?);
        }
        Ok(found.summaries)
    }

    /// The kept counts of the tenant.
    pub(crate) async fn counts(&self, context: &Context) -> Result<Vec<Count>, StoreError> {
        table::counts(self.store.reader(), &context.tenant).await
    }

    /// How many accounts were made in the time before now.
    pub(crate) async fn registered_within(&self, context: &Context, days: u64) -> Result<i64, StoreError> {
        let since =
            self.clock.now().micros() - i64::try_from(Duration::from_hours(24 * days).as_micros()).unwrap_or(i64::MAX);
        table::made_since(self.store.reader(), &context.tenant, Time::from_micros(since)).await
    }
}

/// What a search has found so far, each account once, at its best place.
#[derive(Default)]
struct Found {
    limit: usize,
    seen: BTreeSet<UserId>,
    summaries: Vec<Summary>,
}

impl Found {
    /// How many rows the next look needs: those found before may come again.
    fn wanting(&self) -> usize {
        self.limit + self.summaries.len()
    }

    fn is_full(&self) -> bool {
        self.summaries.len() >= self.limit
    }

    fn add(&mut self, more: Vec<Summary>) {
        for summary in more {
            if !self.is_full() && self.seen.insert(summary.user_id.clone()) {
                self.summaries.push(summary);
            }
        }
    }
}
