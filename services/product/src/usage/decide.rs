//! The rule of usage: what becomes of records, in the order in which they came, given what is known. Pure.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use mesh::{RequestId, Slug, Tenant, Time, UserId, claim::Seen};
use money::Quantity;

use super::{Charge, Item, Key, Refused, Standing, Usage};
use crate::{
    catalog,
    plan::{Included, Overage},
    pricing::{Price, increment},
    subscription::{Period, calendar_month},
};

/// What is known of the world around a batch of records.
#[derive(Default)]
pub(super) struct World {
    pub(super) products: HashMap<(Tenant, Slug), catalog::Status>,
    /// Of each product the versions, the latest in force first.
    pub(super) prices: HashMap<(Tenant, Slug), Vec<Price>>,
    pub(super) covers: HashMap<Payer, Vec<Cover>>,
}

/// Whose subscriptions cover what is used.
pub(super) type Payer = (Tenant, UserId, Option<Slug>);

/// A subscription as far as usage is concerned.
#[derive(Clone, Debug)]
pub(super) struct Cover {
    pub(super) subscription_id: Slug,
    /// Whether it gives what its plan includes.
    pub(super) gives: bool,
    /// Of the time that records can be of, with what each included.
    pub(super) periods: Vec<(Period, Vec<Included>)>,
}

/// Where a record counts: under which subscription, in which period, at which price.
#[derive(Clone, Debug)]
pub(super) struct Route<'w> {
    subscription_id: Option<Slug>,
    period: Period,
    included: Option<&'w Included>,
    price: Option<&'w Price>,
    event_time: Time,
}

/// What was counted so far, by key.
pub(super) type Totals = BTreeMap<Key, Quantity>;

/// What was answered under a request id before this batch: a record's id, or a refusal.
pub(super) type Before = Seen<Slug, Refused>;

/// What becomes of a record of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decided {
    Recorded(Arc<Usage>),
    /// Refused, and the refusal is kept.
    Refused(Refused),
    /// Refused, and the request id stays free.
    Faulty(Refused),
    /// A repeat of this item of the batch, or another request under its id.
    Same(usize),
    Reused(Refused),
    /// Answered before.
    Before(Result<Slug, Refused>),
}

impl World {
    /// Where a record counts, or why it counts nowhere.
    pub(super) fn route<'w>(&'w self, item: &Item) -> Result<Route<'w>, Refused> {
        let order = &item.order;
        let product_id = &order.product_id;
        let product = (item.tenant.clone(), product_id.clone());
        match self.products.get(&product) {
            None => return Err(Refused::NoProduct(product_id.clone())),
            Some(catalog::Status::Retired) => return Err(Refused::Retired(product_id.clone())),
            Some(catalog::Status::Active | catalog::Status::Deprecated) => {}
        }
        let event_time = order.event_time.unwrap_or(item.now);
        let prices = self.prices.get(&product).map_or(&[][..], Vec::as_slice);
        let price = prices.iter().find(|price| price.effective_time <= event_time);
        let payer = (item.tenant.clone(), order.user_id.clone(), order.organization_id.clone());
        let covers = self.covers.get(&payer).map_or(&[][..], Vec::as_slice);
        let under = |cover: &'w Cover| {
            // The last that had begun: where time is late with the next one, what is used meanwhile counts in this one.
            let (period, included) = cover.periods.iter().rfind(|(period, _)| period.start <= event_time)?;
            Some((cover, *period, included.iter().find(|included| included.product_id == *product_id)))
        };
        let found = match &order.subscription_id {
            Some(subscription_id) => {
                let cover = covers.iter().find(|cover| cover.subscription_id == *subscription_id);
                let cover = cover.ok_or_else(|| Refused::NoSubscription(subscription_id.clone()))?;
                let not_active = || Refused::NotActive(subscription_id.clone());
                Some(under(cover).filter(|_| cover.gives).ok_or_else(not_active)?)
            }
            None => {
                covers.iter().filter(|cover| cover.gives).filter_map(under).find(|(_, _, included)| included.is_some())
            }
        };
        let (subscription_id, period, included) = match found {
            Some((cover, period, included)) => (Some(cover.subscription_id.clone()), period, included),
            None => (None, calendar_month(event_time), None),
        };
        if included.is_none() && price.is_none() {
            return Err(Refused::NotPriced(product_id.clone()));
        }
        Ok(Route { subscription_id, period, included, price, event_time })
    }
}

