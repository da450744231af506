//! API keys: what programs call with. A secret is told once, found by the id that it holds, and kept as a hash.

mod rpc;
mod secret;
mod table;
#[cfg(test)]
mod tests;
mod usage;

use std::collections::BTreeSet;

use mesh::{
    Clock, Context, RequestId, Slug, Store, StoreError, Tenant, Time,
    claim::{self, Claim, Decision, Taken},
    store::{Column, Row, Transaction},
    text_enum,
};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

pub(crate) use rpc::server;
use secret::Secret;
use usage::Usage;

use crate::{
    history::{self, Author, Subject, What},
    tenant,
};

text_enum! {
    /// What a key may do: of one service, the rpcs without side effects, or all. In the order of their names.
    #[derive(PartialOrd, Ord)]
    pub(crate) enum Scope {
        /// Reads accounts.
        AccountRead = "account.read",
        /// Reads and changes accounts.
        AccountWrite = "account.write",
        /// Reads wallets.
        BillingRead = "billing.read",
        /// Reads wallets and moves money.
        BillingWrite = "billing.write",
        /// Reads products.
        ProductRead = "product.read",
        /// Reads and changes products.
        ProductWrite = "product.write",
    }
}

/// All that a key may do: the names of scopes, each once, sorted, with spaces.
#[derive(Clone, Debug, PartialEq, Eq, Column, Serialize, Deserialize)]
pub(crate) struct Scopes(String);

impl Scopes {
    pub(crate) fn of(scopes: impl IntoIterator<Item = Scope>) -> Self {
        let scopes: BTreeSet<Scope> = scopes.into_iter().collect();
        Self(scopes.into_iter().map(Scope::as_str).collect::<Vec<_>>().join(" "))
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.split_ascii_whitespace()
    }
}

/// A key without its secret, as its row holds it.
#[derive(Clone, Debug, PartialEq, Eq, Row, Serialize, Deserialize)]
pub(crate) struct Key {
    pub(crate) key_id: Slug,
    pub(crate) display_name: String,
    pub(crate) scopes: Scopes,
    pub(crate) create_time: Time,
    pub(crate) expire_time: Option<Time>,
    pub(crate) last_used_time: Option<Time>,
    pub(crate) revoke_time: Option<Time>,
}

/// What a row says to who comes with a secret.
#[derive(Clone, Debug, Row)]
pub(crate) struct Credential {
    pub(crate) tenant_id: Tenant,
    pub(crate) scopes: Scopes,
    secret_hash: Vec<u8>,
    expire_time: Option<Time>,
    revoke_time: Option<Time>,
}

/// Whose key a secret is, and what it may do.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(crate) tenant: Tenant,
    pub(crate) key_id: Slug,
    pub(crate) scopes: Scopes,
}

/// A key that should be made.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    pub(crate) request_id: RequestId,
    pub(crate) display_name: String,
    pub(crate) scopes: Scopes,
    pub(crate) expire_time: Option<Time>,
}

/// Why a key is not made or found, in order of precedence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("there is no tenant {0}")]
    NoTenant(Tenant),
    #[error(transparent)]
    RequestId(#[from] Taken),
    #[error("must be in the future")]
    Past,
    #[error("there is no API key {0}")]
    NoKey(Slug),
}

/// Why a secret is not let in, in order of precedence. None of them says the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Invalid {
    #[error("this is no API key: a character is wrong or missing")]
    Malformed,
    #[error("there is no such API key")]
    Unknown,
    #[error("the API key was revoked")]
    Revoked,
    #[error("the API key has expired")]
    Expired,
}

/// The API keys of this service.
#[derive(Clone)]
pub(crate) struct ApiKeys {
    store: Store,
    clock: Clock,
    usage: Usage,
}

impl ApiKeys {
    /// Makes a key, durably, and gives its secret; none where the key had been made before under the same request id.
    pub(crate) async fn create(
        &self,
        context: &Context,
        draft: Draft,
    ) -> Result<Result<(Key, Option<Secret>), Refused>, StoreError> {
        let reader = self.store.reader();
        // Asked before the request id is taken, so that the same call can be sent again once there is the tenant.
        if tenant::find(reader, &context.tenant).await?.is_none() {
            return Ok(Err(Refused::NoTenant(context.tenant.clone())));
        }
        let author = Author::of(context, &self.clock);
        let claim = draft.claim(&context.tenant);
        if draft.expire_time.is_some_and(|end| end <= author.now) {
            // The end was to come when the call was sent first, and that call has its answer for ever.
            let seen = claim.seen::<Key, Taken>(reader).await?;
            return Ok(seen.map_or(Err(Refused::Past), |seen| Ok((seen.decision()?, None))));
        }
        let secret = Secret::fresh(&self.clock);
        let key = draft.key(&secret, author.now);
        let input = (author, claim, key, secret.digest());
        let unit = self.store.unit(context).claimed().run(input, |(author, claim, key, digest), transaction| {
            Box::pin(claim::once(Some(claim), transaction, author.now, insert(author, key, digest, transaction)))
        });
        let (kept, _) = unit.await?;
        Ok(kept.map(|kept| told(kept, secret)).map_err(Refused::RequestId))
    }

