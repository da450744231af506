//! Pricing: what a product costs, and from when on. A price is a version that never changes; the one in force is the
//! latest whose time has come.
// An invariant of services/README.md: no float touches money, and no sum wraps unseen.
#![deny(clippy::float_arithmetic, clippy::arithmetic_side_effects, clippy::as_conversions)]

mod cost;
pub(crate) mod rpc;
pub(crate) mod table;
#[cfg(test)]
mod tests;

use mesh::{
    Clock, Context, RequestId, Slug, Store, StoreError, Tenant, Time, UserId,
    claim::{self, Claim, Decision, Taken},
    store::Transaction,
    text_enum,
};
use money::{Amount, Currency, Quantity, UnitPrice};
use serde::{Deserialize, Serialize};

use crate::{
    catalog::{self, Catalog},
    usage::{self, Standing},
};
use cost::Step;
pub(crate) use cost::{Increment, Line, increment};

text_enum! {
    /// The name of a model.
    pub(crate) enum ModelName {
        /// [`Model::Flat`].
        Flat = "FLAT",
        /// [`Model::PerUnit`].
        PerUnit = "PER_UNIT",
        /// [`Model::Graduated`].
        Graduated = "GRADUATED",
        /// [`Model::Volume`].
        Volume = "VOLUME",
        /// [`Model::Package`].
        Package = "PACKAGE",
    }
}

/// How a price counts what is billable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Model {
    /// So much for each billing period, at its first billable use.
    Flat { unit_price: UnitPrice },
    /// So much for each unit.
    PerUnit { unit_price: UnitPrice },
    /// Each tier prices what falls into it.
    Graduated { tiers: Vec<Tier> },
    /// The tier that the whole quantity falls into prices all of it.
    Volume { tiers: Vec<Tier> },
    /// So much for each package that was started.
    Package { unit_price: UnitPrice, size: Quantity },
}

/// A range of billable quantities. Those of a price follow each other upwards, and the last has no end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tier {
    /// The last quantity of the tier, itself included, counted from the first billable unit.
    pub(crate) up_to: Option<Quantity>,
    pub(crate) unit_price: UnitPrice,
    pub(crate) flat_amount: Amount,
}

/// What a price says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Terms {
    pub(crate) currency: Currency,
    pub(crate) unit: String,
    pub(crate) model: Model,
    /// For nothing, in each billing period.
    pub(crate) free_quantity: Quantity,
    /// As soon as anything billable was used.
    pub(crate) minimum_amount: Amount,
}

/// A version of what a product costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Price {
    pub(crate) price_id: Slug,
    pub(crate) terms: Terms,
    pub(crate) effective_time: Time,
    /// Counts the product's prices.
    pub(crate) version: i64,
    pub(crate) create_time: Time,
}

/// A price that should be set.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) request_id: Option<RequestId>,
    pub(crate) product_id: Slug,
    pub(crate) terms: Terms,
    /// `None`: from now on.
    pub(crate) effective_time: Option<Time>,
}

/// Why a price is not set, found or reckoned with, in order of precedence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum Refused {
    #[error(transparent)]
    RequestId(#[from] Taken),
    #[error("there is no product {0}")]
    NoProduct(Slug),
    #[error("is in the past, and the product had a price then: what was sold keeps it")]
    Past,
    #[error("no price of the product {0} is in force")]
    NotPriced(Slug),
    #[error("the plan includes {left} of {product_id} in the period that runs still, and no more")]
    Exhausted { product_id: Slug, left: Quantity },
    #[error("is or costs more than can be kept: at most {} {}", largest.to_wire(), largest.currency())]
    TooMuch { largest: Amount },
}

/// The prices of this service.
#[derive(Clone)]
pub(crate) struct Pricing {
    store: Store,
    clock: Clock,
    catalog: Catalog,
}

impl Pricing {
    pub(crate) fn new(store: Store, clock: Clock, catalog: Catalog) -> Self {
        Self { store, clock, catalog }
    }

