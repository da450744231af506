//! API keys: whose they are is asked of account, and known for a few seconds.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use moka::future::Cache;
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, MissedTickBehavior},
};
use tonic::Status;
use trivet_proto::account::v1::{
    AuthenticateApiKeyRequest, AuthenticateApiKeyResponse, api_key_service_client::ApiKeyServiceClient,
};

use super::super::allow::{Grant, Scope, Tenants};
use crate::{Background, Caller, Context, Peer, Reason, Refusal, StoreError, Tenant, call::lock, unanswered};

/// How long an answer counts. With [`PATIENCE`] it is less than the five seconds after which a revoked key is refused
/// everywhere.
const KNOWN: Duration = Duration::from_millis(2_500);
/// How long account may take to answer: enough for a second attempt beside one that hangs, and for the breaker to learn
/// from it, which takes a call of two seconds.
const PATIENCE: Duration = Duration::from_millis(2_200);
/// Keys that are asked about at once. A new one costs account a look into its table, and anybody can make them up.
const ASKED: usize = 64;
/// When a caller may come again whose key there was no time to ask about.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// Keys that are known at once, good ones and others: some megabytes.
const ENTRIES: u64 = 20_000;
/// What a secret looks like, so that nobody is asked about anything else.
const PREFIX: &str = "tvt_";
const LENGTH: usize = 89;

/// The keys that callers come with.
#[derive(Clone)]
pub(super) struct Keys {
    account: ApiKeyServiceClient<Peer>,
    /// By the secret's SHA-256: secrets are nowhere.
    known: Cache<[u8; 32], Answer>,
    places: Arc<Semaphore>,
    /// Those that streams were begun with, and no more of them than streams. By the hash, too.
    followed: Arc<Mutex<HashMap<[u8; 32], End>>>,
    background: Background,
}

/// What account says of a secret: whose it is, or why it is not let in.
type Answer = Result<Arc<Holder>, Invalid>;

/// Why a key that was good is no more, once that is so.
type End = watch::Sender<Option<Invalid>>;

/// Whose a key is, and what it may do.
#[derive(Debug)]
pub(super) struct Holder {
    pub(super) key_id: Arc<str>,
    pub(super) grant: Grant,
}

/// Why a key is not let in.
#[derive(Clone, Debug)]
struct Invalid {
    message: Arc<str>,
    cause: Arc<str>,
}

impl Keys {
    /// Keys that this service knows of.
    pub(super) fn new(account: Peer, background: &Background) -> Self {
        Self {
            account: ApiKeyServiceClient::new(account),
            known: Cache::builder().max_capacity(ENTRIES).time_to_live(KNOWN).build(),
            places: Arc::new(Semaphore::new(ASKED)),
            followed: Arc::default(),
            background: background.clone(),
        }
    }

    /// Whose key this is.
    pub(super) async fn holder(&self, context: &Context, secret: &str) -> Result<Arc<Holder>, Refusal> {
        if secret.len() != LENGTH || !secret.starts_with(PREFIX) {
            return Err(refused("this is no API key", "MALFORMED"));
        }
        let hash = Sha256::digest(secret).into();
        let answer = match self.known.get(&hash).await {
            Some(answer) => answer,
            None => self.learn(context, secret, hash).await?,
        };
        answer.map_err(Refusal::from)
    }

    /// Comes back once a key that was good is no more. However many wait, it is asked about once at a time.
    pub(super) fn lapse(&self, secret: &str) -> impl Future<Output = Refusal> + Send + use<> {
        let hash = Sha256::digest(secret).into();
        let mut said = lock(&self.followed).entry(hash).or_insert_with(|| self.follow(hash, secret)).subscribe();
        async move {
            let said = said.wait_for(Option::is_some).await.ok().and_then(|said| said.clone());
            match said {
                Some(invalid) => invalid.into(),
                // The process goes, and every stream with it.
                None => std::future::pending().await,
            }
        }
    }

