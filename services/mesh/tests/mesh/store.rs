//! The unit of work: whole, or not at all, whoever waits for it.

use std::{future::poll_fn, pin::Pin, sync::Arc, task::Poll, time::Duration};

use futures_util::future::BoxFuture;
use mesh::{
    Context, Store, StoreError, Tenant,
    store::{Transaction, sql},
};
use sea_orm::ConnectionTrait as _;
use tokio::sync::watch;

use crate::{
    database::{context, lines, on_each_database, write},
    house::in_time,
};

/// How many polls a future was given before it was dropped, or that it came to its end.
#[derive(PartialEq)]
enum Given {
    Polls,
    ItsEnd,
}

/// Polls a future this many times, each time as soon as it asks for it, and drops it.
async fn drop_after<F: Future>(mut future: Pin<Box<F>>, polls: usize) -> Given {
    let mut left = polls;
    let ended = poll_fn(|task| {
        if left == 0 {
            return Poll::Ready(Given::Polls);
        }
        left -= 1;
        match future.as_mut().poll(task) {
            Poll::Ready(_) => Poll::Ready(Given::ItsEnd),
            Poll::Pending if left == 0 => Poll::Ready(Given::Polls),
            Poll::Pending => Poll::Pending,
        }
    });
    ended.await
}

#[tokio::test]
async fn a_unit_of_work_ends_whole_whenever_its_caller_goes_away() {
    on_each_database(async |database| {
        let (store, context) = (database.store().await, context());
        let mut polls = 0;
        loop {
            let unit = store.unit(&context).run(format!("dropped_{polls}"), write);
            let given = drop_after(Box::pin(unit), polls).await;
            // What is acknowledged after that is there, on whichever connection it was written.
            store.unit(&context).run(format!("after_{polls}"), write).await.unwrap();
            if given == Given::ItsEnd {
                break;
            }
            polls += 1;
        }
        store.close().await.unwrap();
        let store = database.open().await;
        for number in 0..=polls {
            let expected = if number == 0 { 0 } else { 2 };
            assert_eq!(lines(&store, &format!("dropped_{number}")).await, expected, "dropped after {number} polls");
            assert_eq!(lines(&store, &format!("after_{number}")).await, 2, "after {number} polls");
        }
    })
    .await;
}

