//! LedgerService on the wire.

use std::time::Duration;

use data_encoding::HEXLOWER;
use futures_util::stream;
use mesh::{Answers, Fields, Parts, REQUEST_BYTES, Reason, Refusal, StoreError, Streams, TokenKey, UserId, open};
use money::{Amount, Currency, Total};
use tonic::{Request, Response, Status, async_trait};
use trivet_proto::billing::v1::{
    AccountBalance, ExportLedgerRequest, ExportLedgerResponse, FindingKind, GetTrialBalanceRequest,
    GetTrialBalanceResponse, LedgerAccount, LedgerEntry, LedgerFinding, LedgerTransaction, LedgerVerdict, TrialBalance,
    VerifyLedgerRequest, VerifyLedgerResponse, VerifyProgress,
    ledger_service_server::{LedgerService, LedgerServiceServer},
    verify_ledger_response::Event,
};

use super::{
    Audits, Kind, Said,
    export::Export,
    table::{self, BalanceRow, Place, Whose},
};
use crate::{
    ledger::{self, Change},
    wallet::transaction_message,
};

/// When to try again where too many verify.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// LedgerService over these books.
pub(crate) fn server(parts: &Parts, audits: Audits) -> LedgerServiceServer<Rpc> {
    let rpc = Rpc { audits, tokens: parts.tokens.clone(), streams: parts.streams.clone() };
    LedgerServiceServer::new(rpc).max_decoding_message_size(REQUEST_BYTES)
}

pub(crate) struct Rpc {
    audits: Audits,
    tokens: TokenKey,
    streams: Streams,
}

#[async_trait]
impl LedgerService for Rpc {
    type VerifyLedgerStream = Answers<VerifyLedgerResponse>;

    async fn verify_ledger(
        &self,
        request: Request<VerifyLedgerRequest>,
    ) -> Result<Response<Self::VerifyLedgerStream>, Status> {
        let (context, asked) = open(request)?;
        let user_id = user_id(&asked.user_id)?;
        let verification = self.audits.begin(&context, user_id).ok_or_else(|| {
            Refusal::new(Reason::Overloaded, "others are verifying the ledger already").retry_after(RETRY_AFTER)
        })?;
        let said = stream::try_unfold(verification, async |mut verification| {
            let said = verification.next().await?;
            Ok(said.map(|said| (said.into(), verification)))
        });
        Ok(self.streams.answer(&context, said))
    }

    async fn get_trial_balance(
        &self,
        request: Request<GetTrialBalanceRequest>,
    ) -> Result<Response<GetTrialBalanceResponse>, Status> {
        let (context, _) = open(request)?;
        let now = self.audits.books.clock.now();
        let rows = table::trial_balance(self.audits.books.store.reader(), &context.tenant).await?;
        let balances = rows.iter().map(trial_balance).collect::<Result<_, StoreError>>()?;
        Ok(Response::new(GetTrialBalanceResponse { balances, as_of_time: Some(now.to_wire()) }))
    }

    type ExportLedgerStream = Answers<ExportLedgerResponse>;

    async fn export_ledger(
        &self,
        request: Request<ExportLedgerRequest>,
    ) -> Result<Response<Self::ExportLedgerStream>, Status> {
        let (context, asked) = open(request)?;
        let user_id = user_id(&asked.user_id)?;
        let listing = self.tokens.listing("ExportLedger", &context.tenant, &user_id)?;
        let after: Option<Place> = listing.open_field("resume_token", &asked.resume_token)?;
        let whose = Whose { tenant: context.tenant.clone(), user_id };
        let export = Export::new(self.audits.books.store.clone(), whose, after.unwrap_or_default());
        let exported = stream::try_unfold((export, listing), async |(mut export, listing)| {
            let Some(change) = export.next().await? else { return Ok(None) };
            let resume_token = listing.seal(&export.place())?;
            let transaction = Some(ledger_transaction(change)?);
            Ok(Some((ExportLedgerResponse { transaction, resume_token }, (export, listing))))
        });
        Ok(self.streams.answer(&context, exported))
    }
}

