//! AccountService on the wire.

use std::collections::BTreeMap;

use mesh::{
    Fields, Parts, REQUEST_BYTES, Reason, Refusal, UserId, open, text,
    update::{Etag, Mask},
};
use tonic::{Request, Response, Status, async_trait};
use trivet_proto::account::v1::{
    self as wire, BatchGetAccountsRequest, BatchGetAccountsResponse, EnsureAccountRequest, EnsureAccountResponse,
    GetAccountRequest, GetAccountResponse, UpdateAccountRequest, UpdateAccountResponse,
    account_service_server::{AccountService, AccountServiceServer},
    get_account_request,
};

use super::{Account, Change, Draft, Email, Key, Profiles, Refused, Standing, Tier};

/// Characters of a name.
const NAME_LIMIT: usize = 200;
/// Accounts asked for at once.
const BATCH_LIMIT: usize = 1_000;

/// AccountService over this store.
pub(crate) fn server(parts: &Parts) -> AccountServiceServer<Rpc> {
    let profiles = Profiles { store: parts.store.clone(), clock: parts.clock.clone() };
    AccountServiceServer::new(Rpc { profiles }).max_decoding_message_size(REQUEST_BYTES)
}

pub(crate) struct Rpc {
    profiles: Profiles,
}

#[async_trait]
impl AccountService for Rpc {
    async fn ensure_account(
        &self,
        request: Request<EnsureAccountRequest>,
    ) -> Result<Response<EnsureAccountResponse>, Status> {
        let (context, asked) = open(request)?;
        let (account, created) = self.profiles.ensure(&context, draft(&asked)?).await??;
        Ok(Response::new(EnsureAccountResponse { account: Some(account.into()), created }))
    }

    async fn get_account(&self, request: Request<GetAccountRequest>) -> Result<Response<GetAccountResponse>, Status> {
        let (context, asked) = open(request)?;
        let account = self.profiles.find(&context, key(&asked)?).await??;
        Ok(Response::new(GetAccountResponse { account: Some(account.into()) }))
    }

    async fn batch_get_accounts(
        &self,
        request: Request<BatchGetAccountsRequest>,
    ) -> Result<Response<BatchGetAccountsResponse>, Status> {
        let (context, asked) = open(request)?;
        let user_ids = batch(&asked)?;
        let found = self.profiles.find_all(&context, &user_ids).await?;
        let mut found: BTreeMap<_, _> = found.into_iter().map(|account| (account.user_id.clone(), account)).collect();
        let mut response = BatchGetAccountsResponse::default();
        for user_id in user_ids {
            match found.remove(&user_id) {
                Some(account) => response.accounts.push(account.into()),
                None => response.missing_user_ids.push(user_id.into_string()),
            }
        }
        Ok(Response::new(response))
    }

    async fn update_account(
        &self,
        request: Request<UpdateAccountRequest>,
    ) -> Result<Response<UpdateAccountResponse>, Status> {
        let (context, asked) = open(request)?;
        let account = self.profiles.update(&context, change(&asked)?).await??;
        Ok(Response::new(UpdateAccountResponse { account: Some(account.into()) }))
    }
}

fn draft(asked: &EnsureAccountRequest) -> Result<Draft, Refusal> {
    let mut fields = Fields::default();
    let user_id = fields.read("user_id", UserId::parse(&asked.user_id));
    let email = fields.read("email", Email::parse(&asked.email));
    let name = fields.read("name", text::line(&asked.name, NAME_LIMIT));
    let tier = fields.read("subscription_tier", tier(asked.subscription_tier));
    let (user_id, email, name, subscription_tier) = fields.finish((user_id, email, name, tier))?;
    Ok(Draft { user_id, email, name, subscription_tier })
}

fn tier(asked: i32) -> Result<Tier, &'static str> {
    match wire::SubscriptionTier::try_from(asked) {
        Ok(wire::SubscriptionTier::Unspecified | wire::SubscriptionTier::Free) => Ok(Tier::Free),
        Ok(wire::SubscriptionTier::Basic) => Ok(Tier::Basic),
        Ok(wire::SubscriptionTier::Premium) => Ok(Tier::Premium),
        Ok(wire::SubscriptionTier::Enterprise) => Ok(Tier::Enterprise),
        Err(_) => Err("is not a tier that this release knows"),
    }
}

