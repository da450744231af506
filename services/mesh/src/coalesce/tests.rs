//! What is committed together, and what becomes of each.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::poll;
use tokio::sync::Semaphore;

use super::*;
use crate::store::{Connection as _, Location, count, sql};

/// What the tests look at: the sizes of the batches, and a gate before each of them.
struct Seen {
    batches: Mutex<Vec<Vec<i64>>>,
    gate: Semaphore,
    begun: AtomicUsize,
}

type Shared = Arc<Seen>;

/// A number to be written down, of its own weight.
struct Number(i64);

impl Item for Number {
    fn key(&self) -> u64 {
        0
    }

    fn weight(&self) -> u32 {
        u32::try_from(self.0 / 1_000).unwrap().max(1)
    }
}

/// Writes each number down; 13 cannot be written, 14 panics, and of 15 alone nothing is done.
fn write<'a>(
    batch: &'a Arc<Batch<Shared, Number>>,
    transaction: &'a Transaction,
) -> BoxFuture<'a, Result<Answers<i64>, StoreError>> {
    Box::pin(async move {
        batch.shared.begun.fetch_add(1, Ordering::SeqCst);
        batch.shared.gate.acquire().await.expect("the gate is never closed").forget();
        batch.shared.batches.lock().unwrap().push(batch.items.iter().map(|number| number.0).collect());
        let mut answers = Vec::new();
        for number in &batch.items {
            assert_ne!(number.0, 14);
            if number.0 == 15 {
                answers.push(Err(StoreError::Impossible("15")));
                continue;
            }
            let text = "insert into numbers (n) values ($1)";
            transaction.execute_raw(sql(transaction, text, [number.0.into()])).await?;
            answers.push(Ok(number.0 * 10));
        }
        Ok(answers)
    })
}

struct Ground {
    store: Store,
    seen: Shared,
    background: Background,
    coalescer: Coalescer<Number, i64>,
    context: Context,
}

impl Ground {
    async fn new(open: usize) -> Self {
        let store = Store::open(Location::Memory).await.unwrap();
        store.reader().execute_unprepared("create table numbers (n integer check (n <> 13))").await.unwrap();
        let seen = Arc::new(Seen { batches: Mutex::default(), gate: Semaphore::new(open), begun: AtomicUsize::new(0) });
        let background = Background::default();
        let coalescer = Coalescer::start(&store, &background, seen.clone(), write);
        let context = Context::own(Tenant::default_tenant(), Duration::from_mins(1));
        Self { store, seen, background, coalescer, context }
    }

    fn submit(&self, number: i64) -> Pending<i64> {
        self.coalescer.submit(&self.context, Number(number)).unwrap()
    }

    async fn written(&self) -> i64 {
        count(self.store.reader(), "select count(*) from numbers", []).await.unwrap()
    }

