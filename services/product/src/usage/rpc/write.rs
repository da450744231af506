//! How usage is answered.

use mesh::{Context, Reason, Refusal, Slug, Store, StoreError, Time, refusal::Violation};
use money::{Amount, Quantity};
use tonic::Status as GrpcStatus;
use trivet_proto::product::v1::{self as wire, UsageError, UsageResult, UsageStatistics};

use super::super::{
    Refused, Usage,
    sums::{Group, Grouping, Statistics},
};
use crate::pricing::{self, increment};

/// Where the lines of a cost come from: computed anew from its price, which never changes.
pub(super) struct Prices {
    store: Store,
}

impl Prices {
    pub(super) const fn new(store: Store) -> Self {
        Self { store }
    }

    /// The record with the lines of its cost.
    pub(super) async fn whole(&self, context: &Context, usage: Usage) -> Result<wire::Usage, GrpcStatus> {
        let lines = self.lines(context, &usage).await?;
        Ok(wire::Usage { lines, ..usage.into() })
    }

    async fn lines(&self, context: &Context, usage: &Usage) -> Result<Vec<wire::CostLine>, StoreError> {
        let Some(charge) = &usage.charge else { return Ok(Vec::new()) };
        let price = pricing::table::find(self.store.reader(), &context.tenant, &charge.price_id).await?;
        let price = price.ok_or(StoreError::Impossible("a record has a price that is not there"))?;
        let cost = increment(&price.terms, charge.before, charge.quantity()?);
        let cost = cost.ok_or(StoreError::Impossible("a record costs more than can be kept"))?;
        Ok(cost.lines.into_iter().map(Into::into).collect())
    }
}

/// A record of a batch that was taken in.
pub(super) fn result(usage: wire::Usage, already_processed: bool) -> UsageResult {
    UsageResult { usage: Some(usage), already_processed, error: None }
}

/// A record of a batch that was refused.
pub(super) fn error(refusal: &Refusal, already_processed: bool) -> UsageResult {
    UsageResult { usage: None, already_processed, error: Some(usage_error(refusal)) }
}

/// A refusal of one of several records.
pub(super) fn usage_error(refusal: &Refusal) -> UsageError {
    let reason = refusal.reason();
    UsageError { code: i32::from(reason.code()), reason: reason.name().to_owned(), message: refusal.to_string() }
}

impl From<Usage> for wire::Usage {
    fn from(usage: Usage) -> Self {
        let optional = |slug: Option<Slug>| slug.map(Slug::into_string).unwrap_or_default();
        let charge = usage.charge;
        let amount = |amount: Option<Amount>| amount.map_or_else(|| "0".to_owned(), Amount::to_wire);
        let part = |part: Option<Quantity>| part.unwrap_or(Quantity::ZERO).to_string();
        let (void_time, void_reason, void_amount) = match usage.voided {
            Some(voided) => (Some(voided.time.to_wire()), voided.reason, amount(voided.amount)),
            None => Default::default(),
        };
        Self {
            usage_id: usage.usage_id.into_string(),
            request_id: usage.request_id.into_string(),
            user_id: usage.user_id.into_string(),
            product_id: usage.product_id.into_string(),
            organization_id: optional(usage.organization_id),
            subscription_id: optional(usage.subscription_id),
            session_id: optional(usage.session_id),
            event_time: Some(usage.event_time.to_wire()),
            attributes: usage.attributes.into_iter().collect(),
            quantity: usage.quantity.to_string(),
            included_quantity: usage.included.to_string(),
            free_quantity: part(charge.as_ref().map(|charge| charge.free)),
            billable_quantity: part(charge.as_ref().map(|charge| charge.billable)),
            amount: amount(charge.as_ref().map(|charge| charge.amount)),
            currency: charge.as_ref().map_or("", |charge| charge.amount.currency().code()).to_owned(),
            total_before: charge.as_ref().map(|charge| charge.before.to_string()).unwrap_or_default(),
            cost_before: charge.as_ref().map(|charge| charge.cost_before.to_string()).unwrap_or_default(),
            price_id: charge.map(|charge| charge.price_id.into_string()).unwrap_or_default(),
            lines: Vec::new(),
            period_start_time: Some(usage.period_start.to_wire()),
            period_end_time: Some(usage.period_end.to_wire()),
            create_time: Some(usage.create_time.to_wire()),
            void_time,
            void_reason,
            void_amount,
        }
    }
}

/// A sum.
pub(super) fn statistics(row: Statistics, group_by: Grouping) -> UsageStatistics {
    let (mut start_time, mut product_id, mut user_id) = (None, String::new(), String::new());
    match (row.group, group_by) {
        (Group::Time(time), _) => start_time = Some(Time::to_wire(time)),
        (Group::Name(name), Grouping::User) => user_id = name,
        (Group::Name(name), _) => product_id = name,
    }
    UsageStatistics {
        start_time,
        product_id,
        user_id,
        currency: row.currency.map_or("", money::Currency::code).to_owned(),
        records: row.records,
        quantity: row.quantity.to_string(),
        amount: row.amount.map_or_else(|| "0".to_owned(), Amount::to_wire),
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        let about = |reason, kind, id: &Slug| Self::new(reason, &refused).about(kind, id);
        let product = |reason, id| about(reason, "trivet.product.v1.Product", id);
        let subscription = |reason, id| about(reason, "trivet.product.v1.Subscription", id);
        match &refused {
            Refused::RequestId(taken) => taken.clone().into(),
            Refused::NoUsage(id) => about(Reason::UsageNotFound, "trivet.product.v1.Usage", id),
            Refused::NoProduct(id) => product(Reason::ProductNotFound, id),
            Refused::Retired(id) => product(Reason::ProductNotAvailable, id),
            Refused::NoSubscription(id) => subscription(Reason::SubscriptionNotFound, id),
            Refused::NotActive(id) => subscription(Reason::SubscriptionNotActive, id),
            Refused::Exhausted { product_id, included, used, .. } => {
                product(Reason::QuotaExhausted, product_id).with("included", included).with("used", used)
            }
            Refused::NotPriced(id) => product(Reason::ProductNotPriced, id),
            Refused::TooMuch => {
                let violation = Violation { field: "quantity".to_owned(), description: refused.to_string() };
                Self::fields(Reason::InvalidFields, vec![violation])
            }
        }
    }
}
