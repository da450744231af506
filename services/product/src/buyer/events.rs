//! What account tells of its users.

use mesh::{
    Time, UserId,
    events::{Effect, Handled, HandlerError, Handlers, Heard},
    store::Transaction,
};
use trivet_proto::account::v1::{AccountStatus, UserCreated, UserDeleted, UserProfileUpdated, UserStatusChanged};

use super::{Buyer, Status, table};

/// Everything that moves an account's version on, but `user.deleted`: that one ends subscriptions, too, and is heard by
/// them.
pub(crate) fn handlers() -> Handlers {
    Handlers::default().on(created).on(profile_updated).on(status_changed)
}

fn created<'a>(heard: &'a Heard<'a>, event: &'a UserCreated, transaction: &'a Transaction) -> Handled<'a> {
    Box::pin(stands(heard, transaction, &event.user_id, Status::Active))
}

fn status_changed<'a>(heard: &'a Heard<'a>, event: &'a UserStatusChanged, transaction: &'a Transaction) -> Handled<'a> {
    Box::pin(async move {
        let status = match event.to() {
            AccountStatus::Active => Status::Active,
            AccountStatus::Suspended => Status::Suspended,
            AccountStatus::Deleted => Status::Deleted,
            AccountStatus::Erased => Status::Erased,
            AccountStatus::Unspecified => {
                return Err(HandlerError::Unreadable(format!("{} is no status that is known here", event.to)));
            }
        };
        stands(heard, transaction, &event.user_id, status).await
    })
}

/// What `user.deleted` says of how the user stands.
pub(crate) async fn user_deleted(
    heard: &Heard<'_>,
    event: &UserDeleted,
    transaction: &Transaction,
) -> Result<Effect, HandlerError> {
    let status = if event.erased { Status::Erased } else { Status::Deleted };
    stands(heard, transaction, &event.user_id, status).await
}

/// Says nothing of the status: it is what it was at the version before. Where that one is not known, because nothing is
/// or because an event in between was given up, the status is not known either, and account will be asked.
fn profile_updated<'a>(
    heard: &'a Heard<'a>,
    event: &'a UserProfileUpdated,
    transaction: &'a Transaction,
) -> Handled<'a> {
    Box::pin(async move {
        let at = (heard.event.aggregate_version, as_of(heard));
        let user_id = read(&event.user_id)?;
        Ok(effect(table::advance(transaction, &heard.event.tenant_id, &user_id, at).await?))
    })
}

async fn stands(
    heard: &Heard<'_>,
    transaction: &Transaction,
    user_id: &str,
    status: Status,
) -> Result<Effect, HandlerError> {
    let buyer = Buyer { status, version: heard.event.aggregate_version, as_of_time: as_of(heard) };
    let user_id = read(user_id)?;
    Ok(effect(table::hear(transaction, &heard.event.tenant_id, &user_id, &buyer).await?))
}

fn read(user_id: &str) -> Result<UserId, HandlerError> {
    UserId::parse(user_id).map_err(|fault| HandlerError::Unreadable(format!("user_id {fault}")))
}

/// When it happened; not later than now, whatever account's clock says.
fn as_of(heard: &Heard<'_>) -> Time {
    heard.event.time.min(heard.now)
}

fn effect(written: bool) -> Effect {
    if written { Effect::Felt } else { Effect::Stale }
}
