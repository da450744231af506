//! SubscriptionService on the wire.

use std::collections::BTreeSet;

use mesh::{Fields, Parts, REQUEST_BYTES, Refusal, Slug, TokenKey, UserId, open, page};
use tonic::{Request, Response, Status as GrpcStatus, async_trait};
use trivet_proto::product::v1::{
    self as wire, ListSubscriptionsRequest, ListSubscriptionsResponse, SubscriptionStatus,
    subscription_service_server::{SubscriptionService, SubscriptionServiceServer},
};

use super::{Cursor, Filter, Status, Subscription, Subscriptions};

/// Different statuses in one list: there are no more.
const STATUS_LIMIT: usize = 7;

/// SubscriptionService over this store.
pub(crate) fn server(parts: &Parts) -> SubscriptionServiceServer<Rpc> {
    let rpc = Rpc { subscriptions: Subscriptions::new(parts.store.clone()), tokens: parts.tokens.clone() };
    SubscriptionServiceServer::new(rpc).max_decoding_message_size(REQUEST_BYTES)
}

pub(crate) struct Rpc {
    subscriptions: Subscriptions,
    tokens: TokenKey,
}

#[async_trait]
impl SubscriptionService for Rpc {
    async fn list_subscriptions(
        &self,
        request: Request<ListSubscriptionsRequest>,
    ) -> Result<Response<ListSubscriptionsResponse>, GrpcStatus> {
        let (context, asked) = open(request)?;
        let (filter, size) = filter(&asked)?;
        let listing = self.tokens.listing("ListSubscriptions", &context.tenant, &filter)?;
        let after: Option<Cursor> = listing.open(&asked.page_token)?;
        let mut subscriptions = self.subscriptions.list(&context, &filter, after.as_ref(), page::rows(size)).await?;
        let next_page_token = listing.cut(&mut subscriptions, size, Cursor::of)?;
        let total_size = if asked.with_total { Some(self.subscriptions.count(&context, &filter).await?) } else { None };
        let subscriptions = subscriptions.into_iter().map(Into::into).collect();
        Ok(Response::new(ListSubscriptionsResponse { subscriptions, next_page_token, total_size }))
    }
}

fn filter(asked: &ListSubscriptionsRequest) -> Result<(Filter, u64), Refusal> {
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

impl From<Subscription> for wire::Subscription {
    fn from(subscription: Subscription) -> Self {
        Self {
            subscription_id: subscription.subscription_id,
            user_id: subscription.user_id.into_string(),
            organization_id: subscription.organization_id,
            plan_id: subscription.plan_id.into_string(),
            status: SubscriptionStatus::from(subscription.status).into(),
            period_end_time: Some(subscription.period_end_time.to_wire()),
            cancel_at_period_end: subscription.cancel_at_period_end,
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
