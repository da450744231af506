//! How a batch is carried out: what is known of it is locked and read, each order is decided in turn, and what was decided
//! is written, with a statement for each sort of thing.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use mesh::{
    RequestId, Slug, StoreError, Tenant,
    claim::{self, Claim, Decision, Seen},
    coalesce::{Answers, Batch},
    store::{Session, Transaction, Writes},
};
use money::Amount;

use super::{Attempts, Decided, Item, Order, Posted, Refused, Shared, Stopped, Work, orders::Needs, sitting::Sitting};
use crate::{
    charge, hold,
    ledger::{self, WalletKey},
    sabotage::{Protection, is_out},
};

/// Carries out a batch. Where others hold a wallet for too long, nothing is done of what wants it.
pub(super) async fn carry_out(
    batch: &Arc<Batch<Shared, Item>>,
    transaction: &Transaction,
) -> Result<Answers<Decided>, StoreError> {
    let shared = &batch.shared;
    let held = if shared.attempts.is_impatient() { held(&batch.items, transaction).await? } else { BTreeSet::new() };
    let is_free = |item: &&Arc<Item>| held.is_empty() || item.wallets().iter().all(|key| !held.contains(key));
    let items: Vec<&Item> = batch.items.iter().filter(is_free).map(AsRef::as_ref).collect();
    let mut decided = shared.attempts.learn(carry_out_free(shared, &items, transaction).await)?.into_iter();
    let answer = |item| {
        if is_free(&item) {
            decided.next().ok_or(StoreError::Impossible("an item has no answer"))
        } else {
            Err(StoreError::held("somebody holds its wallet"))
        }
    };
    Ok(batch.items.iter().map(answer).collect())
}

/// Which wallets of these items others hold. Those that nobody does are locked.
async fn held(items: &[Arc<Item>], transaction: &Transaction) -> Result<BTreeSet<WalletKey>, StoreError> {
    let keys: BTreeSet<WalletKey> = items.iter().flat_map(|item| item.wallets()).collect();
    ledger::held_wallets(transaction, &keys.iter().collect::<Vec<_>>()).await
}

async fn carry_out_free(
    shared: &Shared,
    items: &[&Item],
    transaction: &Transaction,
) -> Result<Vec<Decided>, StoreError> {
    let claims: Vec<&Claim> = items.iter().flat_map(|item| item.orders()).map(|(claim, _)| claim).collect();
    let mut sitting = Sitting::new(&shared.clock);
    know(&mut sitting, items, transaction).await?;
    let seen = shared.lookout.seen_all::<Posted, Refused>(transaction, &claims).await?;
    let mut desk = Desk::new(seen, &shared.attempts);
    let mut decided = Vec::with_capacity(items.len());
    for item in items {
        decided.push(desk.decide(item, &mut sitting)?);
    }
    if desk.undid {
        // What stopped it might not have, had an order before it been known to be carried out already.
        shared.lookout.must_have_looked()?;
    }
    let mut writes = Writes::new(transaction);
    write(&mut writes, sitting, &desk.kept())?;
    shared.lookout.learn(writes.run(transaction).await)?;
    Ok(decided)
}

/// Carries out a single order of a wallet with one statement, which looks whether the wallet still is as it was read: less
/// than half of the ways to the database and back. `None` where it is not, where the id was used before, or where more must
/// be known than the wallet; then it is done as a batch is.
pub(super) async fn carry_out_alone(
    batch: &Arc<Batch<Shared, Item>>,
    session: &Session,
) -> Result<Option<Answers<Decided>>, StoreError> {
    let shared = &batch.shared;
    let [item] = &batch.items[..] else { return Ok(None) };
    let [(claim, order)] = item.orders() else { return Ok(None) };
    let mut needs = Needs::default();
    item.needs(&mut needs);
    if !(needs.paying.is_empty() && needs.holds.is_empty() && needs.refunded.is_empty()) {
        return Ok(None);
    }
    let Some(key) = order.wallet(&item.tenant) else { return Ok(None) };
    let Some(wallet) = ledger::find_wallet(session, &key).await? else { return Ok(None) };
    let mut sitting = Sitting::new(&shared.clock);
    sitting.wallets.insert(key.clone(), wallet.clone());
    let seen = shared.lookout.seen_all::<Posted, Refused>(session, &[claim]).await?;
    let mut desk = Desk::new(seen, &shared.attempts);
    let decided = desk.decide(item, &mut sitting)?;
    let kept = desk.kept();
    if kept.is_empty() {
        // It was answered before, or is to be forgotten: there is nothing that could be written once only.
        return Ok(None);
    }
    let mut writes = ledger::while_same(&key, &wallet)?;
    write(&mut writes, sitting, &kept)?;
    if shared.attempts.learn(writes.run_alone(session).await)? {
        return Ok(Some(vec![Ok(decided)]));
    }
    Ok(None)
}

