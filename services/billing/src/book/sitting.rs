//! A sitting at the book: what is known while a batch of orders is decided, and what is to be written of it. Nothing here
//! asks a database: rules that decide on it are pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use mesh::{Clock, RequestId, Slug, StoreError, Tenant, Time, UserId, events::Origin, id};
use money::Amount;

use super::{Posted, told::Told};
use crate::{
    charge::{Charge, Owed, Reversed},
    hold::Hold,
    ledger::{Change, Details, Kind, Legs, Movement, Purpose, Wallet, WalletKey, WalletState},
};

/// What is known, and what becomes of it.
pub(crate) struct Sitting {
    pub(crate) now: Time,
    clock: Clock,
    pub(super) wallets: HashMap<WalletKey, Wallet>,
    pub(super) holds: HashMap<(Tenant, Slug), Hold>,
    /// How much was given back of each transaction that an order may give back.
    pub(super) refunded: HashMap<(Tenant, String), Amount>,
    /// What each wallet owes; of wallets that may get money.
    pub(super) owed: HashMap<WalletKey, Owed>,
    /// Charges that are taken back and are not among what is owed, as far as that was read.
    pub(super) reversed: HashMap<(Tenant, Slug), Reversed>,
    pub(super) written: Written,
    /// Who ordered what is being carried out.
    origin: Option<Origin>,
    /// Wallets as they were, while it may still have to be undone.
    undo: Option<Vec<(WalletKey, Wallet)>>,
}

/// What is to be written.
#[derive(Default)]
pub(super) struct Written {
    pub(super) changes: Vec<(Tenant, Change)>,
    pub(super) wallets: BTreeSet<WalletKey>,
    pub(super) new_holds: Vec<(Tenant, Hold)>,
    /// Holds that have ended.
    pub(super) holds: BTreeMap<(Tenant, Slug), Hold>,
    pub(super) charges: BTreeMap<(Tenant, Slug), Charge>,
    /// Owners who are not gone any more.
    pub(super) back: BTreeSet<(Tenant, UserId)>,
    pub(super) told: Told,
}

/// What money is moved for.
pub(crate) struct Posting {
    pub(crate) kind: Kind,
    pub(crate) request_id: Option<RequestId>,
    /// `None` where so much cannot be.
    pub(crate) legs: Option<Legs>,
    pub(crate) related_id: String,
    pub(crate) purpose: Purpose,
    pub(crate) details: Details,
}

impl Posting {
    /// A posting about nothing else.
    pub(crate) fn new(kind: Kind, legs: Option<Legs>) -> Self {
        Self {
            kind,
            request_id: None,
            legs,
            related_id: String::new(),
            purpose: Purpose::default(),
            details: Details::default(),
        }
    }
}

impl Sitting {
    /// A sitting over one wallet, with so much in it, of `ada` of the default tenant, and what she owes.
    #[cfg(test)]
    pub(crate) fn over(balance: Amount, now: Time, owed: Vec<Charge>) -> (Self, WalletKey) {
        let currency = balance.currency();
        let user_id = mesh::UserId::parse("ada").unwrap();
        let key = WalletKey { tenant: Tenant::default_tenant(), user_id: user_id.clone(), currency };
        let mut sitting = Self::new(&Clock::held(now));
        let context = mesh::Context::own(key.tenant.clone(), std::time::Duration::from_secs(1));
        sitting.begin(&Origin::of(&context, &sitting.clock.clone()));
        sitting.wallets.insert(key.clone(), Wallet { balance, ..Wallet::empty(user_id, currency, now) });
        sitting.owed.insert(key.clone(), owed.into());
        (sitting, key)
    }

    /// How the charges are that changed.
    #[cfg(test)]
    pub(crate) fn charges(&self) -> impl Iterator<Item = &Charge> {
        self.written.charges.values()
    }

