//! Plans: what can be subscribed to. A plan changes by versions, none of which ever changes itself.
// An invariant of services/README.md: no float touches money, and no sum wraps unseen.
#![deny(clippy::float_arithmetic, clippy::arithmetic_side_effects, clippy::as_conversions)]

mod compare;
mod rpc;
pub(crate) mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use mesh::{
    Clock, Context, RequestId, Slug, Store, StoreError, Tenant, Time,
    claim::{self, Claim, Taken},
    store::Transaction,
    text_enum,
    update::Etag,
};
use money::{Amount, Currency, Quantity};
use serde::{Deserialize, Serialize};

use crate::catalog;

pub(crate) use rpc::{cycle, server};

text_enum! {
    /// How much of a customer a plan makes of its subscriber.
    #[derive(PartialOrd, Ord)]
    pub(crate) enum Tier {
        /// The least.
        Free = "FREE",
        /// More.
        Basic = "BASIC",
        /// A lot.
        Premium = "PREMIUM",
        /// The most.
        Enterprise = "ENTERPRISE",
    }
}

text_enum! {
    /// Whether a plan can be subscribed to.
    pub(crate) enum Status {
        /// On sale.
        Active = "ACTIVE",
        /// Not sold any more, for good.
        Archived = "ARCHIVED",
    }
}

text_enum! {
    /// How long a period of a subscription is.
    #[derive(PartialOrd, Ord)]
    pub(crate) enum Cycle {
        /// One month.
        Monthly = "MONTHLY",
        /// Three months.
        Quarterly = "QUARTERLY",
        /// Twelve months.
        Yearly = "YEARLY",
    }
}

text_enum! {
    /// What happens to usage beyond what a plan includes.
    pub(crate) enum Overage {
        /// It is charged for.
        Charge = "CHARGE",
        /// It is refused.
        Block = "BLOCK",
    }
}

/// How much of a product a plan includes in each period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Included {
    pub(crate) product_id: Slug,
    pub(crate) quantity: Quantity,
    pub(crate) overage: Overage,
}

/// How many seats one subscription has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seats {
    /// At least 1.
    pub(crate) min: i32,
    /// `None`: no limit.
    pub(crate) max: Option<i32>,
}

/// What a version of a plan says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Terms {
    pub(crate) name: String,
    pub(crate) tier: Tier,
    pub(crate) currency: Currency,
    /// For each seat and period. All in `currency`; at least one.
    pub(crate) prices: BTreeMap<Cycle, Amount>,
    pub(crate) trial_days: i32,
    pub(crate) included: Vec<Included>,
    pub(crate) features: BTreeMap<String, String>,
    pub(crate) seats: Seats,
}

/// A plan at one of its versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) plan_id: Slug,
    pub(crate) version: i64,
    pub(crate) terms: Terms,
    pub(crate) status: Status,
    /// Counts every change, archiving too: what the etag stands for.
    pub(crate) revision: i64,
    pub(crate) create_time: Time,
    pub(crate) update_time: Time,
}

/// A plan that should be sold.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) request_id: Option<RequestId>,
    pub(crate) plan_id: Slug,
    pub(crate) terms: Terms,
}

/// The most seats that a plan should have; `None`: no limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit(Option<i32>);

/// What a new version should have otherwise; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change {
    pub(crate) name: Option<String>,
    pub(crate) tier: Option<Tier>,
    pub(crate) prices: Option<(Currency, BTreeMap<Cycle, Amount>)>,
    pub(crate) trial_days: Option<i32>,
    pub(crate) included: Option<Vec<Included>>,
    pub(crate) features: Option<BTreeMap<String, String>>,
    pub(crate) min_seats: Option<i32>,
    pub(crate) max_seats: Option<Limit>,
    pub(crate) etag: Option<Etag>,
}

/// Which plans a list holds. Part of its page tokens.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Filter {
    pub(crate) status: Option<Status>,
    pub(crate) tier: Option<Tier>,
}

/// The place of a plan in a list, newest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Cursor(Time, Slug);

impl Cursor {
    pub(crate) fn of(plan: &Plan) -> Self {
        Self(plan.create_time, plan.plan_id.clone())
    }
}

/// Why a plan is not made, found or changed, in order of precedence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum Refused {
    #[error(transparent)]
    RequestId(#[from] Taken),
    #[error("there is no plan {0}")]
    NoPlan(Slug),
    #[error("there is no version {version} of the plan {plan_id}")]
    NoVersion { plan_id: Slug, version: i64 },
    #[error("the plan {0} is not on sale any more")]
    Archived(Slug),
    #[error("the plan was changed since: it is at {now}, not at {asked}")]
    Stale { asked: String, now: String },
    #[error("the plan is sold with {min} seats or more, and with {max} at most")]
    SeatsCrossed { min: i32, max: i32 },
    #[error("there is no product {0}")]
    NoProduct(Slug),
    #[error("the id {0} belongs to another plan")]
    IdTaken(Slug),
}