    /// Waits until a batch has begun.
    async fn begun(&self, batches: usize) {
        while self.seen.begun.load(Ordering::SeqCst) < batches {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn who_comes_alone_waits_for_nobody_and_who_comes_during_a_commit_is_in_the_next_one() {
    let ground = Ground::new(0).await;
    let first = ground.submit(1);
    ground.begun(1).await;
    let others: Vec<_> = (2..=5).map(|number| ground.submit(number)).collect();
    ground.seen.gate.add_permits(2);
    assert_eq!(first.answer().await.unwrap(), 10);
    for (number, other) in (2..=5).zip(others) {
        assert_eq!(other.answer().await.unwrap(), number * 10);
    }
    assert_eq!(*ground.seen.batches.lock().unwrap(), [vec![1], vec![2, 3, 4, 5]]);
}

#[tokio::test]
async fn what_cannot_be_written_fails_alone_and_the_others_keep_their_order() {
    for poison in [13, 14, 15] {
        let ground = Ground::new(0).await;
        let first = ground.submit(0);
        ground.begun(1).await;
        let numbers = [1, 2, poison, 4, 5, 6];
        let pending = numbers.map(|number| ground.submit(number));
        ground.seen.gate.add_permits(1_000);
        first.answer().await.unwrap();
        for (number, pending) in numbers.into_iter().zip(pending) {
            assert_eq!(pending.answer().await.is_err(), number == poison, "{number}");
        }
        assert_eq!(ground.written().await, 6);
        let order: Vec<i64> = ground.seen.batches.lock().unwrap().concat();
        let place = |number| order.iter().rposition(|found| *found == number).unwrap();
        assert!(numbers.windows(2).all(|pair| place(pair[0]) < place(pair[1])), "{order:?}");
    }
}

#[tokio::test]
async fn who_goes_away_changes_nothing_for_the_others_and_what_was_taken_is_done() {
    let ground = Ground::new(0).await;
    let first = ground.submit(1);
    ground.begun(1).await;
    let second = ground.submit(2);
    let mut gone = Box::pin(ground.submit(3).answer());
    assert!(poll!(&mut gone).is_pending());
    drop((gone, first));
    ground.seen.gate.add_permits(2);
    assert_eq!(second.answer().await.unwrap(), 20);
    assert_eq!(ground.written().await, 3);
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_is_not_begun() {
    let ground = Ground::new(10).await;
    let late = Context::own(Tenant::default_tenant(), Duration::ZERO);
    let pending = ground.coalescer.submit(&late, Number(1)).unwrap();
    assert!(matches!(pending.answer().await, Err(StoreError::OutOfTime)));
    assert_eq!((ground.written().await, ground.seen.begun.load(Ordering::SeqCst)), (0, 0));
}

#[tokio::test]
async fn no_more_waits_than_can_be_dealt_with_and_a_stream_waits_for_room() {
    let ground = Ground::new(0).await;
    let _first = ground.submit(0);
    ground.begun(1).await;
    let waiting: Vec<_> = (0..OF_ONE_WRITER.waiting).map(|_| ground.submit(1)).collect();
    assert!(matches!(ground.coalescer.submit(&ground.context, Number(2)), Err(NotTaken::Full)));
    let mut with_room = Box::pin(ground.coalescer.submit_with_room(&ground.context, Number(3)));
    assert!(poll!(&mut with_room).is_pending());
    ground.seen.gate.add_permits(100);
    assert_eq!(with_room.await.unwrap().answer().await.unwrap(), 30);
    for pending in waiting {
        pending.answer().await.unwrap();
    }
}

#[tokio::test]
async fn what_waits_when_the_process_goes_is_still_done() {
    let ground = Ground::new(0).await;
    let pending: Vec<_> = (0..5).map(|number| ground.submit(number)).collect();
    ground.seen.gate.add_permits(100);
    ground.background.finish().await;
    for pending in pending {
        pending.answer().await.unwrap();
    }
    assert_eq!(ground.written().await, 5);
    assert!(matches!(ground.coalescer.submit(&ground.context, Number(9)), Err(NotTaken::Closed)));
}

#[tokio::test]
async fn what_is_heavy_takes_more_of_a_commit_and_of_the_room() {
    let ground = Ground::new(0).await;
    let first = ground.submit(0);
    ground.begun(1).await;
    let mut pending = vec![first];
    pending.extend([1, 4_500_000, 1_800_000, 2].map(|number| ground.submit(number)));
    assert!(matches!(ground.coalescer.submit(&ground.context, Number(6_000_000)), Err(NotTaken::Full)));
    pending.push(ground.submit(5_970_000));
    ground.seen.gate.add_permits(3);
    for pending in pending {
        pending.answer().await.unwrap();
    }
    let batches = [vec![0], vec![1, 4_500_000, 1_800_000], vec![2, 5_970_000]];
    assert_eq!(*ground.seen.batches.lock().unwrap(), batches);
    // What is heavier than all of the room is taken where there is nothing else.
    let pending = ground.submit(15_000_000);
    ground.seen.gate.add_permits(1);
    pending.answer().await.unwrap();
}
