//! The audit: proves that the books are right, row by row, while money moves on.
//!
//! Wallets are gone through in the order of their keys, a page at a time, each replayed from its first change up to the
//! version that it had when its page was read: changes are only ever added, so that this much of its history stands still.

mod answers;
mod export;
mod rpc;
mod table;
mod verify;

use std::sync::Arc;

use mesh::{Context, Finding as Health, StoreError, Tenant, Time};
use tokio::sync::Semaphore;

use crate::{
    book::{Books, NotCarriedOut, Upkeep},
    ledger::WalletKey,
};
pub(crate) use rpc::server;
use verify::Verification;

/// Verifications of one process at once: each keeps the database busy.
const AT_ONCE: usize = 2;

/// What does not add up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The accounts of a transaction do not add up to zero.
    Unbalanced,
    /// Versions are missing, or stand twice.
    Gap,
    /// A balance does not follow from the one before it.
    Balance,
    /// A row is not the one that was hashed.
    Hash,
    /// A wallet is not what its changes leave behind.
    Wallet,
    /// A request was not answered with the transaction that names it.
    Request,
    /// What is held is not what the open holds add up to.
    Hold,
    /// A charge does not agree with what paid it, or with what it is for.
    Charge,
    /// There are changes of a wallet that is not there.
    NoWallet,
}

/// Something that does not add up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) kind: Kind,
    pub(crate) user_id: String,
    pub(crate) currency: String,
    /// Empty where it is the wallet itself.
    pub(crate) transaction_id: String,
    pub(crate) message: String,
}

/// How far a verification is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) wallets: i64,
    pub(crate) transactions: i64,
    pub(crate) total_wallets: i64,
}

/// What a verification came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) wallets: i64,
    pub(crate) transactions: i64,
    pub(crate) findings: i64,
    pub(crate) start_time: Time,
    pub(crate) end_time: Time,
}

/// What a verification says, in this order: progress and findings, and in the end a verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Progress(Progress),
    Finding(Finding),
    Verdict(Verdict),
}

/// The audits of this service.
#[derive(Clone)]
pub(crate) struct Audits {
    books: Books,
    places: Arc<Semaphore>,
}

impl Audits {
    pub(crate) fn new(books: &Books) -> Self {
        Self { books: books.clone(), places: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Begins to verify, if there is room.
    fn begin(&self, context: &Context, user_id: Option<mesh::UserId>) -> Option<Verification> {
        let place = self.places.clone().try_acquire_owned().ok()?;
        Some(Verification::new(self.clone(), context.tenant.clone(), user_id, place))
    }

    /// Has a wallet give nothing because it does not add up, or give again because it does.
    async fn mark(&self, wallet: WalletKey, fault: String) -> Result<(), NotCarriedOut> {
        let context = Context::own(wallet.tenant.clone(), verify::BUDGET);
        let pending = self.books.keep_up(&context, Upkeep::Fault { wallet, fault }).await?;
        pending.answer().await?.map_err(|stopped| stopped.refused)?;
        Ok(())
    }

    /// Keeps the verdict over all of a tenant's ledger.
    async fn keep(&self, tenant: &Tenant, verdict: Verdict) -> Result<(), StoreError> {
        let context = Context::own(tenant.clone(), verify::BUDGET);
        let input = (tenant.clone(), verdict);
        let unit = self.books.store.unit(&context).claimed();
        unit.run(input, |(tenant, verdict), transaction| Box::pin(table::keep(transaction, tenant, verdict))).await?;
        self.findings().await?;
        Ok(())
    }

    /// How many verdicts there are, and what they found together: one tenant's ledger that adds up says nothing of another's.
    async fn findings(&self) -> Result<(i64, i64), StoreError> {
        let (verdicts, findings) = table::verdicts(self.books.store.reader()).await?;
        self.books.instruments.imbalance(u64::try_from(findings).unwrap_or(u64::MAX));
        Ok((verdicts, findings))
    }
}

/// How the ledger is, as the last verifications say.
pub(crate) async fn health(audits: Audits) -> Health {
    match audits.findings().await {
        Ok((0, _)) => Health::Noted("the ledger was never verified; VerifyLedger does it".to_owned()),
        Ok((_, 0)) => Health::Ok,
        Ok((_, findings)) => {
            Health::Degraded(format!("{findings} things of the ledger do not add up, as VerifyLedger found"))
        }
        Err(_) => Health::Degraded("the database does not say what the last verification came to".to_owned()),
    }
}
