//! What product tells of subscriptions. Those of an organization say nothing of the one who made them.

use mesh::{
    UserId,
    events::{Effect, Handled, HandlerError, Handlers, Heard},
    store::Transaction,
};
use trivet_proto::product::v1::{
    PlanTier, SubscriptionActivated, SubscriptionCanceled, SubscriptionExpired, SubscriptionStatus,
};

use crate::{
    account::{Amendment, Tier},
    history::{Action, Author},
};

/// Everything that gives or takes a tier.
pub(crate) fn handlers() -> Handlers {
    Handlers::default().on(activated).on(canceled).on(expired)
}

fn activated<'a>(heard: &'a Heard<'a>, event: &'a SubscriptionActivated, transaction: &'a Transaction) -> Handled<'a> {
    Box::pin(async move { set(heard, transaction, (&event.user_id, &event.organization_id), event.user_tier()).await })
}

fn canceled<'a>(heard: &'a Heard<'a>, event: &'a SubscriptionCanceled, transaction: &'a Transaction) -> Handled<'a> {
    Box::pin(ended(heard, transaction, (&event.user_id, &event.organization_id), (event.from(), event.user_tier())))
}

fn expired<'a>(heard: &'a Heard<'a>, event: &'a SubscriptionExpired, transaction: &'a Transaction) -> Handled<'a> {
    Box::pin(ended(heard, transaction, (&event.user_id, &event.organization_id), (event.from(), event.user_tier())))
}

/// What was never paid for gave no tier, and takes none.
async fn ended(
    heard: &Heard<'_>,
    transaction: &Transaction,
    whose: (&str, &str),
    (from, tier): (SubscriptionStatus, PlanTier),
) -> Result<Effect, HandlerError> {
    match from {
        SubscriptionStatus::Incomplete => Ok(Effect::Stale),
        _ => set(heard, transaction, whose, tier).await,
    }
}

async fn set(
    heard: &Heard<'_>,
    transaction: &Transaction,
    (user_id, organization_id): (&str, &str),
    tier: PlanTier,
) -> Result<Effect, HandlerError> {
    let tier = match tier {
        PlanTier::Free => Tier::Free,
        PlanTier::Basic => Tier::Basic,
        PlanTier::Premium => Tier::Premium,
        PlanTier::Enterprise => Tier::Enterprise,
        PlanTier::Unspecified => return Err(HandlerError::Unreadable("no tier that is known here is told".to_owned())),
    };
    if !organization_id.is_empty() {
        return Ok(Effect::Stale);
    }
    let user_id = UserId::parse(user_id).map_err(|fault| HandlerError::Unreadable(format!("user_id {fault}")))?;
    let (action, reason) = (Action::ProfileUpdated, heard.event.kind.clone());
    let amendment = Amendment { user_id, change: tier, rule: super::set, action, reason };
    // Who is gone, or was never here, has no tier.
    Ok(match amendment.run(&Author::hearing(heard), transaction).await? {
        Ok(_) => Effect::Felt,
        Err(_) => Effect::Stale,
    })
}
