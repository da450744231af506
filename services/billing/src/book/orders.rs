//! What can be handed in: one kind of order for each rpc that moves money, and what the house does of itself.

use std::collections::BTreeSet;

use mesh::{RequestId, Slug, StoreError, Tenant, claim::Claim};

use super::{Posted, Refused, Sitting};
use crate::{
    charge,
    deduction::Deduct,
    hold::{self, Capture, Placing, Release},
    ledger::WalletKey,
    refund::Refund,
    wallet::Payment,
};

/// What a request wants.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    Pay(Payment),
    Deduct(Deduct),
    Refund(Refund),
    Hold(Placing),
    Capture(Capture),
    Release(Release),
}

/// What is known of the world only if it is asked for: what the orders of a batch are about.
#[derive(Debug, Default)]
pub(super) struct Needs {
    /// Wallets that are made where there is none.
    pub(super) opening: BTreeSet<WalletKey>,
    /// Wallets that may have more to spend afterwards, and pay what they know that they owe.
    pub(super) credited: BTreeSet<WalletKey>,
    /// Wallets that pay all that they owe, what was written down a moment ago and they do not know of yet among it.
    pub(super) paying: BTreeSet<WalletKey>,
    pub(super) holds: BTreeSet<(Tenant, Slug)>,
    /// Transactions that are given back.
    pub(super) refunded: BTreeSet<(Tenant, String)>,
}

impl Order {
    pub(super) const fn request_id(&self) -> &RequestId {
        match self {
            Self::Pay(payment) => &payment.request_id,
            Self::Deduct(deduct) => &deduct.request_id,
            Self::Refund(refund) => &refund.request_id,
            Self::Hold(placing) => &placing.request_id,
            Self::Capture(capture) => &capture.request_id,
            Self::Release(release) => &release.request_id,
        }
    }

    /// The rpc that it comes from.
    pub(super) const fn method(&self) -> &'static str {
        match self {
            Self::Pay(_) => "RecordPayment",
            Self::Deduct(_) => "Deduct",
            Self::Refund(_) => "Refund",
            Self::Hold(_) => "PlaceHold",
            Self::Capture(_) => "CaptureHold",
            Self::Release(_) => "ReleaseHold",
        }
    }

    /// The request id with all that makes another request of another one.
    pub(super) fn claim(&self, tenant: &Tenant) -> Claim {
        match self {
            Self::Pay(payment) => payment.claim(tenant),
            Self::Deduct(deduct) => deduct.claim(tenant),
            Self::Refund(refund) => refund.claim(tenant),
            Self::Hold(placing) => placing.claim(tenant),
            Self::Capture(capture) => capture.claim(tenant),
            Self::Release(release) => release.claim(tenant),
        }
    }

    /// Whose money it is about. `None` where it is about nothing that there is.
    pub(super) fn wallet(&self, tenant: &Tenant) -> Option<WalletKey> {
        let (user_id, currency) = match self {
            Self::Pay(payment) => (&payment.user_id, payment.amount.currency()),
            Self::Deduct(deduct) => (&deduct.user_id, deduct.amount.currency()),
            Self::Refund(refund) => return refund.of.as_ref().map(|of| of.wallet(tenant)),
            Self::Hold(placing) => (&placing.user_id, placing.amount.currency()),
            Self::Capture(Capture { hold, .. }) | Self::Release(Release { hold, .. }) => {
                return hold.as_ref().map(|hold| hold.wallet(tenant));
            }
        };
        Some(WalletKey { tenant: tenant.clone(), user_id: user_id.clone(), currency })
    }

    /// Says what must be known to decide on it.
    pub(super) fn needs(&self, tenant: &Tenant, needs: &mut Needs) {
        let Some(wallet) = self.wallet(tenant) else { return };
        match self {
            Self::Deduct(_) | Self::Hold(_) => {}
            Self::Pay(payment) => {
                if payment.standing.is_active() {
                    needs.opening.insert(wallet.clone());
                    needs.paying.insert(wallet);
                }
            }
            Self::Refund(refund) => {
                needs.credited.insert(wallet);
                needs.refunded.extend(refund.of.as_ref().map(|of| (tenant.clone(), of.transaction_id.clone())));
            }
            Self::Capture(Capture { hold_id, .. }) | Self::Release(Release { hold_id, .. }) => {
                needs.credited.insert(wallet);
                needs.holds.insert((tenant.clone(), hold_id.clone()));
            }
        }
    }

    /// Decides on it, and does what was decided.
    pub(super) fn carry_out(
        &self,
        tenant: &Tenant,
        sitting: &mut Sitting,
    ) -> Result<Result<Posted, Refused>, StoreError> {
        match self {
            Self::Pay(payment) => payment.carry_out(tenant, sitting),
            Self::Deduct(deduct) => deduct.carry_out(tenant, sitting),
            Self::Refund(refund) => refund.carry_out(tenant, sitting),
            Self::Hold(placing) => placing.carry_out(tenant, sitting),
            Self::Capture(capture) => capture.carry_out(tenant, sitting),
            Self::Release(release) => release.carry_out(tenant, sitting),
        }
    }
}

/// What the house does of itself.
#[derive(Clone, Debug)]
pub(crate) enum Upkeep {
    /// Has a wallet pay what it owes, as far as it can.
    Settle(WalletKey),
    /// Gives back what was set aside for too long.
    Expire { wallet: WalletKey, hold_id: Slug },
    /// Has a wallet give no money, or give it again and pay what it owes.
    Freeze { wallet: WalletKey, frozen: bool },
    /// Has a wallet give no money because it does not add up; or, with nothing said, give it again.
    Fault { wallet: WalletKey, fault: String },
}

impl Upkeep {
    pub(super) const fn wallet(&self) -> &WalletKey {
        match self {
            Self::Settle(wallet)
            | Self::Expire { wallet, .. }
            | Self::Freeze { wallet, .. }
            | Self::Fault { wallet, .. } => wallet,
        }
    }

    pub(super) fn needs(&self, needs: &mut Needs) {
        match self {
            Self::Settle(wallet) => {
                needs.opening.insert(wallet.clone());
            }
            Self::Expire { wallet, hold_id } => {
                needs.holds.insert((wallet.tenant.clone(), hold_id.clone()));
            }
            Self::Freeze { .. } | Self::Fault { .. } => {}
        }
        needs.paying.insert(self.wallet().clone());
    }

    pub(super) fn carry_out(&self, sitting: &mut Sitting) -> Result<(), StoreError> {
        match self {
            Self::Settle(wallet) => charge::settle(sitting, wallet),
            Self::Expire { wallet, hold_id } => hold::expire(sitting, wallet, hold_id),
            Self::Freeze { wallet, frozen } => {
                sitting.freeze(wallet, *frozen);
                charge::settle(sitting, wallet)
            }
            Self::Fault { wallet, fault } => {
                sitting.fault(wallet, fault);
                charge::settle(sitting, wallet)
            }
        }
    }
}