impl Item {
    fn orders(&self) -> &[(Claim, Order)] {
        match &self.work {
            Work::Orders(orders) => orders,
            Work::Upkeep(_) => &[],
        }
    }

    fn needs(&self, needs: &mut Needs) {
        match &self.work {
            Work::Orders(orders) => orders.iter().for_each(|(_, order)| order.needs(&self.tenant, needs)),
            Work::Upkeep(upkeep) => upkeep.needs(needs),
        }
    }
}

/// Locks the wallets of a batch, and reads what is known of them and of all that its orders are about. The wallets come
/// first: whatever is read after that stays as it is.
async fn know(sitting: &mut Sitting, items: &[&Item], transaction: &Transaction) -> Result<(), StoreError> {
    let mut needs = Needs::default();
    for item in items {
        item.needs(&mut needs);
    }
    let keys: BTreeSet<WalletKey> = items.iter().flat_map(|item| item.wallets()).collect();
    let keys: Vec<&WalletKey> = keys.iter().collect();
    sitting.wallets.extend(ledger::lock_wallets(transaction, &keys).await?);
    let missing: Vec<&WalletKey> = needs.opening.iter().filter(|key| !sitting.wallets.contains_key(*key)).collect();
    if !missing.is_empty() {
        ledger::open_wallets(transaction, &missing, sitting.now).await?;
        // Others may have made them meanwhile; whoever did, they are locked now.
        sitting.wallets.extend(ledger::lock_wallets(transaction, &missing).await?);
    }
    if !needs.holds.is_empty() {
        sitting.holds = hold::table::find_all(transaction, needs.holds).await?;
    }
    let known = |key: &&WalletKey| sitting.wallet(key).is_some_and(|wallet| wallet.open_charges > 0);
    let owing: BTreeSet<&WalletKey> = needs.credited.iter().filter(known).chain(&needs.paying).collect();
    if !owing.is_empty() {
        let owing: Vec<&WalletKey> = owing.into_iter().collect();
        sitting.owed = charge::table::owed(transaction, &owing).await?;
    }
    let taken_back: Vec<(Tenant, Slug)> = sitting.taken_back().collect();
    if !taken_back.is_empty() {
        sitting.reversed = charge::table::reversed(transaction, &taken_back).await?;
        let paid = sitting.reversed.iter().filter(|(_, reversed)| !reversed.charge.transaction_id.is_empty());
        needs.refunded.extend(paid.map(|((tenant, _), it)| (tenant.clone(), it.charge.transaction_id.clone())));
    }
    let transactions: Vec<(Tenant, String)> = needs.refunded.into_iter().collect();
    if !transactions.is_empty() {
        let refunded = ledger::refunded(transaction, &transactions).await?;
        let given_back = charge::table::given_back(transaction, &transactions).await?;
        for (tenant, transaction_id, amount) in refunded.into_iter().chain(given_back) {
            let before = sitting.refunded(&tenant, &transaction_id).unwrap_or(Amount::zero(amount.currency()));
            let sum = before.plus(amount).ok_or(StoreError::Impossible("more was given back than an amount can be"))?;
            sitting.set_refunded(&tenant, &transaction_id, sum);
        }
    }
    Ok(())
}

/// What is decided, one item after the other.
struct Desk<'b> {
    /// What was answered to each request before this batch.
    seen: std::vec::IntoIter<Option<Seen<Posted, Refused>>>,
    attempts: &'b Attempts,
    /// What was answered to requests of this batch.
    first: HashMap<(&'b Tenant, &'b RequestId), usize>,
    kept: Vec<(&'b Claim, Decision<Posted, Refused>)>,
    /// Whether orders were undone that were to be carried out together.
    undid: bool,
}

