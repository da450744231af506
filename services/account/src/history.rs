//! History: every change writes one line of who, when, what and why, in its own transaction. It never says from what to
//! what: values are personal data.

pub(crate) mod rpc;
mod table;

use mesh::{
    Caller, Clock, Context, Slug, StoreError, Tenant, Time, UserId,
    events::{Heard, Origin},
    store::{Row, Transaction},
    text_enum,
};

use crate::account::{self, Accounts, Refused};

text_enum! {
    /// What was done to an account.
    pub(crate) enum Action {
        /// It came to be.
        Created = "CREATED",
        /// The name or e-mail address of an account was changed.
        ProfileUpdated = "PROFILE_UPDATED",
        /// The preferences of an account were changed.
        PreferencesUpdated = "PREFERENCES_UPDATED",
        /// An account was suspended or let act again.
        StatusChanged = "STATUS_CHANGED",
        /// An account was deleted.
        Deleted = "DELETED",
        /// An account was restored.
        Restored = "RESTORED",
        /// The personal data of an account was destroyed.
        Erased = "ERASED",
    }
}

/// What was changed. Each has a history of its own.
pub(crate) enum Subject<'s> {
    Account(&'s UserId),
    Organization(&'s Slug),
    ApiKey(&'s str),
    Tenant(&'s Tenant),
}

/// Whose change it is, in which call, and when.
#[derive(Clone)]
pub(crate) struct Author {
    pub(crate) tenant: Tenant,
    pub(crate) now: Time,
    /// Where its events come from.
    pub(crate) origin: Origin,
    actor: String,
    request_id: String,
}

impl Author {
    /// The process itself, because of an event.
    pub(crate) fn hearing(heard: &Heard<'_>) -> Self {
        Self {
            tenant: heard.event.tenant_id.clone(),
            now: heard.now,
            origin: heard.origin(),
            actor: Caller::Itself.to_string(),
            request_id: heard.event.event_id.clone(),
        }
    }

    /// Whoever makes this call, now.
    pub(crate) fn of(context: &Context, clock: &Clock) -> Self {
        Self {
            tenant: context.tenant.clone(),
            now: clock.now(),
            origin: Origin::of(context, clock),
            actor: context.caller.to_string(),
            request_id: context.request_id.to_string(),
        }
    }
}

/// One change of an account.
#[derive(Clone, Debug, Row)]
pub(crate) struct Entry {
    pub(crate) sequence: i64,
    pub(crate) time: Time,
    pub(crate) actor: String,
    pub(crate) action: Action,
    pub(crate) fields: String,
    pub(crate) reason: String,
    pub(crate) request_id: String,
}

/// Writes down one change, in the transaction that makes it and under the lock of what it changes. Every write of this
/// service comes here.
pub(crate) async fn record(
    transaction: &Transaction,
    author: &Author,
    subject: &Subject<'_>,
    what: What<'_>,
) -> Result<(), StoreError> {
    table::insert(transaction, author, subject, &what).await
}

/// What a line says beside whose it is.
pub(crate) struct What<'w> {
    /// What was done; of an account, one of [`Action`].
    pub(crate) action: &'w str,
    /// The names of the fields that changed.
    pub(crate) fields: &'w [&'w str],
    /// Why; empty where nobody said.
    pub(crate) reason: &'w str,
}

/// Takes the words of callers out of a subject's history: reasons, and the request ids that they made up.
pub(crate) async fn forget(
    transaction: &Transaction,
    tenant: &Tenant,
    subject: &Subject<'_>,
) -> Result<(), StoreError> {
    table::blank(transaction, tenant, subject).await
}

impl Accounts {
    /// Up to `limit` changes of an account before this one, newest first.
    pub(crate) async fn history(
        &self,
        context: &Context,
        user_id: &UserId,
        before: Option<i64>,
        limit: u64,
    ) -> Result<Result<Vec<Entry>, Refused>, StoreError> {
        let reader = self.store.reader();
        if account::find(reader, &context.tenant, user_id).await?.is_none() {
            return Ok(Err(Refused::NoAccount(user_id.clone())));
        }
        table::list(reader, &context.tenant, &Subject::Account(user_id), before, limit).await.map(Ok)
    }

    /// How many changes of an account there were.
    pub(crate) async fn history_length(&self, context: &Context, user_id: &UserId) -> Result<i64, StoreError> {
        table::length(self.store.reader(), &context.tenant, &Subject::Account(user_id)).await
    }
}