/// The plans of this service.
#[derive(Clone)]
pub(crate) struct Plans {
    store: Store,
    clock: Clock,
}

impl Plans {
    pub(crate) fn new(store: Store, clock: Clock) -> Self {
        Self { store, clock }
    }

    /// Makes a plan; says whether it had been made before under the same request id.
    pub(crate) async fn create(
        &self,
        context: &Context,
        draft: Draft,
    ) -> Result<Result<(Plan, bool), Refused>, StoreError> {
        let claim = draft.claim(&context.tenant)?;
        let unit = self.store.unit(context);
        let unit = if claim.is_some() { unit.claimed() } else { unit };
        let input = (context.tenant.clone(), claim, draft.plan(self.clock.now()));
        let made = unit.run(input, |(tenant, claim, plan), transaction| {
            Box::pin(claim::once(claim.as_ref(), transaction, plan.create_time, plan.make(tenant, transaction)))
        });
        let (decided, before) = made.await?;
        Ok(decided.map(|plan| (plan, before)))
    }

    /// The plan at a version; at its latest where none is named.
    pub(crate) async fn find(
        &self,
        context: &Context,
        plan_id: &Slug,
        version: Option<i64>,
    ) -> Result<Result<Plan, Refused>, StoreError> {
        let found = table::find(self.store.reader(), &context.tenant, plan_id, version).await?;
        Ok(found.ok_or_else(|| match version {
            None => Refused::NoPlan(plan_id.clone()),
            Some(version) => Refused::NoVersion { plan_id: plan_id.clone(), version },
        }))
    }

    /// These plans, in this order; the first that is not there is refused.
    pub(crate) async fn find_all(
        &self,
        context: &Context,
        plan_ids: Vec<Slug>,
    ) -> Result<Result<Vec<Plan>, Refused>, StoreError> {
        let found = table::find_all(self.store.reader(), &context.tenant, &plan_ids).await?;
        let mut found: BTreeMap<Slug, Plan> = found.into_iter().map(|plan| (plan.plan_id.clone(), plan)).collect();
        let in_order = plan_ids.into_iter().map(|plan_id| found.remove(&plan_id).ok_or(Refused::NoPlan(plan_id)));
        Ok(in_order.collect())
    }

    /// Up to `limit` plans after `cursor`, newest first.
    pub(crate) async fn list(
        &self,
        context: &Context,
        filter: &Filter,
        after: Option<&Cursor>,
        limit: u64,
    ) -> Result<Vec<Plan>, StoreError> {
        let after = after.map(|Cursor(time, plan_id)| (*time, plan_id));
        table::list(self.store.reader(), &context.tenant, filter, after, limit).await
    }

    /// How many plans a list holds.
    pub(crate) async fn count(&self, context: &Context, filter: &Filter) -> Result<i64, StoreError> {
        table::count(self.store.reader(), &context.tenant, filter).await
    }

    /// Makes a new version of a plan, where it would differ from the latest.
    pub(crate) async fn update(
        &self,
        context: &Context,
        plan_id: Slug,
        change: Change,
    ) -> Result<Result<Plan, Refused>, StoreError> {
        let input = (context.tenant.clone(), plan_id, change, self.clock.now());
        let updated = self.store.unit(context).run(input, |(tenant, plan_id, change, now), transaction| {
            Box::pin(async move {
                let Some(plan) = table::lock(transaction, tenant, plan_id).await? else {
                    return Ok(Err(Refused::NoPlan(plan_id.clone())));
                };
                let changed = match change.applied(plan.clone(), *now) {
                    Ok(changed) => changed,
                    Err(refused) => return Ok(Err(refused)),
                };
                if changed == plan {
                    return Ok(Ok(plan));
                }
                if let Some(missing) = changed.missing_product(tenant, transaction).await? {
                    return Ok(Err(Refused::NoProduct(missing)));
                }
                table::insert_version(transaction, tenant, &changed).await?;
                table::update(transaction, tenant, &changed).await?;
                Ok(Ok(changed))
            })
        });
        updated.await
    }

    /// Takes a plan off sale.
    pub(crate) async fn archive(&self, context: &Context, plan_id: Slug) -> Result<Result<Plan, Refused>, StoreError> {
        let input = (context.tenant.clone(), plan_id, self.clock.now());
        let archived = self.store.unit(context).run(input, |(tenant, plan_id, now), transaction| {
            Box::pin(async move {
                let Some(mut plan) = table::lock(transaction, tenant, plan_id).await? else {
                    return Ok(Err(Refused::NoPlan(plan_id.clone())));
                };
                if plan.status == Status::Active {
                    plan.status = Status::Archived;
                    plan.revision = plan.revision.saturating_add(1);
                    plan.update_time = *now;
                    table::update(transaction, tenant, &plan).await?;
                }
                Ok(Ok(plan))
            })
        });
        archived.await
    }
}

