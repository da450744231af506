//! Connections that stay with those who write.

use std::{sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, join_all};
use mesh::{
    Store, StoreError,
    store::{Location, Transaction, count, sql},
};
use sea_orm::{ConnectionTrait as _, DbErr};
use tokio::sync::Barrier;

use crate::database::{context, lines, on_each_database, write};

/// Has as many units of work under way at once as there may be, so that all connections are open.
async fn fill(store: &Store, units: usize) {
    fn meet<'a>(barrier: &'a Arc<Barrier>, _: &'a Transaction) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            barrier.wait().await;
            Ok(())
        })
    }
    let (barrier, context) = (Arc::new(Barrier::new(units)), context());
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
async fn readers_find_a_connection_however_many_units_of_work_there_were() {
    on_each_database(async |database| {
        let store = database.store().await;
        fill(&store, database.units()).await;
        if let Location::Postgres { connections, .. } = database.location() {
            // One in three stays with those who write.
            let pool = store.reader().get_postgres_connection_pool();
            let readers = join_all((connections / 3..connections).map(|_| pool.acquire())).await;
            assert!(readers.iter().all(Result::is_ok), "all at the same time");
        }
        assert_eq!(lines(&store, "none").await, 0);
        store.close().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_transaction_that_the_database_ended_by_itself_is_no_burden_to_the_next_one() {
    /// As SQLite does where its disk is full.
    fn end<'a>((): &'a (), transaction: &'a Transaction) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            transaction.execute_unprepared("rollback").await?;
            Ok(())
        })
    }
    on_each_database(async |database| {
        let (store, context) = (database.store().await, context());
        let ended = store.unit(&context).run((), end).await;
        // PostgreSQL takes a COMMIT of nothing.
        assert_eq!(ended.is_ok(), database.units() > 1, "{ended:?}");
        for note in ["ada", "bob"] {
            store.unit(&context).run(note.to_owned(), write).await.unwrap();
        }
        assert_eq!(database.lines_after(store, "ada").await, 2);
        assert_eq!(lines(&database.open().await, "bob").await, 2);
    })
    .await;
}

#[tokio::test]
async fn who_meets_a_database_that_does_nothing_at_present_is_not_followed_by_another() {
    fn fail<'a>((): &'a (), _: &'a Transaction) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Err(StoreError::Unavailable(DbErr::Custom("a replica takes no writes".to_owned()))) })
    }
    on_each_database(async |database| {
        let (store, context) = (database.store().await, context());
        store.unit(&context).run((), mark).await.unwrap();
        assert_eq!(store.unit(&context).run((), find).await.unwrap(), 1);
        store.unit(&context).run((), fail).await.unwrap_err();
        let found = store.unit(&context).run((), find).await;
        assert!(matches!(found, Err(StoreError::Statement(_))), "another session has no such table: {found:?}");
        store.close().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_session_is_asked_after_a_while_whether_it_still_lives() {
    fn which<'a>((): &'a (), transaction: &'a Transaction) -> BoxFuture<'a, Result<i64, StoreError>> {
        Box::pin(async move { count(transaction, "select pg_backend_pid()::bigint", []).await })
    }
    on_each_database(async |database| {
        let (store, context) = (database.store().await, context());
        if database.units() > 1 {
            let before = store.unit(&context).run((), which).await.unwrap();
            let end = sql(store.reader(), "select pg_terminate_backend($1::int)", [before.to_string().into()]);
            store.reader().query_one_raw(end).await.unwrap();
            tokio::time::pause();
            tokio::time::advance(Duration::from_secs(10)).await;
            tokio::time::resume();
            assert_ne!(store.unit(&context).run((), which).await.unwrap(), before);
        }
        store.close().await.unwrap();
    })
    .await;
}
