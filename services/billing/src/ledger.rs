//! The ledger: every change of a wallet as one row, whose accounts add up to zero and whose hash stands on the row before
//! it. Rows are appended, never changed; a wallet is what its rows leave behind.

pub(crate) mod chain;
mod table;

use mesh::{RequestId, Slug, StoreError, Tenant, Time, UserId, text_enum};
use money::{Amount, Currency};
use serde::{Deserialize, Serialize};

use crate::sabotage::{Protection, is_out};

pub(crate) use table::{
    Filter, Line, Places, all_changes, changes, changes_between, count_deductions, currency, deductions,
    deductions_before, find, find_wallet, freeze_wallets, held_wallets, insert, lines, lock_wallets, newest, note_back,
    open_wallets, refunded, summed, sums, total, update_wallets, while_same,
};

text_enum! {
    /// Why a wallet changed.
    pub(crate) enum Kind {
        /// A user paid in.
        Payment = "PAYMENT",
        /// A user paid for what was used.
        Deduction = "DEDUCTION",
        /// What was taken is given back, whole or in part.
        Refund = "REFUND",
        /// Money is set aside.
        Hold = "HOLD",
        /// What was set aside is taken, and the rest of it is free again.
        Capture = "CAPTURE",
        /// What was set aside is free again.
        Release = "RELEASE",
        /// A user paid what was owed.
        Charge = "CHARGE",
        /// The house paid what it owed.
        Credit = "CREDIT",
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

/// Which wallet. Ordered as the database orders them, so that everybody locks them in the same order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WalletKey {
    pub(crate) tenant: Tenant,
    pub(crate) user_id: UserId,
    pub(crate) currency: Currency,
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
    /// What of it does not add up; empty where all does.
    pub(crate) fault: String,
    /// How many charges it was asked for and does not cover.
    pub(crate) open_charges: i64,
    /// Of its last change.
    pub(crate) hash: Vec<u8>,
    pub(crate) create_time: Time,
    pub(crate) update_time: Time,
}

impl Wallet {
    /// A wallet that nothing has come to yet.
    #[cfg(test)]
    pub(crate) fn empty(user_id: UserId, currency: Currency, now: Time) -> Self {
        let nothing = Amount::zero(currency);
        Self {
            user_id,
            balance: nothing,
            held: nothing,
            version: 0,
            state: WalletState::Active,
            fault: String::new(),
            open_charges: 0,
            hash: Vec::new(),
            create_time: now,
            update_time: now,
        }
    }

    /// What can be spent. The schema keeps held money below the balance, so that this is never negative.
    pub(crate) fn available(&self) -> Amount {
        self.balance.minus(self.held).unwrap_or(Amount::zero(self.balance.currency()))
    }

    /// Whether it gives money.
    pub(crate) fn gives(&self) -> bool {
        self.state == WalletState::Active && self.fault.is_empty()
    }

    /// Moves money: the wallet is as it is right after it, and the change is to be written. Whether it may be done has been
    /// decided; a wallet that cannot hold what comes of it stays as it was.
    pub(crate) fn post(&mut self, movement: Movement) -> Result<Change, StoreError> {
        const IMPOSSIBLE: StoreError = StoreError::Impossible("a movement was decided that the wallet cannot hold");
        let legs = movement.legs;
        if !legs.add_up() {
            return Err(StoreError::Impossible("a movement does not add up to zero"));
        }
        let held = self.held.plus(legs.held).filter(|held| !held.is_negative()).ok_or(IMPOSSIBLE)?;
        let balance = legs.change().and_then(|change| self.balance.plus(change)).ok_or(IMPOSSIBLE)?;
        let available = balance.minus(held).filter(|available| !available.is_negative()).ok_or(IMPOSSIBLE)?;
        let version = self.version.checked_add(1).ok_or(IMPOSSIBLE)?;
        let mut change = Change {
            transaction_id: movement.transaction_id,
            kind: movement.kind,
            request_id: movement.request_id,
            user_id: self.user_id.clone(),
            legs,
            wallet_version: version,
            balance_after: balance,
            available_after: available,
            related_id: movement.related_id,
            purpose: movement.purpose,
            details: movement.details.write()?,
            // A clock may go back, or another replica's be behind: a wallet's time does not.
            create_time: movement.time.max(self.update_time),
            hash: Vec::new(),
        };
        let previous = if is_out(Protection::Chain) { &[][..] } else { &self.hash };
        change.hash = chain::hash(previous, &change.kept());
        self.balance = balance;
        self.held = held;
        self.version = version;
        self.update_time = change.create_time;
        self.hash.clone_from(&change.hash);
        Ok(change)
    }
}

/// What a movement puts into each account of the ledger, negative for what it takes out. House accounts have no row of
/// their own, which would be one lock for everybody: what they hold is the sum over all movements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Legs {
    /// What the user can spend.
    pub(crate) wallet: Amount,
    /// What of the user's is set aside.
    pub(crate) held: Amount,
    /// What the house has earned.
    pub(crate) revenue: Amount,
    /// What providers have received and owe to the house: it goes below zero as they receive more.
    pub(crate) payments: Amount,
}

impl Legs {
    /// The same accounts with these numbers of minor units.
    pub(crate) fn of(currency: Currency, [wallet, held, revenue, payments]: [i64; 4]) -> Self {
        let amount = |minor| Amount::from_minor(currency, minor);
        Self { wallet: amount(wallet), held: amount(held), revenue: amount(revenue), payments: amount(payments) }
    }