fn key(asked: &GetAccountRequest) -> Result<Key, Refusal> {
    let mut fields = Fields::default();
    let key = match &asked.key {
        Some(get_account_request::Key::UserId(user_id)) => {
            fields.read("user_id", UserId::parse(user_id).map(Key::UserId))
        }
        Some(get_account_request::Key::Email(email)) => fields.read("email", Email::parse(email).map(Key::Email)),
        None => fields.read("key", Err("is required: user_id or email")),
    };
    Ok(fields.finish((key,))?.0)
}

/// The ids asked for, each once, in the order of their first mention.
fn batch(asked: &BatchGetAccountsRequest) -> Result<Vec<UserId>, Refusal> {
    let mut fields = Fields::default();
    let user_ids = fields.read_batch("user_ids", &asked.user_ids, BATCH_LIMIT, UserId::parse);
    Ok(fields.finish((user_ids,))?.0)
}

fn change(asked: &UpdateAccountRequest) -> Result<Change, Refusal> {
    let present: Vec<&str> = [("name", asked.name.is_some()), ("email", asked.email.is_some())]
        .iter()
        .filter(|(_, set)| *set)
        .map(|(path, _)| *path)
        .collect();
    let mut fields = Fields::default();
    let user_id = fields.read("user_id", UserId::parse(&asked.user_id));
    let mask = Mask::read(asked.update_mask.as_ref(), &["name", "email"], &present);
    let sets = |path| mask.as_ref().is_ok_and(|mask| mask.has(path));
    // A field that the mask names and the request leaves out would be cleared, and neither of these can be empty.
    let name = fields.read(
        "name",
        sets("name").then(|| text::line(asked.name.as_deref().unwrap_or_default(), NAME_LIMIT)).transpose(),
    );
    let email = fields
        .read("email", sets("email").then(|| Email::parse(asked.email.as_deref().unwrap_or_default())).transpose());
    if let (Err(refusal), true) = (&mask, fields.is_faulty()) {
        fields.absorb(refusal);
    }
    let (user_id, name, email) = fields.finish((user_id, name, email))?;
    mask?;
    Ok(Change { user_id, name, email, etag: Etag::parse_optional(&asked.etag) })
}

impl From<Account> for wire::Account {
    fn from(account: Account) -> Self {
        Self {
            etag: Etag::of(account.version).to_string(),
            user_id: account.user_id.into_string(),
            email: account.email.as_str().to_owned(),
            name: account.name,
            subscription_tier: wire::SubscriptionTier::from(account.subscription_tier).into(),
            status: wire::AccountStatus::from(account.status).into(),
            status_reason: account.status_reason,
            create_time: Some(account.create_time.to_wire()),
            update_time: Some(account.update_time.to_wire()),
        }
    }
}

impl From<Tier> for wire::SubscriptionTier {
    fn from(tier: Tier) -> Self {
        match tier {
            Tier::Free => Self::Free,
            Tier::Basic => Self::Basic,
            Tier::Premium => Self::Premium,
            Tier::Enterprise => Self::Enterprise,
        }
    }
}

impl From<Standing> for wire::AccountStatus {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Active => Self::Active,
            Standing::Suspended => Self::Suspended,
            Standing::Deleted => Self::Deleted,
            Standing::Erased => Self::Erased,
        }
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let refusal = |reason| Refusal::new(reason, &refused);
        let about = |reason, user_id: &UserId| refusal(reason).about("trivet.account.v1.Account", user_id);
        match &refused {
            Refused::NoAccount(user_id) => about(Reason::AccountNotFound, user_id),
            Refused::NoAccountWithEmail => refusal(Reason::AccountNotFound),
            Refused::Deleted(user_id) => about(Reason::AccountDeleted, user_id),
            Refused::Erased(user_id) => about(Reason::AccountErased, user_id),
            Refused::EtagMismatch { user_id, found, .. } => about(Reason::EtagMismatch, user_id).with("etag", found),
            Refused::EmailTaken => refusal(Reason::EmailTaken),
        }
        .into()
    }
}
