//! How a record is taken back: its quantity counts no more, and what the period costs less without it is given back. So
//! what a period was charged is always what its total costs, whatever was voided, and in whatever order.

use mesh::{Context, Slug, StoreError, events::Origin, store::Transaction};
use money::{Amount, Quantity};

use super::{Refused, Usage, Usages, Voided, decide::Totals, events, table};
use crate::pricing::{self, increment};

/// A record to take back.
struct Voiding {
    context: Context,
    origin: Origin,
    usage_id: Slug,
    voided: Voided,
}

impl Usages {
    /// Takes a record back, once, and gives it as it is then.
    pub(super) async fn void(
        &self,
        context: &Context,
        usage_id: Slug,
        reason: String,
    ) -> Result<Result<Usage, Refused>, StoreError> {
        let origin = Origin::of(context, &self.clock);
        let voided = Voided { time: self.clock.now(), reason, amount: None };
        let voiding = Voiding { context: context.clone(), origin, usage_id, voided };
        let unit = self.store.unit(context);
        unit.run(voiding, |voiding, transaction| Box::pin(voiding.carry_out(transaction))).await
    }
}

impl Voiding {
    async fn carry_out(&self, transaction: &Transaction) -> Result<Result<Usage, Refused>, StoreError> {
        let tenant = &self.context.tenant;
        let Some(usage) = table::lock(transaction, tenant, &self.usage_id).await? else {
            return Ok(Err(Refused::NoUsage(self.usage_id.clone())));
        };
        if usage.voided.is_some() {
            return Ok(Ok(usage));
        }
        let (included, charged) = (usage.included_key(tenant), usage.charged_key(tenant));
        let keys = included.iter().chain(&charged).cloned().collect();
        let mut totals = table::lock_totals(transaction, keys).await?;
        if let Some(key) = &included {
            take(&mut totals, key, usage.included)?;
        }
        let mut voided = self.voided.clone();
        if let (Some(key), Some(charge)) = (&charged, &usage.charge) {
            let rest = take(&mut totals, key, charge.quantity()?)?;
            let price = pricing::table::find(transaction, tenant, &charge.price_id).await?;
            let price = price.ok_or(StoreError::Impossible("a record has a price that is not there"))?;
            let back = increment(&price.terms, rest, charge.quantity()?).and_then(|cost| cost.amount.negated());
            voided.amount = Some(back.ok_or(StoreError::Impossible("a total costs more than an amount can be"))?);
        }
        table::set_totals(transaction, &totals).await?;
        table::void(transaction, tenant, &self.usage_id, &voided).await?;
        table::sum_up(transaction, std::iter::once((tenant, usage.taken_back(&voided)?))).await?;
        events::voided(transaction, &self.origin, &usage, &voided).await?;
        Ok(Ok(Usage { voided: Some(voided), ..usage }))
    }
}

/// Takes a quantity out of a total, and gives what is left.
fn take(totals: &mut Totals, key: &super::Key, quantity: Quantity) -> Result<Quantity, StoreError> {
    let less = StoreError::Impossible("a total is less than one of its records");
    let total = totals.get(key).copied().unwrap_or(Quantity::ZERO);
    let rest = total.minus(quantity).filter(|rest| *rest >= Quantity::ZERO).ok_or(less)?;
    totals.insert(key.clone(), rest);
    Ok(rest)
}

impl super::Charge {
    /// What was charged for.
    pub(super) fn quantity(&self) -> Result<Quantity, StoreError> {
        self.free.plus(self.billable).ok_or(StoreError::Impossible("a record is more than can be kept"))
    }
}

impl Usage {
    /// What the record adds to the sums.
    pub(super) fn counted(&self) -> table::Counted<'_> {
        let amount = self.charge.as_ref().map(|charge| charge.amount);
        self.sums(1, self.quantity.parts(), amount)
    }

    /// What its going adds to the sums.
    fn taken_back(&self, voided: &Voided) -> Result<table::Counted<'_>, StoreError> {
        let less = Quantity::ZERO.minus(self.quantity);
        let less = less.ok_or(StoreError::Impossible("a record is more than can be kept"))?;
        Ok(self.sums(-1, less.parts(), voided.amount))
    }

    fn sums(&self, records: i64, (whole, fraction): (i64, i64), amount: Option<Amount>) -> table::Counted<'_> {
        table::Counted {
            hour: super::sums::hour(self.event_time),
            user_id: &self.user_id,
            organization_id: self.organization_id.as_ref(),
            subscription_id: self.subscription_id.as_ref(),
            product_id: &self.product_id,
            currency: amount.map_or("", |amount| amount.currency().code()),
            records,
            whole,
            fraction,
            minor: amount.map_or(0, Amount::minor),
        }
    }
}