    /// Says whose key a secret is, whatever tenant it is of.
    pub(crate) async fn authenticate(&self, secret: &str) -> Result<Result<Holder, Invalid>, StoreError> {
        let Some(secret) = Secret::parse(secret) else { return Ok(Err(Invalid::Malformed)) };
        let Some(credential) = table::find_credential(self.store.reader(), secret.key_id()).await? else {
            return Ok(Err(Invalid::Unknown));
        };
        let now = self.clock.now();
        if let Err(invalid) = credential.admit(&secret, now) {
            return Ok(Err(invalid));
        }
        self.usage.note(secret.key_id(), now);
        Ok(Ok(Holder { tenant: credential.tenant_id, key_id: secret.into_key_id(), scopes: credential.scopes }))
    }

    /// Up to `limit` keys of the tenant before this one, newest first.
    pub(crate) async fn list(
        &self,
        context: &Context,
        before: Option<&Slug>,
        limit: u64,
    ) -> Result<Vec<Key>, StoreError> {
        table::list(self.store.reader(), &context.tenant, before, limit).await
    }

    /// How many keys the tenant has.
    pub(crate) async fn count(&self, context: &Context) -> Result<i64, StoreError> {
        table::count(self.store.reader(), &context.tenant).await
    }

    /// Ends a key of the tenant for good. One that was ended before stays as it is.
    pub(crate) async fn revoke(&self, context: &Context, key_id: Slug) -> Result<Result<Key, Refused>, StoreError> {
        let input = (Author::of(context, &self.clock), key_id);
        let unit = self.store.unit(context);
        unit.run(input, |(author, key_id), transaction| Box::pin(revoke(author, key_id, transaction))).await
    }
}

/// What is told of the key that is kept under the request id: with its secret, if it is the key that this call made. A
/// unit that ran again after an unclear COMMIT finds that one, and nobody else could tell its secret.
fn told(kept: Key, secret: Secret) -> (Key, Option<Secret>) {
    let ours = kept.key_id == *secret.key_id();
    (kept, ours.then_some(secret))
}

async fn insert(
    author: &Author,
    key: &Key,
    digest: &[u8],
    transaction: &Transaction,
) -> Result<Decision<Key, Taken>, StoreError> {
    table::insert(transaction, &author.tenant, key, digest).await?;
    let what = What { action: "CREATED", fields: &[], reason: "" };
    history::record(transaction, author, &Subject::ApiKey(key.key_id.as_str()), what).await?;
    Ok(Ok(key.clone()))
}

async fn revoke(author: &Author, key_id: &Slug, transaction: &Transaction) -> Result<Result<Key, Refused>, StoreError> {
    let Some(key) = table::lock(transaction, &author.tenant, key_id).await? else {
        return Ok(Err(Refused::NoKey(key_id.clone())));
    };
    if key.revoke_time.is_some() {
        return Ok(Ok(key));
    }
    table::revoke(transaction, &author.tenant, key_id, author.now).await?;
    let what = What { action: "REVOKED", fields: &["revoke_time"], reason: "" };
    history::record(transaction, author, &Subject::ApiKey(key_id.as_str()), what).await?;
    Ok(Ok(Key { revoke_time: Some(author.now), ..key }))
}

impl Draft {
    fn claim(&self, tenant: &Tenant) -> Claim {
        let expire_time = self.expire_time.map_or_else(String::new, |end| end.micros().to_string());
        let fields =
            [("display_name", self.display_name.as_str()), ("scopes", &self.scopes.0), ("expire_time", &expire_time)];
        Claim::new(tenant, &self.request_id, "CreateApiKey", &fields)
    }

    fn key(&self, secret: &Secret, now: Time) -> Key {
        Key {
            key_id: secret.key_id().clone(),
            display_name: self.display_name.clone(),
            scopes: self.scopes.clone(),
            create_time: now,
            expire_time: self.expire_time,
            last_used_time: None,
            revoke_time: None,
        }
    }
}

impl Credential {
    /// The rule: whether the secret is let in. How the key stands is for nobody to hear who does not hold the secret, so
    /// that the hashes are compared first, in a time that says nothing of where they differ.
    fn admit(&self, secret: &Secret, now: Time) -> Result<(), Invalid> {
        if !bool::from(self.secret_hash.ct_eq(&secret.digest()[..])) {
            Err(Invalid::Unknown)
        } else if self.revoke_time.is_some() {
            Err(Invalid::Revoked)
        } else if self.expire_time.is_some_and(|end| end <= now) {
            Err(Invalid::Expired)
        } else {
            Ok(())
        }
    }
}

impl Invalid {
    /// The cause, as ErrorInfo's metadata tells it.
    pub(crate) const fn cause(self) -> &'static str {
        match self {
            Self::Malformed => "MALFORMED",
            Self::Unknown => "UNKNOWN",
            Self::Revoked => "REVOKED",
            Self::Expired => "EXPIRED",
        }
    }
}
