//! WalletService on the wire.

use mesh::{
    Context, Fields, Parts, Peer, REQUEST_BYTES, Reason, Refusal, RequestId, StartError, TokenKey, UserId, open, page,
    text, unanswered,
};
use money::{Amount, Currency, Fault};
use tonic::{Request, Response, Status, async_trait};
use tonic_types::StatusExt as _;
use trivet_proto::{
    account::v1::{
        AccountStatus, GetAccountRequest, account_service_client::AccountServiceClient, get_account_request,
    },
    billing::v1::{
        self as wire, GetWalletRequest, GetWalletResponse, ListTransactionsRequest, ListTransactionsResponse,
        RecordPaymentRequest, RecordPaymentResponse, TransactionKind,
        wallet_service_server::{WalletService, WalletServiceServer},
    },
};

use super::{Payment, Refused, Standing, Wallets};
use crate::ledger::{Kind, Posted, Record, Wallet, WalletState};

/// Characters of a provider's name, and of its own reference for a payment.
const PROVIDER_LIMIT: usize = 128;
const REFERENCE_LIMIT: usize = 256;

/// WalletService over this store, asking account who is active.
pub(crate) fn server(parts: &Parts) -> Result<WalletServiceServer<Rpc>, StartError> {
    let rpc = Rpc {
        wallets: Wallets { store: parts.store.clone(), clock: parts.clock.clone() },
        tokens: parts.tokens.clone(),
        accounts: AccountServiceClient::new(parts.peers.get("account")?),
    };
    Ok(WalletServiceServer::new(rpc).max_decoding_message_size(REQUEST_BYTES))
}

pub(crate) struct Rpc {
    wallets: Wallets,
    tokens: TokenKey,
    accounts: AccountServiceClient<Peer>,
}

#[async_trait]
impl WalletService for Rpc {
    async fn record_payment(
        &self,
        request: Request<RecordPaymentRequest>,
    ) -> Result<Response<RecordPaymentResponse>, Status> {
        let (context, asked) = open(request)?;
        let payment = payment(&asked)?;
        // What was answered once is answered again, whatever has become of the account.
        let (decided, already_processed) = if let Some(decided) = self.wallets.seen(&context, &payment).await? {
            decided
        } else {
            let standing = self.standing(&context, &payment.user_id).await?;
            self.wallets.pay(&context, payment.clone(), standing, asked.validate_only).await?
        };
        let rehearsal = asked.validate_only && !already_processed;
        let payment = Some(payment_message(payment, decided?, rehearsal));
        Ok(Response::new(RecordPaymentResponse { payment, already_processed }))
    }

    async fn get_wallet(&self, request: Request<GetWalletRequest>) -> Result<Response<GetWalletResponse>, Status> {
        let (context, asked) = open(request)?;
        let wallet = self.wallet(&context, &asked.user_id, &asked.currency).await?;
        Ok(Response::new(GetWalletResponse { wallet: Some(wallet.into()) }))
    }

    async fn list_transactions(
        &self,
        request: Request<ListTransactionsRequest>,
    ) -> Result<Response<ListTransactionsResponse>, Status> {
        let (context, asked) = open(request)?;
        let mut fields = Fields::default();
        let size = fields.read("page_size", page::size(asked.page_size));
        let user_id = fields.read("user_id", UserId::parse(&asked.user_id));
        let currency = fields.read("currency", Currency::parse(&asked.currency));
        let (size, user_id, currency) = fields.finish((size, user_id, currency))?;
        let arguments = (&user_id, currency.code());
        let listing = self.tokens.listing("ListTransactions", &context.tenant, &arguments)?;
        let before: Option<i64> = listing.open(&asked.page_token)?;
        let wallet = self.wallets.find(&context, &user_id, currency).await?;
        let wallet = wallet.ok_or_else(|| no_wallet(&user_id, currency))?;
        let mut records = self.wallets.changes(&context, &wallet, before, page::rows(size)).await?;
        let next_page_token = listing.cut(&mut records, size, |record| record.wallet_version)?;
        Ok(Response::new(ListTransactionsResponse {
            currency: currency.code().to_owned(),
            transactions: records.into_iter().map(Into::into).collect(),
            next_page_token,
            // Versions count a wallet's changes without a gap: their number is the last one.
            total_size: asked.with_total.then_some(wallet.version),
        }))
    }
}

