//! Profiles: an account comes to be once, is found by its id or its e-mail address, and is changed by who knew it.

pub(crate) mod rpc;

use mesh::{Context, StoreError, Time, UserId, store::Transaction, update::Etag};

use crate::{
    account::{self, Account, Accounts, Amendment, Email, Refused, Standing, Tier},
    history::{self, Action, Author, Subject, What},
    preferences::Preferences,
};

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
    pub(crate) name: Option<String>,
    pub(crate) email: Option<Email>,
    pub(crate) etag: Option<Etag>,
}

impl Accounts {
    /// Makes the account unless it is there, and says whether it did. One that is there comes back as it is, unless it
    /// was deleted or erased.
    pub(crate) async fn ensure(
        &self,
        context: &Context,
        draft: Draft,
    ) -> Result<Result<(Account, bool), Refused>, StoreError> {
        // Every login comes this way: most find what they look for, and need no transaction.
        if let Some(account) = account::find(self.store.reader(), &context.tenant, &draft.user_id).await? {
            return Ok(account.living().map(|account| (account, false)));
        }
        let input = (Author::of(context, &self.clock), draft);
        let unit = self.store.unit(context);
        let (account, created) =
            unit.run(input, |(author, draft), transaction| Box::pin(draft.insert(author, transaction))).await?;
        // A row that was refused, and not for its id, was refused for its address.
        Ok(account.ok_or(Refused::EmailTaken).and_then(Account::living).map(|account| (account, created)))
    }

    /// The account behind a key.
    pub(crate) async fn find(&self, context: &Context, key: Key) -> Result<Result<Account, Refused>, StoreError> {
        let (reader, tenant) = (self.store.reader(), &context.tenant);
        Ok(match key {
            Key::UserId(user_id) => {
                let found = account::find(reader, tenant, &user_id).await?;
                found.ok_or(Refused::NoAccount(user_id)).and_then(Account::not_erased)
            }
            Key::Email(email) => {
                account::find_by_email(reader, tenant, &email).await?.ok_or(Refused::NoAccountWithEmail)
            }
        })
    }

    /// The accounts among these ids, in no order.
    pub(crate) async fn find_all(&self, context: &Context, user_ids: &[UserId]) -> Result<Vec<Account>, StoreError> {
        account::find_all(self.store.reader(), &context.tenant, user_ids).await
    }

    /// Changes a profile.
    pub(crate) async fn update(
        &self,
        context: &Context,
        user_id: UserId,
        change: Change,
    ) -> Result<Result<Account, Refused>, StoreError> {
        let action = Action::ProfileUpdated;
        let rule = |account, change: &Change, _| changed(account, change);
        self.amend(context, Amendment { user_id, change, rule, action, reason: String::new() }).await
    }
}

impl Draft {
    /// The account with the draft's id, and whether it was made here; `None` where its address is taken.
    async fn insert(&self, author: &Author, transaction: &Transaction) -> Result<(Option<Account>, bool), StoreError> {
        let draft = self.account(author.now);
        if !account::insert(transaction, &author.tenant, &draft).await? {
            return Ok((account::find(transaction, &author.tenant, &self.user_id).await?, false));
        }
        let what =
            What { action: Action::Created.as_str(), fields: &["email", "name", "subscription_tier"], reason: "" };
        history::record(transaction, author, &Subject::Account(&self.user_id), what).await?;
        draft.tell(transaction, author, Action::Created, None).await?;
        Ok((Some(draft), true))
    }

    fn account(&self, now: Time) -> Account {
        let Self { user_id, email, name, subscription_tier } = self.clone();
        Account {
            user_id,
            email,
            name,
            subscription_tier,
            status: Standing::Active,
            status_reason: String::new(),
            preferences: Preferences::default(),
            version: 1,
            create_time: now,
            update_time: now,
            delete_time: None,
        }
    }
}

/// The rule of a change.
fn changed(account: Account, change: &Change) -> Result<Account, Refused> {
    let mut account = account.living()?.at(change.etag)?;
    if let Some(name) = &change.name {
        account.name.clone_from(name);
    }
    if let Some(email) = &change.email {
        account.email.clone_from(email);
    }
    Ok(account)
}
