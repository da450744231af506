//! Several statements that write, each many rows, sent together (money.md, section D4): on PostgreSQL they are parts of one
//! statement (data-modifying `with` queries), which is one way to the server and back for all of them; on SQLite, where
//! there is no way to go, they run one after the other.
//!
//! Each part writes as many rows as it was given, or the transaction is not to be committed, which then is all that SQLite
//! undoes: to undo a statement by itself it would write each page that the statement changes into a file first. No part sees
//! what another one wrote.

use sea_orm::{ConnectionTrait, DbBackend, Value};

use super::{Rows, Session, StoreError, Transaction, sql};

/// What is written together.
pub struct Writes {
    backend: DbBackend,
    parts: Vec<Part>,
    /// On PostgreSQL, of all parts.
    values: Vec<Value>,
    guard: Option<Guard>,
}

/// A look whether rows are as they were; without it nothing is written.
struct Guard {
    text: String,
    rows: usize,
}

struct Part {
    /// On SQLite one for each piece of the rows, with its values; on PostgreSQL one.
    statements: Vec<(String, Vec<Value>)>,
    rows: usize,
    short: StoreError,
}

/// Rows of a part up to which SQLite's statements are handed to its thread together. They are kept prepared together, too, for
/// each mix of sizes that comes up, of which there must not be too many; and the more rows, the less is waking a thread.
const JOINED: usize = 48;

/// The name of the part that looks whether rows are as they were.
const GUARD: &str = "guard";

impl Writes {
    /// Nothing yet, for a database of this connection's kind.
    pub fn new(connection: &impl ConnectionTrait) -> Self {
        let backend = connection.get_database_backend();
        Self { backend, parts: Vec::new(), values: Vec::new(), guard: None }
    }

    /// Nothing yet, to be written where `same` finds each of these rows as it was, and keeps it from changing: a `select`
    /// of one column from the table that it is given, which is called `k`, `for update`. For [`Writes::run_alone`], on
    /// PostgreSQL.
    pub fn guarded<const WIDTH: usize>(
        rows: Rows<WIDTH>,
        same: impl FnOnce(&str) -> String,
    ) -> Result<Self, StoreError> {
        let (backend, mut values, count) = (DbBackend::Postgres, Vec::new(), rows.len());
        let guard = Guard { text: same(&rows.bind_for(backend, "k", &mut values)?), rows: count };
        Ok(Self { backend, parts: Vec::new(), values, guard: Some(guard) })
    }

    /// Adds a statement that writes each of these rows, an `insert` or `update`: it is given their columns' names and the
    /// table to select them from, which is called `k`. Where fewer rows are written, `short` says why. Without rows nothing
    /// is added.
    pub fn add<const WIDTH: usize>(
        &mut self,
        rows: Rows<WIDTH>,
        short: StoreError,
        text: impl Fn(&str, &str) -> String,
    ) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let (names, count) = (rows.names(), rows.len());
        let statements = if self.backend == DbBackend::Postgres {
            let table = rows.bind_for(self.backend, "k", &mut self.values)?;
            let text = match self.condition() {
                Some(condition) => text(&names, &format!("(select * from {table} where {condition}) as k")),
                None => text(&names, &table),
            };
            vec![(text, Vec::new())]
        } else {
            rows.pieces("k")?.into_iter().map(|(table, values)| (or_fail(&text(&names, &table)), values)).collect()
        };
        self.parts.push(Part { statements, rows: count, short });
        Ok(())
    }

    /// What must hold for a further part to write, where that is not found out afterwards: the first one that all rows of
    /// the guard are as they were, the others that the first one wrote all of its own.
    fn condition(&self) -> Option<String> {
        let guard = self.guard.as_ref()?;
        Some(match self.parts.first() {
            None => format!("{} = {}", count(GUARD), guard.rows),
            Some(first) => format!("{} = {}", count(&part(0)), first.rows),
        })
    }

    /// Writes it all. Where that fails or a part wrote less than it should have, the transaction is not to be committed.
    pub async fn run(mut self, transaction: &Transaction) -> Result<(), StoreError> {
        if self.parts.is_empty() {
            return Ok(());
        }
        if self.backend == DbBackend::Postgres {
            let counts = self.counts(transaction, "").await?;
            return self.parts.into_iter().zip(counts).try_for_each(|(part, written)| part.wrote(written));
        }
        // SQLite has a thread of its own, and to wake it takes longer than to write a few rows.
        let pieces: Vec<usize> = self.parts.iter().map(|part| part.statements.len()).collect();
        let few = self.parts.iter().all(|part| part.rows <= JOINED);
        let statements = self.parts.iter_mut().flat_map(|part| part.statements.drain(..));
        let chunks: Vec<Vec<_>> =
            if few { vec![statements.collect()] } else { statements.map(|it| vec![it]).collect() };
        let mut counts = Vec::new();
        for chunk in chunks {
            let (texts, values): (Vec<String>, Vec<Vec<Value>>) = chunk.into_iter().unzip();
            let statements = sql(transaction, &texts.join(";\n"), values.into_iter().flatten());
            counts.extend(transaction.execute_each(statements).await?);
        }
        let mut counts = counts.into_iter();
        let mut parts = self.parts.into_iter().zip(pieces);
        parts.try_for_each(|(part, pieces)| part.wrote(counts.by_ref().take(pieces).sum()))
    }

    /// Writes it all with one statement that is a transaction in itself. False where a row of the guard is not as it was,
    /// or the first part could not write all of its rows: nothing was written. The first part must be of one row, for
    /// then it writes all of them or none.
    pub async fn run_alone(mut self, session: &Session) -> Result<bool, StoreError> {
        if self.guard.is_none() || self.parts.first().is_none_or(|first| first.rows != 1) {
            return Err(StoreError::Impossible("what is written alone needs a guard and a first part of one row"));
        }
        // What else falls short ends the statement, and with it all that it wrote.
        let rest = self.parts.iter().enumerate().skip(1);
        let whole: String = rest.map(|(place, rest)| format!(" and {} = {}", count(&part(place)), rest.rows)).collect();
        let first = count(&part(0));
        let check = format!(", 1 / case when {first} = 0 or ({first} = 1{whole}) then 1 else 0 end");
        let counts = self.counts(session, &check).await.map_err(|error| match error {
            // It may have been carried out, and is its own commit.
            StoreError::Unavailable(cause) => StoreError::OutcomeUnknown(cause),
            other => other,
        })?;
        // Where the guard found less, the first part wrote nothing.
        Ok(counts.first() == Some(&1))
    }

    /// Sends all parts as one statement; says how many rows each wrote.
    async fn counts(&mut self, connection: &impl ConnectionTrait, check: &str) -> Result<Vec<u64>, StoreError> {
        let guard = self.guard.iter().map(|guard| format!("{GUARD} as materialized ({})", guard.text));
        let parts = self.parts.iter().enumerate().flat_map(|(place, it)| {
            it.statements.iter().map(move |(text, _)| format!("{} as ({text} returning 1)", part(place)))
        });
        let with: Vec<String> = guard.chain(parts).collect();
        let counts: Vec<String> = (0..self.parts.len()).map(|place| count(&part(place))).collect();
        let text = format!("with {} select array[{}]{check}", with.join(", "), counts.join(", "));
        let row = connection.query_one_raw(sql(connection, &text, std::mem::take(&mut self.values))).await?;
        let row = row.ok_or(StoreError::Impossible("a count has no row"))?;
        let counts: Vec<i64> = row.try_get_by_index(0)?;
        Ok(counts.into_iter().map(|count| u64::try_from(count).unwrap_or(0)).collect())
    }
}