impl Plan {
    /// What a period costs, all seats together; `None` where the plan is not sold in this cycle or the amount is more
    /// than can be kept.
    pub(crate) fn amount(&self, cycle: Cycle, seats: i32) -> Option<Amount> {
        let price = self.terms.prices.get(&cycle)?;
        let minor = price.minor().checked_mul(i64::from(seats))?;
        Some(Amount::from_minor(price.currency(), minor))
    }

    async fn make(&self, tenant: &Tenant, transaction: &Transaction) -> Result<Result<Self, Refused>, StoreError> {
        if let Some(missing) = self.missing_product(tenant, transaction).await? {
            return Ok(Err(Refused::NoProduct(missing)));
        }
        if !table::insert(transaction, tenant, self).await? {
            return Ok(Err(Refused::IdTaken(self.plan_id.clone())));
        }
        table::insert_version(transaction, tenant, self).await?;
        Ok(Ok(self.clone()))
    }

    /// The first product that the plan includes and that is not there.
    async fn missing_product(&self, tenant: &Tenant, transaction: &Transaction) -> Result<Option<Slug>, StoreError> {
        let ids: Vec<Slug> = self.terms.included.iter().map(|included| included.product_id.clone()).collect();
        if ids.is_empty() {
            return Ok(None);
        }
        let there = catalog::find_all(transaction, tenant, &ids).await?;
        Ok(ids.into_iter().find(|id| !there.iter().any(|product| product.product_id == *id)))
    }
}

impl Change {
    /// The plan with the change: its next version, or itself where nothing would differ.
    fn applied(&self, plan: Plan, now: Time) -> Result<Plan, Refused> {
        if plan.status == Status::Archived {
            return Err(Refused::Archived(plan.plan_id));
        }
        if let Some(etag) = self.etag.filter(|etag| etag.version() != plan.revision) {
            return Err(Refused::Stale { asked: etag.to_string(), now: Etag::of(plan.revision).to_string() });
        }
        let change = self.clone();
        let was = plan.terms.clone();
        let (currency, prices) = change.prices.unwrap_or((was.currency, was.prices));
        let seats = Seats {
            min: change.min_seats.unwrap_or(was.seats.min),
            max: change.max_seats.map_or(was.seats.max, |Limit(max)| max),
        };
        if let Some(max) = seats.max.filter(|max| *max < seats.min) {
            return Err(Refused::SeatsCrossed { min: seats.min, max });
        }
        let terms = Terms {
            name: change.name.unwrap_or(was.name),
            tier: change.tier.unwrap_or(was.tier),
            currency,
            prices,
            trial_days: change.trial_days.unwrap_or(was.trial_days),
            included: change.included.unwrap_or(was.included),
            features: change.features.unwrap_or(was.features),
            seats,
        };
        if terms == plan.terms {
            return Ok(plan);
        }
        let (version, revision) = (plan.version.saturating_add(1), plan.revision.saturating_add(1));
        Ok(Plan { version, terms, revision, update_time: now, ..plan })
    }
}

impl Draft {
    fn plan(self, now: Time) -> Plan {
        let Self { plan_id, terms, .. } = self;
        Plan { plan_id, version: 1, terms, status: Status::Active, revision: 1, create_time: now, update_time: now }
    }

    fn claim(&self, tenant: &Tenant) -> Result<Option<Claim>, StoreError> {
        let Some(request_id) = &self.request_id else { return Ok(None) };
        let Terms { name, tier, currency, prices, trial_days, included, features, seats } = &self.terms;
        let set = |number: i32, unset: i32| if number == unset { String::new() } else { number.to_string() };
        let json = |empty: bool, text: String| if empty { String::new() } else { text };
        let fields = [
            ("plan_id", self.plan_id.to_string()),
            ("name", name.clone()),
            ("tier", tier.to_string()),
            ("currency", currency.code().to_owned()),
            ("prices", serde_json::to_string(prices)?),
            ("trial_days", set(*trial_days, 0)),
            ("included_usage", json(included.is_empty(), serde_json::to_string(included)?)),
            ("features", json(features.is_empty(), serde_json::to_string(features)?)),
            ("min_seats", set(seats.min, 1)),
            ("max_seats", set(seats.max.unwrap_or(0), 0)),
        ];
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Ok(Some(Claim::new(tenant, request_id, "CreatePlan", &fields)))
    }
}
