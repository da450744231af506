//! The account: what there is to know of a person, what may be written to it, and the one way in which that is done.

mod email;
mod events;
pub(crate) mod fold;
pub(crate) mod rpc;
mod table;
#[cfg(test)]
pub(crate) mod tests;

use mesh::{
    Clock, Context, Store, StoreError, Time, UserId,
    store::{Row, Transaction},
    text_enum,
    update::Etag,
};

pub(crate) use email::Email;
pub(crate) use table::{COLUMNS, find, find_all, find_by_email, folded, insert, lock};

use crate::{
    history::{self, Action, Author, Subject, What},
    preferences::Preferences,
};

text_enum! {
    /// What the account pays for.
    pub(crate) enum Tier {
        /// Nothing.
        Free = "FREE",
        /// The smallest paid tier.
        Basic = "BASIC",
        /// The middle one.
        Premium = "PREMIUM",
        /// The largest one.
        Enterprise = "ENTERPRISE",
    }
}

text_enum! {
    /// How an account stands.
    pub(crate) enum Standing {
        /// In good standing.
        Active = "ACTIVE",
        /// Stopped by an operator for a while.
        Suspended = "SUSPENDED",
        /// Deleted; can be restored.
        Deleted = "DELETED",
        /// Personal data gone for good.
        Erased = "ERASED",
    }
}

/// An account, as its row holds it.
#[derive(Clone, Debug, PartialEq, Eq, Row)]
pub(crate) struct Account {
    pub(crate) user_id: UserId,
    pub(crate) email: Email,
    pub(crate) name: String,
    pub(crate) subscription_tier: Tier,
    pub(crate) status: Standing,
    pub(crate) status_reason: String,
    #[sea_orm(nested)]
    pub(crate) preferences: Preferences,
    pub(crate) version: i64,
    pub(crate) create_time: Time,
    pub(crate) update_time: Time,
    pub(crate) delete_time: Option<Time>,
}

/// Why an account is not made, found or changed, in order of precedence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("there is no account {0}")]
    NoAccount(UserId),
    #[error("no account uses this e-mail address")]
    NoAccountWithEmail,
    #[error("account {0} was erased")]
    Erased(UserId),
    #[error("account {0} was deleted")]
    Deleted(UserId),
    #[error("account {0} is not deleted")]
    NotDeleted(UserId),
    #[error("account {user_id} is at {}, not at {}", .found, .held)]
    EtagMismatch { user_id: UserId, held: Etag, found: Etag },
    #[error("another account uses this e-mail address")]
    EmailTaken,
    #[error("account {0} is erased, and its old pages are still being read; send it again to see them gone")]
    StillRead(UserId),
}

impl Account {
    /// The account, if writes may touch it.
    pub(crate) fn living(self) -> Result<Self, Refused> {
        match self.status {
            Standing::Active | Standing::Suspended => Ok(self),
            Standing::Deleted => Err(Refused::Deleted(self.user_id)),
            Standing::Erased => Err(Refused::Erased(self.user_id)),
        }
    }

    /// The account, if there is something of it to show.
    pub(crate) fn not_erased(self) -> Result<Self, Refused> {
        match self.status {
            Standing::Erased => Err(Refused::Erased(self.user_id)),
            _ => Ok(self),
        }
    }

    /// The account, if nothing came in between since its reader read it.
    pub(crate) fn at(self, held: Option<Etag>) -> Result<Self, Refused> {
        let found = Etag::of(self.version);
        match held.filter(|held| *held != found) {
            Some(held) => Err(Refused::EtagMismatch { user_id: self.user_id, held, found }),
            None => Ok(self),
        }
    }

    /// The names of the fields in which another state of the account differs.
    fn differing(&self, other: &Self) -> Vec<&'static str> {
        let fields = [
            ("name", self.name != other.name),
            ("email", self.email != other.email),
            ("subscription_tier", self.subscription_tier != other.subscription_tier),
            ("status", self.status != other.status),
            ("status_reason", self.status_reason != other.status_reason),
            ("delete_time", self.delete_time != other.delete_time),
        ];
        let own = fields.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name);
        own.chain(self.preferences.differing(&other.preferences)).collect()
    }
}

/// The accounts of this service. What can be done to them stands in the slices, each in its own `impl`.
#[derive(Clone)]
pub(crate) struct Accounts {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
}

/// The rule of a change: the account as it is to be. Version and update time are seen to.
pub(crate) type Rule<C> = fn(Account, &C, Time) -> Result<Account, Refused>;

/// A change of one account on its way through the store.
pub(crate) struct Amendment<C> {
    pub(crate) user_id: UserId,
    pub(crate) change: C,
    pub(crate) rule: Rule<C>,
    pub(crate) action: Action,
    pub(crate) reason: String,
}

impl Accounts {
    /// Changes an account as the rule says. A change of nothing is no change: no version, no history.
    pub(crate) async fn amend<C: Send + Sync + 'static>(
        &self,
        context: &Context,
        amendment: Amendment<C>,
    ) -> Result<Result<Account, Refused>, StoreError> {
        let input = (Author::of(context, &self.clock), amendment);
        let unit = self.store.unit(context);
        match unit.run(input, |(author, amendment), transaction| Box::pin(amendment.run(author, transaction))).await {
            Err(error) if error.violates(table::EMAIL_IS_UNIQUE) => Ok(Err(Refused::EmailTaken)),
            ended => ended,
        }
    }
}

impl<C> Amendment<C> {
    /// Makes the change in a transaction that is under way.
    pub(crate) async fn run(
        &self,
        author: &Author,
        transaction: &Transaction,
    ) -> Result<Result<Account, Refused>, StoreError> {
        let Some(before) = table::lock(transaction, &author.tenant, &self.user_id).await? else {
            return Ok(Err(Refused::NoAccount(self.user_id.clone())));
        };
        let after = match (self.rule)(before.clone(), &self.change, author.now) {
            Ok(after) if after == before => return Ok(Ok(before)),
            Ok(after) => Account { version: before.version + 1, update_time: author.now, ..after },
            Err(refused) => return Ok(Err(refused)),
        };
        table::update(transaction, &author.tenant, &after).await?;
        let subject = Subject::Account(&self.user_id);
        let fields = before.differing(&after);
        let what = What { action: self.action.as_str(), fields: &fields, reason: &self.reason };
        history::record(transaction, author, &subject, what).await?;
        after.tell(transaction, author, self.action, Some(&before)).await?;
        if self.action == Action::Erased {
            history::forget(transaction, &author.tenant, &subject).await?;
        }
        Ok(Ok(after))
    }
}
