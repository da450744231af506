//! AccountService on the wire: each rpc is read, carried out and answered here; how its request is read stands with the
//! slice that it belongs to.

use std::{collections::BTreeMap, time::Duration};

use mesh::{Parts, REQUEST_BYTES, Reason, Refusal, TokenKey, UserId, open, page, update::Etag};
use tonic::{Request, Response, Status, async_trait};
use trivet_proto::account::v1::{
    self as wire, BatchGetAccountsRequest, BatchGetAccountsResponse, ChangeAccountStatusRequest,
    ChangeAccountStatusResponse, DeleteAccountRequest, DeleteAccountResponse, EnsureAccountRequest,
    EnsureAccountResponse, EraseAccountRequest, EraseAccountResponse, GetAccountRequest, GetAccountResponse,
    GetAccountStatsRequest, GetAccountStatsResponse, ListAccountHistoryRequest, ListAccountHistoryResponse,
    ListAccountsRequest, ListAccountsResponse, RestoreAccountRequest, RestoreAccountResponse, SearchAccountsRequest,
    SearchAccountsResponse, UpdateAccountRequest, UpdateAccountResponse, UpdatePreferencesRequest,
    UpdatePreferencesResponse,
    account_service_server::{AccountService, AccountServiceServer},
};

use super::{Account, Accounts, Refused, Standing, Tier};
use crate::{
    directory::{self, COUNT_LIMIT, Total},
    history, overview, preferences, profile, standing,
};

/// AccountService over this store.
pub(crate) fn server(parts: &Parts) -> AccountServiceServer<Rpc> {
    let accounts = Accounts { store: parts.store.clone(), clock: parts.clock.clone() };
    let rpc = Rpc { accounts, tokens: parts.tokens.clone(), overview: overview::Overview::new(parts) };
    AccountServiceServer::new(rpc).max_decoding_message_size(REQUEST_BYTES)
}

/// Readers of the store are done after this long, as a rule.
const READERS_END: Duration = Duration::from_secs(1);

pub(crate) struct Rpc {
    accounts: Accounts,
    tokens: TokenKey,
    overview: overview::Overview,
}

#[async_trait]
impl AccountService for Rpc {
    async fn ensure_account(
        &self,
        request: Request<EnsureAccountRequest>,
    ) -> Result<Response<EnsureAccountResponse>, Status> {
        let (context, asked) = open(request)?;
        let (account, created) = self.accounts.ensure(&context, profile::rpc::draft(&asked)?).await??;
        Ok(Response::new(EnsureAccountResponse { account: Some(account.into()), created }))
    }

    async fn get_account(&self, request: Request<GetAccountRequest>) -> Result<Response<GetAccountResponse>, Status> {
        let (context, asked) = open(request)?;
        let (key, view) = overview::asked(&asked)?;
        let account = self.accounts.find(&context, key).await??;
        let account = match view {
            overview::View::Basic => account.into(),
            overview::View::Full(currency) => self.overview.complete(&context, account.into(), currency).await,
        };
        Ok(Response::new(GetAccountResponse { account: Some(account) }))
    }

    async fn batch_get_accounts(
        &self,
        request: Request<BatchGetAccountsRequest>,
    ) -> Result<Response<BatchGetAccountsResponse>, Status> {
        let (context, asked) = open(request)?;
        let user_ids = profile::rpc::batch(&asked)?;
        let found = self.accounts.find_all(&context, &user_ids).await?;
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
        let (user_id, change) = profile::rpc::change(&asked)?;
        let account = self.accounts.update(&context, user_id, change).await??;
        Ok(Response::new(UpdateAccountResponse { account: Some(account.into()) }))
    }

    async fn update_preferences(
        &self,
        request: Request<UpdatePreferencesRequest>,
    ) -> Result<Response<UpdatePreferencesResponse>, Status> {
        let (context, asked) = open(request)?;
        let (user_id, change) = preferences::rpc::change(&asked)?;
        let account = self.accounts.update_preferences(&context, user_id, change).await??;
        Ok(Response::new(UpdatePreferencesResponse { account: Some(account.into()) }))
    }

    async fn list_accounts(
        &self,
        request: Request<ListAccountsRequest>,
    ) -> Result<Response<ListAccountsResponse>, Status> {
        let (context, asked) = open(request)?;
        let (filter, size) = directory::rpc::filter(&asked)?;
        let listing = self.tokens.listing("ListAccounts", &context.tenant, &filter)?;
        let before: Option<i64> = listing.open(&asked.page_token)?;
        let mut accounts = self.accounts.list(&context, &filter, before, page::rows(size)).await?;
        let next_page_token = listing.cut(&mut accounts, size, |listed| listed.number)?;
        let total = if asked.with_total { Some(self.accounts.total(&context, &filter).await?) } else { None };
        Ok(Response::new(ListAccountsResponse {
            accounts: accounts.into_iter().map(|listed| listed.account.into()).collect(),
            next_page_token,
            total_size: total.map(|total| match total {
                Total::Exactly(accounts) => accounts,
                Total::Capped => COUNT_LIMIT.cast_signed(),
            }),
            total_size_capped: total == Some(Total::Capped),
        }))
    }

    async fn search_accounts(
        &self,
        request: Request<SearchAccountsRequest>,
    ) -> Result<Response<SearchAccountsResponse>, Status> {
        let (context, asked) = open(request)?;
        let summaries = self.accounts.search(&context, &directory::rpc::search(&asked)?).await?;
        Ok(Response::new(SearchAccountsResponse { summaries: summaries.into_iter().map(Into::into).collect() }))
    }

