//! Wallets: money that users paid in, and everything that became of it.

mod events;
mod rpc;
mod statement;
#[cfg(test)]
mod tests;
mod watch;

use mesh::{
    Context, RequestId, Slug, StoreError, Tenant, UserId,
    claim::{Claim, Seen},
};
use money::{Amount, Currency};

use crate::{
    book::{Books, NotCarriedOut, Posted, Posting, Refused, Sitting, Upkeep},
    charge,
    ledger::{self, Change, Details, Kind, Legs, Wallet, WalletKey},
};
pub(crate) use {
    events::handlers,
    rpc::{read_amount, read_amount_in, read_amount_of_any, server, transaction_message},
};

/// Money that a provider received for a user.
#[derive(Clone, Debug)]
pub(crate) struct Payment {
    pub(crate) request_id: RequestId,
    pub(crate) user_id: UserId,
    pub(crate) amount: Amount,
    pub(crate) provider: String,
    pub(crate) provider_reference: String,
    pub(crate) subscription_id: Option<Slug>,
    /// As account says.
    pub(crate) standing: Standing,
}

/// How the account of a payment's user stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Active,
    Missing,
    Suspended,
    Deleted,
    Erased,
}

impl Standing {
    pub(crate) const fn is_active(self) -> bool {
        matches!(self, Self::Active)
    }
}

impl Payment {
    pub(crate) fn claim(&self, tenant: &Tenant) -> Claim {
        let amount = self.amount.to_string();
        let subscription_id = self.subscription_id.as_ref().map_or("", Slug::as_str);
        let fields = [
            ("user_id", self.user_id.as_str()),
            ("currency", self.amount.currency().code()),
            ("amount", &amount),
            ("provider", &self.provider),
            ("provider_reference", &self.provider_reference),
            ("subscription_id", subscription_id),
        ];
        Claim::new(tenant, &self.request_id, "RecordPayment", &fields)
    }

    /// Credits the wallet, if it may be, and has it pay what it owes.
    pub(crate) fn carry_out(
        &self,
        tenant: &Tenant,
        sitting: &mut Sitting,
    ) -> Result<Result<Posted, Refused>, StoreError> {
        let currency = self.amount.currency();
        let key = WalletKey { tenant: tenant.clone(), user_id: self.user_id.clone(), currency };
        let balance = sitting.wallet(&key).map_or(Amount::zero(currency), |wallet| wallet.balance);
        if let Err(refused) = decide(self, balance) {
            return Ok(Err(refused));
        }
        let posting = Posting {
            request_id: Some(self.request_id.clone()),
            details: Details {
                provider: self.provider.clone(),
                provider_reference: self.provider_reference.clone(),
                subscription_id: self.subscription_id.as_ref().map(ToString::to_string).unwrap_or_default(),
                ..Details::default()
            },
            ..Posting::new(Kind::Payment, Legs::paid_in(self.amount))
        };
        let posted = sitting.post(&key, posting)?;
        sitting.tell(|told, origin| told.paid(origin, (&key, &posted), self.amount, ""));
        charge::settle(sitting, &key)?;
        Ok(Ok(posted))
    }
}

/// The rule of payments.
fn decide(payment: &Payment, balance: Amount) -> Result<(), Refused> {
    let user_id = || payment.user_id.clone();
    match payment.standing {
        Standing::Active => {}
        Standing::Missing => return Err(Refused::NoAccount(user_id())),
        Standing::Suspended => return Err(Refused::AccountSuspended(user_id())),
        Standing::Deleted => return Err(Refused::AccountDeleted(user_id())),
        Standing::Erased => return Err(Refused::AccountErased(user_id())),
    }
    match balance.plus(payment.amount) {
        Some(_) => Ok(()),
        None => Err(Refused::BalanceLimit { balance, amount: payment.amount }),
    }
}

/// The wallets of this service.
#[derive(Clone)]
pub(crate) struct Wallets {
    pub(crate) books: Books,
}

impl Wallets {
    /// The answer that this payment got before, if it did.
    pub(crate) async fn seen(
        &self,
        context: &Context,
        payment: &Payment,
    ) -> Result<Option<Result<Posted, Refused>>, StoreError> {
        let seen = payment.claim(&context.tenant).seen(self.books.store.reader()).await?;
        Ok(seen.map(Seen::decision))
    }

    /// The wallet of a user in a currency.
    pub(crate) async fn find(
        &self,
        context: &Context,
        user_id: &UserId,
        currency: Currency,
    ) -> Result<Option<Wallet>, StoreError> {
        ledger::find_wallet(self.books.store.reader(), &key(context, user_id, currency)).await
    }

    /// Has a wallet give nothing, or give again; answers it as it is then.
    pub(crate) async fn freeze(
        &self,
        context: &Context,
        (user_id, currency): (&UserId, Currency),
        frozen: bool,
    ) -> Result<Option<Wallet>, NotCarriedOut> {
        let wallet = key(context, user_id, currency);
        let pending = self.books.keep_up(context, Upkeep::Freeze { wallet, frozen }).await?;
        pending.answer().await?.map_err(|stopped| stopped.refused)?;
        Ok(self.find(context, user_id, currency).await?)
    }

    /// Up to `limit` changes of a wallet before this version, newest first.
    pub(crate) async fn changes(
        &self,
        context: &Context,
        wallet: &Wallet,
        before: Option<i64>,
        limit: u64,
    ) -> Result<Vec<Change>, StoreError> {
        let key = key(context, &wallet.user_id, wallet.balance.currency());
        ledger::changes(self.books.store.reader(), &key, before.unwrap_or(i64::MAX), limit).await
    }
}

fn key(context: &Context, user_id: &UserId, currency: Currency) -> WalletKey {
    WalletKey { tenant: context.tenant.clone(), user_id: user_id.clone(), currency }
}