    pub(super) fn new(clock: &Clock) -> Self {
        Self {
            now: clock.now(),
            clock: clock.clone(),
            wallets: HashMap::new(),
            holds: HashMap::new(),
            refunded: HashMap::new(),
            owed: HashMap::new(),
            reversed: HashMap::new(),
            written: Written::default(),
            origin: None,
            undo: None,
        }
    }

    /// The wallet, where there is one.
    pub(crate) fn wallet(&self, key: &WalletKey) -> Option<&Wallet> {
        self.wallets.get(key)
    }

    /// Moves money, which was decided.
    pub(crate) fn post(&mut self, key: &WalletKey, posting: Posting) -> Result<Posted, StoreError> {
        const IMPOSSIBLE: StoreError = StoreError::Impossible("money was to be moved that cannot be");
        let wallet = self.wallets.get_mut(key).ok_or(IMPOSSIBLE)?;
        if let Some(undo) = &mut self.undo {
            undo.push((key.clone(), wallet.clone()));
        }
        let change = wallet.post(Movement {
            // Made here, so that ids are in the order of a wallet's changes.
            transaction_id: id::fresh("txn", &self.clock),
            kind: posting.kind,
            request_id: posting.request_id,
            legs: posting.legs.ok_or(IMPOSSIBLE)?,
            related_id: posting.related_id,
            purpose: posting.purpose,
            details: posting.details,
            time: self.now,
        })?;
        let posted = Posted {
            transaction_id: change.transaction_id.clone(),
            balance_after: change.balance_after,
            wallet_version: change.wallet_version,
            time: change.create_time,
            amount: None,
            hold: None,
        };
        self.written.wallets.insert(key.clone());
        self.written.changes.push((key.tenant.clone(), change));
        Ok(posted)
    }

    /// Has a wallet give no money, or give it again.
    pub(super) fn freeze(&mut self, key: &WalletKey, frozen: bool) {
        let state = if frozen { WalletState::Frozen } else { WalletState::Active };
        let now = self.now;
        self.alter(key, |wallet| {
            if wallet.state == state {
                return false;
            }
            wallet.state = state;
            wallet.update_time = wallet.update_time.max(now);
            true
        });
        if !frozen && self.wallets.contains_key(key) {
            // Whoever may spend again is here, whatever was known of that.
            self.written.back.insert((key.tenant.clone(), key.user_id.clone()));
        }
    }

    /// Notes that a wallet does not add up, or that it does.
    pub(super) fn fault(&mut self, key: &WalletKey, fault: &str) {
        let now = self.now;
        self.alter(key, |wallet| {
            if wallet.fault == fault {
                return false;
            }
            fault.clone_into(&mut wallet.fault);
            wallet.update_time = wallet.update_time.max(now);
            true
        });
    }

    /// Counts the charges that a wallet does not cover.
    pub(crate) fn owes(&mut self, key: &WalletKey, open_charges: usize) {
        let open_charges = i64::try_from(open_charges).unwrap_or(i64::MAX);
        self.alter(key, |wallet| std::mem::replace(&mut wallet.open_charges, open_charges) != open_charges);
    }

    /// Changes of a wallet what is no movement of money.
    fn alter(&mut self, key: &WalletKey, alter: impl FnOnce(&mut Wallet) -> bool) {
        if self.wallets.get_mut(key).is_some_and(alter) {
            self.written.wallets.insert(key.clone());
        }
    }

    /// How a hold stands.
    pub(crate) fn hold(&self, tenant: &Tenant, hold_id: &Slug) -> Option<&Hold> {
        self.holds.get(&(tenant.clone(), hold_id.clone()))
    }

    /// Sets a hold that is made now.
    pub(crate) fn add_hold(&mut self, tenant: &Tenant, hold: Hold) {
        self.written.new_holds.push((tenant.clone(), hold));
    }

