//! How somebody subscribes: account is asked, the plan is looked at, and what was decided is kept under the request id.

use std::time::Duration;

use mesh::{
    Context, RequestId, Slug, StoreError, Tenant, UserId,
    claim::{self, Claim, Decision},
    store::Transaction,
};
use money::Amount;
use serde::{Deserialize, Serialize};

use super::{
    Anchor, Author, Fault, Period, Refused, Status, Subscription, Subscriptions, Terms, events, life::Course,
    period::whole_second, table,
};
use crate::{
    buyer::{self, Asked, Membership},
    plan::{self, Cycle, Plan},
};

/// A subscription that should be.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    pub(super) request_id: RequestId,
    pub(super) user_id: UserId,
    pub(super) organization_id: Option<Slug>,
    pub(super) plan_id: Slug,
    pub(super) cycle: Cycle,
    pub(super) use_trial: bool,
    /// `None`: the fewest that the plan allows.
    pub(super) seats: Option<i32>,
}

/// What is kept as the answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Created(pub(super) Subscription);

/// What account and the plan say.
struct Known {
    account: Asked,
    membership: Membership,
    plan: Option<Plan>,
}

/// A subscription about to be made.
struct Creating {
    author: Author,
    claim: Claim,
    draft: Draft,
    known: Known,
    /// As it will be; `None` where there is no plan to subscribe to.
    subscription: Option<Subscription>,
}

impl Subscriptions {
    /// What was answered under the request id before. Looked at first: to a repeat account and the plan may have changed,
    /// and its answer has not.
    pub(super) async fn created(
        &self,
        context: &Context,
        draft: &Draft,
    ) -> Result<Option<Result<Subscription, Refused>>, StoreError> {
        let seen = draft.claim(&context.tenant).seen::<Created, Refused>(self.store.reader()).await?;
        Ok(seen.map(|seen| seen.decision().map(|Created(subscription)| subscription)))
    }

    /// Subscribes, or with `rehearsal` only says what that would come to; says whether it had been done before under the
    /// same request id.
    pub(super) async fn create(
        &self,
        context: &Context,
        draft: Draft,
        (account, membership): (Asked, Membership),
        rehearsal: bool,
    ) -> Result<Result<(Subscription, bool), Refused>, StoreError> {
        let plan = plan::table::find(self.store.reader(), &context.tenant, &draft.plan_id, None).await?;
        let author = Author::of(context, &self.clock);
        let subscription = match &plan {
            Some(plan) => match draft.subscription(plan, Slug::fresh("sub", &self.clock), &author) {
                Ok(subscription) => Some(subscription?),
                Err(fault) => return Ok(Err(Refused::Field(fault))),
            },
            None => None,
        };
        let claim = draft.claim(&context.tenant);
        let creating = Creating { author, claim, draft, known: Known { account, membership, plan }, subscription };
        let unit = self.store.unit(context).claimed().rehearsal(rehearsal);
        let made = unit.run(creating, |creating, transaction| {
            let decide = creating.carry_out(transaction);
            Box::pin(claim::once(Some(&creating.claim), transaction, creating.author.now, decide))
        });
        let (decided, before) = made.await?;
        Ok(decided.map(|Created(subscription)| (subscription, before)))
    }
}

impl Creating {
    async fn carry_out(&self, transaction: &Transaction) -> Result<Decision<Created, Refused>, StoreError> {
        let (tenant, draft) = (&self.author.tenant, &self.draft);
        if let Err(refused) = self.allowed(transaction).await? {
            return Ok(Err(refused));
        }
        let Some(subscription) = &self.subscription else { return Ok(Err(Refused::NoPlan(draft.plan_id.clone()))) };
        if !table::insert(transaction, tenant, subscription).await? {
            return Ok(Err(Refused::AlreadySubscribed(draft.plan_id.clone())));
        }
        if draft.use_trial && !table::use_trial(transaction, tenant, subscription).await? {
            // A refusal is kept, and what it stands for is not done.
            table::remove(transaction, tenant, &subscription.subscription_id).await?;
            let (user_id, plan_id) = (draft.user_id.clone(), draft.plan_id.clone());
            return Ok(Err(Refused::TrialUsed { user_id, plan_id }));
        }
        let course = Course::begun(subscription.clone());
        table::note(transaction, &self.author, &[&course]).await?;
        events::tell(transaction, &self.author, &[&course]).await?;
        Ok(Ok(Created(course.subscription)))
    }