    /// Sets a price, durably; says whether it had been set before under the same request id.
    pub(crate) async fn set(
        &self,
        context: &Context,
        draft: Draft,
    ) -> Result<Result<(Price, bool), Refused>, StoreError> {
        let setting = Setting {
            tenant: context.tenant.clone(),
            claim: draft.claim(&context.tenant),
            price_id: Slug::fresh("price", &self.clock),
            now: self.clock.now(),
            draft,
        };
        let unit = self.store.unit(context);
        let unit = if setting.claim.is_some() { unit.claimed() } else { unit };
        let (decided, before) =
            unit.run(setting, |setting, transaction| Box::pin(setting.carry_out(transaction))).await?;
        Ok(decided.map(|price| (price, before)))
    }

    /// How somebody stands with a product, or anybody: what it costs now, and what of that counts for them.
    pub(crate) async fn standing(
        &self,
        context: &Context,
        product_id: &Slug,
        user: Option<(&UserId, Option<&Slug>)>,
    ) -> Result<Result<Standing, Refused>, StoreError> {
        if self.catalog.find(context, product_id).await?.is_err() {
            return Ok(Err(Refused::NoProduct(product_id.clone())));
        }
        let standing = if let Some(user) = user {
            usage::standing((&self.store, &self.clock), context, user, product_id).await?
        } else {
            let now = self.clock.now();
            let price = table::in_force(self.store.reader(), &context.tenant, product_id, now).await?;
            price.map(|price| Standing { price: Some(price), charged: Quantity::ZERO, included: None })
        };
        Ok(standing.ok_or_else(|| Refused::NotPriced(product_id.clone())))
    }

    /// The price that takes over from this one, as things stand.
    pub(crate) async fn next(
        &self,
        context: &Context,
        product_id: &Slug,
        price: &Price,
    ) -> Result<Option<Price>, StoreError> {
        table::next(self.store.reader(), &context.tenant, product_id, price.effective_time).await
    }
}

/// What a quantity would cost somebody.
#[derive(Clone, Debug)]
pub(crate) struct Quote {
    /// How much of it their plan includes.
    pub(crate) included: Quantity,
    /// What the rest costs, and by which price; `None`: there is no rest.
    pub(crate) charge: Option<(Price, Increment)>,
}

impl Standing {
    /// What a quantity would cost: what is included first, and the rest by the code that charges for it.
    pub(crate) fn quote(&self, product_id: &Slug, quantity: Quantity) -> Result<Quote, Refused> {
        let included = self.included_of(quantity);
        // More cannot be included than there is.
        let rest = quantity.minus(included).unwrap_or(Quantity::ZERO);
        if rest.is_zero() && (included.is_positive() || self.price.is_none()) {
            return Ok(Quote { included, charge: None });
        }
        if self.blocks() && rest.is_positive() {
            return Err(Refused::Exhausted { product_id: product_id.clone(), left: included });
        }
        let price = self.price.clone().ok_or_else(|| Refused::NotPriced(product_id.clone()))?;
        let largest = Amount::from_minor(price.terms.currency, i64::MAX);
        let cost = increment(&price.terms, self.charged, rest).ok_or(Refused::TooMuch { largest })?;
        Ok(Quote { included, charge: Some((price, cost)) })
    }
}

/// A price about to be set.
struct Setting {
    tenant: Tenant,
    claim: Option<Claim>,
    price_id: Slug,
    now: Time,
    draft: Draft,
}

