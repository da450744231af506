//! Many rows as parameters of one statement (money.md, section D4): on PostgreSQL an array for each column, on SQLite one
//! JSON text. However many they are, the statement's text is the same and no limit of parameters is near; and PostgreSQL
//! knows how many they are when it plans.

use sea_orm::{ConnectionTrait, DbBackend, Value, sea_query::ArrayType};
use serde_json::Value as Json;

use super::StoreError;

/// What a column of [`Rows`] holds. No cell is null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// A whole number of 64 bits.
    Number,
    /// Bytes.
    Bytes,
}

/// Rows to select from: names and kinds of columns, and cells in their order.
#[derive(Clone, Debug)]
pub struct Rows<const WIDTH: usize> {
    columns: [(&'static str, Kind); WIDTH],
    rows: Vec<[Value; WIDTH]>,
}

const WRONG: StoreError = StoreError::Impossible("a cell is not of its column's kind");

impl Kind {
    fn holds(self, cell: &Value) -> bool {
        match self {
            Self::Text => matches!(cell, Value::String(Some(_))),
            Self::Number => matches!(cell, Value::BigInt(Some(_))),
            Self::Bytes => matches!(cell, Value::Bytes(Some(_))),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "bigint",
            Self::Bytes => "bytea",
        }
    }

    const fn array(self) -> (&'static str, ArrayType) {
        match self {
            Self::Text => ("text[]", ArrayType::String),
            Self::Number => ("bigint[]", ArrayType::BigInt),
            Self::Bytes => ("bytea[]", ArrayType::Bytes),
        }
    }
}

impl<const WIDTH: usize> Rows<WIDTH> {
    /// Rows of these columns.
    pub fn new(columns: [(&'static str, Kind); WIDTH], rows: impl IntoIterator<Item = [Value; WIDTH]>) -> Self {
        Self { columns, rows: rows.into_iter().collect() }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The names of the columns, with commas.
    pub fn names(&self) -> String {
        self.columns.map(|(name, _)| name).join(", ")
    }

    /// Adds the rows to the values of a statement, and gives the table to select from under this name: the columns, in the
    /// order of the rows, and `place`, which counts them from 1 on.
    pub fn bind(
        self,
        connection: &impl ConnectionTrait,
        name: &str,
        values: &mut Vec<Value>,
    ) -> Result<String, StoreError> {
        self.bind_for(connection.get_database_backend(), name, values)
    }

    pub(super) fn bind_for(
        self,
        backend: DbBackend,
        name: &str,
        values: &mut Vec<Value>,
    ) -> Result<String, StoreError> {
        if self.rows.iter().any(|row| !row.iter().zip(&self.columns).all(|(cell, (_, kind))| kind.holds(cell))) {
            return Err(WRONG);
        }
        let first = values.len() + 1;
        if backend == DbBackend::Postgres && self.rows.len() == 1 {
            // A row of its own is planned as what it is, and costs no arrays, which are half of what such a statement takes.
            let column =
                |(at, (column, kind)): (usize, &(&str, Kind))| format!("${}::{} as {column}", first + at, kind.name());
            let columns: Vec<_> = self.columns.iter().enumerate().map(column).collect();
            values.extend(self.rows.into_iter().flatten());
            Ok(format!("(select {}, 1::bigint as place) as {name}", columns.join(", ")))
        } else if backend == DbBackend::Postgres {
            let (names, types) = (self.names(), self.columns.map(|(_, kind)| kind.array()));
            values.extend(self.arrays());
            let arrays: Vec<_> =
                types.iter().enumerate().map(|(at, (array, _))| format!("${}::{array}", first + at)).collect();
            Ok(format!("unnest({}) with ordinality as {name} ({names}, place)", arrays.join(", ")))
        } else {
            let column = |(at, (column, kind)): (usize, &(&str, Kind))| match kind {
                Kind::Bytes => format!("unhex(value ->> {at}) as {column}"),
                Kind::Text | Kind::Number => format!("value ->> {at} as {column}"),
            };
            let columns: Vec<_> = self.columns.iter().enumerate().map(column).collect();
            values.push(self.json()?.into());
            Ok(format!("(select key + 1 as place, {} from json_each(${first})) as {name}", columns.join(", ")))
        }
    }

    fn arrays(self) -> [Value; WIDTH] {
        let mut cells: [Vec<Value>; WIDTH] = std::array::from_fn(|_| Vec::with_capacity(self.rows.len()));
        for row in self.rows {
            for (cell, cells) in row.into_iter().zip(&mut cells) {
                cells.push(cell);
            }
        }
        let mut kinds = self.columns.into_iter();
        cells.map(|cells| {
            let kind = kinds.next().map_or(Kind::Text, |(_, kind)| kind);
            Value::Array(kind.array().1, Some(Box::new(cells)))
        })
    }

    fn json(self) -> Result<String, StoreError> {
        let cell = |cell: Value| match cell {
            Value::String(Some(text)) => Ok(Json::String(text)),
            Value::BigInt(Some(number)) => Ok(number.into()),
            Value::Bytes(Some(bytes)) => Ok(Json::String(hex::encode(bytes))),
            _ => Err(WRONG),
        };
        let row = |row: [Value; WIDTH]| Ok(Json::Array(row.into_iter().map(cell).collect::<Result<_, _>>()?));
        Ok(Json::Array(self.rows.into_iter().map(row).collect::<Result<_, StoreError>>()?).to_string())
    }
}

#[cfg(test)]
mod tests {
    use sea_orm::FromQueryResult;

    use super::*;
    use crate::store::{Location, Store, sql};

    const COLUMNS: [(&str, Kind); 3] = [("word", Kind::Text), ("number", Kind::Number), ("data", Kind::Bytes)];

    #[derive(Debug, PartialEq, Eq, FromQueryResult)]
    struct Row {
        place: i64,
        word: String,
        number: i64,
        data: Vec<u8>,
        told: i64,
    }

    #[tokio::test]
    async fn rows_come_back_as_they_were_and_in_their_order() {
        let store = Store::open(Location::Memory).await.unwrap();
        let rows = [("it's \"}\u{1F980}", i64::MIN, vec![0, 255]), ("", i64::MAX, Vec::new())];
        let cells = rows.clone().map(|(word, number, data)| [word.into(), number.into(), data.into()]);
        let mut values = vec![7_i64.into()];
        let table = Rows::new(COLUMNS, cells).bind(store.reader(), "k", &mut values).unwrap();
        let text = format!("select place, word, number, data, $1 as told from {table} order by place");
        let read = Row::find_by_statement(sql(store.reader(), &text, values)).all(store.reader()).await.unwrap();
        let told = rows.into_iter().zip(1..).map(|((word, number, data), place)| Row {
            place,
            word: word.to_owned(),
            number,
            data,
            told: 7,
        });
        assert_eq!(read, told.collect::<Vec<_>>());
        store.close().await.unwrap();
    }

    #[tokio::test]
    async fn a_cell_of_another_kind_is_refused_rather_than_written_as_something_else() {
        let store = Store::open(Location::Memory).await.unwrap();
        for cell in [Value::from("text"), Value::BigInt(None)] {
            let rows = Rows::new([("number", Kind::Number)], [[cell]]);
            assert!(matches!(rows.bind(store.reader(), "k", &mut Vec::new()), Err(StoreError::Impossible(_))));
        }
        store.close().await.unwrap();
    }
}
