//! Connections that stay with those who write.

use futures_util::future::{BoxFuture, join_all};
use mesh::{
    Store, StoreError,
    store::{Transaction, count, sql},
};
use sea_orm::ConnectionTrait as _;
use tokio::sync::Barrier;

use crate::database::{context, lines, on_each_database, write};

/// Has as many units of work under way at once as there may be, so that all connections are open.
async fn fill(store: &Store, units: usize) {
    fn meet<'a>(barrier: &'a std::sync::Arc<Barrier>, _: &'a Transaction) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            barrier.wait().await;
            Ok(())
        })
    }
    let (barrier, context) = (std::sync::Arc::new(Barrier::new(units)), context());
    for ended in join_all((0..units).map(|_| store.unit(&context).run(barrier.clone(), meet))).await {
        ended.unwrap();
    }
}

/// Leaves a mark that only the same session finds.
fn mark<'a>((): &'a (), transaction: &'a Transaction) -> BoxFuture<'a, Result<(), StoreError>> {
    Box::pin(async move {
        transaction.execute_unprepared("create temporary table mine (n bigint)").await?;
        Ok(())
    })
}

/// Adds to the mark, and says how much there is.
fn find<'a>((): &'a (), transaction: &'a Transaction) -> BoxFuture<'a, Result<i64, StoreError>> {
    Box::pin(async move {
        transaction.execute_raw(sql(transaction, "insert into mine (n) values ($1)", [1_i64.into()])).await?;
        count(transaction, "select count(*) from mine", []).await
    })
}

#[tokio::test]
async fn who_comes_after_a_unit_of_work_gets_its_session() {
    on_each_database(async |database| {
        let (store, context) = (database.store().await, context());
        fill(&store, database.units()).await;
        store.unit(&context).run((), mark).await.unwrap();
        for found in 1..=20 {
            // Who reads has connections of his own meanwhile.
            assert_eq!(lines(&store, "none").await, 0);
            assert_eq!(store.unit(&context).run((), find).await.unwrap(), found);
        }
        store.close().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_unit_of_work_that_panics_leaves_nothing_to_the_next_one_on_its_session() {
    fn write_and_panic<'a>(note: &'a String, transaction: &'a Transaction) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            write(note, transaction).await?;
            panic!("as the test wants it")
        })
    }
    on_each_database(async |database| {
        let (store, context) = (database.store().await, context());
        for turn in 0..10 {
            let panicked = store.unit(&context).run(format!("panicked_{turn}"), write_and_panic).await;
            assert!(matches!(panicked, Err(StoreError::Panicked(_))), "{panicked:?}");
            store.unit(&context).run(format!("after_{turn}"), write).await.unwrap();
        }
        store.close().await.unwrap();
        let store = database.open().await;
        for turn in 0..10 {
            assert_eq!(lines(&store, &format!("panicked_{turn}")).await, 0, "{turn}");
            assert_eq!(lines(&store, &format!("after_{turn}")).await, 2, "{turn}");
        }
        store.close().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn readers_find_a_connection_however_many_units_of_work_there_were() {
    on_each_database(async |database| {
        let store = database.store().await;
        for _ in 0..3 {
            fill(&store, database.units()).await;
            // As many as PostgreSQL has connections for readers, each of whom needs his own.
            let reading = (0..database.units()).map(|_| async {
                store.reader().execute_unprepared("select 1").await.unwrap();
            });
            join_all(reading).await;
        }
        store.close().await.unwrap();
    })
    .await;
}