    async fn change_account_status(
        &self,
        request: Request<ChangeAccountStatusRequest>,
    ) -> Result<Response<ChangeAccountStatusResponse>, Status> {
        let (context, asked) = open(request)?;
        let (user_id, change) = standing::rpc::change(&asked)?;
        let account = self.accounts.change_status(&context, user_id, change).await??;
        Ok(Response::new(ChangeAccountStatusResponse { account: Some(account.into()) }))
    }

    async fn delete_account(
        &self,
        request: Request<DeleteAccountRequest>,
    ) -> Result<Response<DeleteAccountResponse>, Status> {
        let (context, asked) = open(request)?;
        let (user_id, reason) = standing::rpc::whose(&asked.user_id, &asked.reason)?;
        let account = self.accounts.delete(&context, user_id, reason).await??;
        Ok(Response::new(DeleteAccountResponse { account: Some(account.into()) }))
    }

    async fn restore_account(
        &self,
        request: Request<RestoreAccountRequest>,
    ) -> Result<Response<RestoreAccountResponse>, Status> {
        let (context, asked) = open(request)?;
        let (user_id, reason) = standing::rpc::whose(&asked.user_id, &asked.reason)?;
        let account = self.accounts.restore(&context, user_id, reason).await??;
        Ok(Response::new(RestoreAccountResponse { account: Some(account.into()) }))
    }

    async fn erase_account(
        &self,
        request: Request<EraseAccountRequest>,
    ) -> Result<Response<EraseAccountResponse>, Status> {
        let (context, asked) = open(request)?;
        let (user_id, _) = standing::rpc::whose(&asked.user_id, &asked.reason)?;
        let account = self.accounts.erase(&context, user_id).await??;
        Ok(Response::new(EraseAccountResponse { account: Some(account.into()) }))
    }

    async fn list_account_history(
        &self,
        request: Request<ListAccountHistoryRequest>,
    ) -> Result<Response<ListAccountHistoryResponse>, Status> {
        let (context, asked) = open(request)?;
        let (user_id, size) = history::rpc::page(&asked)?;
        let listing = self.tokens.listing("ListAccountHistory", &context.tenant, &user_id)?;
        let before: Option<i64> = listing.open(&asked.page_token)?;
        let mut lines = self.accounts.history(&context, &user_id, before, page::rows(size)).await??;
        let next_page_token = listing.cut(&mut lines, size, |line| line.sequence)?;
        let total_size =
            if asked.with_total { Some(self.accounts.history_length(&context, &user_id).await?) } else { None };
        let entries = lines.into_iter().map(Into::into).collect();
        Ok(Response::new(ListAccountHistoryResponse { entries, next_page_token, total_size }))
    }

    async fn get_account_stats(
        &self,
        request: Request<GetAccountStatsRequest>,
    ) -> Result<Response<GetAccountStatsResponse>, Status> {
        let (context, _) = open(request)?;
        let counts = self.accounts.counts(&context).await?;
        let last_7_days = self.accounts.registered_within(&context, 7).await?;
        let last_30_days = self.accounts.registered_within(&context, 30).await?;
        Ok(Response::new(directory::rpc::stats(&counts, last_7_days, last_30_days)))
    }
}

/// Reads a tier; `None` where none is named.
pub(crate) fn tier(asked: i32) -> Result<Option<Tier>, &'static str> {
    match wire::SubscriptionTier::try_from(asked) {
        Ok(wire::SubscriptionTier::Unspecified) => Ok(None),
        Ok(wire::SubscriptionTier::Free) => Ok(Some(Tier::Free)),
        Ok(wire::SubscriptionTier::Basic) => Ok(Some(Tier::Basic)),
        Ok(wire::SubscriptionTier::Premium) => Ok(Some(Tier::Premium)),
        Ok(wire::SubscriptionTier::Enterprise) => Ok(Some(Tier::Enterprise)),
        Err(_) => Err("is not a tier that this release knows"),
    }
}

/// Reads a status; `None` where none is named.
pub(crate) fn status(asked: i32) -> Result<Option<Standing>, &'static str> {
    match wire::AccountStatus::try_from(asked) {
        Ok(wire::AccountStatus::Unspecified) => Ok(None),
        Ok(wire::AccountStatus::Active) => Ok(Some(Standing::Active)),
        Ok(wire::AccountStatus::Suspended) => Ok(Some(Standing::Suspended)),
        Ok(wire::AccountStatus::Deleted) => Ok(Some(Standing::Deleted)),
        Ok(wire::AccountStatus::Erased) => Ok(Some(Standing::Erased)),
        Err(_) => Err("is not a status that this release knows"),
    }
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
            preferences: Some(account.preferences.into()),
            create_time: Some(account.create_time.to_wire()),
            update_time: Some(account.update_time.to_wire()),
            delete_time: account.delete_time.map(mesh::Time::to_wire),
            credits: None,
            subscriptions: Vec::new(),
            unavailable_parts: Vec::new(),
            version: account.version,
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
            Refused::Erased(user_id) => about(Reason::AccountErased, user_id),
            Refused::Deleted(user_id) => about(Reason::AccountDeleted, user_id),
            Refused::NotDeleted(user_id) => about(Reason::AccountNotDeleted, user_id),
            Refused::EtagMismatch { user_id, found, .. } => about(Reason::EtagMismatch, user_id).with("etag", found),
            Refused::EmailTaken => refusal(Reason::EmailTaken),
            Refused::StillRead(user_id) => about(Reason::Conflict, user_id).retry_after(READERS_END),
        }
        .into()
    }
}
