//! How a wallet pays what it owes, and what the house gives back.

use std::collections::VecDeque;

use mesh::StoreError;
use money::Amount;

use super::{Charge, ChargeState, IMPOSSIBLE, Source};
use crate::{
    book::Sitting,
    ledger::{Kind, Legs, Wallet, WalletKey},
};

/// Charges of one wallet that are paid in one sitting; more are left for the next one.
pub(super) const AT_ONCE: usize = 1_000;

/// What a wallet owes, and is owed by the house, as far as it was read.
#[derive(Debug)]
pub(crate) struct Owed {
    /// What is open, oldest first.
    pub(crate) charges: VecDeque<Charge>,
    /// How many of them may still end before more must be read: some that are older than the last may not have been.
    pub(crate) reach: usize,
    /// How many were not read that the wallet was asked for before.
    pub(crate) unread: usize,
}

impl From<Vec<Charge>> for Owed {
    fn from(charges: Vec<Charge>) -> Self {
        Self { charges: charges.into(), reach: AT_ONCE, unread: 0 }
    }
}

/// A charge that is taken back and is not among what was read of what is owed: it ended, or others are before it.
#[derive(Debug)]
pub(crate) struct Reversed {
    pub(crate) charge: Charge,
    /// What needed no giving back of all that took it back before.
    pub(crate) forgiven: Amount,
    /// What was given for it before: as money, or by owing less for something else.
    pub(crate) given: Amount,
}

impl Reversed {
    /// How much of it needs no giving back, beyond what did not before: it was voided, or refunded.
    fn forgivable(&self, given_back: Amount) -> Option<Amount> {
        let nothing = Amount::zero(self.charge.amount.currency());
        let forgivable = match self.charge.state {
            ChargeState::Open => nothing,
            ChargeState::Void => self.charge.outstanding()?,
            ChargeState::Paid => given_back.minus(self.given)?,
        };
        Some(forgivable.minus(self.forgiven).filter(|left| left.is_positive()).unwrap_or(nothing))
    }
}

/// Has a wallet pay what it owes, as far as it was read and can be paid.
pub(crate) fn settle(sitting: &mut Sitting, key: &WalletKey) -> Result<(), StoreError> {
    let Some(Owed { charges, mut reach, unread }) = sitting.take_owed(key) else { return Ok(()) };
    let (credits, mut owed): (VecDeque<Charge>, VecDeque<Charge>) =
        charges.into_iter().partition(|charge| charge.amount.is_negative());
    for credit in credits {
        give(sitting, key, credit, &mut owed)?;
    }
    let before = owed.len();
    owed.retain(|charge| charge.state == ChargeState::Open);
    reach = reach.saturating_sub(before.saturating_sub(owed.len()));
    while let Some(charge) = owed.front_mut() {
        let required = charge.outstanding().ok_or(IMPOSSIBLE)?;
        if reach == 0 {
            // Looked at anew by the worker, with those behind it.
            charge.tried = false;
            sitting.set_charge(&key.tenant, charge);
            break;
        }
        if !sitting.wallet(key).is_some_and(|wallet| wallet.gives() && wallet.available().covers(required)) {
            break;
        }
        pay(sitting, key, charge, required)?;
        owed.pop_front();
        reach = reach.saturating_sub(1);
    }
    let wallet = sitting.wallet(key).cloned();
    if reach > 0
        && let Some(wallet) = &wallet
    {
        refuse(sitting, (key, wallet), &mut owed)?;
    }
    sitting.owes(key, owed.iter().filter(|charge| charge.tried).count().saturating_add(unread));
    sitting.put_owed(key, Owed { charges: owed, reach, unread });
    Ok(())
}

fn pay(sitting: &mut Sitting, key: &WalletKey, charge: &mut Charge, required: Amount) -> Result<(), StoreError> {
    let posted = sitting.post(key, charge.posting(Kind::Charge, Legs::taken(required)))?;
    if !charge.for_subscription().is_empty() {
        let subscription_id = charge.for_subscription();
        sitting.tell(|told, origin| told.paid(origin, (key, &posted), required, subscription_id));
    }
    charge.end(ChargeState::Paid, posted.time, posted.transaction_id);
    sitting.set_charge(&key.tenant, charge);
    Ok(())
}

/// Tells of charges that the wallet was asked for the first time and does not cover.
fn refuse(
    sitting: &mut Sitting,
    (key, wallet): (&WalletKey, &Wallet),
    owed: &mut VecDeque<Charge>,
) -> Result<(), StoreError> {
    for charge in owed.iter_mut().filter(|charge| !charge.tried) {
        let required = charge.outstanding().ok_or(IMPOSSIBLE)?;
        charge.tried = true;
        sitting.set_charge(&key.tenant, charge);
        sitting.tell(|told, origin| told.owes(origin, (key, wallet), required, charge.for_subscription()));
    }
    Ok(())
}

