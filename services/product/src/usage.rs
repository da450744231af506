//! Usage: what somebody used, recorded once, priced exactly, and summed up as it comes in. Records of all callers that
//! wait are committed together.
// An invariant of services/README.md: no float touches money, and no sum wraps unseen.
#![deny(clippy::float_arithmetic, clippy::arithmetic_side_effects, clippy::as_conversions)]

mod decide;

mod record;

mod void;

mod sums;

mod standing;

mod events;
mod rpc;
mod table;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use mesh::{
    Clock, Context, RequestId, Slug, Store, StoreError, Tenant, Time, UserId,
    claim::{Claim, Taken},
    coalesce::Coalescer,
};
use money::{Amount, Cost, Quantity};
use serde::{Deserialize, Serialize};

pub(crate) use {
    rpc::server,
    standing::{Standing, standing},
};

/// A record that should be taken in.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub(crate) request_id: RequestId,
    pub(crate) user_id: UserId,
    pub(crate) product_id: Slug,
    pub(crate) quantity: Quantity,
    pub(crate) organization_id: Option<Slug>,
    /// `None`: one is looked for.
    pub(crate) subscription_id: Option<Slug>,
    pub(crate) session_id: Option<Slug>,
    /// `None`: now.
    pub(crate) event_time: Option<Time>,
    pub(crate) attributes: BTreeMap<String, String>,
}

/// An order with what its call brought along.
#[derive(Clone)]
pub(super) struct Item {
    tenant: Tenant,
    claim: Claim,
    usage_id: Slug,
    origin: mesh::events::Origin,
    now: Time,
    order: Order,
}

/// What the quantities of one price, or of what a plan includes, are counted by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    tenant: Tenant,
    user_id: UserId,
    organization_id: Option<Slug>,
    subscription_id: Option<Slug>,
    product_id: Slug,
    /// `None`: what the plan includes.
    price_id: Option<Slug>,
    period_start: Time,
}

/// What a record costs beyond what a plan includes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Charge {
    pub(crate) price_id: Slug,
    pub(crate) free: Quantity,
    pub(crate) billable: Quantity,
    pub(crate) amount: Amount,
    /// What had been charged for in the period before, and what that costs, exactly.
    pub(crate) before: Quantity,
    pub(crate) cost_before: Cost,
}

/// A record, as it was taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) usage_id: Slug,
    pub(crate) request_id: RequestId,
    pub(crate) user_id: UserId,
    pub(crate) product_id: Slug,
    pub(crate) organization_id: Option<Slug>,
    pub(crate) subscription_id: Option<Slug>,
    pub(crate) session_id: Option<Slug>,
    pub(crate) event_time: Time,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) quantity: Quantity,
    pub(crate) included: Quantity,
    /// `None`: the plan includes all of it.
    pub(crate) charge: Option<Charge>,
    pub(crate) period_start: Time,
    pub(crate) period_end: Time,
    pub(crate) create_time: Time,
    pub(crate) voided: Option<Voided>,
}

/// How a record was taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Voided {
    pub(crate) time: Time,
    pub(crate) reason: String,
    /// What its going changed, in the currency of the charge; `None` where there was none.
    pub(crate) amount: Option<Amount>,
}

/// Why a record is not taken in or found, in order of precedence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum Refused {
    #[error(transparent)]
    RequestId(#[from] Taken),
    #[error("there is no usage record {0}")]
    NoUsage(Slug),
    #[error("there is no product {0}")]
    NoProduct(Slug),
    #[error("the product {0} is not sold any more")]
    Retired(Slug),
    #[error("there is no subscription {0} of this user and organization")]
    NoSubscription(Slug),
    #[error("the subscription {0} is not active, or was not at that time")]
    NotActive(Slug),
    #[error(
        "the plan includes {included} of {product_id} in a period, and {used} of it are used: {quantity} are too much"
    )]
    Exhausted { product_id: Slug, included: Quantity, used: Quantity, quantity: Quantity },
    #[error("no price of the product {0} was in force, and no plan of the user's includes it")]
    NotPriced(Slug),
    /// A fault of the field. No answer: the request id stays free.
    #[error("is or costs more than can be kept in one period")]
    TooMuch,
}

/// What became of a record.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// Taken in now, or with `true` before.
    Recorded(Arc<Usage>, bool),
    /// Refused now, or with `true` before.
    Refused(Refused, bool),
}

/// Which records a list holds. All of it is part of its page tokens.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Filter {
    pub(crate) user_id: Option<UserId>,
    pub(crate) product_id: Option<Slug>,
    pub(crate) subscription_id: Option<Slug>,
    pub(crate) organization_id: Option<Slug>,
    pub(crate) start_time: Option<Time>,
    pub(crate) end_time: Option<Time>,
}

/// The place of a record in a list, newest first: ids sort by the time of making.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Cursor(Slug);

impl Cursor {
    pub(crate) fn of(usage: &Usage) -> Self {
        Self(usage.usage_id.clone())
    }
}

/// The usage of this service.
#[derive(Clone)]
pub(crate) struct Usages {
    store: Store,
    clock: Clock,
    recorder: Coalescer<Item, Outcome>,
}

impl Usages {
    /// Up to `limit` records after `cursor`, newest first.
    pub(crate) async fn list(
        &self,
        context: &Context,
        filter: &Filter,
        after: Option<&Cursor>,
        limit: u64,
    ) -> Result<Vec<Usage>, StoreError> {
        let after = after.map(|Cursor(usage_id)| usage_id);
        table::list(self.store.reader(), &context.tenant, filter, after, limit).await
    }

    /// How many records a list holds.
    pub(crate) async fn count(&self, context: &Context, filter: &Filter) -> Result<i64, StoreError> {
        table::count(self.store.reader(), &context.tenant, filter).await
    }
}

impl Usage {
    /// By what its included quantity is counted, where any of it is included.
    fn included_key(&self, tenant: &Tenant) -> Option<Key> {
        self.included.is_positive().then(|| self.key(tenant, None))
    }

    /// By what its charged quantity is counted.
    fn charged_key(&self, tenant: &Tenant) -> Option<Key> {
        self.charge.as_ref().map(|charge| self.key(tenant, Some(charge.price_id.clone())))
    }

    fn key(&self, tenant: &Tenant, price_id: Option<Slug>) -> Key {
        Key {
            tenant: tenant.clone(),
            user_id: self.user_id.clone(),
            organization_id: self.organization_id.clone(),
            subscription_id: self.subscription_id.clone(),
            product_id: self.product_id.clone(),
            price_id,
            period_start: self.period_start,
        }
    }
}

impl Order {
    fn claim(&self, tenant: &Tenant) -> Claim {
        let optional = |slug: &Option<Slug>| slug.as_ref().map_or_else(String::new, ToString::to_string);
        let (organization_id, session_id) = (optional(&self.organization_id), optional(&self.session_id));
        let subscription_id = optional(&self.subscription_id);
        let event_time = self.event_time.map_or_else(String::new, |time| time.micros().to_string());
        let attributes: Vec<String> =
            self.attributes.iter().map(|(name, value)| format!("{}:{name}{value}", name.len())).collect();
        let (quantity, attributes) = (self.quantity.to_string(), attributes.join("\n"));
        let fields = [
            ("user_id", self.user_id.as_str()),
            ("product_id", self.product_id.as_str()),
            ("quantity", &quantity),
            ("organization_id", &organization_id),
            ("subscription_id", &subscription_id),
            ("session_id", &session_id),
            ("event_time", &event_time),
            ("attributes", &attributes),
        ];
        Claim::new(tenant, &self.request_id, "RecordUsage", &fields)
    }
}
