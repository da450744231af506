//! The book: whoever wants to move money hands an order in, and all orders that wait are decided and written together, with
//! one commit (money.md, section D4).
//!
//! An order comes from an rpc or from a worker. [`Books`] hands it to the lane of its wallet; [`carry`] locks the wallets
//! of the batch and reads what is known of them; [`Sitting`] is what is known then, and each slice's rule decides on it, in
//! the order in which the orders came; what was decided is written set-wise, and answered once it is committed.

mod carry;
mod orders;
mod refused;
mod rpc;
mod sitting;
#[cfg(test)]
mod tests;
mod told;

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::time::Instant;

use mesh::{
    Background, Clock, Context, RequestId, Store, StoreError, Telemetry, Tenant, Time,
    claim::{self, Claim, Lookout},
    coalesce::{self, Batch, Coalescer, NotTaken, Pending},
    events::Origin,
};
use money::Amount;
use serde::{Deserialize, Serialize};

use crate::{hold::Hold, instruments::Instruments, ledger::WalletKey};
pub(crate) use {
    orders::{Order, Upkeep},
    refused::{Refused, no_wallet},
    sitting::{Posting, Sitting},
};

/// What an order did to its wallet; with the request that asked for it the whole answer, and kept as such.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Posted {
    pub(crate) transaction_id: String,
    pub(crate) balance_after: Amount,
    pub(crate) wallet_version: i64,
    pub(crate) time: Time,
    /// How much a refund gave back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) amount: Option<Amount>,
    /// How the hold stood after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hold: Option<Box<Hold>>,
}

/// Why orders that were handed in together moved nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stopped {
    /// Which of them stopped all.
    pub(crate) index: usize,
    /// Why it did.
    pub(crate) refused: Refused,
    /// Whether that was the answer before.
    pub(crate) before: bool,
}

/// What became of the orders of one item: each was carried out, now or, with `true`, before; or none was.
pub(crate) type Decided = Result<Vec<(Posted, bool)>, Stopped>;

/// Orders that are carried out together or not at all, each once for its request id.
pub(super) struct Item {
    tenant: Tenant,
    origin: Origin,
    work: Work,
}

/// What an item wants.
enum Work {
    /// Requests.
    Orders(Vec<(Claim, Order)>),
    /// Something that nobody asked for, and that finds out by itself whether it is still to be done.
    Upkeep(Upkeep),
}

/// What all batches share.
#[derive(Clone)]
pub(super) struct Shared {
    lookout: Lookout,
    clock: Clock,
    attempts: Attempts,
}

/// What a unit of work learns where it must begin anew. A clone is for one unit of work.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    /// The transactions that it tried to write: where the outcome was unclear, an answer that is found may be its own.
    tried: Mutex<HashSet<String>>,
    /// Whether it waited for a wallet in vain, and now does without those that others hold.
    impatient: AtomicBool,
}

impl Clone for Attempts {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Attempts {
    /// Notes a transaction that is about to be written.
    fn note(&self, transaction_id: &str) {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner).insert(transaction_id.to_owned());
    }

    /// Whether it was this unit of work that wrote it.
    fn is_own(&self, transaction_id: &str) -> bool {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner).contains(transaction_id)
    }

    fn is_impatient(&self) -> bool {
        self.impatient.load(Ordering::Relaxed)
    }

    /// Learns from how a piece of the work ended.
    fn learn<T>(&self, done: Result<T, StoreError>) -> Result<T, StoreError> {
        if matches!(done, Err(StoreError::Held(_))) {
            self.impatient.store(true, Ordering::Relaxed);
        }
        done
    }
}

/// Where orders are handed in. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Books {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) instruments: Arc<Instruments>,
    shared: Shared,
    teller: Coalescer<Item, Decided>,
}

impl Books {
    /// The books of this service, with somebody at work on them.
    pub(crate) fn new(store: &Store, clock: &Clock, background: &Background, telemetry: &Arc<Telemetry>) -> Self {
        let shared = Shared { lookout: Lookout::default(), clock: clock.clone(), attempts: Attempts::default() };
        let alone: coalesce::AtOnce<_, _, _> =
            |batch, connections| Box::pin(carry::carry_out_alone(batch, connections));
        let together: coalesce::Together<_, _, _> = |batch, transaction| Box::pin(carry::carry_out(batch, transaction));
        let teller = Coalescer::start_both(store, background, shared.clone(), (Some(alone), together));
        let instruments = Arc::new(Instruments::new(telemetry));
        Self { store: store.clone(), clock: clock.clone(), instruments, shared, teller }
    }

    /// Carries out one order, once for its request id. A rehearsal decides and keeps nothing.
    pub(crate) async fn carry_out(
        &self,
        context: &Context,
        order: Order,
        rehearsal: bool,
    ) -> Result<One, NotCarriedOut> {
        if rehearsal {
            return one(self.rehearse(context, vec![order]).await?);
        }
        let (method, began) = (order.method(), Instant::now());
        let decided = self.hand_in(context, vec![order])?.answer().await;
        self.note(method, began, &decided);
        one(decided?)
    }

