//! Many rows that are read as one. SQLite runs on a thread of its own, and sqlx wakes whoever reads for each row that
//! comes from there, which takes longer than to find it. So the rows come as one JSON text; PostgreSQL's come in one
//! piece anyway.

use data_encoding::HEXUPPER;
use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult, Value};
use serde::{
    Deserialize as _, Deserializer,
    de::{DeserializeOwned, Error as _},
};

use super::{Kind, StoreError, sql};

/// Reads the rows of `select {columns} {rest}`, in their order. What they are read into has a field for each column, in the
/// order of the columns; bytes are read by [`bytes`]. Where SQLite has damaged text, U+FFFD stands for what is none.
pub async fn read_together<T>(
    connection: &impl ConnectionTrait,
    columns: &[(&str, Kind)],
    rest: &str,
    values: Vec<Value>,
) -> Result<Vec<T>, StoreError>
where
    T: FromQueryResult + DeserializeOwned,
{
    let names = columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let text = format!("select {names} {rest}");
    if connection.get_database_backend() == DbBackend::Postgres {
        return Ok(T::find_by_statement(sql(connection, &text, values)).all(connection).await?);
    }
    let cell = |(place, (_, kind)): (usize, &(&str, Kind))| match kind {
        Kind::Bytes => format!("hex(c{place})"),
        // A text that was damaged so that SQLite takes it for bytes, which JSON has none of, is still to be read.
        Kind::Text => format!("cast(c{place} as text)"),
        Kind::Number => format!("c{place}"),
    };
    let cells = columns.iter().enumerate().map(cell).collect::<Vec<_>>().join(", ");
    let places = (0..columns.len()).map(|place| format!("c{place}")).collect::<Vec<_>>().join(", ");
    let text = format!(
        "with found ({places}) as (select {names} {rest}) select json_group_array(json_array({cells})) as found from found"
    );
    let row = connection.query_one_raw(sql(connection, &text, values)).await?;
    let row = row.ok_or(StoreError::Impossible("an aggregate has no row"))?;
    let found: Vec<u8> = row.try_get("", "found")?;
    Ok(serde_json::from_str(&String::from_utf8_lossy(&found))?)
}

/// Reads the bytes of a column that came as [`read_together`] reads it: as SQLite writes them.
pub fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    HEXUPPER.decode(String::deserialize(deserializer)?.as_bytes()).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Location, Store};

    const COLUMNS: [(&str, Kind); 3] = [("word", Kind::Text), ("data", Kind::Bytes), ("number", Kind::Number)];

    #[derive(Debug, PartialEq, Eq, FromQueryResult, serde::Deserialize)]
    struct Row {
        word: String,
        #[serde(deserialize_with = "bytes")]
        data: Vec<u8>,
        number: i64,
    }

    async fn rows(rest: &str, values: Vec<Value>) -> Result<Vec<Row>, StoreError> {
        let store = Store::open(Location::Memory).await.unwrap();
        let table = "create table odd (word text, data blob, number integer);
                     insert into odd values ('it''s \"}' || char(0, 10, 0x1f980), x'00ff', 9223372036854775807),
                                            ('', x'', -9223372036854775808), ('b', x'0a', 3), ('a', x'0b', 3),
                                            ('cut ' || cast(x'ff' as text), x'01', 5), (x'6162ff', x'02', 6)";
        store.reader().execute_unprepared(table).await.unwrap();
        let rows = read_together(store.reader(), &COLUMNS, rest, values).await;
        store.close().await.unwrap();
        rows
    }

    fn row(word: &str, data: &[u8], number: i64) -> Row {
        Row { word: word.to_owned(), data: data.to_vec(), number }
    }

    #[tokio::test]
    async fn rows_are_read_as_they_are_and_in_the_order_that_was_asked_for() {
        let read = rows("from odd where number not in ($1, 6) order by number, word limit 4", vec![5_i64.into()])
            .await
            .unwrap();
        let odd = "it's \"}\0\n\u{1F980}";
        let all = [row("", &[], i64::MIN), row("a", &[11], 3), row("b", &[10], 3), row(odd, &[0, 255], i64::MAX)];
        assert_eq!(read, all);
        let last = rows("from odd where number = $1 order by word desc limit 1", vec![3_i64.into()]).await.unwrap();
        assert_eq!(last, [row("b", &[10], 3)]);
    }

    #[tokio::test]
    async fn where_there_are_no_rows_none_are_read() {
        assert_eq!(rows("from odd where number = 4", Vec::new()).await.unwrap(), []);
    }

    #[tokio::test]
    async fn what_is_no_text_reads_as_the_character_that_stands_for_such() {
        let read = rows("from odd where number in (5, 6) order by number", Vec::new()).await.unwrap();
        assert_eq!(read, [row("cut \u{fffd}", &[1], 5), row("ab\u{fffd}", &[2], 6)]);
    }
}