    /// Sets how a hold ended.
    pub(crate) fn end_hold(&mut self, tenant: &Tenant, hold: Hold) {
        let key = (tenant.clone(), hold.hold_id.clone());
        self.holds.insert(key.clone(), hold.clone());
        self.written.holds.insert(key, hold);
    }

    /// How much of a transaction was given back.
    pub(crate) fn refunded(&self, tenant: &Tenant, transaction_id: &str) -> Option<Amount> {
        self.refunded.get(&(tenant.clone(), transaction_id.to_owned())).copied()
    }

    /// Notes how much of a transaction is given back now.
    pub(crate) fn set_refunded(&mut self, tenant: &Tenant, transaction_id: &str, refunded: Amount) {
        self.refunded.insert((tenant.clone(), transaction_id.to_owned()), refunded);
    }

    /// Charges that what the house owes takes back, and that are not among what is owed.
    pub(super) fn taken_back(&self) -> impl Iterator<Item = (Tenant, Slug)> {
        let of_wallet = |(key, owed): (&WalletKey, &Owed)| {
            let open: BTreeSet<&Slug> = owed.charges.iter().map(|charge| &charge.charge_id).collect();
            let ids = owed.charges.iter().filter_map(|charge| charge.reversed_id.as_ref());
            ids.filter(|id| !open.contains(id)).map(|id| (key.tenant.clone(), id.clone())).collect::<BTreeSet<_>>()
        };
        self.owed.iter().flat_map(of_wallet)
    }

    /// A charge that is taken back and is not among what is owed, taken out to be dealt with.
    pub(crate) fn take_reversed(&mut self, tenant: &Tenant, charge_id: &Slug) -> Option<Reversed> {
        self.reversed.remove(&(tenant.clone(), charge_id.clone()))
    }

    /// Puts it back.
    pub(crate) fn put_reversed(&mut self, tenant: &Tenant, reversed: Reversed) {
        self.reversed.insert((tenant.clone(), reversed.charge.charge_id.clone()), reversed);
    }

    /// What a wallet owes, taken out to be dealt with; `None` where nobody looked.
    pub(crate) fn take_owed(&mut self, key: &WalletKey) -> Option<Owed> {
        self.owed.remove(key)
    }

    /// Puts what a wallet still owes back.
    pub(crate) fn put_owed(&mut self, key: &WalletKey, owed: Owed) {
        self.owed.insert(key.clone(), owed);
    }

    /// Writes a charge as it is now.
    pub(crate) fn set_charge(&mut self, tenant: &Tenant, charge: &Charge) {
        self.written.charges.insert((tenant.clone(), charge.charge_id.clone()), charge.clone());
    }

    /// What is told, and who makes it happen.
    pub(crate) fn tell(&mut self, tell: impl FnOnce(&mut Told, &Origin)) {
        if let Some(origin) = &self.origin {
            tell(&mut self.written.told, origin);
        }
    }

    /// Begins with what somebody else ordered.
    pub(super) fn begin(&mut self, origin: &Origin) {
        self.origin = Some(origin.clone());
    }

    /// Begins what may have to be undone: several orders that are carried out together. All of them take money, which
    /// changes wallets and nothing else.
    pub(super) fn begin_together(&mut self) -> Mark {
        self.undo = Some(Vec::new());
        Mark { changes: self.written.changes.len(), told: self.written.told.mark() }
    }

    /// Ends it; undone unless it is to stay.
    pub(super) fn end_together(&mut self, mark: Mark, stays: bool) {
        let undo = self.undo.take().unwrap_or_default();
        if stays {
            return;
        }
        self.written.changes.truncate(mark.changes);
        self.written.told.back_to(mark.told);
        // The first that was noted of a wallet is the oldest.
        for (key, wallet) in undo.into_iter().rev() {
            self.written.told.undone(&key, &wallet);
            self.wallets.insert(key, wallet);
        }
    }
}

/// Where several orders began.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    changes: usize,
    told: super::told::Mark,
}
