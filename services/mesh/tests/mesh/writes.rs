//! Statements that are sent together, and work that one statement does: all of it or nothing.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::future::{BoxFuture, join_all};
use mesh::{
    Store, StoreError,
    store::{Kind, Row, Rows, Session, Transaction, Writes, sql},
};
use sea_orm::{ConnectionTrait, DbBackend, DbErr};

use crate::database::{context, lines, on_each_database};

const COLUMNS: [(&str, Kind); 2] = [("note", Kind::Text), ("line", Kind::Number)];

fn notes(notes: &[(&str, i64)]) -> Rows<2> {
    Rows::new(COLUMNS, notes.iter().map(|(note, line)| [(*note).into(), (*line).into()]))
}

fn taken() -> StoreError {
    StoreError::Statement(DbErr::Custom("taken".to_owned()))
}

fn add(writes: &mut Writes, rows: Rows<2>) -> Result<(), StoreError> {
    writes.add(rows, taken(), |names, rows| {
        format!("insert into notes ({names}) select {names} from {rows} where true on conflict do nothing")
    })
}

/// Notes of two statements that are sent together.
type Two = [Vec<(&'static str, i64)>; 2];

fn write_both<'a>(two: &'a Two, transaction: &'a Transaction) -> BoxFuture<'a, Result<(), StoreError>> {
    Box::pin(async move {
        let mut writes = Writes::new(transaction);
        for rows in two {
            add(&mut writes, notes(rows))?;
        }
        writes.run(transaction).await
    })
}

#[tokio::test]
async fn what_is_sent_together_is_written_whole_or_not_at_all() {
    on_each_database(async |database| {
        let store = database.store().await;
        let both = async |first: &[(&'static str, i64)], second: &[(&'static str, i64)]| {
            store.unit(&context()).run([first.to_vec(), second.to_vec()], write_both).await
        };
        both(&[("ada/1", 1), ("ada/2", 2), ("ada/3", 3)], &[("bob/1", 1)]).await.unwrap();
        both(&[], &[("bob/2", 2)]).await.unwrap();
        both(&[], &[]).await.unwrap();
        assert_eq!((lines(&store, "ada").await, lines(&store, "bob").await), (3, 2));
        for (first, second) in [(("bob/1", 1), ("eve/1", 1)), (("eve/1", 1), ("bob/1", 1))] {
            let error = both(&[first, ("eve/2", 1)], &[second]).await.unwrap_err();
            assert!(matches!(error, StoreError::Statement(DbErr::Custom(cause)) if cause == "taken"));
        }
        assert_eq!(lines(&store, "eve").await, 0, "the part that could be written was not");
        store.close().await.unwrap();
    })
    .await;
}

/// A count that is read, raised and written back together with a note of it.
struct Raise {
    /// Notes that are written with it, each a part of its own.
    with: Vec<(&'static str, i64)>,
    /// What somebody else makes of the count after it was read.
    meddled: Option<i64>,
    alone: Arc<AtomicUsize>,
    together: Arc<AtomicUsize>,
}

impl Raise {
    fn with(with: &[(&'static str, i64)]) -> Self {
        Self { with: with.to_vec(), meddled: None, alone: Arc::default(), together: Arc::default() }
    }
}

async fn count(connection: &impl ConnectionTrait) -> Result<i64, StoreError> {
    #[derive(Row)]
    struct Count {
        line: i64,
    }
    let statement = sql(connection, "select line from notes where note = 'count'", []);
    Ok(Count::find_by_statement(statement).one(connection).await?.map_or(0, |count| count.line))
}

async fn set_count(connection: &impl ConnectionTrait, line: i64) -> Result<(), StoreError> {
    let text =
        "insert into notes (note, line) values ('count', $1) on conflict (note) do update set line = excluded.line";
    connection.execute_raw(sql(connection, text, [line.into()])).await?;
    Ok(())
}

fn alone<'a>(raise: &'a Raise, session: &'a Session) -> BoxFuture<'a, Result<Option<()>, StoreError>> {
    Box::pin(async move {
        raise.alone.fetch_add(1, Ordering::SeqCst);
        let line = count(session).await?;
        if let Some(meddled) = raise.meddled {
            set_count(session, meddled).await?;
        }
        let mut writes = Writes::guarded(notes(&[("count", line)]), |rows| {
            format!("select 1 from {rows} join notes n on n.note = k.note and n.line = k.line for update of n")
        })?;
        for note in &raise.with {
            add(&mut writes, notes(&[*note]))?;
        }
        writes.add(notes(&[("count", line + 1)]), taken(), |_, rows| {
            format!("update notes set line = k.line from {rows} where notes.note = k.note")
        })?;
        Ok(writes.run_alone(session).await?.then_some(()))
    })
}

fn together<'a>(raise: &'a Raise, transaction: &'a Transaction) -> BoxFuture<'a, Result<(), StoreError>> {
    Box::pin(async move {
        raise.together.fetch_add(1, Ordering::SeqCst);
        let lock = if transaction.get_database_backend() == DbBackend::Postgres { " for update" } else { "" };
        let text = format!("select line from notes where note = 'count'{lock}");
        transaction.query_one_raw(sql(transaction, &text, [])).await?;
        let line = count(transaction).await?;
        let mut writes = Writes::new(transaction);
        add(&mut writes, notes(&raise.with))?;
        writes.run(transaction).await?;
        set_count(transaction, line + 1).await
    })
}

/// Raises the count; says how often that was begun with one statement, and how often as a transaction.
async fn raise(store: &Store, raise: Raise) -> (Result<(), StoreError>, usize, usize) {
    let (tried_alone, tried_together) = (raise.alone.clone(), raise.together.clone());
    let raised = store.unit(&context()).claimed().run_at_once(raise, alone, together).await;
    (raised, tried_alone.load(Ordering::SeqCst), tried_together.load(Ordering::SeqCst))
}

#[tokio::test]
async fn one_statement_does_the_work_while_nobody_meddles_with_what_it_stands_on() {
    on_each_database(async |database| {
        let store = database.store().await;
        set_count(store.reader(), 7).await.unwrap();
        let one_by_one = matches!(database.location(), mesh::store::Location::File(_));

        let (raised, alone, together) = raise(&store, Raise::with(&[("ada/1", 1), ("ada/2", 1)])).await;
        raised.unwrap();
        assert_eq!((alone, together), if one_by_one { (0, 1) } else { (1, 0) });
        assert_eq!((count(store.reader()).await.unwrap(), lines(&store, "ada").await), (8, 2));

        let meddled = Raise { meddled: Some(100), ..Raise::with(&[("bob/1", 1)]) };
        let (raised, _, together) = raise(&store, meddled).await;
        raised.unwrap();
        assert_eq!(together, 1, "what was read was not so any more, and it was done as a transaction");
        assert_eq!(count(store.reader()).await.unwrap(), if one_by_one { 9 } else { 101 });
        assert_eq!(lines(&store, "bob").await, 1, "nothing was written by the statement that came too late");
        store.close().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn one_statement_that_cannot_do_all_of_the_work_does_nothing() {
    on_each_database(async |database| {
        let store = database.store().await;
        set_count(store.reader(), 7).await.unwrap();
        raise(&store, Raise::with(&[("ada/1", 1)])).await.0.unwrap();

        let (raised, _, together) = raise(&store, Raise::with(&[("ada/1", 1), ("bob/1", 1)])).await;
        assert!(raised.is_err() && together == 1, "its first part was taken, and as a transaction it is, too");
        let (raised, alone, together) = raise(&store, Raise::with(&[("eve/1", 1), ("ada/1", 1)])).await;
        assert!(raised.is_err() && alone + together == 1, "a later part fell short: that ends it");
        assert_eq!(count(store.reader()).await.unwrap(), 8);
        assert_eq!((lines(&store, "bob").await, lines(&store, "eve").await), (0, 0));
        store.close().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_that_raise_a_count_with_one_statement_each_lose_nothing() {
    on_each_database(async |database| {
        let (here, there) = (database.store().await, database.open().await);
        set_count(here.reader(), 0).await.unwrap();
        let raised = (0..100_i64).map(|number| {
            let note: &'static str = format!("note/{number}").leak();
            let store = if number % 2 == 0 { &here } else { &there };
            async move { raise(store, Raise::with(&[(note, number)])).await.0 }
        });
        let raised = join_all(raised).await;
        assert!(raised.iter().all(Result::is_ok), "{raised:?}");
        assert_eq!((count(here.reader()).await.unwrap(), lines(&here, "note").await), (100, 100));
        here.close().await.unwrap();
        there.close().await.unwrap();
    })
    .await;
}
