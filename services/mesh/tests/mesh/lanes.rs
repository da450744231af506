//! Work that is committed together goes by lanes where the database commits on several connections at once.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::future::{BoxFuture, join_all};
use mesh::{
    Background, Store, StoreError,
    coalesce::{self, Answers, Batch, Coalescer},
    store::{Location, Transaction},
};
use tokio::sync::watch;

use crate::database::{context, on_each_database, write};

/// What is done for whom, as its number.
#[derive(Clone)]
struct Item(String, usize);

impl coalesce::Item for Item {
    fn key(&self) -> u64 {
        coalesce::hash(&self.0)
    }
}

#[derive(Clone)]
struct Shared {
    at_work: Arc<AtomicUsize>,
    /// The most that were at work at the same time so far.
    most: watch::Sender<usize>,
    /// Nobody goes on before so many were.
    company: usize,
    done: Arc<Mutex<Vec<Item>>>,
}

fn work<'a>(
    batch: &'a Arc<Batch<Shared, Item>>,
    transaction: &'a Transaction,
) -> BoxFuture<'a, Result<Answers<()>, StoreError>> {
    Box::pin(async move {
        let Shared { at_work, most, company, done } = &batch.shared;
        let now = at_work.fetch_add(1, Ordering::SeqCst) + 1;
        most.send_modify(|most| *most = now.max(*most));
        most.subscribe().wait_for(|most| most >= company).await.unwrap();
        for item in &batch.items {
            write(&format!("{}_{}", item.0, item.1), transaction).await?;
        }
        done.lock().unwrap().extend(batch.items.iter().map(|item| (**item).clone()));
        at_work.fetch_sub(1, Ordering::SeqCst);
        Ok(batch.items.iter().map(|_| Ok(())).collect())
    })
}

/// Hands in this many items of each key at once, and gives them in the order in which they were done.
async fn run(store: &Store, keys: &[&str], each: usize, company: usize) -> Vec<Item> {
    let done = Arc::default();
    let shared = Shared { at_work: Arc::default(), most: watch::Sender::new(0), company, done: Arc::clone(&done) };
    let coalescer = Coalescer::start(store, &Background::default(), shared, work);
    let items = (0..each).flat_map(|number| keys.iter().map(move |key| Item((*key).to_owned(), number)));
    let mut pending = Vec::new();
    for item in items {
        pending.push(coalescer.submit(&context(), item).unwrap().answer());
        tokio::task::yield_now().await;
    }
    for answer in join_all(pending).await {
        answer.unwrap();
    }
    done.lock().unwrap().drain(..).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn items_of_one_key_keep_their_order() {
    on_each_database(async |database| {
        let store = database.store().await;
        let mut of_key: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for Item(key, number) in run(&store, &["ada", "bob", "eve", "joe", "kim"], 60, 1).await {
            of_key.entry(key).or_default().push(number);
        }
        assert_eq!(of_key.len(), 5);
        for numbers in of_key.values() {
            assert_eq!(*numbers, (0..60).collect::<Vec<_>>());
        }
        store.close().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_lanes_are_at_work_at_the_same_time_unless_there_is_one_writer() {
    on_each_database(async |database| {
        let store = database.store().await;
        let company = if matches!(database.location(), Location::Postgres { .. }) { 2 } else { 1 };
        let done = run(&store, &["ada", "bob", "eve", "joe", "kim", "leo", "mia", "noa"], 1, company).await;
        assert_eq!(done.len(), 8);
        store.close().await.unwrap();
    })
    .await;
}
