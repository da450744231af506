//! How records are taken in: all that wait, with a handful of statements and one commit.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use mesh::{
    Context, Parts, Slug, StoreError, Tenant, UserId,
    claim::{Claim, Decision, Lookout},
    coalesce::{self, Answers, Batch, Coalescer, NotTaken, Pending},
    events::Origin,
    store::{Connection, Transaction},
};

use super::{
    Item, Order, Outcome, Refused, Usage, Usages,
    decide::{Cover, Decided, World, decide},
    events, table,
};
use crate::{catalog, pricing, subscription};

/// What all batches share: whether ids that were used before come in.
type Shared = Lookout;

impl Usages {
    /// The usage of this service, with its recorder at work.
    pub(crate) fn new(parts: &Parts) -> Self {
        let recorder = Coalescer::start(&parts.store, &parts.background, Shared::default(), |batch, transaction| {
            Box::pin(carry_out(batch, transaction))
        });
        Self { store: parts.store.clone(), clock: parts.clock.clone(), recorder }
    }

    /// Hands a record in, unless too much waits already.
    pub(super) fn record(&self, context: &Context, order: Order) -> Result<Pending<Outcome>, NotTaken> {
        self.recorder.submit(context, self.item(context, order))
    }

    /// Hands a record in as soon as there is room.
    pub(super) async fn record_with_room(&self, context: &Context, order: Order) -> Result<Pending<Outcome>, NotTaken> {
        self.recorder.submit_with_room(context, self.item(context, order)).await
    }

    fn item(&self, context: &Context, order: Order) -> Item {
        Item {
            tenant: context.tenant.clone(),
            claim: order.claim(&context.tenant),
            usage_id: Slug::fresh("usage", &self.clock),
            origin: Origin::of(context, &self.clock),
            now: self.clock.now(),
            order,
        }
    }
}

impl coalesce::Item for Item {
    fn key(&self) -> u64 {
        coalesce::hash(&(&self.tenant, &self.order.user_id))
    }
}

/// Takes in a batch.
async fn carry_out(
    batch: &Arc<Batch<Shared, Item>>,
    transaction: &Transaction,
) -> Result<Answers<Outcome>, StoreError> {
    let items = &batch.items;
    let claims: Vec<&Claim> = items.iter().map(|item| &item.claim).collect();
    let seen = batch.shared.seen_all::<Slug, Refused>(transaction, &claims).await?;
    let world = world(transaction, items).await?;
    let routes: Vec<_> = items.iter().map(|item| world.route(item)).collect();
    let keys = items.iter().zip(&routes).zip(&seen).filter(|((_, _), seen)| seen.is_none());
    let keys: BTreeSet<_> =
        keys.flat_map(|((item, route), _)| route.iter().flat_map(|route| route.keys(item))).collect();
    let mut totals = table::lock_totals(transaction, keys).await?;
    let before = totals.clone();
    let decided = decide(items, seen, &routes, &mut totals);
    if decided.iter().any(|decided| matches!(decided, Decided::Faulty(_))) {
        batch.shared.must_have_looked()?;
    }
    totals.retain(|key, total| before.get(key) != Some(total));
    table::set_totals(transaction, &totals).await?;
    write(transaction, &batch.shared, items, &decided).await?;
    Ok(answers(transaction, items, decided).await?.into_iter().map(Ok).collect())
}

/// What there is to know about a batch, with a statement for each sort of thing.
pub(super) async fn world(connection: &impl Connection, items: &[Arc<Item>]) -> Result<World, StoreError> {
    let products: BTreeSet<(Tenant, Slug)> =
        items.iter().map(|item| (item.tenant.clone(), item.order.product_id.clone())).collect();
    let products: Vec<_> = products.into_iter().collect();
    let payers: BTreeSet<(Tenant, UserId, Option<Slug>)> = items
        .iter()
        .map(|item| (item.tenant.clone(), item.order.user_id.clone(), item.order.organization_id.clone()))
        .collect();
    let payers: Vec<_> = payers.into_iter().collect();
    let since = items.iter().map(|item| item.order.event_time.unwrap_or(item.now)).min();
    let mut world = World {
        products: catalog::statuses(connection, &products).await?,
        prices: pricing::table::of_products(connection, &products).await?,
        covers: HashMap::new(),
    };
    let Some(since) = since else { return Ok(world) };
    for covered in subscription::covers(connection, &payers, since).await? {
        let covers = world.covers.entry((covered.tenant, covered.user_id, covered.organization_id)).or_default();
        let period = (covered.period, covered.included);
        match covers.last_mut() {
            Some(cover) if cover.subscription_id == covered.subscription_id => cover.periods.push(period),
            _ => covers.push(Cover {
                subscription_id: covered.subscription_id,
                gives: covered.status.gives(),
                periods: vec![period],
            }),
        }
    }
    Ok(world)
}

