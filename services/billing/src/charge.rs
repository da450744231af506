//! Charges: what is owed because of what happened elsewhere. A subscription's period and a group of usage records make one
//! each, out of their events; it is paid from the wallet when there is enough, strictly the oldest first.
//!
//! A charge is written by the handler of its event, which touches no wallet. The worker has the book ask the wallet right
//! after that, together with all other orders; and whatever brings money into a wallet pays what it owes. A charge below
//! zero is owed by the house: it takes back what is not paid yet, and what was paid and neither refunded nor credited yet is
//! credited.

mod events;
mod rpc;
mod settle;
pub(crate) mod table;
#[cfg(test)]
mod tests;
mod worker;

use mesh::{Context, Slug, StoreError, Tenant, Time, UserId, store::Writes, text_enum};
use money::Amount;
use serde::{Deserialize, Serialize};

use crate::{
    book::{Books, Posting},
    ledger::{Details, Kind, Legs, WalletKey, lock_wallets, open_wallets, update_wallets},
};
pub(crate) use {
    events::handlers,
    rpc::server,
    settle::{Owed, Reversed, settle},
    worker::work,
};

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
    /// How much of that other charges are less by.
    pub(crate) set_off: Amount,
    /// How much of that needed no giving back, because the charge that it takes back was voided or refunded.
    pub(crate) forgiven: Amount,
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

    /// Settles as much of what the house owes, or what is left of it; says how much that is.
    fn settle_without_money(&mut self, most: Amount) -> Result<Amount, StoreError> {
        let left = self.outstanding().and_then(Amount::negated).ok_or(IMPOSSIBLE)?;
        let less = if most.covers(left) { left } else { most };
        self.credited = self.credited.plus(less).ok_or(IMPOSSIBLE)?;
        Ok(less)
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

const IMPOSSIBLE: StoreError = StoreError::Impossible("a charge is of more than an amount can be");

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

/// Voids those of a wallet's charges that are open, and answers them. What comes next and is covered is paid by the worker.
async fn void_open(
    transaction: &mesh::store::Transaction,
    key: &WalletKey,
    charge_ids: Vec<Slug>,
    now: Time,
    reason: &str,
) -> Result<Vec<Charge>, StoreError> {
    // The wallet first, as everybody does who changes its charges; made where there is none, or there were no lock.
    let mut wallet = lock_wallets(transaction, &[key]).await?.pop();
    if wallet.is_none() {
        open_wallets(transaction, &[key], now).await?;
        wallet = lock_wallets(transaction, &[key]).await?.pop();
    }
    let mut voided = Vec::new();
    let (mut written, mut asked_for) = (std::collections::BTreeMap::new(), 0_i64);
    for charge_id in charge_ids {
        let Some(mut charge) = table::find(transaction, &key.tenant, &charge_id).await? else { continue };
        if charge.state != ChargeState::Open {
            continue;
        }
        asked_for = asked_for.saturating_add(i64::from(charge.tried && charge.amount.is_positive()));
        charge.void(now, reason);
        written.insert((key.tenant.clone(), charge_id), charge.clone());
        voided.push(charge);
    }
    let mut writes = Writes::new(transaction);
    if let Some((key, mut wallet)) = wallet
        && !voided.is_empty()
    {
        let open = table::owed(transaction, &[&key]).await?.remove(&key).map(|owed| owed.charges).unwrap_or_default();
        let still =
            |charge: &&Charge| charge.amount.is_positive() && !voided.iter().any(|it| it.charge_id == charge.charge_id);
        let next = open.iter().find(still).filter(|next| {
            next.tried && wallet.gives() && next.outstanding().is_some_and(|rest| wallet.available().covers(rest))
        });
        if let Some(next) = next {
            asked_for = asked_for.saturating_add(1);
            written.insert((key.tenant.clone(), next.charge_id.clone()), Charge { tried: false, ..next.clone() });
        }
        if asked_for > 0 {
            wallet.open_charges = wallet.open_charges.saturating_sub(asked_for).max(0);
            update_wallets(&mut writes, [(&key, &wallet)])?;
        }
    }
    table::update(&mut writes, &written)?;
    writes.run(transaction).await?;
    Ok(voided)
}