impl Setting {
    async fn carry_out(&self, transaction: &Transaction) -> Result<(Decision<Price, Refused>, bool), StoreError> {
        let (tenant, product_id) = (&self.tenant, &self.draft.product_id);
        // Locked before anything is decided: a product's prices are set one after the other.
        let product = catalog::lock(transaction, tenant, product_id).await?;
        let last = table::last(transaction, tenant, product_id).await?;
        // Never before the price that was set last, whoever's clock that was: a price for now is in force at once.
        let now = last.map_or(self.now, |(_, set)| set.max(self.now));
        let time = self.draft.effective_time.unwrap_or(now);
        if product && time < now && table::in_force(transaction, tenant, product_id, time).await?.is_some() {
            // The time may have been to come when the call was sent first, and that call has its answer for ever. A
            // fault of a field is no answer and leaves the request id free.
            let seen = match &self.claim {
                Some(claim) => claim.seen(transaction).await?,
                None => None,
            };
            return Ok(seen.map_or((Err(Refused::Past), false), |seen| (seen.decision(), true)));
        }
        claim::once(self.claim.as_ref(), transaction, now, async {
            if !product {
                return Ok(Err(Refused::NoProduct(product_id.clone())));
            }
            let price = Price {
                price_id: self.price_id.clone(),
                terms: self.draft.terms.clone(),
                effective_time: time,
                version: last.map_or(1, |(version, _)| version.saturating_add(1)),
                create_time: now,
            };
            table::insert(transaction, tenant, product_id, &price).await?;
            Ok(Ok(price))
        })
        .await
    }
}

impl Model {
    pub(crate) const fn name(&self) -> ModelName {
        match self {
            Self::Flat { .. } => ModelName::Flat,
            Self::PerUnit { .. } => ModelName::PerUnit,
            Self::Graduated { .. } => ModelName::Graduated,
            Self::Volume { .. } => ModelName::Volume,
            Self::Package { .. } => ModelName::Package,
        }
    }

    /// The price of a unit, a package or a period; none where tiers have their own.
    pub(crate) const fn unit_price(&self) -> Option<UnitPrice> {
        match self {
            Self::Flat { unit_price } | Self::PerUnit { unit_price } | Self::Package { unit_price, .. } => {
                Some(*unit_price)
            }
            Self::Graduated { .. } | Self::Volume { .. } => None,
        }
    }

    pub(crate) fn tiers(&self) -> &[Tier] {
        match self {
            Self::Graduated { tiers } | Self::Volume { tiers } => tiers,
            Self::Flat { .. } | Self::PerUnit { .. } | Self::Package { .. } => &[],
        }
    }

    pub(crate) const fn package_size(&self) -> Option<Quantity> {
        match self {
            Self::Package { size, .. } => Some(*size),
            Self::Flat { .. } | Self::PerUnit { .. } | Self::Graduated { .. } | Self::Volume { .. } => None,
        }
    }
}

impl Draft {
    fn claim(&self, tenant: &Tenant) -> Option<Claim> {
        let request_id = self.request_id.as_ref()?;
        let Terms { currency, unit, model, free_quantity, minimum_amount } = &self.terms;
        let text = |decimal: Option<String>| decimal.unwrap_or_default();
        let unit_price = text(model.unit_price().map(|price| price.to_string()));
        let tiers: Vec<String> = model.tiers().iter().map(Tier::to_claim).collect();
        let tiers = tiers.join(" ");
        let package_size = text(model.package_size().map(|size| size.to_string()));
        let free_quantity = text(free_quantity.is_positive().then(|| free_quantity.to_string()));
        let minimum_amount = text(minimum_amount.is_positive().then(|| minimum_amount.to_wire()));
        let effective_time = text(self.effective_time.map(|time| time.micros().to_string()));
        let fields = [
            ("product_id", self.product_id.as_str()),
            ("price.currency", currency.code()),
            ("price.unit", unit),
            ("price.model", model.name().as_str()),
            ("price.unit_price", &unit_price),
            ("price.tiers", &tiers),
            ("price.package_size", &package_size),
            ("price.free_quantity", &free_quantity),
            ("price.minimum_amount", &minimum_amount),
            ("price.effective_time", &effective_time),
        ];
        Some(Claim::new(tenant, request_id, "SetPrice", &fields))
    }
}

impl Tier {
    /// What makes it this tier, as one text.
    fn to_claim(&self) -> String {
        let up_to = self.up_to.map_or_else(String::new, |up_to| up_to.to_string());
        format!("{up_to}:{}:{}", self.unit_price, self.flat_amount.to_wire())
    }
}