impl Route<'_> {
    fn key(&self, item: &Item, price_id: Option<Slug>) -> Key {
        Key {
            tenant: item.tenant.clone(),
            user_id: item.order.user_id.clone(),
            organization_id: item.order.organization_id.clone(),
            subscription_id: self.subscription_id.clone(),
            product_id: item.order.product_id.clone(),
            price_id,
            period_start: self.period.start,
        }
    }

    /// By what the record may be counted.
    pub(super) fn keys(&self, item: &Item) -> impl Iterator<Item = Key> {
        let included = self.included.map(|_| self.key(item, None));
        let charged = self.price.map(|price| self.key(item, Some(price.price_id.clone())));
        included.into_iter().chain(charged)
    }

    /// How its user stands, before the record.
    pub(super) fn standing(&self, item: &Item, totals: &Totals) -> Standing {
        let total = |price_id| totals.get(&self.key(item, price_id)).copied().unwrap_or(Quantity::ZERO);
        let left = |included: &Included| {
            let left = included.quantity.minus(total(None)).filter(|left| left.is_positive());
            (included.clone(), left.unwrap_or(Quantity::ZERO))
        };
        Standing {
            price: self.price.cloned(),
            charged: self.price.map_or(Quantity::ZERO, |price| total(Some(price.price_id.clone()))),
            included: self.included.map(left),
        }
    }

    /// Counts the record: what is included first, and the rest at its price.
    fn count(&self, item: &Item, totals: &mut Totals) -> Result<Usage, Refused> {
        let (order, quantity) = (&item.order, item.order.quantity);
        let total = |totals: &Totals, key: &Key| totals.get(key).copied().unwrap_or(Quantity::ZERO);
        let mut included = Quantity::ZERO;
        let mut counted = Vec::with_capacity(2);
        if let Some(plan) = self.included {
            let key = self.key(item, None);
            let used = total(totals, &key);
            let left = plan.quantity.minus(used).filter(|left| left.is_positive()).unwrap_or(Quantity::ZERO);
            if quantity > left && plan.overage == Overage::Block {
                let (product_id, included) = (order.product_id.clone(), plan.quantity);
                return Err(Refused::Exhausted { product_id, included, used, quantity });
            }
            included = quantity.min(left);
            counted.push((key, used.plus(included).ok_or(Refused::TooMuch)?));
        }
        let rest = quantity.minus(included).ok_or(Refused::TooMuch)?;
        let charge = if rest.is_positive() {
            let price = self.price.ok_or_else(|| Refused::NotPriced(order.product_id.clone()))?;
            let key = self.key(item, Some(price.price_id.clone()));
            let before = total(totals, &key);
            let cost = increment(&price.terms, before, rest).ok_or(Refused::TooMuch)?;
            counted.push((key, before.plus(rest).ok_or(Refused::TooMuch)?));
            Some(Charge {
                price_id: price.price_id.clone(),
                free: cost.free,
                billable: cost.billable,
                amount: cost.amount,
                before,
                cost_before: cost.cost_before,
            })
        } else {
            None
        };
        totals.extend(counted);
        Ok(self.usage(item, included, charge))
    }

    fn usage(&self, item: &Item, included: Quantity, charge: Option<Charge>) -> Usage {
        let order = item.order.clone();
        Usage {
            usage_id: item.usage_id.clone(),
            request_id: order.request_id,
            user_id: order.user_id,
            product_id: order.product_id,
            organization_id: order.organization_id,
            subscription_id: self.subscription_id.clone(),
            session_id: order.session_id,
            event_time: self.event_time,
            attributes: order.attributes,
            quantity: order.quantity,
            included,
            charge,
            period_start: self.period.start,
            period_end: self.period.end,
            create_time: item.now,
            voided: None,
        }
    }
}

/// What becomes of the records, in their order. `seen` is what was answered under their ids before; `totals` moves on.
pub(super) fn decide(
    items: &[Arc<Item>],
    seen: Vec<Option<Before>>,
    routes: &[Result<Route<'_>, Refused>],
    totals: &mut Totals,
) -> Vec<Decided> {
    let mut first: HashMap<(&Tenant, &RequestId), usize> = HashMap::new();
    let mut decided: Vec<Decided> = Vec::with_capacity(items.len());
    for (position, ((item, seen), route)) in items.iter().zip(seen).zip(routes).enumerate() {
        decided.push(if let Some(seen) = seen {
            Decided::Before(seen.decision())
        } else if let Some((place, earlier)) = first.get(&item.claim.id()).and_then(|at| Some((*at, items.get(*at)?))) {
            match item.claim.differs_from(&earlier.claim) {
                None => Decided::Same(place),
                Some(taken) => Decided::Reused(taken.into()),
            }
        } else {
            let counted = route.clone().and_then(|route| route.count(item, totals));
            match counted {
                Ok(usage) => {
                    first.insert(item.claim.id(), position);
                    Decided::Recorded(Arc::new(usage))
                }
                Err(faulty @ Refused::TooMuch) => Decided::Faulty(faulty),
                Err(refused) => {
                    first.insert(item.claim.id(), position);
                    Decided::Refused(refused)
                }
            }
        });
    }
    decided
}