/// Writes what was decided, but for the totals.
async fn write(
    transaction: &Transaction,
    shared: &Shared,
    items: &[Arc<Item>],
    decided: &[Decided],
) -> Result<(), StoreError> {
    let Some(now) = items.iter().map(|item| item.now).max() else { return Ok(()) };
    let mut recorded: Vec<(&Item, &Usage)> = Vec::new();
    let mut kept: Vec<(&Claim, Decision<Slug, Refused>)> = Vec::new();
    for (item, decided) in items.iter().zip(decided) {
        match decided {
            Decided::Recorded(usage) => {
                recorded.push((item, usage));
                kept.push((&item.claim, Ok(usage.usage_id.clone())));
            }
            Decided::Refused(refused) => kept.push((&item.claim, Err(refused.clone()))),
            Decided::Faulty(_) | Decided::Same(_) | Decided::Reused(_) | Decided::Before(_) => {}
        }
    }
    if kept.is_empty() {
        return Ok(());
    }
    let kept: Vec<_> = kept.iter().map(|(claim, decision)| (*claim, decision)).collect();
    shared.keep_all(transaction, now, &kept).await?;
    if recorded.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = recorded.iter().map(|(item, usage)| (&item.tenant, *usage)).collect();
    table::insert(transaction, &rows).await?;
    events::recorded(transaction, &recorded).await?;
    // Last: for the sums of everybody together, others wait until this is committed.
    table::sum_up(transaction, rows.iter().map(|(tenant, usage)| (*tenant, usage.counted()))).await
}

/// The answers. Those that were given before are made again from their records.
async fn answers(
    transaction: &Transaction,
    items: &[Arc<Item>],
    decided: Vec<Decided>,
) -> Result<Vec<Outcome>, StoreError> {
    let replayed = items.iter().zip(&decided).filter_map(|(item, decided)| match decided {
        Decided::Before(Ok(usage_id)) => Some((item.tenant.clone(), usage_id.clone())),
        _ => None,
    });
    let replayed = table::find_all(transaction, replayed.collect()).await?;
    let outcome = |item: &Item, decided: &Decided| {
        Some(match decided {
            Decided::Recorded(usage) => Outcome::Recorded(usage.clone(), false),
            Decided::Refused(refused) | Decided::Faulty(refused) | Decided::Reused(refused) => {
                Outcome::Refused(refused.clone(), false)
            }
            Decided::Before(Err(refused)) => Outcome::Refused(refused.clone(), true),
            Decided::Before(Ok(usage_id)) => {
                let usage = replayed.get(&(item.tenant.clone(), usage_id.clone()))?;
                // As it was answered first: what became of it since is not part of that.
                Outcome::Recorded(Arc::new(Usage { voided: None, ..usage.clone() }), true)
            }
            Decided::Same(_) => return None,
        })
    };
    let repeat = |first: Outcome| match first {
        Outcome::Recorded(usage, _) => Outcome::Recorded(usage, true),
        Outcome::Refused(refused, _) => Outcome::Refused(refused, true),
    };
    let of = |(item, this): (&Arc<Item>, &Decided)| match this {
        Decided::Same(first) => {
            let first = items.get(*first).zip(decided.get(*first)).and_then(|(item, first)| outcome(item, first));
            first.map(repeat)
        }
        this => outcome(item, this),
    };
    let answers: Option<Vec<Outcome>> = items.iter().zip(&decided).map(of).collect();
    answers.ok_or(StoreError::Impossible("a request id stands for a record that is not there"))
}
