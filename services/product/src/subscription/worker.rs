//! The clock's part: periods that end, trials that end, payments that did not come. Several replicas share it, each taking
//! what no other holds.

use std::{collections::BTreeMap, time::Duration};

use mesh::{Clock, Context, Parts, Store, StoreError, Tenant, Time, chain, store::Transaction};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    Author, events,
    life::{Course, Why},
    table,
};

/// How often it looks whether time has something to do.
const POLL: Duration = Duration::from_secs(1);
/// Subscriptions dealt with in one transaction: enough to share its cost, few enough that nobody waits for it.
const BATCH: usize = 100;
/// Steps that one subscription takes in one transaction. What an outage left is caught up in several.
const STEPS: usize = 60;
/// How much time there is for one transaction.
const BUDGET: Duration = Duration::from_secs(10);
/// For how long a subscription is left alone that cannot be dealt with.
const PUT_OFF: Duration = Duration::from_hours(1);

/// Starts to do what time has to do, until the process goes.
pub(crate) fn work(parts: &Parts) {
    let worker = Worker { store: parts.store.clone(), clock: parts.clock.clone() };
    parts.background.spawn(|end| worker.run(end));
}

struct Worker {
    store: Store,
    clock: Clock,
}

/// What one transaction is for.
struct Batch {
    clock: Clock,
    now: Time,
    limit: usize,
}

impl Worker {
    async fn run(self, end: CancellationToken) {
        let mut moved = self.clock.moved();
        while !end.is_cancelled() {
            // Before it looks: what happens while it does is looked at again.
            moved.mark_unchanged();
            let idle = match self.pass(BATCH).await {
                Ok(dealt) => dealt == 0,
                Err(error) if error.is_passing() => {
                    debug!("Subscriptions wait for the database: {}", chain(&error));
                    true
                }
                Err(error) => {
                    info!("Subscriptions are dealt with one by one, since together they fail: {}", chain(&error));
                    self.one_by_one().await
                }
            };
            if idle {
                tokio::select! {
                    () = end.cancelled() => {}
                    () = tokio::time::sleep(POLL) => {}
                    Ok(()) = moved.changed() => {}
                }
            }
        }
    }

    /// Deals with up to `limit` subscriptions; says with how many it did.
    async fn pass(&self, limit: usize) -> Result<usize, StoreError> {
        let now = self.clock.now();
        // Looked at first without a transaction: mostly there is nothing.
        if !table::is_anything_due(self.store.reader(), now).await? {
            return Ok(0);
        }
        let batch = Batch { clock: self.clock.clone(), now, limit };
        let context = own(Tenant::default_tenant());
        self.store.unit(&context).run(batch, |batch, transaction| Box::pin(batch.carry_out(transaction))).await
    }

    /// Deals with each by itself, and puts off what fails; says whether there was nothing to do.
    async fn one_by_one(&self) -> bool {
        for _ in 0..BATCH {
            match self.pass(1).await {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) if error.is_passing() => return true,
                Err(error) => {
                    if let Err(error) = self.put_off(&error).await {
                        debug!("A subscription cannot be put off: {}", chain(&error));
                        return true;
                    }
                }
            }
        }
        false
    }

    async fn put_off(&self, cause: &StoreError) -> Result<(), StoreError> {
        let context = own(Tenant::default_tenant());
        let put_off = self.store.unit(&context).run(self.clock.now(), |now, transaction| {
            Box::pin(async move {
                let Some((tenant, subscription)) = table::due(transaction, *now, 1).await?.pop() else {
                    return Ok(None);
                };
                let id = subscription.subscription_id;
                table::put_off(transaction, (&tenant, &id), now.plus(PUT_OFF)).await?;
                Ok(Some(id))
            })
        });
        if let Some(id) = put_off.await? {
            warn!(subscription.id = %id, "Put subscription {id} off for an hour: {}", chain(cause));
        }
        Ok(())
    }
}

fn own(tenant: Tenant) -> Context {
    Context::own(tenant, BUDGET)
}

impl Batch {
    async fn carry_out(&self, transaction: &Transaction) -> Result<usize, StoreError> {
        let due = table::due(transaction, self.now, self.limit).await?;
        let dealt = due.len();
        let mut courses: BTreeMap<Tenant, Vec<Course>> = BTreeMap::new();
        for (tenant, subscription) in due {
            let mut course = Course::of(subscription);
            let change = course.subscription.change.as_ref();
            if let Some(plan_id) = change.map(|change| change.plan_id.clone())
                && table::lives(transaction, &tenant, &course.subscription, &plan_id).await?
            {
                course.withdraw(self.now, Why::of("the subscriber has that plan already"));
            }
            for _ in 0..STEPS {
                if !course.advance(self.now)? {
                    break;
                }
            }
            courses.entry(tenant).or_default().push(course);
        }
        for (tenant, courses) in courses {
            let author = Author::of(&own(tenant), &self.clock);
            let courses: Vec<&Course> = courses.iter().collect();
            table::save(transaction, &author, &courses).await?;
            events::tell(transaction, &author, &courses).await?;
        }
        Ok(dealt)
    }
}
