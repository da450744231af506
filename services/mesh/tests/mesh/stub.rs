//! Two services that do as the user id asked for says, and remember what reached them.

use std::{sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, pending};
use mesh::{Context, Parts, Peer, Reason, Refusal, Role, Services, identity::Transport, open, unanswered};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, async_trait};
use trivet_proto::{
    account::v1::{self as account, account_service_client::AccountServiceClient, account_service_server as accounts},
    product::v1::{self as product, catalog_service_server as catalog},
};

use crate::house::{get, in_time, migrations};

/// A request no larger than this is read.
pub(crate) const MESSAGE_BYTES: usize = 256 * 1024;
/// What the handler of "overloaded" asks its callers to wait.
const PUSHBACK: Duration = Duration::from_millis(20);

/// What a handler saw when it began.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) rpc: &'static str,
    /// `grpc-timeout` as it came.
    pub(crate) timeout: Option<Duration>,
    pub(crate) traceparent: Option<String>,
    /// `x-request-id` as it came.
    pub(crate) request_id: Option<String>,
    /// `x-trivet-tenant` as it came.
    pub(crate) tenant: Option<String>,
    /// `grpc-previous-rpc-attempts` as it came.
    pub(crate) previous_attempts: Option<String>,
    /// What the connection says of its other end.
    pub(crate) transport: Option<Transport>,
    /// What the serving stack made of it.
    pub(crate) context: Context,
}

/// The hand that steers both services, and what they remember. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Stub(Arc<Inner>);

#[derive(Default)]
struct Inner {
    seen: watch::Sender<Vec<Seen>>,
    /// Handlers that were dropped before they were done.
    dropped: watch::Sender<usize>,
    /// How many calls of a flaky user still fail.
    failures: watch::Sender<u32>,
    released: CancellationToken,
}

impl Stub {
    /// A stub whose flaky users fail this many times.
    pub(crate) fn failing(times: u32) -> Self {
        let stub = Self::default();
        stub.0.failures.send_replace(times);
        stub
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.0.seen.borrow().clone()
    }

    /// Waits until this many handlers have begun.
    pub(crate) async fn begun(&self, count: usize) {
        let mut seen = self.0.seen.subscribe();
        in_time("beginning", seen.wait_for(|seen| seen.len() >= count)).await.unwrap();
    }

    /// Waits until this many handlers were dropped before they were done.
    pub(crate) async fn dropped(&self, count: usize) {
        let mut dropped = self.0.dropped.subscribe();
        in_time("dropping", dropped.wait_for(|dropped| *dropped >= count)).await.unwrap();
    }

    /// Lets the calls of the user "held" be answered.
    pub(crate) fn release(&self) {
        self.0.released.cancel();
    }

    pub(crate) fn account_role(&self) -> Role {
        let stub = self.clone();
        Role {
            name: "account",
            migrations: migrations(),
            postgres: &[],
            services: Box::new(move |_| {
                let server = accounts::AccountServiceServer::new(Account(stub));
                Ok(Services::default().with(server.max_decoding_message_size(MESSAGE_BYTES)))
            }),
        }
    }

    pub(crate) fn product_role(&self) -> Role {
        let stub = self.clone();
        Role {
            name: "product",
            migrations: migrations(),
            postgres: &[],
            services: Box::new(move |parts: Parts| {
                let accounts = AccountServiceClient::new(parts.peers.get("account")?);
                Ok(Services::default().with(catalog::CatalogServiceServer::new(Catalog { stub, accounts })))
            }),
        }
    }

    /// Notes what came, and takes the request apart.
    fn note<M>(&self, rpc: &'static str, request: Request<M>) -> Result<(Context, M), Status> {
        let header = |name| request.metadata().get(name).map(|value| value.to_str().unwrap().to_owned());
        let timeout = header("grpc-timeout").map(|value| read_timeout(&value));
        let (traceparent, request_id) = (header("traceparent"), header("x-request-id"));
        let (tenant, previous_attempts) = (header("x-trivet-tenant"), header("grpc-previous-rpc-attempts"));
        let transport = request.extensions().get().cloned();
        let (context, message) = open(request)?;
        let own = context.clone();
        let seen = Seen { rpc, timeout, traceparent, request_id, tenant, previous_attempts, transport, context: own };
        self.0.seen.send_modify(|all| all.push(seen));
        Ok((context, message))
    }

    /// Does as the user id says.
    async fn behave(&self, user_id: &str) -> Result<account::Account, Status> {
        let mut unfinished = Unfinished { stub: self, done: false };
        let outcome = match user_id {
            "panic" => panic!("the secret is 42"),
            "slow" => pending().await,
            "held" => {
                self.0.released.cancelled().await;
                Ok(())
            }
            "fail" => Err(Status::unavailable("not now")),
            "broken" => Err(Refusal::internal(Status::data_loss("the secret is 42")).into()),
            "bare" => Err(Status::internal("the secret is 42")),
            "notfound" => Err(Refusal::new(Reason::AccountNotFound, "nobody of this name").into()),
            "toomuch" => Err(Refusal::new(Reason::QuotaExhausted, "that was the last one").into()),
            "flaky" if self.fails_once_more() => Err(Status::unavailable("not yet")),
            "overloaded" if self.fails_once_more() => {
                Err(Refusal::new(Reason::Overloaded, "too much to do").retry_after(PUSHBACK).into())
            }
            _ => Ok(()),
        };
        unfinished.done = true;
        outcome.map(|()| account::Account { user_id: user_id.to_owned(), ..account::Account::default() })
    }

    fn fails_once_more(&self) -> bool {
        self.0.failures.send_if_modified(|left| {
            let fails = *left > 0;
            *left = left.saturating_sub(1);
            fails
        })
    }
}

