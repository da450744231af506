//! How requests for subscriptions are read.

use std::collections::BTreeSet;

use mesh::{Fields, Refusal, RequestId, Slug, Time, UserId, page, text, update::Etag};
use trivet_proto::product::v1::{
    ChangePlanRequest, CreateSubscriptionRequest, GetSubscriptionAnalyticsRequest, ListSubscriptionsRequest,
    SubscriptionStatus, UpdateSubscriptionStatusRequest,
};

use super::super::{
    Filter, Status, change, create,
    steps::{Order, Wish},
};
use crate::plan;

/// Different statuses in one list: there are no more.
const STATUS_LIMIT: usize = 7;
/// Characters of a reason, and of what else a subscriber has to say.
const REASON_LIMIT: usize = 500;
const FEEDBACK_LIMIT: usize = 2_000;
/// Seats of one subscription, whatever the plan says.
const SEATS_LIMIT: i32 = 1_000_000;

/// Reads who subscribes to what.
pub(super) fn draft(asked: &CreateSubscriptionRequest) -> Result<create::Draft, Refusal> {
    let mut fields = Fields::default();
    let request_id = fields.read("request_id", RequestId::parse(&asked.request_id));
    let user_id = fields.read("user_id", UserId::parse(&asked.user_id));
    let organization_id = fields.read("organization_id", Slug::parse_optional(&asked.organization_id));
    let plan_id = fields.read("plan_id", Slug::parse(&asked.plan_id));
    let cycle = plan::cycle(asked.billing_cycle).and_then(|cycle| cycle.ok_or("is required"));
    let cycle = fields.read("billing_cycle", cycle);
    let seats = fields.read("seats", seats(asked.seats));
    let parts = (request_id, user_id, organization_id, plan_id, cycle, seats);
    let (request_id, user_id, organization_id, plan_id, cycle, seats) = fields.finish(parts)?;
    let use_trial = asked.use_trial;
    Ok(create::Draft { request_id, user_id, organization_id, plan_id, cycle, use_trial, seats })
}

fn seats(asked: i32) -> Result<Option<i32>, String> {
    let seats = (asked > 0).then_some(asked);
    if (0..=SEATS_LIMIT).contains(&asked) { Ok(seats) } else { Err(format!("must be 0 to {SEATS_LIMIT}")) }
}

/// Reads what a subscription should become.
pub(super) fn change(asked: &ChangePlanRequest) -> Result<change::Order, Refusal> {
    let mut fields = Fields::default();
    let request_id = fields.read("request_id", RequestId::parse(&asked.request_id));
    let subscription_id = fields.read("subscription_id", Slug::parse(&asked.subscription_id));
    let plan_id = fields.read("plan_id", Slug::parse(&asked.plan_id));
    let cycle = fields.read("billing_cycle", plan::cycle(asked.billing_cycle));
    let proration_time = asked.proration_time.as_ref().map(Time::from_wire).transpose();
    let proration_time = fields.read("proration_time", proration_time);
    let parts = (request_id, subscription_id, plan_id, cycle, proration_time);
    let (request_id, subscription_id, plan_id, cycle, proration_time) = fields.finish(parts)?;
    Ok(change::Order { request_id, subscription_id, plan_id, cycle, proration_time })
}

/// What of a request says why something should happen, and in which state of the subscription.
pub(super) struct Told<'a> {
    pub(super) subscription_id: &'a str,
    pub(super) reason: &'a str,
    pub(super) feedback: &'a str,
    pub(super) etag: &'a str,
}

/// Reads what should happen to which subscription.
pub(super) fn order(told: &Told<'_>, what: Wish) -> Result<Order, Refusal> {
    let mut fields = Fields::default();
    let subscription_id = fields.read("subscription_id", Slug::parse(told.subscription_id));
    let reason = fields.read("reason", text::optional_line(told.reason, REASON_LIMIT));
    let feedback = fields.read("feedback", text::paragraph(told.feedback, FEEDBACK_LIMIT));
    let (subscription_id, reason, feedback) = fields.finish((subscription_id, reason, feedback))?;
    Ok(Order { subscription_id, what, reason, feedback, etag: Etag::parse_optional(told.etag) })
}

