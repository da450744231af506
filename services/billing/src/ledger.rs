//! The ledger: every movement of money as a transaction of entries that add up to zero, and the wallets they leave
//! behind. Rows are appended, never changed.

mod table;

use mesh::{RequestId, Slug, StoreError, Tenant, Time, UserId, store::Transaction, text_enum};
use money::{Amount, Currency};
use serde::{Deserialize, Serialize};

pub(crate) use table::{Record, changes, find_by_request, find_wallet, freeze_wallets, lock_wallet, open_wallet};

text_enum! {
    /// Why money moved.
    pub(crate) enum Kind {
        /// A user paid in.
        Payment = "PAYMENT",
        /// A user paid for what was used.
        Deduction = "DEDUCTION",
    }
}

text_enum! {
    /// Whether a wallet gives money.
    pub(crate) enum WalletState {
        /// Takes and gives.
        Active = "ACTIVE",
        /// Takes, and gives nothing.
        Frozen = "FROZEN",
    }
}

text_enum! {
    /// Whose money an entry is.
    enum Account {
        /// A user's.
        Wallet = "WALLET",
        /// Earned by the house.
        Revenue = "REVENUE",
        /// Received by payment providers for the house.
        Payments = "PAYMENTS",
    }
}

/// What a user has in one currency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wallet {
    pub(crate) user_id: UserId,
    pub(crate) balance: Amount,
    pub(crate) held: Amount,
    /// How many changes there were.
    pub(crate) version: i64,
    pub(crate) state: WalletState,
    pub(crate) create_time: Time,
    pub(crate) update_time: Time,
}

impl Wallet {
    /// A wallet that nothing has come to yet.
    pub(crate) fn empty(user_id: UserId, currency: Currency, now: Time) -> Self {
        let nothing = Amount::zero(currency);
        let state = WalletState::Active;
        Self { user_id, balance: nothing, held: nothing, version: 0, state, create_time: now, update_time: now }
    }

    /// What can be spent. The schema keeps held money below the balance, so that this is never negative.
    pub(crate) fn available(&self) -> Amount {
        self.balance.minus(self.held).unwrap_or(Amount::zero(self.balance.currency()))
    }
}

/// A movement of money between a wallet and the house, decided and not yet written.
#[derive(Clone, Debug)]
pub(crate) struct Movement {
    pub(crate) transaction_id: String,
    pub(crate) kind: Kind,
    pub(crate) request_id: RequestId,
    /// How much moved; positive whichever way.
    pub(crate) amount: Amount,
    pub(crate) purpose: Purpose,
    pub(crate) time: Time,
}

/// What a movement was for, as far as the caller said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Purpose {
    pub(crate) api_id: Option<Slug>,
    pub(crate) endpoint_id: Option<Slug>,
    pub(crate) api_key_id: Option<Slug>,
    pub(crate) provider: String,
    pub(crate) provider_reference: String,
}

/// What a movement did to its wallet; with the request that asked for it the whole answer, and kept as such.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Posted {
    pub(crate) transaction_id: String,
    pub(crate) balance_after: Amount,
    pub(crate) wallet_version: i64,
    pub(crate) time: Time,
}

impl Movement {
    /// What the wallet's balance changes by, and the house account at the other end.
    fn sides(&self) -> Option<(Amount, Account)> {
        match self.kind {
            Kind::Payment => Some((self.amount, Account::Payments)),
            Kind::Deduction => Some((self.amount.negated()?, Account::Revenue)),
        }
    }
}

/// Writes a movement: the wallet as it is after it, the transaction, and its entries. The wallet must be locked.
pub(crate) async fn post(
    transaction: &Transaction,
    tenant: &Tenant,
    wallet: &Wallet,
    movement: &Movement,
) -> Result<Posted, StoreError> {
    let overflow = StoreError::Impossible("a movement was decided that the wallet cannot hold");
    let Some((change, house)) = movement.sides() else { return Err(overflow) };
    let (Some(balance), Some(against), Some(version)) =
        (wallet.balance.plus(change), change.negated(), wallet.version.checked_add(1))
    else {
        return Err(overflow);
    };
    let after = Wallet { balance, version, update_time: movement.time, ..wallet.clone() };
    table::update_wallet(transaction, tenant, &after).await?;
    table::insert_transaction(transaction, tenant, &after.user_id, movement).await?;
    let entries = [(Account::Wallet, change, Some(&after)), (house, against, None)];
    table::insert_entries(transaction, tenant, &movement.transaction_id, entries).await?;
    Ok(Posted {
        transaction_id: movement.transaction_id.clone(),
        balance_after: after.balance,
        wallet_version: after.version,
        time: movement.time,
    })
}
