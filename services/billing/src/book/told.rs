//! What the others hear of money: told in the transaction that moves it.

use std::collections::BTreeMap;

use mesh::{
    StoreError, Tenant,
    events::{Aggregate, Draft, Origin, publish_each},
    store::Writes,
};
use money::Amount;
use trivet_proto::{
    Event,
    billing::v1::{
        DeductionItem, DeductionMade, HoldCaptured, HoldPlaced, HoldReleased, PaymentCompleted, RefundMade,
        WalletInsufficientFunds,
    },
};

use super::Posted;
use crate::{
    deduction::Deduct,
    hold::{Hold, HoldState},
    ledger::{Wallet, WalletKey},
};

/// Deductions of one event: more are told of by another.
const DEDUCTIONS: usize = 500;

/// What is to be told of one sitting.
#[derive(Default)]
pub(crate) struct Told {
    each: Vec<(Origin, Draft)>,
    deductions: Vec<(Origin, Tenant, DeductionItem)>,
    /// Of each wallet that did not cover a deduction the last time that happened: a caller who asks on and on is not told
    /// of to everybody each time.
    not_covered: BTreeMap<WalletKey, NotCovered>,
}

/// A wallet that did not cover a deduction.
struct NotCovered {
    origin: Origin,
    /// How much had been told of wallets before: it is told in the order of their changes.
    place: usize,
    version: i64,
    event: WalletInsufficientFunds,
}

/// How much was told.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    each: usize,
    deductions: usize,
}

impl Told {
    pub(super) fn mark(&self) -> Mark {
        Mark { each: self.each.len(), deductions: self.deductions.len() }
    }

    pub(super) fn back_to(&mut self, mark: Mark) {
        self.each.truncate(mark.each);
        self.deductions.truncate(mark.deductions);
    }

    /// That a wallet is as it was before what was undone: what it did not cover, it did not cover then.
    pub(super) fn undone(&mut self, key: &WalletKey, wallet: &Wallet) {
        if let Some(told) = self.not_covered.get_mut(key) {
            told.place = told.place.min(self.each.len());
            told.version = wallet.version;
            told.event.available = wallet.available().to_wire();
        }
    }

    /// Tells of a wallet: its events keep the order of its changes.
    fn of_wallet<E: Event>(&mut self, origin: &Origin, (key, version): (&WalletKey, i64), event: &E) {
        self.each.push((origin.clone(), draft(key, version, event)));
    }

    /// That money was taken.
    pub(crate) fn deducted(&mut self, origin: &Origin, tenant: &Tenant, deduct: &Deduct, posted: &Posted) {
        let text = |slug: &Option<mesh::Slug>| slug.as_ref().map(ToString::to_string).unwrap_or_default();
        let item = DeductionItem {
            transaction_id: posted.transaction_id.clone(),
            request_id: deduct.request_id.to_string(),
            user_id: deduct.user_id.to_string(),
            api_id: text(&deduct.api_id),
            endpoint_id: text(&deduct.endpoint_id),
            api_key_id: text(&deduct.api_key_id),
            currency: deduct.amount.currency().code().to_owned(),
            amount: deduct.amount.to_wire(),
            balance_after: posted.balance_after.to_wire(),
            wallet_version: posted.wallet_version,
            create_time: Some(posted.time.to_wire()),
        };
        self.deductions.push((origin.clone(), tenant.clone(), item));
    }

    /// That a wallet did not cover a deduction.
    pub(crate) fn not_covered(&mut self, origin: &Origin, key: &WalletKey, wallet: &Wallet, required: Amount) {
        let event = insufficient(key, wallet, required, "");
        let told = NotCovered { origin: origin.clone(), place: self.each.len(), version: wallet.version, event };
        self.not_covered.insert(key.clone(), told);
    }

    /// That a wallet does not cover what is owed: for a subscription, or for something else.
    pub(crate) fn owes(
        &mut self,
        origin: &Origin,
        (key, wallet): (&WalletKey, &Wallet),
        required: Amount,
        subscription_id: &str,
    ) {
        self.of_wallet(origin, (key, wallet.version), &insufficient(key, wallet, required, subscription_id));
    }