/// Reads which step a subscription should take.
pub(super) fn step(asked: &UpdateSubscriptionStatusRequest) -> Result<Order, Refusal> {
    let mut fields = Fields::default();
    let subscription_id = fields.read("subscription_id", Slug::parse(&asked.subscription_id));
    let status = fields.read("status", required_status(asked.status));
    let reason = fields.read("reason", text::line(&asked.reason, REASON_LIMIT));
    let (subscription_id, status, reason) = fields.finish((subscription_id, status, reason))?;
    let (what, etag) = (Wish::Step(status), Etag::parse_optional(&asked.etag));
    Ok(Order { subscription_id, what, reason, feedback: String::new(), etag })
}

fn required_status(asked: i32) -> Result<Status, &'static str> {
    if asked == 0 { Err("is required") } else { status(asked) }
}

/// Reads of which time analytics are asked for.
pub(super) fn time(asked: &GetSubscriptionAnalyticsRequest) -> Result<(Time, Time), Refusal> {
    let mut fields = Fields::default();
    let time = |asked: &Option<prost_types::Timestamp>| asked.as_ref().ok_or("is required").and_then(Time::from_wire);
    let start = fields.read("start_time", time(&asked.start_time));
    let end = fields.read("end_time", time(&asked.end_time));
    if let (Some(start), Some(end)) = (start, end)
        && start >= end
    {
        fields.refuse("end_time", "must be later than start_time");
    }
    fields.finish((start, end))
}

/// Reads which subscriptions a list should hold, and how many of them.
pub(super) fn filter(asked: &ListSubscriptionsRequest) -> Result<(Filter, u64), Refusal> {
    let mut fields = Fields::default();
    let size = fields.read("page_size", page::size(asked.page_size));
    let user_id = fields.read("user_id", UserId::parse_optional(&asked.user_id));
    let organization_id = fields.read("organization_id", Slug::parse_optional(&asked.organization_id));
    let plan_id = fields.read("plan_id", Slug::parse_optional(&asked.plan_id));
    let statuses = statuses(&mut fields, &asked.statuses);
    let parts = (size, user_id, organization_id, plan_id, statuses);
    let (size, user_id, organization_id, plan_id, statuses) = fields.finish(parts)?;
    Ok((Filter { user_id, organization_id, plan_id, statuses }, size))
}

/// The statuses asked for, each once, sorted: whoever names the same ones in another order asks for the same list.
fn statuses(fields: &mut Fields, asked: &[i32]) -> Option<Vec<Status>> {
    // Counted first: a message has room for tens of thousands of them, and each would be a fault of its own.
    let distinct = asked.iter().collect::<BTreeSet<_>>().len();
    if distinct > STATUS_LIMIT {
        fields.refuse("statuses", format!("names {distinct} different statuses, there are {STATUS_LIMIT}"));
        return None;
    }
    let mut seen = BTreeSet::new();
    let mut statuses = Vec::with_capacity(distinct);
    let mut whole = true;
    for (position, number) in asked.iter().enumerate().filter(|(_, number)| seen.insert(**number)) {
        match fields.read(format!("statuses[{position}]"), status(*number)) {
            Some(status) => statuses.push(status),
            None => whole = false,
        }
    }
    statuses.sort_unstable_by_key(|status| status.as_str());
    whole.then_some(statuses)
}

fn status(asked: i32) -> Result<Status, &'static str> {
    match SubscriptionStatus::try_from(asked) {
        Ok(SubscriptionStatus::Unspecified) => Err("must be named; leave the list empty to ask for all"),
        Ok(SubscriptionStatus::Incomplete) => Ok(Status::Incomplete),
        Ok(SubscriptionStatus::Trialing) => Ok(Status::Trialing),
        Ok(SubscriptionStatus::Active) => Ok(Status::Active),
        Ok(SubscriptionStatus::PastDue) => Ok(Status::PastDue),
        Ok(SubscriptionStatus::Paused) => Ok(Status::Paused),
        Ok(SubscriptionStatus::Canceled) => Ok(Status::Canceled),
        Ok(SubscriptionStatus::Expired) => Ok(Status::Expired),
        Err(_) => Err("is not a status that this release knows"),
    }
}
