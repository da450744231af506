//! Charges: what is owed because of what happened elsewhere. A subscription's period and a group of usage records make one
//! each, out of their events; it is paid from the wallet when there is enough, strictly the oldest first.
//!
//! A charge is written by the handler of its event, which touches no wallet. The worker has the book ask the wallet right
//! after that, together with all other orders; and whatever brings money into a wallet pays what it owes. A charge below
//! zero is owed by the house: it takes back what is not paid yet of the charge that it reverses, and the rest is credited.

mod events;
mod rpc;
pub(crate) mod table;
#[cfg(test)]
mod tests;
mod worker;

use std::collections::VecDeque;

use mesh::{Context, Slug, StoreError, Tenant, Time, UserId, store::Writes, text_enum};
use money::Amount;
use serde::{Deserialize, Serialize};

use crate::{
    book::{Books, Posting, Sitting},
    ledger::{Details, Kind, Legs, Wallet, WalletKey, lock_wallets, open_wallets, update_wallets},
};
pub(crate) use {events::handlers, rpc::server, worker::work};

text_enum! {
    /// What a charge is for.
    pub(crate) enum Source {
        /// A period of a subscription, or a change within one.
        Subscription = "SUBSCRIPTION",
        /// What was used.
        Usage = "USAGE",
    }
}

text_enum! {
    /// How a charge stands.
    pub(crate) enum ChargeState {
        /// Owed.
        Open = "OPEN",
        /// Paid.
        Paid = "PAID",
        /// Not owed any more.
        Void = "VOID",
    }
}

/// What is owed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Charge {
    pub(crate) charge_id: Slug,
    pub(crate) user_id: UserId,
    /// Below zero, the house owes it.
    pub(crate) amount: Amount,
    /// How much of it is settled without money.
    pub(crate) credited: Amount,
    pub(crate) source: Source,
    pub(crate) event_id: String,
    /// Which of the event's charges.
    pub(crate) ordinal: i64,
    pub(crate) subscription_id: Option<Slug>,
    pub(crate) organization_id: Option<Slug>,
    pub(crate) product_id: Option<Slug>,
    pub(crate) plan_id: Option<Slug>,
    /// The charge that this one takes back.
    pub(crate) reversed_id: Option<Slug>,
    pub(crate) state: ChargeState,
    /// Whether the wallet was asked for it.
    pub(crate) tried: bool,
    pub(crate) create_time: Time,
    pub(crate) end_time: Option<Time>,
    pub(crate) void_reason: String,
    /// The transaction that paid it.
    pub(crate) transaction_id: String,
}

impl Charge {
    pub(crate) fn wallet(&self, tenant: &Tenant) -> WalletKey {
        WalletKey { tenant: tenant.clone(), user_id: self.user_id.clone(), currency: self.amount.currency() }
    }

    /// What is still to be moved, below zero what the house is to give.
    pub(crate) fn outstanding(&self) -> Option<Amount> {
        if self.amount.is_negative() { self.amount.plus(self.credited) } else { self.amount.minus(self.credited) }
    }

    /// The subscription that is not paid unless this is.
    fn for_subscription(&self) -> &str {
        match (self.source, &self.subscription_id) {
            (Source::Subscription, Some(subscription_id)) => subscription_id.as_str(),
            _ => "",
        }
    }

    fn end(&mut self, state: ChargeState, now: Time, transaction_id: String) {
        self.state = state;
        self.end_time = Some(now);
        self.transaction_id = transaction_id;
        self.tried = true;
    }

    fn void(&mut self, now: Time, reason: &str) {
        reason.clone_into(&mut self.void_reason);
        self.end(ChargeState::Void, now, String::new());
    }

    fn posting(&self, kind: Kind, legs: Option<Legs>) -> Posting {
        let text = |slug: &Option<Slug>| slug.as_ref().map(ToString::to_string).unwrap_or_default();
        Posting {
            related_id: self.charge_id.to_string(),
            details: Details {
                subscription_id: text(&self.subscription_id),
                product_id: text(&self.product_id),
                plan_id: text(&self.plan_id),
                ..Details::default()
            },
            ..Posting::new(kind, legs)
        }
    }
}

/// Charges of one wallet that are paid in one sitting; more are left for the next one.
pub(crate) const AT_ONCE: usize = 1_000;

const IMPOSSIBLE: StoreError = StoreError::Impossible("a charge is of more than an amount can be");

