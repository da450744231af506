//! How a user stands with a product: what a plan still includes, and what was charged for in the period.

use std::{collections::BTreeSet, sync::Arc};

use mesh::{Clock, Context, RequestId, Slug, Store, StoreError, UserId, claim::Claim, events::Origin};
use money::Quantity;

use super::{Item, Order, decide::Totals, record, table};
use crate::{
    plan::{Included, Overage},
    pricing::Price,
};

/// What is so for one user, organization and product now.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    /// The price that is in force.
    pub(crate) price: Option<Price>,
    /// What was charged for under it in the billing period.
    pub(crate) charged: Quantity,
    /// What a plan of theirs includes, and how much of it is left.
    pub(crate) included: Option<(Included, Quantity)>,
}

impl Standing {
    /// Whether what goes beyond what the plan includes is refused.
    pub(crate) fn blocks(&self) -> bool {
        self.included.as_ref().is_some_and(|(included, _)| included.overage == Overage::Block)
    }

    /// How much of a quantity the plan includes.
    pub(crate) fn included_of(&self, quantity: Quantity) -> Quantity {
        self.included.as_ref().map_or(Quantity::ZERO, |(_, left)| quantity.min(*left))
    }
}

/// How they stand, by the same route that a record of theirs would take now. Where neither a price nor a plan has the
/// product, there is nothing to say: `None`.
pub(crate) async fn standing(
    (store, clock): (&Store, &Clock),
    context: &Context,
    (user_id, organization_id): (&UserId, Option<&Slug>),
    product_id: &Slug,
) -> Result<Option<Standing>, StoreError> {
    let now = clock.now();
    let order = Order {
        request_id: RequestId::parse("standing").map_err(|_| StoreError::Impossible("an id is none"))?,
        user_id: user_id.clone(),
        product_id: product_id.clone(),
        quantity: Quantity::ONE,
        organization_id: organization_id.cloned(),
        subscription_id: None,
        session_id: None,
        event_time: Some(now),
        attributes: std::collections::BTreeMap::new(),
    };
    let item = Arc::new(Item {
        tenant: context.tenant.clone(),
        claim: Claim::new(&context.tenant, &order.request_id, "RecordUsage", &[]),
        usage_id: product_id.clone(),
        origin: Origin::of(context, clock),
        now,
        order,
    });
    let world = record::world(store.reader(), std::slice::from_ref(&item)).await?;
    let Ok(route) = world.route(&item) else { return Ok(None) };
    let keys: BTreeSet<_> = route.keys(&item).collect();
    let totals: Totals = table::peek_totals(store.reader(), keys).await?;
    Ok(Some(route.standing(&item, &totals)))
}