impl<'b> Desk<'b> {
    fn new(seen: Vec<Option<Seen<Posted, Refused>>>, attempts: &'b Attempts) -> Self {
        Self { seen: seen.into_iter(), attempts, first: HashMap::new(), kept: Vec::new(), undid: false }
    }

    /// What was decided now and is to be kept.
    fn kept(&self) -> Vec<(&'b Claim, &Decision<Posted, Refused>)> {
        let kept = self.kept.iter().filter(|(_, decision)| !is_forgotten(decision.is_err()));
        kept.map(|(claim, decision)| (*claim, decision)).collect()
    }

    fn decide(&mut self, item: &'b Item, sitting: &mut Sitting) -> Result<Decided, StoreError> {
        sitting.begin(&item.origin);
        let orders = match &item.work {
            Work::Orders(orders) => orders,
            Work::Upkeep(upkeep) => {
                upkeep.carry_out(sitting)?;
                return Ok(Ok(Vec::new()));
            }
        };
        let (kept, together) = (self.kept.len(), orders.len() > 1);
        let mark = together.then(|| sitting.begin_together());
        let mut posted = Vec::with_capacity(orders.len());
        let mut stopped = None;
        for (index, (claim, order)) in orders.iter().enumerate() {
            let seen = self.seen.next().ok_or(StoreError::Impossible("a request was not looked for"))?;
            if stopped.is_some() {
                continue;
            }
            match self.decide_order(&item.tenant, (claim, order), seen, sitting)? {
                (Ok(answer), before) => posted.push((answer, before)),
                (Err(refused), before) => stopped = Some(Stopped { index, refused, before }),
            }
        }
        if let Some(mark) = mark {
            sitting.end_together(mark, stopped.is_none() || is_out(Protection::Together));
        }
        let Some(stopped) = stopped else { return Ok(Ok(posted)) };
        self.undid |= together;
        // What was carried out of it was not, after all; what stopped it is an answer.
        let mut undone = self.kept.split_off(kept);
        undone.retain(|(_, decision)| decision.is_err());
        self.first.retain(|_, place| *place < kept);
        for (claim, decision) in undone {
            self.first.insert(claim.id(), self.kept.len());
            self.kept.push((claim, decision));
        }
        Ok(Err(stopped))
    }

    /// What becomes of one order, and whether that was decided before.
    fn decide_order(
        &mut self,
        tenant: &Tenant,
        (claim, order): (&'b Claim, &Order),
        seen: Option<Seen<Posted, Refused>>,
        sitting: &mut Sitting,
    ) -> Result<(Decision<Posted, Refused>, bool), StoreError> {
        if let Some(seen) = seen {
            let decision = seen.decision();
            let own = decision.as_ref().is_ok_and(|posted| self.attempts.is_own(&posted.transaction_id));
            return Ok((decision, !own));
        }
        if let Some((earlier, decision)) = self.first.get(&claim.id()).and_then(|place| self.kept.get(*place)) {
            return Ok(match claim.differs_from(earlier) {
                None => (decision.clone(), true),
                Some(taken) => (Err(taken.into()), true),
            });
        }
        let decision = order.carry_out(tenant, sitting)?;
        if let Ok(posted) = &decision {
            self.attempts.note(&posted.transaction_id);
        }
        self.first.insert(claim.id(), self.kept.len());
        self.kept.push((claim, decision.clone()));
        Ok((decision, false))
    }
}

/// Whether a test has what was decided be forgotten.
fn is_forgotten(refusal: bool) -> bool {
    is_out(Protection::Claims) || (refusal && is_out(Protection::Refusals))
}

/// Adds what was decided to what is written. The ids come first: where one was taken before, that is what is
/// said of it all.
fn write(
    writes: &mut Writes,
    sitting: Sitting,
    kept: &[(&Claim, &Decision<Posted, Refused>)],
) -> Result<(), StoreError> {
    claim::keep_all(writes, sitting.now, kept)?;
    let (wallets, written) = (sitting.wallets, sitting.written);
    ledger::insert(writes, &written.changes)?;
    ledger::update_wallets(writes, written.wallets.iter().filter_map(|key| Some((key, wallets.get(key)?))))?;
    ledger::note_back(writes, &written.back)?;
    hold::table::insert(writes, &written.new_holds)?;
    hold::table::end(writes, &written.holds)?;
    charge::table::update(writes, &written.charges)?;
    written.told.publish(writes)
}
