//! The directory on the wire.

use mesh::{Fields, Refusal, page, text};
use trivet_proto::account::v1::{
    self as wire, AccountStatusCount, GetAccountStatsResponse, ListAccountsRequest, SearchAccountsRequest,
    SubscriptionTierCount,
};

use super::{Count, Filter, Search, Summary};
use crate::account::{Standing, Tier, fold::fold, rpc as account};

/// Characters of a query.
const QUERY_LIMIT: usize = 100;
/// Matches that a search finds where nobody says how many.
const DEFAULT_MATCHES: usize = 20;
/// Matches that a search finds at most: a person reads no more.
const MATCHES: usize = 100;

/// Which accounts, and how many of them.
pub(crate) fn filter(asked: &ListAccountsRequest) -> Result<(Filter, u64), Refusal> {
    let mut fields = Fields::default();
    let size = fields.read("page_size", page::size(asked.page_size));
    let status = fields.read("status", account::status(asked.status));
    let tier = fields.read("subscription_tier", account::tier(asked.subscription_tier));
    let query = fields.read("query", query(&asked.query));
    let (size, status, subscription_tier, query) = fields.finish((size, status, tier, query))?;
    let status = status.unwrap_or(Standing::Active);
    Ok((Filter { status, subscription_tier, query }, size))
}

/// A query as accounts are compared with it; empty where it is.
fn query(asked: &str) -> Result<String, text::Fault> {
    let query = text::optional_line(asked, QUERY_LIMIT)?;
    match fold(&query) {
        folded if folded.is_empty() && !query.is_empty() => Err(text::Fault::Form("more than accents without letters")),
        folded => Ok(folded),
    }
}

/// What to look for.
pub(crate) fn search(asked: &SearchAccountsRequest) -> Result<Search, Refusal> {
    let mut fields = Fields::default();
    let query = fields.read("query", text::line(&asked.query, QUERY_LIMIT).and_then(|asked| query(&asked)));
    let limit = match usize::try_from(asked.limit) {
        Ok(0) => Ok(DEFAULT_MATCHES),
        Ok(limit) => Ok(limit.min(MATCHES)),
        Err(_) => Err("must not be negative"),
    };
    let limit = fields.read("limit", limit);
    let (query, limit) = fields.finish((query, limit))?;
    Ok(Search { query, limit, include_inactive: asked.include_inactive })
}

/// The numbers of a tenant, every status and every tier among them.
pub(crate) fn stats(counts: &[Count], last_7_days: i64, last_30_days: i64) -> GetAccountStatsResponse {
    let sum = |wanted: &dyn Fn(&Count) -> bool| {
        counts.iter().filter(|count| wanted(count)).map(|count| count.accounts).sum::<i64>()
    };
    let living = |count: &Count| matches!(count.status, Standing::Active | Standing::Suspended);
    let by_status =
        [Standing::Active, Standing::Suspended, Standing::Deleted, Standing::Erased].map(|status| AccountStatusCount {
            status: wire::AccountStatus::from(status).into(),
            accounts: sum(&|count| count.status == status),
        });
    let by_tier = [Tier::Free, Tier::Basic, Tier::Premium, Tier::Enterprise].map(|tier| SubscriptionTierCount {
        subscription_tier: wire::SubscriptionTier::from(tier).into(),
        accounts: sum(&|count| count.subscription_tier == tier && living(count)),
    });
    GetAccountStatsResponse {
        by_status: by_status.into(),
        by_tier: by_tier.into(),
        registered_last_7_days: last_7_days,
        registered_last_30_days: last_30_days,
    }
}

impl From<Summary> for wire::AccountSummary {
    fn from(summary: Summary) -> Self {
        Self {
            user_id: summary.user_id.into_string(),
            email: summary.email,
            name: summary.name,
            status: wire::AccountStatus::from(summary.status).into(),
            subscription_tier: wire::SubscriptionTier::from(summary.subscription_tier).into(),
        }
    }
}