    /// Notes what became of orders that were carried out together or not at all, and how long that took.
    pub(crate) fn note(&self, method: &'static str, began: Instant, decided: &Result<Decided, StoreError>) {
        let outcome = match decided {
            Ok(Ok(posted)) => {
                let repeated = posted.iter().filter(|(_, before)| *before).count();
                self.instruments.repeated(method, repeated);
                if repeated == posted.len() { "repeated" } else { "applied" }
            }
            Ok(Err(stopped)) => {
                self.instruments.repeated(method, usize::from(stopped.before));
                "refused"
            }
            Err(_) => "failed",
        };
        self.instruments.took(method, outcome, began.elapsed());
    }

    /// Hands orders in that are carried out together or not at all, unless too much waits already.
    pub(crate) fn hand_in(&self, context: &Context, orders: Vec<Order>) -> Result<Pending<Decided>, NotTaken> {
        self.teller.submit(context, self.item(context, orders))
    }

    /// Hands one order in as soon as there is room.
    pub(crate) async fn hand_in_with_room(
        &self,
        context: &Context,
        order: Order,
    ) -> Result<Pending<Decided>, NotTaken> {
        self.teller.submit_with_room(context, self.item(context, vec![order])).await
    }

    /// Hands in what nobody asked for, as soon as there is room.
    pub(crate) async fn keep_up(&self, context: &Context, upkeep: Upkeep) -> Result<Pending<Decided>, NotTaken> {
        let origin = Origin::of(context, &self.clock);
        let item = Item { tenant: context.tenant.clone(), origin, work: Work::Upkeep(upkeep) };
        self.teller.submit_with_room(context, item).await
    }

    /// Whether a request id was used before, for whatever that was.
    pub(crate) async fn knows(&self, context: &Context, request_id: &RequestId) -> Result<bool, StoreError> {
        claim::is_used(self.store.reader(), &context.tenant, request_id).await
    }

    /// Decides as if the orders were carried out together or not at all, and keeps nothing.
    pub(crate) async fn rehearse(&self, context: &Context, orders: Vec<Order>) -> Result<Decided, StoreError> {
        let decided = self.rehearse_items(context, vec![self.item(context, orders)]).await?.pop();
        decided.ok_or(StoreError::Impossible("an item has no answer"))?
    }

    /// Decides as if the orders were carried out one after the other, and keeps nothing.
    pub(crate) async fn rehearse_each(
        &self,
        context: &Context,
        orders: Vec<Order>,
    ) -> Result<coalesce::Answers<Decided>, StoreError> {
        let items = orders.into_iter().map(|order| self.item(context, vec![order])).collect();
        self.rehearse_items(context, items).await
    }

    async fn rehearse_items(
        &self,
        context: &Context,
        items: Vec<Item>,
    ) -> Result<coalesce::Answers<Decided>, StoreError> {
        let items = items.into_iter().map(Arc::new).collect();
        let batch = Arc::new(Batch { shared: self.shared.clone(), items });
        // What would be answered to a used id is part of the answer.
        batch.shared.lookout.look();
        let unit = self.store.unit(context).claimed().rehearsal(true);
        unit.run(batch, |batch, transaction| Box::pin(carry::carry_out(batch, transaction))).await
    }

    fn item(&self, context: &Context, orders: Vec<Order>) -> Item {
        let tenant = context.tenant.clone();
        let orders = orders.into_iter().map(|order| (order.claim(&tenant), order)).collect();
        Item { origin: Origin::of(context, &self.clock), tenant, work: Work::Orders(orders) }
    }
}

impl coalesce::Item for Item {
    /// Orders of one wallet go by one lane. Of several wallets' any lane will do: wallets are locked in one order by all.
    fn key(&self) -> u64 {
        match &self.work {
            Work::Orders(orders) => match orders.first() {
                Some((_, order)) => match order.wallet(&self.tenant) {
                    Some(key) => coalesce::hash(&key),
                    None => coalesce::hash(order.request_id()),
                },
                None => 0,
            },
            Work::Upkeep(upkeep) => coalesce::hash(upkeep.wallet()),
        }
    }

    fn weight(&self) -> u32 {
        match &self.work {
            Work::Orders(orders) => u32::try_from(orders.len()).unwrap_or(u32::MAX),
            Work::Upkeep(_) => 1,
        }
    }
}

impl Item {
    fn wallets(&self) -> Vec<WalletKey> {
        match &self.work {
            Work::Orders(orders) => orders.iter().filter_map(|(_, order)| order.wallet(&self.tenant)).collect(),
            Work::Upkeep(upkeep) => vec![upkeep.wallet().clone()],
        }
    }
}

/// What became of a single order, and whether that was before this call.
pub(crate) type One = (Posted, bool);

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotCarriedOut {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    NotTaken(#[from] NotTaken),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Stopped> for NotCarriedOut {
    fn from(stopped: Stopped) -> Self {
        Self::Refused(stopped.refused)
    }
}

/// The answer to a single order.
pub(crate) fn one(decided: Decided) -> Result<One, NotCarriedOut> {
    let posted = decided?.pop();
    Ok(posted.ok_or(StoreError::Impossible("an order has no answer"))?)
}