    /// Whether who asks may subscribe to what is asked for.
    async fn allowed(&self, transaction: &Transaction) -> Result<Result<(), Refused>, StoreError> {
        let Draft { user_id, organization_id, plan_id, .. } = &self.draft;
        let user_id = user_id.clone();
        // An event may have said more since account was asked: what was deleted meanwhile must not subscribe.
        let later = buyer::find(transaction, &self.author.tenant, &user_id).await?;
        let account = self.known.account.or_later(later);
        let Some(status) = account.status else { return Ok(Err(Refused::NoAccount(user_id))) };
        if status != buyer::Status::Active {
            return Ok(Err(Refused::AccountInactive { user_id, status }));
        }
        match (organization_id, self.known.membership) {
            (Some(organization_id), Membership::NoOrganization) => {
                return Ok(Err(Refused::NoOrganization(organization_id.clone())));
            }
            (Some(organization_id), Membership::Stranger) => {
                return Ok(Err(Refused::NotAMember { user_id, organization_id: organization_id.clone() }));
            }
            (_, Membership::Member) | (None, _) => {}
        }
        match &self.known.plan {
            None => Ok(Err(Refused::NoPlan(plan_id.clone()))),
            Some(plan) if plan.status == plan::Status::Archived => Ok(Err(Refused::Archived(plan_id.clone()))),
            Some(_) => Ok(Ok(())),
        }
    }
}

impl Draft {
    fn claim(&self, tenant: &Tenant) -> Claim {
        let organization_id = self.organization_id.as_ref().map_or("", Slug::as_str);
        let seats = self.seats.map_or_else(String::new, |seats| seats.to_string());
        let fields = [
            ("user_id", self.user_id.as_str()),
            ("organization_id", organization_id),
            ("plan_id", self.plan_id.as_str()),
            ("billing_cycle", self.cycle.as_str()),
            ("use_trial", if self.use_trial { "true" } else { "" }),
            ("seats", &seats),
        ];
        Claim::new(tenant, &self.request_id, "CreateSubscription", &fields)
    }

    /// The subscription as it begins, or what of the request the plan does not have.
    fn subscription(
        &self,
        plan: &Plan,
        subscription_id: Slug,
        author: &Author,
    ) -> Result<Result<Subscription, StoreError>, Fault> {
        let (price, seats) = self.price(plan)?;
        let trial_days = plan.terms.trial_days;
        if self.use_trial && trial_days == 0 {
            return Err(Fault::new("use_trial", format!("must be false: the plan {} has no trial", plan.plan_id)));
        }
        let start = whole_second(author.now);
        let trial = Duration::from_hours(24).saturating_mul(u32::try_from(trial_days).unwrap_or(0));
        let trial_end = self.use_trial.then(|| start.plus(trial));
        let anchor = Anchor { time: trial_end.unwrap_or(start), periods: i64::from(trial_end.is_none()) };
        let end = match anchor.after(self.cycle, anchor.periods) {
            Ok(end) => end,
            Err(error) => return Ok(Err(error)),
        };
        let status = match (trial_end, price.is_positive()) {
            (Some(_), _) => Status::Trialing,
            (None, true) => Status::Incomplete,
            (None, false) => Status::Active,
        };
        Ok(Ok(Subscription {
            subscription_id,
            user_id: self.user_id.clone(),
            organization_id: self.organization_id.clone(),
            terms: Terms { plan_id: self.plan_id.clone(), plan_version: plan.version, cycle: self.cycle, price },
            seats,
            status,
            anchor,
            period: Period { number: 1, start, end },
            trial_end,
            cancel_at_period_end: false,
            canceled_time: None,
            cancel_reason: String::new(),
            change: None,
            version: 1,
            create_time: author.now,
            update_time: author.now,
            end_time: None,
        }))
    }

    fn price(&self, plan: &Plan) -> Result<(Amount, i32), Fault> {
        let seats = self.seats.unwrap_or(plan.terms.seats.min);
        price(plan, self.cycle, seats, ("billing_cycle", "seats")).map(|price| (price, seats))
    }
}

/// What a period of a plan costs, or which of two fields asks for what the plan does not have.
pub(super) fn price(
    plan: &Plan,
    cycle: Cycle,
    seats: i32,
    (cycle_field, seats_field): (&str, &str),
) -> Result<Amount, Fault> {
    let allowed = plan.terms.seats;
    if !plan.terms.prices.contains_key(&cycle) {
        return Err(Fault::new(cycle_field, format!("is {cycle}, in which the plan {} is not sold", plan.plan_id)));
    }
    if seats < allowed.min || allowed.max.is_some_and(|max| seats > max) {
        let description = format!("asks for {seats} seats; the plan {} is sold with {allowed}", plan.plan_id);
        return Err(Fault::new(seats_field, description));
    }
    let too_much = || Fault::new(seats_field, "cost more than an amount can be");
    plan.amount(cycle, seats).ok_or_else(too_much)
}