/// Has a wallet pay what it owes, as far as it was read and can be paid.
pub(crate) fn settle(sitting: &mut Sitting, key: &WalletKey) -> Result<(), StoreError> {
    let Some(owed) = sitting.take_owed(key) else { return Ok(()) };
    let (credits, mut owed): (VecDeque<Charge>, VecDeque<Charge>) =
        owed.into_iter().partition(|charge| charge.amount.is_negative());
    for credit in credits {
        give(sitting, key, credit, &mut owed)?;
    }
    owed.retain(|charge| charge.state == ChargeState::Open);
    let mut paid = 0_usize;
    while let Some(charge) = owed.front_mut() {
        let required = charge.outstanding().ok_or(IMPOSSIBLE)?;
        if paid >= AT_ONCE {
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
        paid = paid.saturating_add(1);
    }
    let wallet = sitting.wallet(key).cloned();
    if paid < AT_ONCE
        && let Some(wallet) = &wallet
    {
        refuse(sitting, (key, wallet), &mut owed)?;
    }
    sitting.owes(key, owed.len());
    sitting.put_owed(key, owed);
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

/// Gives what the house owes: less of the charge that is taken back, as far as that is not paid, and money for the rest.
fn give(
    sitting: &mut Sitting,
    key: &WalletKey,
    mut credit: Charge,
    owed: &mut VecDeque<Charge>,
) -> Result<(), StoreError> {
    let reversed = owed.iter_mut().find(|charge| Some(&charge.charge_id) == credit.reversed_id.as_ref());
    if let Some(reversed) = reversed {
        let (less, left) = (credit.outstanding().and_then(Amount::negated), reversed.outstanding());
        let (less, left) = less.zip(left).ok_or(IMPOSSIBLE)?;
        let less = if left.covers(less) { less } else { left };
        credit.credited = credit.credited.plus(less).ok_or(IMPOSSIBLE)?;
        reversed.credited = reversed.credited.plus(less).ok_or(IMPOSSIBLE)?;
        if reversed.outstanding().is_some_and(Amount::is_zero) {
            reversed.void(sitting.now, "what it was for was taken back");
        }
        sitting.set_charge(&key.tenant, reversed);
    }
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
        (posted.time, posted.transaction_id)
    };
    credit.end(ChargeState::Paid, time, transaction_id);
    sitting.set_charge(&key.tenant, &credit);
    Ok(())
}

/// Why a charge is not voided, in order of precedence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotVoided {
    #[error("there is no charge {0}")]
    NoCharge(Slug),
    #[error("charge {0} was voided before")]
    Voided(Slug),
    #[error("charge {0} is paid; refund it instead")]
    Paid(Slug),
}

/// Which charges a list has. All of it is part of its page tokens.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Filter {
    pub(crate) user_id: Option<UserId>,
    pub(crate) subscription_id: Option<Slug>,
    pub(crate) state: Option<ChargeState>,
}

/// The place of a charge in a list, newest first: ids sort by the time of making.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Cursor(Slug);

impl Cursor {
    pub(crate) fn of(charge: &Charge) -> Self {
        Self(charge.charge_id.clone())
    }
}

/// The charges of this service.
#[derive(Clone)]
pub(crate) struct Charges {
    pub(crate) books: Books,
}

impl Charges {
    /// The charge with this id.
    pub(crate) async fn find(&self, context: &Context, charge_id: &Slug) -> Result<Option<Charge>, StoreError> {
        table::find(self.books.store.reader(), &context.tenant, charge_id).await
    }

    /// Up to `limit` charges after `cursor`, newest first.
    pub(crate) async fn list(
        &self,
        context: &Context,
        filter: &Filter,
        after: Option<&Cursor>,
        limit: u64,
    ) -> Result<Vec<Charge>, StoreError> {
        let after = after.map(|Cursor(charge_id)| charge_id);
        table::list(self.books.store.reader(), &context.tenant, filter, after, limit).await
    }

    /// How many charges a list has.
    pub(crate) async fn count(&self, context: &Context, filter: &Filter) -> Result<i64, StoreError> {
        table::count(self.books.store.reader(), &context.tenant, filter).await
    }

    /// Has a charge not be owed any more.
    pub(crate) async fn void(
        &self,
        context: &Context,
        charge_id: Slug,
        reason: String,
    ) -> Result<Result<Charge, NotVoided>, StoreError> {
        let input = (context.tenant.clone(), charge_id, reason, self.books.clock.now());
        let unit = self.books.store.unit(context);
        unit.run(input, |(tenant, charge_id, reason, now), transaction| {
            Box::pin(async move {
                let Some(found) = table::find(transaction, tenant, charge_id).await? else {
                    return Ok(Err(NotVoided::NoCharge(charge_id.clone())));
                };
                let wallet = found.wallet(tenant);
                let voided = void_open(transaction, &wallet, vec![charge_id.clone()], *now, reason).await?.pop();
                if let Some(voided) = voided {
                    return Ok(Ok(voided));
                }
                let now = table::find(transaction, tenant, charge_id).await?;
                Ok(Err(match now.map(|charge| charge.state) {
                    Some(ChargeState::Void) => NotVoided::Voided(charge_id.clone()),
                    _ => NotVoided::Paid(charge_id.clone()),
                }))
            })
        })
        .await
    }
}

/// Voids those of a wallet's charges that are open, and answers them.
async fn void_open(
    transaction: &mesh::store::Transaction,
    key: &WalletKey,
    charge_ids: Vec<Slug>,
    now: Time,
    reason: &str,
) -> Result<Vec<Charge>, StoreError> {
    // The wallet first, as everybody does who changes its charges; made where there is none, or there were no lock.
    open_wallets(transaction, &[key], now).await?;
    let wallet = lock_wallets(transaction, &[key]).await?.pop();
    let mut voided = Vec::new();
    let (mut written, mut tried) = (std::collections::BTreeMap::new(), 0_i64);
    for charge_id in charge_ids {
        let Some(mut charge) = table::find(transaction, &key.tenant, &charge_id).await? else { continue };
        if charge.state != ChargeState::Open {
            continue;
        }
        tried = tried.saturating_add(i64::from(charge.tried));
        charge.void(now, reason);
        written.insert((key.tenant.clone(), charge_id), charge.clone());
        voided.push(charge);
    }
    let mut writes = Writes::new(transaction);
    table::update(&mut writes, &written)?;
    if let Some((key, mut wallet)) = wallet
        && tried > 0
    {
        wallet.open_charges = wallet.open_charges.saturating_sub(tried).max(0);
        update_wallets(&mut writes, [(&key, &wallet)])?;
    }
    writes.run(transaction).await?;
    Ok(voided)
}
