//! What the others hear of subscriptions, and what subscriptions do about what they hear: money that came or did not, and
//! people who went.

use mesh::{
    Slug, StoreError, UserId,
    events::{Aggregate, Draft, Effect, Handled, HandlerError, Handlers, Heard, publish_all},
    store::Transaction,
};
use trivet_proto::{
    account::v1::UserDeleted,
    billing::v1::{PaymentCompleted, WalletInsufficientFunds},
    product::v1::{
        BillingCycle, PlanTier, SubscriptionActivated, SubscriptionCanceled, SubscriptionChanged, SubscriptionCreated,
        SubscriptionExpired, SubscriptionPeriod, SubscriptionRenewed, SubscriptionStatus, SubscriptionStatusChanged,
    },
};

use super::{
    Author, Period, Status, Subscription,
    life::{Course, Done, What, Why},
    table,
};
use crate::{buyer, plan};

/// What money and people do to subscriptions.
pub(crate) fn handlers(handlers: Handlers) -> Handlers {
    handlers.on(paid).on(not_covered).on(user_deleted)
}

/// Tells what happened in the courses.
pub(super) async fn tell(transaction: &Transaction, author: &Author, courses: &[&Course]) -> Result<(), StoreError> {
    let mut drafts = Vec::new();
    for course in courses {
        // The rows are as they are after all of it: who is told of an end is told what is left.
        let turns = course.done.iter().any(|done| tells_of_activation(done) || done.to.is_final());
        let user_tier = if turns {
            table::user_tier(transaction, &author.tenant, &course.subscription.user_id).await?
        } else {
            plan::Tier::Free
        };
        for done in &course.done {
            told(&course.subscription, done, user_tier, &mut drafts);
            if tells_of_activation(done) {
                let activated = activated(transaction, author, (&course.subscription, done), user_tier).await?;
                drafts.push(Draft::new(about(&course.subscription, done), &activated));
            }
        }
    }
    publish_all(transaction, &author.origin, drafts).await
}

fn about<'a>(subscription: &'a Subscription, done: &Done) -> Aggregate<'a> {
    Aggregate { kind: "subscription", id: subscription.subscription_id.as_str(), version: done.version }
}

/// Whether the subscription gives what it did not give before.
fn tells_of_activation(done: &Done) -> bool {
    let gave = done.from.is_some_and(Status::gives) && !matches!(done.what, What::Changed { .. });
    done.to.gives() && !gave
}

async fn activated(
    transaction: &Transaction,
    author: &Author,
    (subscription, done): (&Subscription, &Done),
    user_tier: plan::Tier,
) -> Result<SubscriptionActivated, StoreError> {
    let (plan_id, version) = (&done.terms.plan_id, done.terms.plan_version);
    let plan = plan::table::find(transaction, &author.tenant, plan_id, Some(version)).await?;
    let plan = plan.ok_or(StoreError::Impossible("a subscription has a plan that is not there"))?;
    Ok(SubscriptionActivated {
        subscription_id: subscription.subscription_id.to_string(),
        user_id: subscription.user_id.to_string(),
        plan_id: plan_id.to_string(),
        tier: PlanTier::from(plan.terms.tier).into(),
        organization_id: organization(subscription),
        user_tier: PlanTier::from(user_tier).into(),
    })
}

fn organization(subscription: &Subscription) -> String {
    subscription.organization_id.as_ref().map(ToString::to_string).unwrap_or_default()
}

fn told(subscription: &Subscription, done: &Done, user_tier: plan::Tier, drafts: &mut Vec<Draft>) {
    let user_tier = PlanTier::from(user_tier).into();
    let about = about(subscription, done);
    let subscription_id = subscription.subscription_id.to_string();
    let user_id = subscription.user_id.to_string();
    let organization_id = organization(subscription);
    let (plan_id, plan_version) = (done.terms.plan_id.to_string(), done.terms.plan_version);
    let period = |period: &Period, amount: &money::Amount| SubscriptionPeriod {
        number: period.number,
        start_time: Some(period.start.to_wire()),
        end_time: Some(period.end.to_wire()),
        amount: amount.to_wire(),
        currency: amount.currency().code().to_owned(),
    };
    match &done.what {
        What::Created(first, amount) => drafts.push(Draft::new(
            about,
            &SubscriptionCreated {
                subscription_id,
                user_id,
                organization_id,
                plan_id,
                plan_version,
                status: SubscriptionStatus::from(done.to).into(),
                period: Some(period(first, amount)),
                billing_cycle: BillingCycle::from(done.terms.cycle).into(),
                seats: subscription.seats,
            },
        )),
        What::Renewed(next, amount) => {
            let period = Some(period(next, amount));
            let renewed =
                SubscriptionRenewed { subscription_id, user_id, organization_id, plan_id, plan_version, period };
            drafts.push(Draft::new(about, &renewed));
        }
        What::Changed { from, prorated: Some((time, amount)) } => drafts.push(Draft::new(
            about,
            &SubscriptionChanged {
                subscription_id,
                user_id,
                organization_id,
                from_plan_id: from.plan_id.to_string(),
                plan_id,
                plan_version,
                proration_time: Some(time.to_wire()),
                amount: amount.to_wire(),
                currency: amount.currency().code().to_owned(),
            },
        )),
        What::Stepped => {
            let from = done.from.map_or(0, |from| SubscriptionStatus::from(from).into());
            let to = SubscriptionStatus::from(done.to).into();
            let changed = SubscriptionStatusChanged {
                subscription_id: subscription_id.clone(),
                user_id: user_id.clone(),
                from,
                to,
            };
            drafts.push(Draft::new(about, &changed));
            if done.to == Status::Canceled {
                let canceled =
                    SubscriptionCanceled { subscription_id, user_id, plan_id, organization_id, from, user_tier };
                drafts.push(Draft::new(about, &canceled));
            } else if done.to == Status::Expired {
                let expired =
                    SubscriptionExpired { subscription_id, user_id, plan_id, organization_id, from, user_tier };
                drafts.push(Draft::new(about, &expired));
            }
        }
        // The period that begins with other terms says so, and what is only scheduled has not happened.
        What::Changed { prorated: None, .. } | What::Scheduled | What::CancellationScheduled | What::Withdrawn => {}
    }
}