/// The statement as one that SQLite leaves half done where it fails, since its transaction is undone then.
fn or_fail(text: &str) -> String {
    match text.split_once(' ') {
        Some((verb, rest)) => format!("{verb} or fail {rest}"),
        None => text.to_owned(),
    }
}

/// The name of a part.
fn part(place: usize) -> String {
    format!("part{place}")
}

/// How many rows a part, or the guard, has.
fn count(name: &str) -> String {
    format!("(select count(*) from {name})")
}

impl Part {
    fn wrote(self, written: u64) -> Result<(), StoreError> {
        if usize::try_from(written) == Ok(self.rows) { Ok(()) } else { Err(self.short) }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicI64, Ordering},
        },
        time::Duration,
    };

    use super::*;
    use crate::{
        Context, Tenant,
        store::{Kind, Location, Store, count},
    };

    const WRITTEN: &str = "select count(*) from numbers where n >= 10";

    #[tokio::test]
    async fn a_statement_that_fails_half_way_is_undone_with_its_transaction_and_not_by_itself() {
        let store = Store::open(Location::Memory).await.unwrap();
        let table = "create table numbers (n integer check (n <> 13)); insert into numbers values (2), (3), (4)";
        store.reader().execute_unprepared(table).await.unwrap();
        let context = Context::own(Tenant::default_tenant(), Duration::from_mins(1));
        for text in ["insert into numbers (n) select n + 10 from", "update numbers set n = k.n + 10 from"] {
            let found = Arc::new(AtomicI64::new(0));
            let ended = store.unit(&context).run((text, found.clone()), |(text, found), transaction| {
                Box::pin(async move {
                    let rows = Rows::new([("n", Kind::Number)], [2_i64, 3, 4].map(|number| [number.into()]));
                    let same = if text.starts_with("update") { "where numbers.n = k.n" } else { "" };
                    let mut writes = Writes::new(transaction);
                    writes.add(rows, StoreError::Impossible("short"), |_, rows| format!("{text} {rows} {same}"))?;
                    let written = writes.run(transaction).await;
                    found.store(count(transaction, WRITTEN, []).await?, Ordering::Relaxed);
                    written
                })
            });
            assert!(matches!(ended.await, Err(StoreError::Statement(_))), "{text}");
            assert_eq!(found.load(Ordering::Relaxed), 1, "what came before the row that failed: {text}");
            assert_eq!(count(store.reader(), WRITTEN, []).await.unwrap(), 0, "{text}");
        }
        store.close().await.unwrap();
    }
}
