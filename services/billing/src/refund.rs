//! Refunds: what was taken is given back, whole or in part, and never more than was taken.

mod rpc;
#[cfg(test)]
mod tests;

use mesh::{RequestId, Slug, StoreError, Tenant, UserId, claim::Claim};
use money::Amount;

use crate::{
    book::{Posted, Posting, Refused, Sitting},
    charge,
    ledger::{Change, Details, Kind, Legs, Wallet, WalletKey},
    sabotage::{Protection, is_out},
};
pub(crate) use rpc::refund;

/// An order to give money back.
#[derive(Clone, Debug)]
pub(crate) struct Refund {
    pub(crate) request_id: RequestId,
    pub(crate) what: What,
    /// `None`: all that is left of it.
    pub(crate) amount: Option<Amount>,
    /// The amount as it was asked for, which is known without knowing in which currency; empty for all.
    pub(crate) asked: String,
    pub(crate) reason: String,
    /// What was taken; `None` where nothing was.
    pub(crate) of: Option<Taken>,
}

/// What is to be given back, as the caller calls it.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// What was taken under this request id.
    Deduction(RequestId),
    /// What was paid for this charge.
    Charge(Slug),
}

/// Money that was taken.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) transaction_id: String,
    pub(crate) user_id: UserId,
    pub(crate) amount: Amount,
}

impl Taken {
    /// What a change took, if it took anything.
    pub(crate) fn by(change: Change) -> Option<Self> {
        match change.kind {
            Kind::Deduction | Kind::Capture | Kind::Charge => {}
            Kind::Payment | Kind::Refund | Kind::Hold | Kind::Release | Kind::Credit => return None,
        }
        let amount = change.taken();
        Some(Self { transaction_id: change.transaction_id, user_id: change.user_id, amount })
    }

    pub(crate) fn wallet(&self, tenant: &Tenant) -> WalletKey {
        WalletKey { tenant: tenant.clone(), user_id: self.user_id.clone(), currency: self.amount.currency() }
    }
}

impl Refund {
    pub(crate) fn claim(&self, tenant: &Tenant) -> Claim {
        let (deduction, charge) = match &self.what {
            What::Deduction(request_id) => (request_id.as_str(), ""),
            What::Charge(charge_id) => ("", charge_id.as_str()),
        };
        let fields = [
            ("deduction_request_id", deduction),
            ("charge_id", charge),
            ("amount", &self.asked),
            ("reason", &self.reason),
        ];
        Claim::new(tenant, &self.request_id, "Refund", &fields)
    }

    /// Gives the money back, if that much of it is left.
    pub(crate) fn carry_out(
        &self,
        tenant: &Tenant,
        sitting: &mut Sitting,
    ) -> Result<Result<Posted, Refused>, StoreError> {
        let Some(taken) = &self.of else {
            return Ok(Err(match &self.what {
                What::Deduction(request_id) => Refused::NoDeduction(request_id.clone()),
                What::Charge(charge_id) => Refused::NoCharge(charge_id.clone()),
            }));
        };
        let key = taken.wallet(tenant);
        let nothing = Amount::zero(taken.amount.currency());
        let refunded = sitting.refunded(tenant, &taken.transaction_id).unwrap_or(nothing);
        let wallet = sitting.wallet(&key).ok_or(StoreError::Impossible("money was taken from a wallet that is not"))?;
        let (amount, so_far) = match decide(taken.amount, refunded, self.amount, wallet) {
            Ok(decided) => decided,
            Err(refused) => return Ok(Err(refused)),
        };
        let posting = Posting {
            request_id: Some(self.request_id.clone()),
            related_id: taken.transaction_id.clone(),
            details: Details { reason: self.reason.clone(), ..Details::default() },
            ..Posting::new(Kind::Refund, Legs::given_back(amount))
        };
        let posted = sitting.post(&key, posting)?;
        sitting.set_refunded(tenant, &taken.transaction_id, so_far);
        sitting.tell(|told, origin| told.refunded(origin, (&key, &posted), amount, &taken.transaction_id));
        charge::settle(sitting, &key)?;
        Ok(Ok(Posted { amount: Some(amount), ..posted }))
    }
}

/// The rule of refunds: how much is given back, and how much has been then.
fn decide(
    taken: Amount,
    refunded: Amount,
    asked: Option<Amount>,
    wallet: &Wallet,
) -> Result<(Amount, Amount), Refused> {
    let left = taken.minus(refunded).unwrap_or(Amount::zero(taken.currency()));
    let amount = asked.unwrap_or(left);
    let allowed = left.covers(amount) || is_out(Protection::Refunds);
    let so_far = refunded.plus(amount).filter(|_| amount.is_positive() && allowed);
    let Some(so_far) = so_far else { return Err(Refused::RefundExceedsDeduction { taken, refunded, amount }) };
    match wallet.balance.plus(amount) {
        Some(_) => Ok((amount, so_far)),
        None => Err(Refused::BalanceLimit { balance: wallet.balance, amount }),
    }
}