/// Gives what the house owes: less of the charge that is taken back, as far as that is not paid; nothing for what was
/// voided or refunded of it; less of what else was used and is not paid; and money for the rest.
fn give(
    sitting: &mut Sitting,
    key: &WalletKey,
    mut credit: Charge,
    owed: &mut VecDeque<Charge>,
) -> Result<(), StoreError> {
    let reversed_id = credit.reversed_id.clone();
    if let Some(reversed) = owed.iter_mut().find(|charge| Some(&charge.charge_id) == reversed_id.as_ref()) {
        take_back(sitting, key, &mut credit, reversed)?;
    } else if let Some(reversed_id) = &reversed_id
        && let Some(mut reversed) = sitting.take_reversed(&key.tenant, reversed_id)
    {
        take_back(sitting, key, &mut credit, &mut reversed.charge)?;
        let nothing = Amount::zero(credit.amount.currency());
        let given_back = sitting.refunded(&key.tenant, &reversed.charge.transaction_id).unwrap_or(nothing);
        let forgiven = credit.settle_without_money(reversed.forgivable(given_back).ok_or(IMPOSSIBLE)?)?;
        credit.forgiven = credit.forgiven.plus(forgiven).ok_or(IMPOSSIBLE)?;
        reversed.forgiven = reversed.forgiven.plus(forgiven).ok_or(IMPOSSIBLE)?;
        sitting.put_reversed(&key.tenant, reversed);
    }
    // Newest first: what was used last has made a price fall. What ends a subscription's charge is told by its payment.
    let is_alike = |charge: &&mut Charge| {
        let alike = (&charge.subscription_id, &charge.product_id) == (&credit.subscription_id, &credit.product_id);
        alike && charge.source == Source::Usage && credit.source == Source::Usage
    };
    let alike: Vec<&mut Charge> = owed.iter_mut().rev().filter(is_alike).collect();
    let before = credit.credited;
    for charge in alike {
        take_back(sitting, key, &mut credit, charge)?;
    }
    let set_off = credit.credited.minus(before).ok_or(IMPOSSIBLE)?;
    credit.set_off = credit.set_off.plus(set_off).ok_or(IMPOSSIBLE)?;
    given(sitting, key, &credit, set_off)?;
    let rest = credit.outstanding().and_then(Amount::negated).ok_or(IMPOSSIBLE)?;
    let (time, transaction_id) = if rest.is_zero() {
        (sitting.now, String::new())
    } else {
        let fits = sitting.wallet(key).is_some_and(|wallet| wallet.balance.plus(rest).is_some());
        if !fits {
            // It stays open: nothing is lost, and nothing else has to wait for it.
            credit.tried = true;
            sitting.set_charge(&key.tenant, &credit);
            return Ok(());
        }
        let posted = sitting.post(key, credit.posting(Kind::Credit, Legs::given_back(rest)))?;
        given(sitting, key, &credit, rest)?;
        (posted.time, posted.transaction_id)
    };
    credit.end(ChargeState::Paid, time, transaction_id);
    sitting.set_charge(&key.tenant, &credit);
    Ok(())
}

/// Notes that so much was given for a charge that was taken back, as money or otherwise.
fn given(sitting: &mut Sitting, key: &WalletKey, credit: &Charge, amount: Amount) -> Result<(), StoreError> {
    let reversed = credit.reversed_id.as_ref().and_then(|id| sitting.take_reversed(&key.tenant, id));
    let Some(mut reversed) = reversed else { return Ok(()) };
    reversed.given = reversed.given.plus(amount).ok_or(IMPOSSIBLE)?;
    let paid_by = &reversed.charge.transaction_id;
    if !paid_by.is_empty() {
        let before = sitting.refunded(&key.tenant, paid_by).unwrap_or(Amount::zero(amount.currency()));
        sitting.set_refunded(&key.tenant, paid_by, before.plus(amount).ok_or(IMPOSSIBLE)?);
    }
    sitting.put_reversed(&key.tenant, reversed);
    Ok(())
}

/// Has less of an open charge be owed, for what the house owes.
fn take_back(
    sitting: &mut Sitting,
    key: &WalletKey,
    credit: &mut Charge,
    charge: &mut Charge,
) -> Result<(), StoreError> {
    if charge.state != ChargeState::Open {
        return Ok(());
    }
    let less = credit.settle_without_money(charge.outstanding().ok_or(IMPOSSIBLE)?)?;
    if less.is_zero() {
        return Ok(());
    }
    charge.credited = charge.credited.plus(less).ok_or(IMPOSSIBLE)?;
    if charge.outstanding().is_some_and(Amount::is_zero) {
        charge.void(sitting.now, "what it was for was taken back");
    }
    sitting.set_charge(&key.tenant, charge);
    Ok(())
}
