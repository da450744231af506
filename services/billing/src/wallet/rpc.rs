//! WalletService on the wire.

mod read;
mod write;

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use mesh::{
    Answers, Context, Parts, Peer, REQUEST_BYTES, Reason, Refusal, StartError, Streams, TokenKey, UserId, open, page,
    unanswered,
};
use money::Currency;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, async_trait};
use tonic_types::StatusExt as _;
use trivet_proto::{
    account::v1::{
        AccountStatus, GetAccountRequest, account_service_client::AccountServiceClient, get_account_request,
    },
    billing::v1::{
        FreezeWalletRequest, FreezeWalletResponse, GetStatementRequest, GetStatementResponse, GetWalletRequest,
        GetWalletResponse, ListTransactionsRequest, ListTransactionsResponse, RecordPaymentRequest,
        RecordPaymentResponse, UnfreezeWalletRequest, UnfreezeWalletResponse, WatchWalletRequest, WatchWalletResponse,
        wallet_service_server::{WalletService, WalletServiceServer},
    },
};

use super::{Payment, Standing, Wallets, key, watch::Watch};
use crate::{
    book::{Books, Order, no_wallet},
    ledger::Wallet,
};
pub(crate) use {
    read::{read_amount, read_amount_in, read_amount_of_any},
    write::transaction_message,
};

/// WalletService over these books, asking account who is active.
pub(crate) fn server(parts: &Parts, books: &Books) -> Result<WalletServiceServer<Rpc>, StartError> {
    let rpc = Rpc {
        wallets: Wallets { books: books.clone() },
        watches: Arc::new(Semaphore::new(WATCHES)),
        tokens: parts.tokens.clone(),
        streams: parts.streams.clone(),
        accounts: AccountServiceClient::new(parts.peers.get("account")?),
    };
    Ok(WalletServiceServer::new(rpc).max_decoding_message_size(REQUEST_BYTES))
}

/// Watches of one process at once: each asks the database four times a second and oftener.
const WATCHES: usize = 1_000;
/// When to try again where there are too many.
const WATCHES_RETRY: Duration = Duration::from_secs(1);

pub(crate) struct Rpc {
    wallets: Wallets,
    watches: Arc<Semaphore>,
    tokens: TokenKey,
    streams: Streams,
    accounts: AccountServiceClient<Peer>,
}

#[async_trait]
impl WalletService for Rpc {
    async fn record_payment(
        &self,
        request: Request<RecordPaymentRequest>,
    ) -> Result<Response<RecordPaymentResponse>, Status> {
        let (context, asked) = open(request)?;
        let payment = read::payment(&asked)?;
        // What was answered once is answered again, whatever has become of the account.
        let (posted, already_processed) = if let Some(decided) = self.wallets.seen(&context, &payment).await? {
            self.wallets.books.instruments.repeated("RecordPayment", 1);
            (decided?, true)
        } else {
            let standing = self.standing(&context, &payment.user_id).await?;
            let order = Order::Pay(Payment { standing, ..payment.clone() });
            self.wallets.books.carry_out(&context, order, asked.validate_only).await?
        };
        let rehearsal = asked.validate_only && !already_processed;
        let payment = Some(write::payment(payment, posted, rehearsal));
        Ok(Response::new(RecordPaymentResponse { payment, already_processed }))
    }

    async fn get_wallet(&self, request: Request<GetWalletRequest>) -> Result<Response<GetWalletResponse>, Status> {
        let (context, asked) = open(request)?;
        let (_, wallet) = self.wallet(&context, read::key(&asked.user_id, &asked.currency)?).await?;
        Ok(Response::new(GetWalletResponse { wallet: Some(wallet.into()) }))
    }

    async fn list_transactions(
        &self,
        request: Request<ListTransactionsRequest>,
    ) -> Result<Response<ListTransactionsResponse>, Status> {
        let (context, asked) = open(request)?;
        let (size, user_id, currency) = read::listing(&asked)?;
        let arguments = (&user_id, currency.code());
        let listing = self.tokens.listing("ListTransactions", &context.tenant, &arguments)?;
        let before: Option<i64> = listing.open(&asked.page_token)?;
        let (_, wallet) = self.wallet(&context, (user_id, currency)).await?;
        let mut changes = self.wallets.changes(&context, &wallet, before, page::rows(size)).await?;
        let next_page_token = listing.cut(&mut changes, size, |change| change.wallet_version)?;
        Ok(Response::new(ListTransactionsResponse {
            currency: currency.code().to_owned(),
            transactions: changes.into_iter().map(transaction_message).collect::<Result<_, _>>()?,
            next_page_token,
            // Versions count a wallet's changes without a gap: their number is the last one.
            total_size: asked.with_total.then_some(wallet.version),
        }))
    }

