//! What wallets hear of the other services.

use mesh::{
    UserId,
    events::{Effect, Handled, HandlerError, Handlers, Heard},
    store::Transaction,
};
use trivet_proto::account::v1::UserDeleted;

use crate::ledger;

/// Only what ends an account is heard: a wallet does not thaw by itself when somebody comes back.
pub(crate) fn handlers(handlers: Handlers) -> Handlers {
    handlers.on_alone(deleted)
}

/// Whoever is gone spends nothing any more. What was theirs stays where it is.
fn deleted<'a>(heard: &'a Heard<'a>, event: &'a UserDeleted, transaction: &'a Transaction) -> Handled<'a> {
    Box::pin(async move {
        let user_id =
            UserId::parse(&event.user_id).map_err(|fault| HandlerError::Unreadable(format!("user_id {fault}")))?;
        ledger::freeze_wallets(transaction, &heard.event.tenant_id, &user_id, heard.now).await?;
        Ok(Effect::Felt)
    })
}
