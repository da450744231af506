//! Subscriptions: who has subscribed to what, and how that stands. What happens to them goes through `life.rs`, whoever
//! makes it happen: a call, an event, or time.
// An invariant of services/README.md: no float touches money, and no sum wraps unseen.
#![deny(clippy::float_arithmetic, clippy::arithmetic_side_effects, clippy::as_conversions)]

mod status;

mod period;

mod life;

mod create;

mod change;

mod steps;

mod worker;

mod analytics;
mod events;
mod rpc;
mod table;
#[cfg(test)]
mod tests;

use mesh::{
    Caller, Clock, Context, Slug, Store, StoreError, Tenant, Time, UserId,
    claim::Taken,
    events::{Heard, Origin},
    update::Etag,
};
use money::{Amount, Currency};
use serde::{Deserialize, Serialize};

use crate::{buyer, plan::Cycle};
use period::Anchor;
pub(crate) use {
    events::handlers,
    period::{Period, calendar_month},
    rpc::server,
    status::Status,
    table::covers,
    worker::work,
};

/// To what somebody has subscribed, and what a period of it costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Terms {
    pub(crate) plan_id: Slug,
    pub(crate) plan_version: i64,
    pub(crate) cycle: Cycle,
    /// All seats together.
    pub(crate) price: Amount,
}

/// A subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Subscription {
    pub(crate) subscription_id: Slug,
    pub(crate) user_id: UserId,
    pub(crate) organization_id: Option<Slug>,
    pub(crate) terms: Terms,
    pub(crate) seats: i32,
    pub(crate) status: Status,
    anchor: Anchor,
    /// The one that runs: during a trial, the trial.
    pub(crate) period: Period,
    pub(crate) trial_end: Option<Time>,
    pub(crate) cancel_at_period_end: bool,
    /// When it was canceled, or that was scheduled.
    pub(crate) canceled_time: Option<Time>,
    pub(crate) cancel_reason: String,
    /// What it becomes when the period ends; `None`: it stays.
    pub(crate) change: Option<Terms>,
    pub(crate) version: i64,
    pub(crate) create_time: Time,
    pub(crate) update_time: Time,
    /// When it came to its end.
    pub(crate) end_time: Option<Time>,
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
        Self(subscription.subscription_id.to_string())
    }
}

/// Why a subscription is not made, found or changed, in order of precedence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum Refused {
    #[error(transparent)]
    RequestId(#[from] Taken),
    #[error("there is no account {0}")]
    NoAccount(UserId),
    #[error("account {user_id} is {status}")]
    AccountInactive { user_id: UserId, status: buyer::Status },
    #[error("there is no organization {0}")]
    NoOrganization(Slug),
    #[error("{user_id} is not a member of {organization_id}")]
    NotAMember { user_id: UserId, organization_id: Slug },
    #[error("there is no subscription {0}")]
    NoSubscription(Slug),
    #[error("the subscription was changed since: it is at {now}, not at {asked}")]
    Stale { asked: String, now: String },
    #[error("the subscription {subscription_id} is {status}: only an active one, or one in its trial, can be changed")]
    NotActive { subscription_id: Slug, status: Status },
    #[error("there is no plan {0}")]
    NoPlan(Slug),
    #[error("the plan {0} is not on sale any more")]
    Archived(Slug),
    #[error("there is a living subscription to the plan {0}")]
    AlreadySubscribed(Slug),
    #[error("{user_id} has had the trial of the plan {plan_id}")]
    TrialUsed { user_id: UserId, plan_id: Slug },
    #[error("a subscription cannot go from {from} to {to}")]
    Illegal { from: Status, to: Status },
    /// Faults of fields that only the plan or the subscription can tell. No answer: the request id stays free.
    #[error("{} {}", .0.field, .0.description)]
    Field(Fault),
}

/// A fault of a field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fault {
    pub(crate) field: String,
    pub(crate) description: String,
}

impl Fault {
    fn new(field: &str, description: impl Into<String>) -> Self {
        Self { field: field.to_owned(), description: description.into() }
    }
}

/// Who makes something happen, and when.
#[derive(Clone)]
struct Author {
    tenant: Tenant,
    actor: String,
    origin: Origin,
    now: Time,
}

impl Author {
    /// A call.
    fn of(context: &Context, clock: &Clock) -> Self {
        let (tenant, actor) = (context.tenant.clone(), context.caller.to_string());
        Self { tenant, actor, origin: Origin::of(context, clock), now: clock.now() }
    }

    /// An event.
    fn heard(heard: &Heard<'_>) -> Self {
        let (tenant, actor) = (heard.event.tenant_id.clone(), Caller::Itself.to_string());
        Self { tenant, actor, origin: heard.origin(), now: heard.now }
    }
}

/// The subscriptions of this service.
#[derive(Clone)]
pub(crate) struct Subscriptions {
    store: Store,
    clock: Clock,
}

impl Subscriptions {
    pub(crate) fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// The subscription with this id.
    pub(crate) async fn find(
        &self,
        context: &Context,
        subscription_id: &Slug,
    ) -> Result<Result<Subscription, Refused>, StoreError> {
        let found = table::find(self.store.reader(), &context.tenant, subscription_id).await?;
        Ok(found.ok_or_else(|| Refused::NoSubscription(subscription_id.clone())))
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

    /// Up to `limit` lines of a subscription's history before a version, newest first; and how many there are in all.
    async fn history(
        &self,
        context: &Context,
        subscription_id: &Slug,
        before: Option<i64>,
        limit: u64,
    ) -> Result<Result<(Vec<table::Entry>, i64), Refused>, StoreError> {
        let subscription = match self.find(context, subscription_id).await? {
            Ok(subscription) => subscription,
            Err(refused) => return Ok(Err(refused)),
        };
        let past = table::Past { subscription_id, before, limit };
        let entries = table::history(self.store.reader(), &context.tenant, past).await?;
        // Its versions have no gap: the latest is how many there are.
        Ok(Ok((entries, subscription.version)))
    }

    /// How many subscriptions a list holds.
    pub(crate) async fn count(&self, context: &Context, filter: &Filter) -> Result<i64, StoreError> {
        table::count(self.store.reader(), &context.tenant, filter).await
    }
}

impl Subscription {
    /// The subscription, if it is the one that the caller knows.
    fn at(self, etag: Option<Etag>) -> Result<Self, Refused> {
        match etag.filter(|etag| etag.version() != self.version) {
            Some(etag) => Err(Refused::Stale { asked: etag.to_string(), now: Etag::of(self.version).to_string() }),
            None => Ok(self),
        }
    }

    pub(crate) fn currency(&self) -> Currency {
        self.terms.price.currency()
    }
}
