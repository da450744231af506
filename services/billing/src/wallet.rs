//! Wallets: money that users paid in, and everything that became of it.

mod events;
mod rpc;
#[cfg(test)]
mod tests;

use mesh::{
    Clock, Context, RequestId, Store, StoreError, Tenant, Time, UserId,
    claim::{self, Claim, Taken},
    id,
    store::Transaction,
};
use money::{Amount, Currency};
use serde::{Deserialize, Serialize};

use crate::ledger::{self, Kind, Movement, Posted, Purpose, Record, Wallet};
pub(crate) use events::handlers;
pub(crate) use rpc::{no_wallet, read_amount, server};

/// Money that a provider received for a user.
#[derive(Clone, Debug)]
pub(crate) struct Payment {
    pub(crate) request_id: RequestId,
    pub(crate) user_id: UserId,
    pub(crate) amount: Amount,
    pub(crate) provider: String,
    pub(crate) provider_reference: String,
}

impl Payment {
    fn claim(&self, tenant: &Tenant) -> Claim {
        let amount = self.amount.to_string();
        let fields = [
            ("user_id", self.user_id.as_str()),
            ("currency", self.amount.currency().code()),
            ("amount", &amount),
            ("provider", &self.provider),
            ("provider_reference", &self.provider_reference),
        ];
        Claim::new(tenant, &self.request_id, "RecordPayment", &fields)
    }
}

/// How the account of a payment's user stands, as account says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Active,
    Missing,
    Suspended,
    Deleted,
    Erased,
}

/// Why a payment is not recorded, in order of precedence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub(crate) enum Refused {
    #[error(transparent)]
    RequestId(#[from] Taken),
    #[error("there is no account {0}")]
    NoAccount(UserId),
    #[error("account {0} is suspended")]
    AccountSuspended(UserId),
    #[error("account {0} was deleted")]
    AccountDeleted(UserId),
    #[error("account {0} was erased")]
    AccountErased(UserId),
    #[error("with {amount} more than the {balance} that is there, the balance would leave 64 bits")]
    BalanceLimit { balance: Amount, amount: Amount },
}

/// What was decided on a payment, and whether that was before this call.
pub(crate) type Decided = (Result<Posted, Refused>, bool);

/// The wallets of this service.
#[derive(Clone)]
pub(crate) struct Wallets {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
}

impl Wallets {
    /// The answer that this payment got before, if it did.
    pub(crate) async fn seen(&self, context: &Context, payment: &Payment) -> Result<Option<Decided>, StoreError> {
        let seen = payment.claim(&context.tenant).seen(self.store.reader()).await?;
        Ok(seen.map(|seen| (seen.decision(), true)))
    }

    /// Records a payment once, however often it is sent. A rehearsal decides and keeps nothing.
    pub(crate) async fn pay(
        &self,
        context: &Context,
        payment: Payment,
        standing: Standing,
        rehearsal: bool,
    ) -> Result<Decided, StoreError> {
        let input = Paying {
            tenant: context.tenant.clone(),
            claim: payment.claim(&context.tenant),
            transaction_id: id::fresh("txn", &self.clock),
            now: self.clock.now(),
            payment,
            standing,
        };
        let unit = self.store.unit(context).claimed().rehearsal(rehearsal);
        unit.run(input, |paying, transaction| Box::pin(paying.run(transaction))).await
    }

    /// The wallet of a user in a currency.
    pub(crate) async fn find(
        &self,
        context: &Context,
        user_id: &UserId,
        currency: Currency,
    ) -> Result<Option<Wallet>, StoreError> {
        ledger::find_wallet(self.store.reader(), &context.tenant, user_id, currency).await
    }

    /// Up to `limit` changes of a wallet before this version, newest first.
    pub(crate) async fn changes(
        &self,
        context: &Context,
        wallet: &Wallet,
        before: Option<i64>,
        limit: u64,
    ) -> Result<Vec<Record>, StoreError> {
        let key = (&wallet.user_id, wallet.balance.currency());
        ledger::changes(self.store.reader(), &context.tenant, key, before.unwrap_or(i64::MAX), limit).await
    }
}

/// One payment on its way through the store.
struct Paying {
    tenant: Tenant,
    claim: Claim,
    payment: Payment,
    standing: Standing,
    transaction_id: String,
    now: Time,
}

impl Paying {
    async fn run(&self, transaction: &Transaction) -> Result<Decided, StoreError> {
        claim::once(Some(&self.claim), transaction, self.now, self.carry_out(transaction)).await
    }

    async fn carry_out(&self, transaction: &Transaction) -> Result<Result<Posted, Refused>, StoreError> {
        let Payment { user_id, amount, .. } = &self.payment;
        let new = Wallet::empty(user_id.clone(), amount.currency(), self.now);
        let held = ledger::lock_wallet(transaction, &self.tenant, user_id, amount.currency()).await?;
        Ok(match decide(&self.payment, self.standing, held.as_ref().unwrap_or(&new)) {
            Err(refused) => Err(refused),
            Ok(()) => Ok(self.credit(transaction, held, &new).await?),
        })
    }

    async fn credit(
        &self,
        transaction: &Transaction,
        held: Option<Wallet>,
        new: &Wallet,
    ) -> Result<Posted, StoreError> {
        let wallet = if let Some(wallet) = held {
            wallet
        } else {
            ledger::open_wallet(transaction, &self.tenant, new).await?;
            // Another first payment may have made it meanwhile; whoever did, it is locked now.
            let opened = ledger::lock_wallet(transaction, &self.tenant, &new.user_id, new.balance.currency()).await?;
            opened.ok_or(StoreError::Impossible("a wallet that was just made is not there"))?
        };
        let movement = Movement {
            transaction_id: self.transaction_id.clone(),
            kind: Kind::Payment,
            request_id: self.payment.request_id.clone(),
            amount: self.payment.amount,
            purpose: Purpose {
                provider: self.payment.provider.clone(),
                provider_reference: self.payment.provider_reference.clone(),
                ..Purpose::default()
            },
            time: self.now,
        };
        ledger::post(transaction, &self.tenant, &wallet, &movement).await
    }
}

/// The rule of payments.
fn decide(payment: &Payment, standing: Standing, wallet: &Wallet) -> Result<(), Refused> {
    let user_id = || payment.user_id.clone();
    match standing {
        Standing::Active => {}
        Standing::Missing => return Err(Refused::NoAccount(user_id())),
        Standing::Suspended => return Err(Refused::AccountSuspended(user_id())),
        Standing::Deleted => return Err(Refused::AccountDeleted(user_id())),
        Standing::Erased => return Err(Refused::AccountErased(user_id())),
    }
    match wallet.balance.plus(payment.amount) {
        Some(_) => Ok(()),
        None => Err(Refused::BalanceLimit { balance: wallet.balance, amount: payment.amount }),
    }
}