    async fn freeze_wallet(
        &self,
        request: Request<FreezeWalletRequest>,
    ) -> Result<Response<FreezeWalletResponse>, Status> {
        let (context, asked) = open(request)?;
        let wallet = self.freeze(&context, read::key(&asked.user_id, &asked.currency)?, true).await?;
        Ok(Response::new(FreezeWalletResponse { wallet: Some(wallet.into()) }))
    }

    async fn unfreeze_wallet(
        &self,
        request: Request<UnfreezeWalletRequest>,
    ) -> Result<Response<UnfreezeWalletResponse>, Status> {
        let (context, asked) = open(request)?;
        let wallet = self.freeze(&context, read::key(&asked.user_id, &asked.currency)?, false).await?;
        Ok(Response::new(UnfreezeWalletResponse { wallet: Some(wallet.into()) }))
    }

    type WatchWalletStream = Answers<WatchWalletResponse>;

    async fn watch_wallet(
        &self,
        request: Request<WatchWalletRequest>,
    ) -> Result<Response<Self::WatchWalletStream>, Status> {
        let (context, asked) = open(request)?;
        let (key, wallet) = self.wallet(&context, read::key(&asked.user_id, &asked.currency)?).await?;
        let place = self.watches.clone().try_acquire_owned().map_err(|_| {
            let message = format!("{WATCHES} wallets are watched already");
            Refusal::new(Reason::Overloaded, message).retry_after(WATCHES_RETRY)
        })?;
        let first = WatchWalletResponse { wallet: Some(wallet.clone().into()), transaction: None };
        let watch = Watch::new(&self.wallets.books, key, wallet);
        let changes = stream::try_unfold((watch, place), async |(mut watch, place)| {
            let (wallet, change) = watch.next().await?;
            let transaction = change.map(transaction_message).transpose()?;
            Ok(Some((WatchWalletResponse { wallet: Some(wallet.into()), transaction }, (watch, place))))
        });
        let answers = stream::once(std::future::ready(Ok(first))).chain(changes);
        Ok(self.streams.answer(&context, answers))
    }

    async fn get_statement(
        &self,
        request: Request<GetStatementRequest>,
    ) -> Result<Response<GetStatementResponse>, Status> {
        let (context, asked) = open(request)?;
        let ((user_id, currency), stretch) = read::statement(&asked)?;
        let statement = self.wallets.statement(&context, (&user_id, currency), stretch).await?;
        let statement = statement.ok_or_else(|| no_wallet(&user_id, currency))?;
        Ok(Response::new(write::statement(currency, statement)))
    }
}

impl Rpc {
    async fn wallet(
        &self,
        context: &Context,
        (user_id, currency): (UserId, Currency),
    ) -> Result<(crate::ledger::WalletKey, Wallet), Status> {
        let wallet = self.wallets.find(context, &user_id, currency).await?;
        let wallet = wallet.ok_or_else(|| no_wallet(&user_id, currency))?;
        Ok((key(context, &user_id, currency), wallet))
    }

    async fn freeze(
        &self,
        context: &Context,
        (user_id, currency): (UserId, Currency),
        frozen: bool,
    ) -> Result<Wallet, Status> {
        let wallet = self.wallets.freeze(context, (&user_id, currency), frozen).await?;
        Ok(wallet.ok_or_else(|| no_wallet(&user_id, currency))?)
    }

    /// Asks account how the user stands. If that cannot be known, nothing is written.
    async fn standing(&self, context: &Context, user_id: &UserId) -> Result<Standing, Status> {
        let key = Some(get_account_request::Key::UserId(user_id.to_string()));
        match self.accounts.clone().get_account(context.onward(GetAccountRequest { key, ..Default::default() })).await {
            Ok(response) => match response.into_inner().account.unwrap_or_default().status() {
                AccountStatus::Active => Ok(Standing::Active),
                AccountStatus::Suspended => Ok(Standing::Suspended),
                AccountStatus::Deleted => Ok(Standing::Deleted),
                AccountStatus::Erased => Ok(Standing::Erased),
                AccountStatus::Unspecified => {
                    Err(unanswered(context, "account", &Status::unknown("an account without a status")).into())
                }
            },
            Err(status) => match status.get_details_error_info().and_then(|info| Reason::from_name(&info.reason)) {
                Some(Reason::AccountNotFound) => Ok(Standing::Missing),
                Some(Reason::AccountErased) => Ok(Standing::Erased),
                _ => Err(unanswered(context, "account", &status).into()),
            },
        }
    }
}