    fn nothing(currency: Currency) -> Self {
        Self::of(currency, [0; 4])
    }

    /// A user pays in.
    pub(crate) fn paid_in(amount: Amount) -> Option<Self> {
        Some(Self { wallet: amount, payments: amount.negated()?, ..Self::nothing(amount.currency()) })
    }

    /// The house earns.
    pub(crate) fn taken(amount: Amount) -> Option<Self> {
        Some(Self { wallet: amount.negated()?, revenue: amount, ..Self::nothing(amount.currency()) })
    }

    /// The house gives back.
    pub(crate) fn given_back(amount: Amount) -> Option<Self> {
        Some(Self { wallet: amount, revenue: amount.negated()?, ..Self::nothing(amount.currency()) })
    }

    /// Money is set aside.
    pub(crate) fn set_aside(amount: Amount) -> Option<Self> {
        Some(Self { wallet: amount.negated()?, held: amount, ..Self::nothing(amount.currency()) })
    }

    /// Of what was set aside so much is taken, and the rest is free again.
    pub(crate) fn captured(held: Amount, taken: Amount) -> Option<Self> {
        let rest = held.minus(taken)?;
        Some(Self { wallet: rest, held: held.negated()?, revenue: taken, ..Self::nothing(held.currency()) })
    }

    /// What the balance changes by; held money is part of it.
    pub(crate) fn change(&self) -> Option<Amount> {
        self.wallet.plus(self.held)
    }

    fn minors(&self) -> [i64; 4] {
        [self.wallet, self.held, self.revenue, self.payments].map(Amount::minor)
    }

    /// Whether nothing comes from nowhere and nothing is lost.
    pub(crate) fn add_up(&self) -> bool {
        let sum = self.minors().into_iter().map(i128::from).try_fold(0_i128, i128::checked_add);
        sum == Some(0) && self.held.currency() == self.wallet.currency()
    }
}

/// A movement of money between a wallet and the house, decided and not yet written.
#[derive(Clone, Debug)]
pub(crate) struct Movement {
    pub(crate) transaction_id: String,
    pub(crate) kind: Kind,
    /// `None` where no request asked for it.
    pub(crate) request_id: Option<RequestId>,
    pub(crate) legs: Legs,
    /// What a refund gives back, what a capture or release ends, what a charge pays; empty for nothing.
    pub(crate) related_id: String,
    pub(crate) purpose: Purpose,
    pub(crate) details: Details,
    pub(crate) time: Time,
}

/// What money was taken for, as far as the caller said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Purpose {
    pub(crate) api_id: Option<Slug>,
    pub(crate) endpoint_id: Option<Slug>,
    pub(crate) api_key_id: Option<Slug>,
}

/// What else is known of a movement. Empty texts are not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Details {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) provider: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) provider_reference: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) reason: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) subscription_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) product_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) plan_id: String,
}

impl Details {
    fn write(&self) -> Result<String, StoreError> {
        if *self == Self::default() { Ok(String::new()) } else { Ok(serde_json::to_string(self)?) }
    }

    fn read(text: &str) -> Result<Self, StoreError> {
        if text.is_empty() { Ok(Self::default()) } else { Ok(serde_json::from_str(text)?) }
    }
}

/// A change of a wallet, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) transaction_id: String,
    pub(crate) kind: Kind,
    pub(crate) request_id: Option<RequestId>,
    pub(crate) user_id: UserId,
    pub(crate) legs: Legs,
    pub(crate) wallet_version: i64,
    pub(crate) balance_after: Amount,
    pub(crate) available_after: Amount,
    pub(crate) related_id: String,
    pub(crate) purpose: Purpose,
    /// [`Details`] as they are kept.
    details: String,
    pub(crate) create_time: Time,
    pub(crate) hash: Vec<u8>,
}

impl Change {
    pub(crate) fn currency(&self) -> Currency {
        self.balance_after.currency()
    }

    /// What else is known of it.
    pub(crate) fn details(&self) -> Result<Details, StoreError> {
        Details::read(&self.details)
    }

    /// What of it is hashed.
    fn kept(&self) -> chain::Kept<'_> {
        let Purpose { api_id, endpoint_id, api_key_id } = &self.purpose;
        let [wallet, held, revenue, payments] = self.legs.minors();
        chain::Kept {
            texts: [
                &self.transaction_id,
                self.kind.as_str(),
                self.request_id.as_ref().map_or("", RequestId::as_str),
                self.user_id.as_str(),
                self.currency().code(),
                &self.related_id,
                text(api_id.as_ref()),
                text(endpoint_id.as_ref()),
                text(api_key_id.as_ref()),
                &self.details,
            ],
            numbers: [
                wallet,
                held,
                revenue,
                payments,
                self.wallet_version,
                self.balance_after.minor(),
                self.available_after.minor(),
                self.create_time.micros(),
            ],
        }
    }

    /// What the balance changed by. The schema has both parts fit together.
    pub(crate) fn amount(&self) -> Amount {
        self.legs.change().unwrap_or(self.legs.wallet)
    }

    /// What the house got by it.
    pub(crate) fn taken(&self) -> Amount {
        self.legs.revenue
    }
}

fn text(slug: Option<&Slug>) -> &str {
    slug.map_or("", Slug::as_str)
}
