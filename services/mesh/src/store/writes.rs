//! Several statements that write, each many rows, sent together (money.md, section D4): on PostgreSQL they are parts of one
//! statement (data-modifying `with` queries), which is one way to the server and back for all of them; on SQLite, where
//! there is no way to go, they run one after the other.
//!
//! Each part writes as many rows as it was given, or nothing is written at all. No part sees what another one wrote.

use sea_orm::{ConnectionTrait, DbBackend, Value};

use super::{Connections, Rows, StoreError, Transaction, sql};

/// What is written together.
pub struct Writes {
    backend: DbBackend,
    parts: Vec<Part>,
    /// On PostgreSQL, of all parts.
    values: Vec<Value>,
    /// How many rows must be as they were for anything to be written, where that is asked.
    guarded: Option<usize>,
}

struct Part {
    text: String,
    /// On SQLite, its own.
    values: Vec<Value>,
    rows: usize,
    short: StoreError,
}

/// The name of the part that looks whether rows are as they were.
const GUARD: &str = "guard";

impl Writes {
    /// Nothing yet, for a database of this connection's kind.
    pub fn new(connection: &impl ConnectionTrait) -> Self {
        let backend = connection.get_database_backend();
        Self { backend, parts: Vec::new(), values: Vec::new(), guarded: None }
    }

    /// Nothing yet, to be written where `same` finds each of these rows as it was, and keeps it from changing: a `select`
    /// of one column from the table that it is given, which is called `k`, `for update`. For [`Writes::run_alone`], on
    /// PostgreSQL.
    pub fn guarded<const WIDTH: usize>(
        rows: Rows<WIDTH>,
        same: impl FnOnce(&str) -> String,
    ) -> Result<Self, StoreError> {
        let (backend, mut values, guarded) = (DbBackend::Postgres, Vec::new(), rows.len());
        let table = rows.bind_for(backend, "k", &mut values)?;
        let parts = vec![Part::new(same(&table), guarded, StoreError::Impossible("a guard is no part"))];
        Ok(Self { backend, parts, values, guarded: Some(guarded) })
    }

    /// Adds a statement that writes each of these rows: it is given their columns' names and the table to select them
    /// from, which is called `k`. Where fewer rows are written, `short` says why. Without rows nothing is added.
    pub fn add<const WIDTH: usize>(
        &mut self,
        rows: Rows<WIDTH>,
        short: StoreError,
        text: impl FnOnce(&str, &str) -> String,
    ) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let (names, count) = (rows.names(), rows.len());
        let mut part = Part::new(String::new(), count, short);
        if self.backend == DbBackend::Postgres {
            let table = rows.bind_for(self.backend, "k", &mut self.values)?;
            part.text = match self.condition() {
                Some(condition) => text(&names, &format!("(select * from {table} where {condition}) as k")),
                None => text(&names, &table),
            };
        } else {
            let table = rows.bind_for(self.backend, "k", &mut part.values)?;
            part.text = text(&names, &table);
        }
        self.parts.push(part);
        Ok(())
    }

    /// What must hold for a further part to write, where that is not found out afterwards: the first one that all rows of
    /// the guard are as they were, the others that the first one wrote all of its own.
    fn condition(&self) -> Option<String> {
        let guarded = self.guarded?;
        let (name, rows) = match self.parts.get(1) {
            None => (GUARD.to_owned(), guarded),
            Some(first) => (Part::name(1), first.rows),
        };
        Some(format!("(select count(*) from {name}) = {rows}"))
    }

    /// Writes it all. Where a part wrote less than it should have, the transaction is not to be committed.
    pub async fn run(self, transaction: &Transaction) -> Result<(), StoreError> {
        if self.backend == DbBackend::Postgres && self.parts.len() > 1 {
            let counts = self.counts(transaction, "").await?;
            return self.parts.into_iter().zip(counts).try_for_each(|(part, written)| part.wrote(written));
        }
        for part in self.parts {
            // The only part has all of the values on PostgreSQL.
            let values = if self.values.is_empty() { part.values.clone() } else { self.values.clone() };
            let written = transaction.execute_raw(sql(transaction, &part.text, values)).await?.rows_affected();
            part.wrote(written)?;
        }
        Ok(())
    }

    /// Writes it all with one statement that is a transaction in itself. False where a row of the guard is not as it was,
    /// or the first part could not write all of its rows: nothing was written. The first part must be of one row, for
    /// then it writes all of them or none.
    pub async fn run_alone(self, connection: &Connections) -> Result<bool, StoreError> {
        let (Some(guarded), Some(first)) = (self.guarded, self.parts.get(1)) else {
            return Err(StoreError::Impossible("what is not guarded was to be written alone"));
        };
        if first.rows != 1 {
            return Err(StoreError::Impossible("the first part of what is written alone has more than one row"));
        }
        // What else falls short ends the statement, and with it all that it wrote.
        let rest = self
            .parts
            .iter()
            .enumerate()
            .skip(2)
            .map(|(place, part)| format!("(select count(*) from {}) = {}", Part::name(place), part.rows));
        let whole: Vec<String> = rest.collect();
        let whole = if whole.is_empty() { "true".to_owned() } else { whole.join(" and ") };
        let name = Part::name(1);
        let check = format!(", 1 / case when (select count(*) from {name}) = 0 or ({whole}) then 1 else 0 end");
        let counts = self.counts(connection, &check).await.map_err(|error| match error {
            // It may have been carried out, and is its own commit.
            StoreError::Unavailable(cause) => StoreError::OutcomeUnknown(cause),
            other => other,
        })?;
        let mut counts = counts.into_iter().map(usize::try_from);
        Ok(counts.next() == Some(Ok(guarded)) && counts.next() == Some(Ok(1)))
    }

    /// Sends all parts as one statement; says how many rows each wrote.
    async fn counts(&self, connection: &impl ConnectionTrait, check: &str) -> Result<Vec<u64>, StoreError> {
        let guarded = self.guarded.is_some();
        let part = |(place, part): (usize, &Part)| {
            if place == 0 && guarded {
                return format!("{GUARD} as materialized ({})", part.text);
            }
            format!("{} as ({} returning 1)", Part::name(place), part.text)
        };
        let parts: Vec<String> = self.parts.iter().enumerate().map(part).collect();
        let count = |place| {
            let name = if place == 0 && guarded { GUARD.to_owned() } else { Part::name(place) };
            format!("(select count(*) from {name})")
        };
        let counts: Vec<String> = (0..self.parts.len()).map(count).collect();
        let text = format!("with {} select array[{}]{check}", parts.join(", "), counts.join(", "));
        let row = connection.query_one_raw(sql(connection, &text, self.values.clone())).await?;
        let row = row.ok_or(StoreError::Impossible("a count has no row"))?;
        let counts: Vec<i64> = row.try_get_by_index(0)?;
        Ok(counts.into_iter().map(|count| u64::try_from(count).unwrap_or(0)).collect())
    }
}

impl Part {
    const fn new(text: String, rows: usize, short: StoreError) -> Self {
        Self { text, values: Vec::new(), rows, short }
    }

    fn name(place: usize) -> String {
        format!("part{place}")
    }

    fn wrote(self, written: u64) -> Result<(), StoreError> {
        if usize::try_from(written) == Ok(self.rows) { Ok(()) } else { Err(self.short) }
    }
}