fn user_id(asked: &str) -> Result<Option<UserId>, Refusal> {
    let mut fields = Fields::default();
    let user_id = fields.read("user_id", UserId::parse_optional(asked));
    let (user_id,) = fields.finish((user_id,))?;
    Ok(user_id)
}

fn trial_balance(row: &BalanceRow) -> Result<TrialBalance, StoreError> {
    const TOO_MUCH: StoreError = StoreError::Impossible("the ledger holds more than can be added up");
    let currency = ledger::currency(&row.currency)?;
    let total = |high: i64, low: i64| ledger::total(currency, high, low);
    let accounts = [
        (LedgerAccount::Wallets, total(row.wallet_high, row.wallet_low)),
        (LedgerAccount::Held, total(row.held_high, row.held_low)),
        (LedgerAccount::Revenue, total(row.revenue_high, row.revenue_low)),
        (LedgerAccount::Payments, total(row.payments_high, row.payments_low)),
    ];
    let mut sum = Total::from_minor(currency, 0);
    let mut balances = Vec::with_capacity(accounts.len());
    for (account, total) in accounts {
        let total = total.ok_or(TOO_MUCH)?;
        sum = sum.plus(total).ok_or(TOO_MUCH)?;
        balances.push(AccountBalance { account: account.into(), balance: total.to_wire() });
    }
    Ok(TrialBalance {
        currency: currency.code().to_owned(),
        accounts: balances,
        sum: sum.to_wire(),
        transactions: row.transactions,
    })
}

fn ledger_transaction(change: Change) -> Result<LedgerTransaction, StoreError> {
    let entry = |(account, amount): (LedgerAccount, Amount)| {
        (!amount.is_zero()).then(|| LedgerEntry { account: account.into(), amount: amount.to_wire() })
    };
    let legs = change.legs;
    let accounts = [
        (LedgerAccount::Wallets, legs.wallet),
        (LedgerAccount::Held, legs.held),
        (LedgerAccount::Revenue, legs.revenue),
        (LedgerAccount::Payments, legs.payments),
    ];
    let currency: Currency = change.currency();
    Ok(LedgerTransaction {
        user_id: change.user_id.to_string(),
        currency: currency.code().to_owned(),
        entries: accounts.into_iter().filter_map(entry).collect(),
        hash: HEXLOWER.encode(&change.hash),
        transaction: Some(transaction_message(change)?),
    })
}

impl From<Said> for VerifyLedgerResponse {
    fn from(said: Said) -> Self {
        let event = match said {
            Said::Progress(progress) => Event::Progress(VerifyProgress {
                wallets: progress.wallets,
                transactions: progress.transactions,
                total_wallets: progress.total_wallets,
            }),
            Said::Finding(finding) => Event::Finding(LedgerFinding {
                kind: kind(finding.kind).into(),
                user_id: finding.user_id,
                currency: finding.currency,
                transaction_id: finding.transaction_id,
                message: finding.message,
            }),
            Said::Verdict(verdict) => Event::Verdict(LedgerVerdict {
                ok: verdict.findings == 0,
                wallets: verdict.wallets,
                transactions: verdict.transactions,
                findings: verdict.findings,
                start_time: Some(verdict.start_time.to_wire()),
                end_time: Some(verdict.end_time.to_wire()),
            }),
        };
        Self { event: Some(event) }
    }
}

fn kind(kind: Kind) -> FindingKind {
    match kind {
        Kind::Unbalanced => FindingKind::Unbalanced,
        Kind::Gap => FindingKind::Gap,
        Kind::Balance => FindingKind::Balance,
        Kind::Hash => FindingKind::Hash,
        Kind::Wallet => FindingKind::Wallet,
        Kind::Request => FindingKind::Request,
        Kind::Hold => FindingKind::Hold,
        Kind::Charge => FindingKind::Charge,
        Kind::NoWallet => FindingKind::NoWallet,
    }
}
