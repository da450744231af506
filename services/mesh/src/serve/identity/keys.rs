//! API keys: whose they are is asked of account, and known for a few seconds.

use std::{sync::Arc, time::Duration};

use moka::future::Cache;
use sha2::{Digest as _, Sha256};
use tokio::{sync::Semaphore, time::Instant};
use tonic::Status;
use trivet_proto::account::v1::{
    AuthenticateApiKeyRequest, AuthenticateApiKeyResponse, api_key_service_client::ApiKeyServiceClient,
};

use super::super::allow::Scope;
use crate::{Caller, Context, Peer, Reason, Refusal, StoreError, Tenant, unanswered};

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
}

/// What account says of a secret: whose it is, or why it is not let in.
type Answer = Result<Arc<Holder>, Invalid>;

/// Whose a key is, and what it may do.
#[derive(Debug)]
pub(super) struct Holder {
    pub(super) tenant: Tenant,
    pub(super) key_id: Arc<str>,
    pub(super) scopes: Vec<Scope>,
}

/// Why a key is not let in.
#[derive(Clone, Debug)]
struct Invalid {
    message: Arc<str>,
    cause: Arc<str>,
}

impl Keys {
    /// Keys that this service knows of.
    pub(super) fn new(account: Peer) -> Self {
        let known = Cache::builder().max_capacity(ENTRIES).time_to_live(KNOWN).build();
        Self { account: ApiKeyServiceClient::new(account), known, places: Arc::new(Semaphore::new(ASKED)) }
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
        answer.map_err(|Invalid { message, cause }| refused(&message, &cause))
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

fn holder(answer: AuthenticateApiKeyResponse) -> Result<Holder, Status> {
    let damaged = |_| Status::from_error(Box::new(StoreError::Impossible("account answers a tenant that none can be")));
    Ok(Holder {
        tenant: Tenant::parse(&answer.tenant_id).map_err(damaged)?,
        key_id: answer.key_id.into(),
        // A scope of a later version is for rpcs that this one does not have.
        scopes: answer.scopes.iter().filter_map(|name| Scope::parse(name)).collect(),
    })
}

fn invalid(status: &Status) -> Invalid {
    use tonic_types::StatusExt as _;

    let cause = status.get_details_error_info().and_then(|mut info| info.metadata.remove("cause")).unwrap_or_default();
    Invalid { message: status.message().into(), cause: cause.into() }
}

pub(super) fn refused(message: &str, cause: &str) -> Refusal {
    Refusal::new(Reason::CredentialsInvalid, message).with("cause", cause)
}