#[tokio::test]
async fn callers_that_go_away_at_any_time_harm_nobody_who_stays() {
    on_each_database(async |database| {
        let (store, context) = (database.store().await, context());
        for turns in 0..60_u32 {
            let mut unit = Box::pin(store.unit(&context).run(format!("dropped_{turns}"), write));
            // Goes away after more and more turns of the scheduler, wherever the transaction is by then.
            for _ in 0..turns * turns {
                if futures_util::poll!(unit.as_mut()).is_ready() {
                    unit = Box::pin(store.unit(&context).run(format!("again_{turns}"), write));
                }
                tokio::task::yield_now().await;
            }
            drop(unit);
            store.unit(&context).run(format!("after_{turns}"), write).await.unwrap();
        }
        store.close().await.unwrap();
        let store = database.open().await;
        for turns in 0..60 {
            assert_eq!(lines(&store, &format!("after_{turns}")).await, 2, "after {turns}");
            for dropped in [format!("dropped_{turns}"), format!("again_{turns}")] {
                assert!([0, 2].contains(&lines(&store, &dropped).await), "{dropped} is half there");
            }
            assert_eq!(lines(&store, &format!("dropped_{turns}")).await, if turns == 0 { 0 } else { 2 }, "{turns}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_unit_of_work_that_fails_keeps_nothing() {
    fn write_and_fail<'a>(note: &'a String, transaction: &'a Transaction) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            write(note, transaction).await?;
            Err(StoreError::Impossible("as the test wants it"))
        })
    }
    on_each_database(async |database| {
        let (store, context) = (database.store().await, context());
        let failed = store.unit(&context).run("ada".to_owned(), write_and_fail).await;
        assert!(matches!(failed, Err(StoreError::Impossible(_))), "{failed:?}");
        store.unit(&context).run("ada".to_owned(), write).await.unwrap();
        let taken = store.unit(&context).run("ada".to_owned(), write).await.unwrap_err();
        assert!(matches!(taken, StoreError::Unique { .. }), "{taken:?}");
        assert_eq!(database.lines_after(store, "ada").await, 2);
    })
    .await;
}

#[tokio::test]
async fn a_rehearsal_computes_everything_and_keeps_nothing() {
    on_each_database(async |database| {
        let (store, context) = (database.store().await, context());
        for _ in 0..2 {
            store.unit(&context).rehearsal(true).run("ada".to_owned(), write).await.unwrap();
        }
        store.unit(&context).rehearsal(false).run("bob".to_owned(), write).await.unwrap();
        let taken = store.unit(&context).rehearsal(true).run("bob".to_owned(), write).await;
        assert!(matches!(taken, Err(StoreError::Unique { .. })), "{taken:?}");
        assert_eq!((lines(&store, "ada").await, lines(&store, "bob").await), (0, 2));
        assert_eq!(database.lines_after(store, "ada").await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_unit_without_time_is_not_begun() {
    on_each_database(async |database| {
        let store = database.store().await;
        for left in [0, 1, 10, 19] {
            let late = Context::own(Tenant::default_tenant(), Duration::from_millis(left));
            let refused = store.unit(&late).run("ada".to_owned(), write).await;
            assert!(matches!(refused, Err(StoreError::OutOfTime)), "{left} ms: {refused:?}");
        }
        assert_eq!(lines(&store, "ada").await, 0);
        store.unit(&context()).run("ada".to_owned(), write).await.unwrap();
        assert_eq!(database.lines_after(store, "ada").await, 2);
    })
    .await;
}

#[tokio::test]
async fn a_panic_inside_a_unit_is_an_error_and_the_store_works_on() {
    fn write_and_panic<'a>(note: &'a String, transaction: &'a Transaction) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            write(note, transaction).await?;
            panic!("as the test wants it")
        })
    }
    on_each_database(async |database| {
        let (store, context) = (database.store().await, context());
        // More often than there are connections, so that each of them has seen one.
        for _ in 0..8 {
            let panicked = store.unit(&context).run("ada".to_owned(), write_and_panic).await;
            assert!(matches!(panicked, Err(StoreError::Panicked(_))), "{panicked:?}");
        }
        assert_eq!(lines(&store, "ada").await, 0);
        for number in 0..8 {
            store.unit(&context).run(format!("after_{number}"), write).await.unwrap();
        }
        assert_eq!(database.lines_after(store, "after_7").await, 2);
    })
    .await;
}

/// A note that is written, and kept once the gate is open.
struct Gated {
    note: String,
    begun: watch::Sender<bool>,
    open: watch::Sender<bool>,
}

fn write_at_the_gate<'a>(gated: &'a Arc<Gated>, transaction: &'a Transaction) -> BoxFuture<'a, Result<(), StoreError>> {
    Box::pin(async move {
        write(&gated.note, transaction).await?;
        gated.begun.send_replace(true);
        let _ = gated.open.subscribe().wait_for(|open| *open).await;
        Ok(())
    })
}

async fn begin_at_the_gate(store: &Store, note: &str) -> Arc<Gated> {
    let gated =
        Arc::new(Gated { note: note.to_owned(), begun: watch::Sender::new(false), open: watch::Sender::new(false) });
    let (store, input) = (store.clone(), gated.clone());
    let caller = tokio::spawn(async move { store.unit(&context()).run(input, write_at_the_gate).await });
    in_time("beginning", gated.begun.subscribe().wait_for(|begun| *begun)).await.unwrap();
    caller.abort();
    assert!(caller.await.is_err(), "nobody waits for it any more");
    gated
}

#[tokio::test]
async fn closing_a_store_waits_for_the_units_under_way() {
    on_each_database(async |database| {
        let store = database.store().await;
        let gated = begin_at_the_gate(&store, "ada").await;
        let mut closing = Box::pin(store.close());
        for _ in 0..100 {
            assert!(futures_util::poll!(closing.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
        gated.open.send_replace(true);
        in_time("closing", closing).await.unwrap();
        assert_eq!(lines(&database.open().await, "ada").await, 2);
    })
    .await;
}

#[tokio::test]
async fn a_unit_begun_just_before_the_close_is_done_all_the_same() {
    on_each_database(async |database| {
        let (store, context) = (database.store().await, context());
        let mut unit = Box::pin(store.unit(&context).run("ada".to_owned(), write));
        // One poll begins it; on this one thread it gets no further before the store is closed.
        assert!(futures_util::poll!(unit.as_mut()).is_pending());
        drop(unit);
        assert_eq!(database.lines_after(store, "ada").await, 2);
    })
    .await;
}

#[tokio::test]
async fn a_store_that_is_closed_says_that_nothing_was_done() {
    on_each_database(async |database| {
        let store = database.store().await;
        store.close().await.unwrap();
        let refused = store.unit(&context()).run("ada".to_owned(), write).await.unwrap_err();
        assert!(matches!(refused, StoreError::Closed | StoreError::Unavailable(_)), "{refused:?}");
        assert_eq!(lines(&database.open().await, "ada").await, 0);
    })
    .await;
}

#[tokio::test]
async fn more_callers_than_connections_take_turns() {
    on_each_database(async |database| {
        let store = database.store().await;
        let writes = (0..64).map(|number| {
            let store = store.clone();
            tokio::spawn(async move { store.unit(&context()).run(format!("all/{number}"), write).await })
        });
        for written in writes.collect::<Vec<_>>() {
            written.await.unwrap().unwrap();
        }
        assert_eq!(database.lines_after(store, "all").await, 128);
    })
    .await;
}

#[tokio::test]
async fn what_one_unit_writes_nobody_reads_before_it_ends() {
    on_each_database(async |database| {
        let store = database.store().await;
        let gated = begin_at_the_gate(&store, "ada").await;
        assert_eq!(lines(&store, "ada").await, 0);
        gated.open.send_replace(true);
        assert_eq!(database.lines_after(store, "ada").await, 2);
    })
    .await;
}

#[tokio::test]
async fn a_commit_waits_for_the_disk_whatever_the_database_was_told() {
    fn waits<'a>(sqlite: &'a bool, transaction: &'a Transaction) -> BoxFuture<'a, Result<String, StoreError>> {
        Box::pin(async move {
            let text = if *sqlite {
                "select cast(synchronous as text) as value from pragma_synchronous"
            } else {
                "select current_setting('synchronous_commit') as value"
            };
            let row = transaction.query_one_raw(sql(transaction, text, [])).await?;
            Ok(row.expect("there is a setting").try_get("", "value")?)
        })
    }
    on_each_database(async |database| {
        let sqlite = database.units() == 1;
        if !sqlite {
            let store = database.open().await;
            let text = "do $$ begin execute format('alter database %I set synchronous_commit = off', current_database()); end $$";
            store.reader().execute_unprepared(text).await.unwrap();
            store.close().await.unwrap();
        }
        let store = database.open().await;
        // FULL.
        let expected = if sqlite { "2" } else { "on" };
        assert_eq!(store.unit(&context()).run(sqlite, waits).await.unwrap(), expected);
        store.close().await.unwrap();
    })
    .await;
}