impl Rpc {
    async fn wallet(&self, context: &Context, user_id: &str, currency: &str) -> Result<Wallet, Status> {
        let mut fields = Fields::default();
        let user_id = fields.read("user_id", UserId::parse(user_id));
        let currency = fields.read("currency", Currency::parse(currency));
        let (user_id, currency) = fields.finish((user_id, currency))?;
        let wallet = self.wallets.find(context, &user_id, currency).await?;
        wallet.ok_or_else(|| no_wallet(&user_id, currency).into())
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

fn payment(asked: &RecordPaymentRequest) -> Result<Payment, Refusal> {
    let mut fields = Fields::default();
    let request_id = fields.read("request_id", RequestId::parse(&asked.request_id));
    let user_id = fields.read("user_id", UserId::parse(&asked.user_id));
    let amount = read_amount(&mut fields, &asked.currency, &asked.amount);
    let provider = fields.read("provider", text::line(&asked.provider, PROVIDER_LIMIT));
    let reference = fields.read("provider_reference", text::optional_line(&asked.provider_reference, REFERENCE_LIMIT));
    let parts = (request_id, user_id, amount, provider, reference);
    let (request_id, user_id, amount, provider, provider_reference) = fields.finish(parts)?;
    Ok(Payment { request_id, user_id, amount, provider, provider_reference })
}

/// A positive amount in a currency. Where the currency is none, the amount is still looked at as far as it can be.
pub(crate) fn read_amount(fields: &mut Fields, currency: &str, amount: &str) -> Option<Amount> {
    if let Some(currency) = fields.read("currency", Currency::parse(currency)) {
        return fields.read("amount", Amount::parse_positive(currency, amount));
    }
    if let Err(fault @ (Fault::Empty | Fault::TooLong { .. } | Fault::NotDecimal)) =
        Amount::parse(Currency::USDC, amount)
    {
        fields.refuse("amount", fault);
    }
    None
}

pub(crate) fn no_wallet(user_id: &UserId, currency: Currency) -> Refusal {
    Refusal::new(Reason::WalletNotFound, format!("{user_id} has no wallet in {currency}"))
        .about("trivet.billing.v1.Wallet", format!("{user_id}/{currency}"))
}

fn payment_message(payment: Payment, posted: Posted, rehearsal: bool) -> wire::Payment {
    wire::Payment {
        transaction_id: if rehearsal { String::new() } else { posted.transaction_id },
        request_id: payment.request_id.into_string(),
        user_id: payment.user_id.into_string(),
        currency: payment.amount.currency().code().to_owned(),
        amount: payment.amount.to_wire(),
        provider: payment.provider,
        provider_reference: payment.provider_reference,
        balance_after: posted.balance_after.to_wire(),
        wallet_version: posted.wallet_version,
        create_time: (!rehearsal).then(|| posted.time.to_wire()),
    }
}

impl From<Wallet> for wire::Wallet {
    fn from(wallet: Wallet) -> Self {
        let available = wallet.available();
        let state = match wallet.state {
            WalletState::Active => wire::WalletState::Active,
            WalletState::Frozen => wire::WalletState::Frozen,
        };
        Self {
            user_id: wallet.user_id.into_string(),
            currency: wallet.balance.currency().code().to_owned(),
            balance: wallet.balance.to_wire(),
            held: wallet.held.to_wire(),
            available: available.to_wire(),
            sequence: wallet.version,
            state: state.into(),
            create_time: Some(wallet.create_time.to_wire()),
            update_time: Some(wallet.update_time.to_wire()),
        }
    }
}

impl From<Record> for wire::WalletTransaction {
    fn from(record: Record) -> Self {
        let kind = match record.kind {
            Kind::Payment => TransactionKind::Payment,
            Kind::Deduction => TransactionKind::Deduction,
        };
        Self {
            transaction_id: record.transaction_id,
            kind: kind.into(),
            request_id: record.request_id.into_string(),
            amount: record.change.to_wire(),
            balance_after: record.balance_after.to_wire(),
            available_after: record.available_after.to_wire(),
            wallet_version: record.wallet_version,
            create_time: Some(record.create_time.to_wire()),
            api_id: record.api_id,
            endpoint_id: record.endpoint_id,
            api_key_id: record.api_key_id,
            provider: record.provider,
            provider_reference: record.provider_reference,
        }
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let about =
            |reason, user_id: &UserId| Refusal::new(reason, &refused).about("trivet.account.v1.Account", user_id);
        match &refused {
            Refused::RequestId(taken) => taken.clone().into(),
            Refused::NoAccount(user_id) => about(Reason::AccountNotFound, user_id),
            Refused::AccountSuspended(user_id) => about(Reason::AccountSuspended, user_id),
            Refused::AccountDeleted(user_id) => about(Reason::AccountDeleted, user_id),
            Refused::AccountErased(user_id) => about(Reason::AccountErased, user_id),
            Refused::BalanceLimit { balance, .. } => {
                Refusal::new(Reason::BalanceLimit, &refused).with("balance", balance)
            }
        }
        .into()
    }
}