fn paid<'a>(heard: &'a Heard<'a>, event: &'a PaymentCompleted, transaction: &'a Transaction) -> Handled<'a> {
    Box::pin(async move {
        // Money that went into a wallet pays nothing yet.
        let Some(subscription) = named(heard, &event.subscription_id, transaction).await? else {
            return Ok(Effect::Stale);
        };
        match subscription.status {
            Status::Incomplete | Status::PastDue => step(heard, vec![subscription], Status::Active, transaction).await,
            _ => Ok(Effect::Stale),
        }
    })
}

fn not_covered<'a>(
    heard: &'a Heard<'a>,
    event: &'a WalletInsufficientFunds,
    transaction: &'a Transaction,
) -> Handled<'a> {
    Box::pin(async move {
        let subscriptions = if !event.subscription_id.is_empty() {
            named(heard, &event.subscription_id, transaction).await?.into_iter().collect()
        } else if event.suspend {
            let living = table::living(transaction, &heard.event.tenant_id, &user_id(&event.user_id)?).await?;
            living.into_iter().filter(|subscription| subscription.terms.price.is_positive()).collect()
        } else {
            Vec::new()
        };
        let active = subscriptions.into_iter().filter(|subscription| subscription.status == Status::Active).collect();
        step(heard, active, Status::PastDue, transaction).await
    })
}

/// Ends what the user has, whatever is known of them by now: who was restored meanwhile subscribes anew.
fn user_deleted<'a>(heard: &'a Heard<'a>, event: &'a UserDeleted, transaction: &'a Transaction) -> Handled<'a> {
    Box::pin(async move {
        let known = buyer::user_deleted(heard, event, transaction).await?;
        let living = table::living(transaction, &heard.event.tenant_id, &user_id(&event.user_id)?).await?;
        let before = living.into_iter().filter(|subscription| subscription.create_time <= heard.event.time).collect();
        let ended = step(heard, before, Status::Canceled, transaction).await?;
        Ok(if known == Effect::Felt { known } else { ended })
    })
}

/// The subscription that an event names. One that is not there is none of ours, or of another tenant.
async fn named(
    heard: &Heard<'_>,
    subscription_id: &str,
    transaction: &Transaction,
) -> Result<Option<Subscription>, HandlerError> {
    if subscription_id.is_empty() {
        return Ok(None);
    }
    let subscription_id =
        Slug::parse(subscription_id).map_err(|fault| HandlerError::Unreadable(format!("subscription_id {fault}")))?;
    Ok(table::lock(transaction, &heard.event.tenant_id, &subscription_id).await?)
}

fn user_id(text: &str) -> Result<UserId, HandlerError> {
    UserId::parse(text).map_err(|fault| HandlerError::Unreadable(format!("user_id {fault}")))
}

/// Has the subscriptions take a step because of an event. Those from which there is none stay as they are.
async fn step(
    heard: &Heard<'_>,
    subscriptions: Vec<Subscription>,
    to: Status,
    transaction: &Transaction,
) -> Result<Effect, HandlerError> {
    let author = Author::heard(heard);
    let courses: Vec<Course> = subscriptions
        .into_iter()
        .filter_map(|subscription| {
            let mut course = Course::of(subscription);
            course.step(to, author.now, Why::of(heard.event.kind.clone())).ok()?;
            (!course.done.is_empty()).then_some(course)
        })
        .collect();
    if courses.is_empty() {
        return Ok(Effect::Stale);
    }
    let courses: Vec<&Course> = courses.iter().collect();
    table::save(transaction, &author, &courses).await?;
    tell(transaction, &author, &courses).await?;
    Ok(Effect::Felt)
}