    /// Begins to ask about a key again and again. Its secret is in the memory of the task that does so, and nowhere else.
    fn follow(&self, hash: [u8; 32], secret: &str) -> End {
        let said = watch::Sender::new(None);
        let (keys, secret, told) = (self.clone(), secret.to_owned(), said.clone());
        self.background.spawn(|end| async move {
            tokio::select! {
                () = end.cancelled() => {}
                () = keys.keep_asking(hash, &secret, &told) => {}
            }
        });
        said
    }

    /// Asks about a key until it is not good any more, or no stream is left that was begun with it. What counts is when it was
    /// asked: the first time is now, because what let the stream in may have been said a while ago.
    async fn keep_asking(&self, hash: [u8; 32], secret: &str, said: &End) {
        let mut rounds = tokio::time::interval(KNOWN);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = rounds.tick() => {}
                () = said.closed() => {}
            }
            {
                let mut followed = lock(&self.followed);
                if said.is_closed() {
                    followed.remove(&hash);
                    return;
                }
            }
            let context = Context::own(Tenant::default_tenant(), PATIENCE);
            // An outage is no verdict.
            let Ok(answer) = self.ask(&context, secret).await else { continue };
            self.known.insert(hash, answer.clone()).await;
            if let Err(invalid) = answer {
                lock(&self.followed).remove(&hash);
                said.send_replace(Some(invalid));
                return;
            }
        }
    }

    /// Asks account, once however many come with the key at once, and whichever of them goes away: the asking is nobody's,
    /// and ends by itself.
    async fn learn(&self, context: &Context, secret: &str, hash: [u8; 32]) -> Result<Answer, Refusal> {
        let overloaded = |_| {
            let message = "more API keys are asked about than can be; nothing was begun";
            Refusal::new(Reason::Overloaded, message).retry_after(RETRY_AFTER)
        };
        let place = self.places.clone().try_acquire_owned().map_err(overloaded)?;
        let (keys, asked, secret) = (self.clone(), context.clone(), secret.to_owned());
        let asking = tokio::spawn(async move {
            let _place = place;
            keys.known.try_get_with(hash, keys.ask(&asked, &secret)).await
        });
        let answer = asking.await.map_err(Refusal::internal)?;
        answer.map_err(|status| unanswered(context, "account", &status))
    }

    async fn ask(&self, context: &Context, secret: &str) -> Result<Answer, Status> {
        let asked = Context {
            tenant: Tenant::default_tenant(),
            caller: Caller::Itself,
            deadline: Instant::now() + PATIENCE,
            ..context.clone()
        };
        let request = asked.onward(AuthenticateApiKeyRequest { secret: secret.to_owned() });
        match self.account.clone().authenticate_api_key(request).await {
            Ok(response) => Ok(Ok(Arc::new(holder(response.into_inner())?))),
            Err(status) if Reason::of(&status) == Some(Reason::CredentialsInvalid) => Ok(Err(invalid(&status))),
            Err(status) => Err(status),
        }
    }
}

impl From<Invalid> for Refusal {
    fn from(Invalid { message, cause }: Invalid) -> Self {
        refused(&message, &cause)
    }
}

fn holder(answer: AuthenticateApiKeyResponse) -> Result<Holder, Status> {
    let damaged = |_| Status::from_error(Box::new(StoreError::Impossible("account answers a tenant that none can be")));
    let tenants = Tenants::One(Tenant::parse(&answer.tenant_id).map_err(damaged)?);
    // A scope of a later version is for rpcs that this one does not have.
    let scopes = answer.scopes.iter().filter_map(|name| Scope::parse(name));
    Ok(Holder { key_id: answer.key_id.into(), grant: Grant::of(scopes, tenants) })
}

fn invalid(status: &Status) -> Invalid {
    use tonic_types::StatusExt as _;

    let cause = status.get_details_error_info().and_then(|mut info| info.metadata.remove("cause")).unwrap_or_default();
    Invalid { message: status.message().into(), cause: cause.into() }
}

pub(super) fn refused(message: &str, cause: &str) -> Refusal {
    Refusal::new(Reason::CredentialsInvalid, message).with("cause", cause)
}

#[cfg(test)]
mod tests;
