//! Many rows as parameters of one statement (money.md, section D4): on PostgreSQL an array for each column, on SQLite one
//! JSON text. However many they are, the statement's text is the same and no limit of parameters is near; and PostgreSQL
//! knows how many they are when it plans. Where SQLite writes many, each cell is a parameter ([`Rows::pieces`]): reading JSON
//! is a third of such a write.

use data_encoding::HEXLOWER;
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

/// Parameters that a statement of SQLite takes at most (SQLITE_MAX_VARIABLE_NUMBER).
const PARAMETERS: usize = 32_766;
/// Rows of one piece at most: statements are kept prepared, and this one takes half a megabyte with twenty columns.
const PIECE: usize = 1_024;

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

    const fn nothing(self) -> Value {
        match self {
            Self::Text => Value::String(None),
            Self::Number => Value::BigInt(None),
            Self::Bytes => Value::Bytes(None),
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

/// The least of 1, 2, 3, 4, 6, 8, 12, 16, 24, .. that is not less than this.
const fn step(count: usize) -> usize {
    let above = count.next_power_of_two();
    if count <= above / 4 * 3 { above / 4 * 3 } else { above }
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
        self.check()?;
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

    fn check(&self) -> Result<(), StoreError> {
        let fits = |row: &[Value; WIDTH]| row.iter().zip(&self.columns).all(|(cell, (_, kind))| kind.holds(cell));
        if self.rows.iter().all(fits) { Ok(()) } else { Err(WRONG) }
    }

    /// The same on SQLite with a parameter for each cell: tables, each with its parameters, for statements that have no others. Numbered ones would be looked
    /// for by their names, one after the other. Rows of nothing fill each piece up to one of a few sizes, so that there are
    /// few statements to keep prepared, and are selected away.
    pub(super) fn pieces(self, name: &str) -> Result<Vec<(String, Vec<Value>)>, StoreError> {
        self.check()?;
        let most = PIECE.min(PARAMETERS / WIDTH);
        let named = |(at, (column, _)): (usize, &(&str, Kind))| format!("column{} as {column}", at + 1);
        let columns = self.columns.iter().enumerate().map(named).collect::<Vec<_>>().join(", ");
        let row = format!("({})", vec!["?"; WIDTH].join(","));
        let nothing = self.columns.map(|(_, kind)| kind.nothing());
        let mut rows = self.rows.into_iter().peekable();
        let mut pieces = Vec::new();
        while rows.peek().is_some() {
            let mut values: Vec<Value> = Vec::with_capacity(most.min(rows.len()) * WIDTH);
            let count = rows.by_ref().take(most).map(|row| values.extend(row)).count();
            let size = step(count).min(most);
            values.extend((count..size).flat_map(|_| nothing.clone()));
            let table = vec![row.as_str(); size].join(",");
            pieces.push((
                format!("(select {columns} from (values {table}) where column1 is not null) as {name}"),
                values,
            ));
        }
        Ok(pieces)
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
            Value::Bytes(Some(bytes)) => Ok(Json::String(HEXLOWER.encode(&bytes))),
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
    async fn pieces_hold_every_row_once_whatever_their_size_and_nothing_else() {
        #[derive(FromQueryResult)]
        struct Sums {
            found: i64,
            added: i64,
            least: i64,
            greatest: i64,
        }
        let store = Store::open(Location::Memory).await.unwrap();
        for count in (1..=33).chain([1_023, 1_024, 1_025, 2_500]) {
            let cells = (1..=count).map(|number: i64| ["it's".into(), number.into(), vec![0_u8, 255].into()]);
            let (mut found, mut added) = (0, 0);
            for (table, values) in Rows::new(COLUMNS, cells).pieces("k").unwrap() {
                let text = format!(
                    "select count(*) as found, sum(number) as added, min(number) as least, max(number) as greatest from {table}
                      where word = 'it''s' and data = x'00ff'"
                );
                let statement = sql(store.reader(), &text, values);
                let sums = Sums::find_by_statement(statement).one(store.reader()).await.unwrap().unwrap();
                // Each piece goes on where the last one ended.
                assert_eq!((sums.least, sums.greatest), (found + 1, found + sums.found));
                (found, added) = (found + sums.found, added + sums.added);
            }
            assert_eq!((found, added), (count, count * (count + 1) / 2));
        }
        store.close().await.unwrap();
    }

    #[test]
    fn there_are_few_sizes_of_pieces_and_none_is_much_too_large() {
        let steps: std::collections::BTreeSet<usize> = (1..=PIECE).map(step).collect();
        assert_eq!(steps.len(), 20, "{steps:?}");
        assert!((1..=PIECE).all(|count| step(count) >= count && step(count) * 2 <= count * 3), "{steps:?}");
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
