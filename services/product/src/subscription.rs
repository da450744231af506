//! Subscriptions: who has subscribed to what. They are only read so far; nothing subscribes anybody yet.

mod rpc;
mod table;

use mesh::{Context, Slug, Store, StoreError, Time, UserId, store::Row, text_enum};
use serde::{Deserialize, Serialize};

pub(crate) use rpc::server;

text_enum! {
    /// How a subscription stands.
    pub(crate) enum Status {
        /// Made, and not paid yet.
        Incomplete = "INCOMPLETE",
        /// On trial.
        Trialing = "TRIALING",
        /// Paid.
        Active = "ACTIVE",
        /// Not paid any more.
        PastDue = "PAST_DUE",
        /// Stopped for a while.
        Paused = "PAUSED",
        /// Ended by somebody. Final.
        Canceled = "CANCELED",
        /// Ended by time. Final.
        Expired = "EXPIRED",
    }
}

/// A subscription, as its row holds it.
#[derive(Clone, Debug, Row)]
pub(crate) struct Subscription {
    pub(crate) subscription_id: String,
    pub(crate) user_id: UserId,
    /// Empty: none.
    pub(crate) organization_id: String,
    pub(crate) plan_id: Slug,
    pub(crate) status: Status,
    pub(crate) period_end_time: Time,
    pub(crate) cancel_at_period_end: bool,
}

/// Which subscriptions a list holds: those for which all of this is so. All of it is part of the list's page tokens.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Filter {
    pub(crate) user_id: Option<UserId>,
    pub(crate) organization_id: Option<Slug>,
    pub(crate) plan_id: Option<Slug>,
    /// Empty: however they stand. Otherwise each once and in one order, which is not the caller's: tokens depend on it.
    pub(crate) statuses: Vec<Status>,
}

/// The place of a subscription in a list, newest first: ids sort by the time of making.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Cursor(String);

impl Cursor {
    pub(crate) fn of(subscription: &Subscription) -> Self {
        Self(subscription.subscription_id.clone())
    }
}

/// The subscriptions of this service.
#[derive(Clone)]
pub(crate) struct Subscriptions {
    store: Store,
}

impl Subscriptions {
    pub(crate) fn new(store: Store) -> Self {
        Self { store }
    }

    /// Up to `limit` subscriptions after `cursor`, newest first.
    pub(crate) async fn list(
        &self,
        context: &Context,
        filter: &Filter,
        after: Option<&Cursor>,
        limit: u64,
    ) -> Result<Vec<Subscription>, StoreError> {
        let after = after.map(|Cursor(subscription_id)| subscription_id.as_str());
        table::list(self.store.reader(), &context.tenant, filter, after, limit).await
    }

    /// How many subscriptions a list holds.
    pub(crate) async fn count(&self, context: &Context, filter: &Filter) -> Result<i64, StoreError> {
        table::count(self.store.reader(), &context.tenant, filter).await
    }
}