    /// That money came in, or that something is paid now.
    pub(crate) fn paid(
        &mut self,
        origin: &Origin,
        (key, posted): (&WalletKey, &Posted),
        amount: Amount,
        subscription_id: &str,
    ) {
        let event = PaymentCompleted {
            user_id: key.user_id.to_string(),
            subscription_id: subscription_id.to_owned(),
            amount: amount.to_wire(),
            currency: key.currency.code().to_owned(),
        };
        self.of_wallet(origin, (key, posted.wallet_version), &event);
    }

    /// That money was given back.
    pub(crate) fn refunded(
        &mut self,
        origin: &Origin,
        (key, posted): (&WalletKey, &Posted),
        amount: Amount,
        transaction_id: &str,
    ) {
        let event = RefundMade {
            transaction_id: posted.transaction_id.clone(),
            refunded_transaction_id: transaction_id.to_owned(),
            user_id: key.user_id.to_string(),
            currency: key.currency.code().to_owned(),
            amount: amount.to_wire(),
        };
        self.of_wallet(origin, (key, posted.wallet_version), &event);
    }

    /// How a hold stands now.
    pub(crate) fn hold(&mut self, origin: &Origin, (key, posted): (&WalletKey, &Posted), hold: &Hold) {
        let at = (key, posted.wallet_version);
        let (hold_id, user_id) = (hold.hold_id.to_string(), hold.user_id.to_string());
        let (currency, amount) = (key.currency.code().to_owned(), hold.amount.to_wire());
        match hold.state {
            HoldState::Open => self.of_wallet(origin, at, &HoldPlaced { hold_id, user_id, currency, amount }),
            HoldState::Captured => {
                let captured_amount = hold.captured.to_wire();
                self.of_wallet(origin, at, &HoldCaptured { hold_id, user_id, currency, amount, captured_amount });
            }
            HoldState::Released | HoldState::Expired => {
                let expired = hold.state == HoldState::Expired;
                self.of_wallet(origin, at, &HoldReleased { hold_id, user_id, currency, amount, expired });
            }
        }
    }

    /// Adds it all to what is written.
    pub(super) fn publish(self, writes: &mut Writes) -> Result<(), StoreError> {
        let mut drafts: Vec<(Origin, Draft)> = Vec::with_capacity(self.each.len());
        let mut not_covered: Vec<(WalletKey, NotCovered)> = self.not_covered.into_iter().collect();
        not_covered.sort_by_key(|(_, told)| told.place);
        let mut not_covered = not_covered.into_iter().peekable();
        for (place, told) in self.each.into_iter().map(Some).chain([None]).enumerate() {
            while let Some((key, it)) = not_covered.next_if(|(_, it)| it.place <= place || told.is_none()) {
                drafts.push((it.origin, draft(&key, it.version, &it.event)));
            }
            drafts.extend(told);
        }
        let mut tenants: BTreeMap<Tenant, (Origin, Vec<DeductionItem>)> = BTreeMap::new();
        for (origin, tenant, item) in self.deductions {
            // They come from the first call of theirs: a trace can have many ends and no two beginnings.
            tenants.entry(tenant).or_insert_with(|| (origin, Vec::new())).1.push(item);
        }
        for (origin, items) in tenants.into_values() {
            for items in items.chunks(DEDUCTIONS) {
                let Some(first) = items.first() else { continue };
                let about = Aggregate { kind: "deduction", id: &first.transaction_id, version: 1 };
                drafts.push((origin.clone(), Draft::new(about, &DeductionMade { deductions: items.to_vec() })));
            }
        }
        publish_each(writes, drafts)
    }
}

fn draft<E: Event>(key: &WalletKey, version: i64, event: &E) -> Draft {
    Draft::new(Aggregate { kind: "wallet", id: key.user_id.as_str(), version }, event)
}

fn insufficient(key: &WalletKey, wallet: &Wallet, required: Amount, subscription_id: &str) -> WalletInsufficientFunds {
    WalletInsufficientFunds {
        user_id: key.user_id.to_string(),
        subscription_id: subscription_id.to_owned(),
        suspend: false,
        required: required.to_wire(),
        available: wallet.available().to_wire(),
        currency: key.currency.code().to_owned(),
    }
}
