//! Standing: an account is suspended and let act again, deleted and restored, and erased for good.

pub(crate) mod rpc;
#[cfg(test)]
mod tests;

use mesh::{Context, StoreError, Time, UserId, update::Etag};
use tracing::info;

use crate::{
    account::{Account, Accounts, Amendment, Email, Refused, Standing, Tier},
    history::Action,
    preferences::Preferences,
};

/// Whether an account may act, and why.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) suspended: bool,
    pub(crate) reason: String,
    pub(crate) etag: Option<Etag>,
}

impl Accounts {
    /// Suspends an account, or lets it act again.
    pub(crate) async fn change_status(
        &self,
        context: &Context,
        user_id: UserId,
        change: Change,
    ) -> Result<Result<Account, Refused>, StoreError> {
        let (action, reason) = (Action::StatusChanged, change.reason.clone());
        let rule = |account, change: &Change, _| changed(account, change);
        self.amend(context, Amendment { user_id, change, rule, action, reason }).await
    }

    /// Deletes an account so that it can be restored.
    pub(crate) async fn delete(
        &self,
        context: &Context,
        user_id: UserId,
        reason: String,
    ) -> Result<Result<Account, Refused>, StoreError> {
        let (action, change) = (Action::Deleted, reason.clone());
        let rule = |account, reason: &String, now| deleted(account, reason, now);
        self.amend(context, Amendment { user_id, change, rule, action, reason }).await
    }

    /// Brings a deleted account back.
    pub(crate) async fn restore(
        &self,
        context: &Context,
        user_id: UserId,
        reason: String,
    ) -> Result<Result<Account, Refused>, StoreError> {
        let (action, change) = (Action::Restored, reason.clone());
        let rule = |account, reason: &String, _| restored(account, reason);
        self.amend(context, Amendment { user_id, change, rule, action, reason }).await
    }

    /// Destroys the personal data of an account: in its row, in its history, and in the files under both.
    pub(crate) async fn erase(
        &self,
        context: &Context,
        user_id: UserId,
    ) -> Result<Result<Account, Refused>, StoreError> {
        let rule = |account, (): &(), now| Ok(erased(account, now));
        let amendment = Amendment { user_id, change: (), rule, action: Action::Erased, reason: String::new() };
        let outcome = self.amend(context, amendment).await?;
        let Ok(account) = &outcome else { return Ok(outcome) };
        // Also where it was erased before: what kept the files from being cleaned then may be over.
        if !self.store.forget_the_past().await? {
            return Ok(Err(Refused::StillRead(account.user_id.clone())));
        }
        info!(user.id = %account.user_id, "Erased account {}", account.user_id);
        Ok(outcome)
    }
}

/// The rule of suspending and of letting act again.
fn changed(account: Account, change: &Change) -> Result<Account, Refused> {
    let account = account.living()?.at(change.etag)?;
    let status = if change.suspended { Standing::Suspended } else { Standing::Active };
    Ok(Account { status, status_reason: change.reason.clone(), ..account })
}

/// The rule of deleting: twice is once.
fn deleted(account: Account, reason: &str, now: Time) -> Result<Account, Refused> {
    match account.status {
        Standing::Active | Standing::Suspended => Ok(Account {
            status: Standing::Deleted,
            status_reason: reason.to_owned(),
            delete_time: Some(now),
            ..account
        }),
        Standing::Deleted => Ok(account),
        Standing::Erased => Err(Refused::Erased(account.user_id)),
    }
}

/// The rule of restoring.
fn restored(account: Account, reason: &str) -> Result<Account, Refused> {
    match account.status {
        Standing::Active | Standing::Suspended => Err(Refused::NotDeleted(account.user_id)),
        Standing::Deleted => {
            Ok(Account { status: Standing::Active, status_reason: reason.to_owned(), delete_time: None, ..account })
        }
        Standing::Erased => Err(Refused::Erased(account.user_id)),
    }
}

/// The rule of erasing: the id and the times stay; twice is once.
fn erased(account: Account, now: Time) -> Account {
    Account {
        email: Email::erased(),
        name: String::new(),
        subscription_tier: Tier::Free,
        status: Standing::Erased,
        status_reason: String::new(),
        preferences: Preferences::default(),
        delete_time: account.delete_time.or(Some(now)),
        ..account
    }
}