struct Unfinished<'s> {
    stub: &'s Stub,
    done: bool,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.stub.0.dropped.send_modify(|count| *count += 1);
        }
    }
}

/// Reads a `grpc-timeout` that was good enough to get here.
fn read_timeout(value: &str) -> Duration {
    let (digits, unit) = value.split_at(value.len() - 1);
    let amount = digits.parse().unwrap();
    match unit {
        "n" => Duration::from_nanos(amount),
        "u" => Duration::from_micros(amount),
        "m" => Duration::from_millis(amount),
        "S" => Duration::from_secs(amount),
        "M" => Duration::from_mins(amount),
        "H" => Duration::from_hours(amount),
        other => panic!("{other:?} is no unit of grpc-timeout"),
    }
}

/// Rpcs that no test calls. What a macro makes async-trait cannot rewrite, so that this is what it would have made.
macro_rules! not_here {
    ($package:ident: $($rpc:ident $Request:ident $Response:ident)+) => {
        $(fn $rpc<'life0, 'async_trait>(
            &'life0 self,
            _: Request<$package::$Request>,
        ) -> BoxFuture<'async_trait, Result<Response<$package::$Response>, Status>>
        where
            'life0: 'async_trait,
            Self: 'async_trait,
        {
            Box::pin(async { Err(Status::unimplemented("not here")) })
        })+
    };
}

struct Account(Stub);

#[async_trait]
impl accounts::AccountService for Account {
    async fn ensure_account(
        &self,
        request: Request<account::EnsureAccountRequest>,
    ) -> Result<Response<account::EnsureAccountResponse>, Status> {
        let (_, asked) = self.0.note("EnsureAccount", request)?;
        let account = Some(self.0.behave(&asked.user_id).await?);
        Ok(Response::new(account::EnsureAccountResponse { account, created: true }))
    }

    async fn get_account(
        &self,
        request: Request<account::GetAccountRequest>,
    ) -> Result<Response<account::GetAccountResponse>, Status> {
        let (_, asked) = self.0.note("GetAccount", request)?;
        let account = Some(self.0.behave(key(&asked)).await?);
        Ok(Response::new(account::GetAccountResponse { account }))
    }

    async fn batch_get_accounts(
        &self,
        request: Request<account::BatchGetAccountsRequest>,
    ) -> Result<Response<account::BatchGetAccountsResponse>, Status> {
        let (_, asked) = self.0.note("BatchGetAccounts", request)?;
        self.0.behave(&asked.user_ids[0]).await?;
        Ok(Response::new(account::BatchGetAccountsResponse { accounts: vec![], missing_user_ids: asked.user_ids }))
    }

    async fn update_account(
        &self,
        request: Request<account::UpdateAccountRequest>,
    ) -> Result<Response<account::UpdateAccountResponse>, Status> {
        let (_, asked) = self.0.note("UpdateAccount", request)?;
        let account = Some(self.0.behave(&asked.user_id).await?);
        Ok(Response::new(account::UpdateAccountResponse { account }))
    }

    not_here! {
        account:
        update_preferences UpdatePreferencesRequest UpdatePreferencesResponse
        list_accounts ListAccountsRequest ListAccountsResponse
        search_accounts SearchAccountsRequest SearchAccountsResponse
        change_account_status ChangeAccountStatusRequest ChangeAccountStatusResponse
        delete_account DeleteAccountRequest DeleteAccountResponse
        restore_account RestoreAccountRequest RestoreAccountResponse
        erase_account EraseAccountRequest EraseAccountResponse
        list_account_history ListAccountHistoryRequest ListAccountHistoryResponse
        get_account_stats GetAccountStatsRequest GetAccountStatsResponse
    }
}

fn key(asked: &account::GetAccountRequest) -> &str {
    match &asked.key {
        Some(account::get_account_request::Key::UserId(key) | account::get_account_request::Key::Email(key)) => key,
        None => "",
    }
}

/// Asks account whatever it is asked.
struct Catalog {
    stub: Stub,
    accounts: AccountServiceClient<Peer>,
}

#[async_trait]
impl catalog::CatalogService for Catalog {
    async fn check_availability(
        &self,
        request: Request<product::CheckAvailabilityRequest>,
    ) -> Result<Response<product::CheckAvailabilityResponse>, Status> {
        let (context, asked) = self.stub.note("CheckAvailability", request)?;
        let mut accounts = self.accounts.clone();
        let available = match accounts.get_account(context.onward(get(&asked.user_id))).await {
            Ok(_) => true,
            Err(status) if status.code() == Code::NotFound => false,
            Err(status) => return Err(unanswered(&context, "account", &status).into()),
        };
        Ok(Response::new(product::CheckAvailabilityResponse { available, reason: 0 }))
    }

    not_here! {
        product:
        create_product CreateProductRequest CreateProductResponse
        get_product GetProductRequest GetProductResponse
        batch_get_products BatchGetProductsRequest BatchGetProductsResponse
        list_products ListProductsRequest ListProductsResponse
        update_product UpdateProductRequest UpdateProductResponse
        delete_product DeleteProductRequest DeleteProductResponse
        create_category CreateCategoryRequest CreateCategoryResponse
        update_category UpdateCategoryRequest UpdateCategoryResponse
        list_categories ListCategoriesRequest ListCategoriesResponse
        get_cache_stats GetCacheStatsRequest GetCacheStatsResponse
        sync_cache SyncCacheRequest SyncCacheResponse
        set_price SetPriceRequest SetPriceResponse
        get_product_pricing GetProductPricingRequest GetProductPricingResponse
        estimate_cost EstimateCostRequest EstimateCostResponse
    }
}
