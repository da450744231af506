//! Profiles: an account comes to be once, is found by its id or its e-mail address, and is changed by who knew it.

mod rpc;
mod table;
#[cfg(test)]
mod tests;

use mesh::{
    Clock, Context, Store, StoreError, Time, UserId,
    store::{Column, Row},
    text_enum,
    update::Etag,
};

pub(crate) use rpc::server;

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
    pub(crate) version: i64,
    pub(crate) create_time: Time,
    pub(crate) update_time: Time,
}

/// An e-mail address as its owner writes it, trimmed.
#[derive(Clone, Debug, PartialEq, Eq, Column)]
pub(crate) struct Email(String);

/// Why a text is not an e-mail address. Reads as the continuation of a field's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EmailFault {
    #[error("has more than {} characters", Email::LIMIT)]
    TooLong,
    #[error("must be an e-mail address: something, one @, something, and no spaces")]
    Form,
}

impl Email {
    /// Characters of an address (RFC 5321, section 4.5.3.1.3, less the brackets).
    const LIMIT: usize = 254;

    /// Reads an address. Whether it can be delivered to only a letter can tell, so that little more than the `@` is
    /// asked for.
    pub(crate) fn parse(text: &str) -> Result<Self, EmailFault> {
        let text = text.trim();
        if text.chars().count() > Self::LIMIT {
            return Err(EmailFault::TooLong);
        }
        let whole =
            |(mailbox, domain): (&str, &str)| !mailbox.is_empty() && !domain.is_empty() && !domain.contains('@');
        let printable = !text.contains(|found: char| found.is_whitespace() || found.is_control());
        if printable && text.split_once('@').is_some_and(whole) {
            Ok(Self(text.to_owned()))
        } else {
            Err(EmailFault::Form)
        }
    }

    /// The address as it is compared.
    pub(crate) fn key(&self) -> String {
        self.0.to_lowercase()
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A person who should have an account.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) user_id: UserId,
    pub(crate) email: Email,
    pub(crate) name: String,
    pub(crate) subscription_tier: Tier,
}

/// What an account is looked up by.
#[derive(Clone, Debug)]
pub(crate) enum Key {
    UserId(UserId),
    Email(Email),
}

/// A change of a profile; what is `None` stays.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) user_id: UserId,
    pub(crate) name: Option<String>,
    pub(crate) email: Option<Email>,
    pub(crate) etag: Option<Etag>,
}

/// Why a profile is not made, found or changed, in order of precedence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("there is no account {0}")]
    NoAccount(UserId),
    #[error("no account uses this e-mail address")]
    NoAccountWithEmail,
    #[error("account {0} was deleted")]
    Deleted(UserId),
    #[error("account {0} was erased")]
    Erased(UserId),
    #[error("account {user_id} is at {}, not at {}", .found, .held)]
    EtagMismatch { user_id: UserId, held: Etag, found: Etag },
    #[error("another account uses this e-mail address")]
    EmailTaken,
}

/// The accounts of this service.
#[derive(Clone)]
pub(crate) struct Profiles {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
}

impl Profiles {
    /// Makes the account unless it is there, and says whether it did. One that is there comes back as it is, unless it
    /// was deleted or erased.
    pub(crate) async fn ensure(
        &self,
        context: &Context,
        draft: Draft,
    ) -> Result<Result<(Account, bool), Refused>, StoreError> {
        // Every login comes this way: most find what they look for, and need no transaction.
        if let Some(account) = table::find(self.store.reader(), &context.tenant, &draft.user_id).await? {
            return Ok(living(account).map(|account| (account, false)));
        }
        let input = (context.tenant.clone(), draft, self.clock.now());
        let unit = self.store.unit(context).run(input, |(tenant, draft, now), transaction| {
            Box::pin(async move {
                let created = table::insert(transaction, tenant, draft, *now).await?;
                Ok((created, table::find(transaction, tenant, &draft.user_id).await?))
            })
        });
        Ok(match unit.await? {
            (created, Some(account)) => living(account).map(|account| (account, created)),
            // The row was refused, and not for its id.
            (_, None) => Err(Refused::EmailTaken),
        })
    }

    /// The account behind a key.
    pub(crate) async fn find(&self, context: &Context, key: Key) -> Result<Result<Account, Refused>, StoreError> {
        let (reader, tenant) = (self.store.reader(), &context.tenant);
        Ok(match key {
            Key::UserId(user_id) => {
                table::find(reader, tenant, &user_id).await?.ok_or(Refused::NoAccount(user_id)).and_then(not_erased)
            }
            Key::Email(email) => table::find_by_email(reader, tenant, &email).await?.ok_or(Refused::NoAccountWithEmail),
        })
    }

    /// The accounts among these ids, in no order.
    pub(crate) async fn find_all(&self, context: &Context, user_ids: &[UserId]) -> Result<Vec<Account>, StoreError> {
        table::find_all(self.store.reader(), &context.tenant, user_ids).await
    }

    /// Changes a profile.
    pub(crate) async fn update(
        &self,
        context: &Context,
        change: Change,
    ) -> Result<Result<Account, Refused>, StoreError> {
        let input = (context.tenant.clone(), change, self.clock.now());
        let unit = self.store.unit(context).run(input, |(tenant, change, now), transaction| {
            Box::pin(async move {
                let held = table::lock(transaction, tenant, &change.user_id).await?;
                let changed = match held.ok_or_else(|| Refused::NoAccount(change.user_id.clone())) {
                    Ok(account) => changed(account, change, *now),
                    Err(refused) => Err(refused),
                };
                if let Ok((account, true)) = &changed {
                    table::update(transaction, tenant, account).await?;
                }
                Ok(changed.map(|(account, _)| account))
            })
        });
        match unit.await {
            Err(error) if error.violates(table::EMAIL_IS_UNIQUE) => Ok(Err(Refused::EmailTaken)),
            ended => ended,
        }
    }
}

/// The rule of a change: the account as it will be, and whether that is anything new.
fn changed(account: Account, change: &Change, now: Time) -> Result<(Account, bool), Refused> {
    let account = living(account)?;
    let found = Etag::of(account.version);
    if let Some(held) = change.etag.filter(|held| *held != found) {
        return Err(Refused::EtagMismatch { user_id: account.user_id, held, found });
    }
    let mut after = account.clone();
    after.name = change.name.clone().unwrap_or(after.name);
    after.email = change.email.clone().unwrap_or(after.email);
    if after == account {
        return Ok((account, false));
    }
    after.version += 1;
    after.update_time = now;
    Ok((after, true))
}

/// An account that writes may touch.
fn living(account: Account) -> Result<Account, Refused> {
    match account.status {
        Standing::Active | Standing::Suspended => Ok(account),
        Standing::Deleted => Err(Refused::Deleted(account.user_id)),
        Standing::Erased => Err(Refused::Erased(account.user_id)),
    }
}

/// An account that still has something to show.
fn not_erased(account: Account) -> Result<Account, Refused> {
    match account.status {
        Standing::Erased => Err(Refused::Erased(account.user_id)),
        _ => Ok(account),
    }
}
