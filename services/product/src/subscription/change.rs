//! How a subscription goes over to another plan or cycle: at once with proration, or when its period ends.

use std::time::Duration;

use mesh::{
    Context, RequestId, Slug, StoreError, Tenant, Time,
    claim::{self, Claim, Decision},
    store::Transaction,
};
use money::Amount;
use serde::{Deserialize, Serialize};

use super::{
    Author, Fault, Refused, Status, Subscription, Subscriptions, Terms, create, events, life::Course,
    period::whole_second, table,
};
use crate::plan::{self, Cycle, Plan};

/// For how long a preview holds.
const PREVIEW: Duration = Duration::from_mins(10);

/// What a subscription should become.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) request_id: RequestId,
    pub(super) subscription_id: Slug,
    pub(super) plan_id: Slug,
    /// `None`: it stays.
    pub(super) cycle: Option<Cycle>,
    /// `None`: now.
    pub(super) proration_time: Option<Time>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Changed {
    pub(super) subscription: Subscription,
    /// As of when the rest of the period costs so much more; `None`: it is scheduled.
    pub(super) prorated: Option<(Time, Amount)>,
}

/// A change about to be made.
struct Changing {
    author: Author,
    claim: Claim,
    order: Order,
    plan: Option<Plan>,
}

/// When a change comes true, and what it costs then.
pub(super) fn verdict(
    subscription: &Subscription,
    to: &Terms,
    asked: Option<Time>,
    now: Time,
) -> Result<Option<(Time, Amount)>, Fault> {
    let from = &subscription.terms;
    let field = "proration_time";
    let period = &subscription.period;
    let time = match asked {
        // A clock that is a little ahead, or a moment before the period, must not make it cost more than the period does.
        None => whole_second(now).max(period.start),
        Some(time) if whole_second(time) != time => return Err(Fault::new(field, "must be a whole second")),
        Some(time) if time > now => return Err(Fault::new(field, "is in the future")),
        Some(time) if now.since(time) > PREVIEW => {
            return Err(Fault::new(field, "is more than ten minutes ago: ask for a preview again"));
        }
        Some(time) => time,
    };
    let same_months = to.cycle == from.cycle && to.price.currency() == from.price.currency();
    if !same_months || !to.price.covers(from.price) {
        return Ok(None);
    }
    if !period.contains(time) {
        return Err(Fault::new(field, "is not within the period that runs: ask for a preview again"));
    }
    if subscription.status == Status::Trialing {
        return Ok(Some((time, Amount::zero(to.price.currency()))));
    }
    let more = to.price.minor().saturating_sub(from.price.minor());
    let too_much = || Fault::new("plan_id", "costs more than an amount can be");
    let rest = period.rest(more, time).ok_or_else(too_much)?;
    Ok(Some((time, Amount::from_minor(to.price.currency(), rest))))
}

impl Subscriptions {
    /// Changes a subscription, or with `rehearsal` only says what that would come to; says whether it had been done before
    /// under the same request id.
    pub(super) async fn change(
        &self,
        context: &Context,
        order: Order,
        rehearsal: bool,
    ) -> Result<Result<(Changed, bool), Refused>, StoreError> {
        let claim = order.claim(&context.tenant);
        let plan = plan::table::find(self.store.reader(), &context.tenant, &order.plan_id, None).await?;
        let changing = Changing { author: Author::of(context, &self.clock), claim, order, plan };
        let unit = self.store.unit(context).claimed().rehearsal(rehearsal);
        let changed = unit.run(changing, |changing, transaction| Box::pin(changing.run(transaction)));
        let (decided, before) = changed.await?;
        Ok(decided.map(|changed| (changed, before)))
    }
}

impl Changing {
    async fn run(&self, transaction: &Transaction) -> Result<(Decision<Changed, Refused>, bool), StoreError> {
        // Locked before the request id is claimed: a fault of a field must leave the id free, and only the subscription
        // says whether there is one.
        let subscription = table::lock(transaction, &self.author.tenant, &self.order.subscription_id).await?;
        if let Some(seen) = self.claim.seen(transaction).await? {
            return Ok((seen.decision(), true));
        }
        let decided = match self.decide(transaction, subscription).await? {
            Err(Refused::Field(fault)) => return Ok((Err(Refused::Field(fault)), false)),
            decided => decided,
        };
        claim::once(Some(&self.claim), transaction, self.author.now, async {
            let (course, changed) = match decided {
                Ok(decided) => decided,
                Err(refused) => return Ok(Err(refused)),
            };
            table::save(transaction, &self.author, &[&course]).await?;
            events::tell(transaction, &self.author, &[&course]).await?;
            Ok(Ok(changed))
        })
        .await
    }

    /// What the change comes to. Nothing is written yet.
    async fn decide(
        &self,
        transaction: &Transaction,
        subscription: Option<Subscription>,
    ) -> Result<Result<(Course, Changed), Refused>, StoreError> {
        let Order { subscription_id, plan_id, cycle, proration_time, .. } = &self.order;
        let Some(subscription) = subscription else {
            return Ok(Err(Refused::NoSubscription(subscription_id.clone())));
        };
        if !subscription.status.gives() {
            let (subscription_id, status) = (subscription_id.clone(), subscription.status);
            return Ok(Err(Refused::NotActive { subscription_id, status }));
        }
        let plan = match &self.plan {
            None => return Ok(Err(Refused::NoPlan(plan_id.clone()))),
            Some(plan) if plan.status == plan::Status::Archived => return Ok(Err(Refused::Archived(plan_id.clone()))),
            Some(plan) => plan,
        };
        let cycle = cycle.unwrap_or(subscription.terms.cycle);
        let price = match create::price(plan, cycle, subscription.seats, ("billing_cycle", "plan_id")) {
            Ok(price) => price,
            Err(fault) => return Ok(Err(Refused::Field(fault))),
        };
        let to = Terms { plan_id: plan_id.clone(), plan_version: plan.version, cycle, price };
        let another = to.plan_id != subscription.terms.plan_id;
        if to == subscription.terms
            || another && table::lives(transaction, &self.author.tenant, &subscription, plan_id).await?
        {
            return Ok(Err(Refused::AlreadySubscribed(plan_id.clone())));
        }
        let prorated = match verdict(&subscription, &to, *proration_time, self.author.now) {
            Ok(prorated) => prorated,
            Err(fault) => return Ok(Err(Refused::Field(fault))),
        };
        let mut course = Course::of(subscription);
        course.change(to, prorated, self.author.now);
        let changed = Changed { subscription: course.subscription.clone(), prorated };
        Ok(Ok((course, changed)))
    }
}

impl Order {
    fn claim(&self, tenant: &Tenant) -> Claim {
        let proration_time = self.proration_time.map_or_else(String::new, |time| time.micros().to_string());
        let fields = [
            ("subscription_id", self.subscription_id.as_str()),
            ("plan_id", self.plan_id.as_str()),
            ("billing_cycle", self.cycle.map_or("", Cycle::as_str)),
            ("proration_time", &proration_time),
        ];
        Claim::new(tenant, &self.request_id, "ChangePlan", &fields)
    }
}
