//! Why an order is refused, whichever rule refuses it.

use mesh::{Reason, Refusal, RequestId, Slug, UserId, claim::Taken};
use money::{Amount, Currency};
use serde::{Deserialize, Serialize};

use crate::hold::HoldState;

/// Why money is not moved, of each rule in order of precedence. Kept under the request id as JSON: a variant that was ever
/// written stays readable.
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
    #[error("no deduction was made under {0} yet")]
    NoDeduction(RequestId),
    #[error("there is no hold {0}")]
    NoHold(Slug),
    #[error("there is no charge {0}")]
    NoCharge(Slug),
    #[error("{user_id} has no wallet in {currency}")]
    NoWallet { user_id: UserId, currency: Currency },
    #[error("the ledger of the wallet of {0} does not add up, and gives nothing until a person has looked")]
    LedgerBroken(UserId),
    #[error("the wallet of {0} is frozen")]
    WalletFrozen(UserId),
    #[error("hold {hold_id} is {state}")]
    HoldNotOpen { hold_id: Slug, state: HoldState },
    #[error("{amount} is more than the {held} that are held")]
    CaptureExceedsHold { held: Amount, amount: Amount },
    #[error("of {taken} that were taken {refunded} were given back: {amount} are too much")]
    RefundExceedsDeduction { taken: Amount, refunded: Amount, amount: Amount },
    #[error("the {available} available of a balance of {balance} does not cover {required}")]
    InsufficientFunds { balance: Amount, available: Amount, required: Amount },
    #[error("with {amount} more than the {balance} that is there, the balance would leave 64 bits")]
    BalanceLimit { balance: Amount, amount: Amount },
}

/// That a user has no wallet in a currency.
pub(crate) fn no_wallet(user_id: &UserId, currency: Currency) -> Refusal {
    Refusal::new(Reason::WalletNotFound, format!("{user_id} has no wallet in {currency}"))
        .about("trivet.billing.v1.Wallet", format!("{user_id}/{currency}"))
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        let new = |reason| Self::new(reason, &refused);
        let account = |reason, user_id: &UserId| new(reason).about("trivet.account.v1.Account", user_id);
        let wallet = |reason, user_id: &UserId| new(reason).about("trivet.billing.v1.Wallet", user_id);
        match &refused {
            Refused::RequestId(taken) => taken.clone().into(),
            Refused::NoAccount(user_id) => account(Reason::AccountNotFound, user_id),
            Refused::AccountSuspended(user_id) => account(Reason::AccountSuspended, user_id),
            Refused::AccountDeleted(user_id) => account(Reason::AccountDeleted, user_id),
            Refused::AccountErased(user_id) => account(Reason::AccountErased, user_id),
            Refused::NoDeduction(request_id) => {
                new(Reason::DeductionNotFound).about("trivet.billing.v1.Deduction", request_id)
            }
            Refused::NoHold(hold_id) => new(Reason::HoldNotFound).about("trivet.billing.v1.Hold", hold_id),
            Refused::NoCharge(charge_id) => new(Reason::ChargeNotFound).about("trivet.billing.v1.Charge", charge_id),
            Refused::NoWallet { user_id, currency } => no_wallet(user_id, *currency),
            Refused::LedgerBroken(user_id) => wallet(Reason::LedgerBroken, user_id),
            Refused::WalletFrozen(user_id) => wallet(Reason::WalletFrozen, user_id),
            Refused::HoldNotOpen { hold_id, state } => {
                new(Reason::HoldNotOpen).about("trivet.billing.v1.Hold", hold_id).with("state", state)
            }
            Refused::CaptureExceedsHold { held, amount } => {
                new(Reason::CaptureExceedsHold).with("held", held).with("required", amount)
            }
            Refused::RefundExceedsDeduction { taken, refunded, amount } => new(Reason::RefundExceedsDeduction)
                .with("currency", taken.currency())
                .with("taken", taken)
                .with("refunded", refunded)
                .with("required", amount),
            Refused::InsufficientFunds { balance, available, required } => new(Reason::InsufficientFunds)
                .with("currency", required.currency())
                .with("balance", balance)
                .with("available", available)
                .with("required", required),
            Refused::BalanceLimit { balance, .. } => new(Reason::BalanceLimit).with("balance", balance),
        }
    }
}
