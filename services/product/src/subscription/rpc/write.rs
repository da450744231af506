//! How subscriptions are answered.

use mesh::{Reason, Refusal, Slug, Time, refusal::Violation, update::Etag};
use tonic::Status as GrpcStatus;
use trivet_proto::product::v1::{
    self as wire, BillingCycle, GetSubscriptionAnalyticsResponse, RecurringRevenue, ScheduledChange,
    SubscriptionAction, SubscriptionCount, SubscriptionHistoryEntry, SubscriptionStatus,
};

use super::super::{
    Refused, Status, Subscription, Terms,
    analytics::{Analytics, churn_rate},
    life::Action,
    table::Entry,
};
use crate::buyer;

/// The subscription as a call that only looks what would be answers it: it has no id.
pub(super) fn rehearsed(subscription: Subscription) -> wire::Subscription {
    wire::Subscription { subscription_id: String::new(), ..subscription.into() }
}

impl From<Subscription> for wire::Subscription {
    fn from(subscription: Subscription) -> Self {
        let etag = Etag::of(subscription.version).to_string();
        let effective_time = subscription.period.end;
        let currency = subscription.currency().code().to_owned();
        let Terms { plan_id, plan_version, cycle, price } = subscription.terms;
        Self {
            subscription_id: subscription.subscription_id.into_string(),
            user_id: subscription.user_id.into_string(),
            organization_id: subscription.organization_id.map(Slug::into_string).unwrap_or_default(),
            plan_id: plan_id.into_string(),
            plan_version,
            status: SubscriptionStatus::from(subscription.status).into(),
            billing_cycle: BillingCycle::from(cycle).into(),
            seats: subscription.seats,
            period_start_time: Some(subscription.period.start.to_wire()),
            period_end_time: Some(subscription.period.end.to_wire()),
            trial_end_time: subscription.trial_end.map(Time::to_wire),
            cancel_at_period_end: subscription.cancel_at_period_end,
            canceled_time: subscription.canceled_time.map(Time::to_wire),
            cancel_reason: subscription.cancel_reason,
            scheduled_change: subscription.change.map(|change| scheduled(change, effective_time)),
            etag,
            create_time: Some(subscription.create_time.to_wire()),
            update_time: Some(subscription.update_time.to_wire()),
            amount: price.to_wire(),
            currency,
        }
    }
}

fn scheduled(change: Terms, effective_time: Time) -> ScheduledChange {
    let currency = change.price.currency().code().to_owned();
    ScheduledChange {
        plan_id: change.plan_id.into_string(),
        plan_version: change.plan_version,
        billing_cycle: BillingCycle::from(change.cycle).into(),
        effective_time: Some(effective_time.to_wire()),
        amount: change.price.to_wire(),
        currency,
    }
}

impl From<Entry> for SubscriptionHistoryEntry {
    fn from(entry: Entry) -> Self {
        let from = entry.from_status.parse::<Status>().map_or(SubscriptionStatus::Unspecified, Into::into);
        Self {
            time: Some(entry.time.to_wire()),
            actor: entry.actor,
            action: SubscriptionAction::from(entry.action).into(),
            from: from.into(),
            to: SubscriptionStatus::from(entry.to_status).into(),
            reason: entry.reason,
            version: entry.version,
            feedback: entry.feedback,
        }
    }
}

impl From<Analytics> for GetSubscriptionAnalyticsResponse {
    fn from(analytics: Analytics) -> Self {
        let counts = analytics.held.into_iter().map(|held| SubscriptionCount {
            status: SubscriptionStatus::from(held.status).into(),
            plan_id: held.plan_id.into_string(),
            count: held.total,
        });
        let revenue = analytics
            .monthly
            .into_iter()
            .map(|amount| RecurringRevenue { currency: amount.currency().code().to_owned(), amount: amount.to_wire() });
        Self {
            counts: counts.collect(),
            created: analytics.flow.created,
            ended: analytics.flow.ended,
            living_at_start: analytics.flow.living_at_start,
            churn_rate: churn_rate(&analytics.flow),
            monthly_recurring_revenue: revenue.collect(),
        }
    }
}

impl From<Action> for SubscriptionAction {
    fn from(action: Action) -> Self {
        match action {
            Action::Created => Self::Created,
            Action::StatusChanged => Self::StatusChanged,
            Action::Renewed => Self::Renewed,
            Action::PlanChanged => Self::PlanChanged,
            Action::ChangeScheduled => Self::ChangeScheduled,
            Action::CancellationScheduled => Self::CancellationScheduled,
            Action::ChangeWithdrawn => Self::ChangeWithdrawn,
        }
    }
}

impl From<Status> for SubscriptionStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Incomplete => Self::Incomplete,
            Status::Trialing => Self::Trialing,
            Status::Active => Self::Active,
            Status::PastDue => Self::PastDue,
            Status::Paused => Self::Paused,
            Status::Canceled => Self::Canceled,
            Status::Expired => Self::Expired,
        }
    }
}

impl From<Refused> for GrpcStatus {
    fn from(refused: Refused) -> Self {
        let new = |reason| Refusal::new(reason, &refused);
        let plan = |reason, id: &Slug| new(reason).about("trivet.product.v1.Plan", id);
        let own = |reason, id: &Slug| new(reason).about("trivet.product.v1.Subscription", id);
        match &refused {
            Refused::RequestId(taken) => taken.clone().into(),
            Refused::NoAccount(user_id) => new(Reason::AccountNotFound).about("trivet.account.v1.Account", user_id),
            Refused::AccountInactive { user_id, status } => {
                let reason = match status {
                    // Never refused for being active.
                    buyer::Status::Active | buyer::Status::Suspended => Reason::AccountSuspended,
                    buyer::Status::Deleted => Reason::AccountDeleted,
                    buyer::Status::Erased => Reason::AccountErased,
                };
                new(reason).about("trivet.account.v1.Account", user_id)
            }
            Refused::NoOrganization(id) => {
                new(Reason::OrganizationNotFound).about("trivet.account.v1.Organization", id)
            }
            Refused::NotAMember { organization_id, .. } => {
                new(Reason::NotAMember).about("trivet.account.v1.Organization", organization_id)
            }
            Refused::NoSubscription(id) => own(Reason::SubscriptionNotFound, id),
            Refused::Stale { .. } => new(Reason::EtagMismatch),
            Refused::NotActive { subscription_id, .. } => own(Reason::SubscriptionNotActive, subscription_id),
            Refused::NoPlan(id) => plan(Reason::PlanNotFound, id),
            Refused::Archived(id) => plan(Reason::PlanNotAvailable, id),
            Refused::AlreadySubscribed(id) => plan(Reason::AlreadySubscribed, id),
            Refused::TrialUsed { plan_id, .. } => plan(Reason::TrialUsed, plan_id),
            Refused::Illegal { from, to } => new(Reason::IllegalTransition).with("from", from).with("to", to),
            Refused::Field(fault) => {
                let violation = Violation { field: fault.field.clone(), description: fault.description.clone() };
                Refusal::fields(Reason::InvalidFields, vec![violation])
            }
        }
        .into()
    }
}
