//! The schema, step by step. A step that has landed never changes.

mod m0001_ledger;
mod m0002_books;
mod m0003_holds;
mod m0004_charges;
mod m0005_taken_back;
mod m0006_owners;
mod m0007_set_off;
mod m0008_wallets_without_length;
mod m0009_deductions_counted;
mod m0010_deductions_by_version;

use mesh::{
    claim, events,
    store::{Migration, SECRETS},
};

pub(crate) fn all() -> Vec<Migration> {
    let mut steps = vec![SECRETS, claim::MIGRATION, m0001_ledger::MIGRATION];
    steps.extend(events::MIGRATIONS);
    steps.extend([m0002_books::MIGRATION, m0003_holds::MIGRATION, m0004_charges::MIGRATION]);
    steps.extend([m0005_taken_back::MIGRATION, m0006_owners::MIGRATION, m0007_set_off::MIGRATION]);
    steps.extend([m0008_wallets_without_length::MIGRATION, m0009_deductions_counted::MIGRATION]);
    steps.push(m0010_deductions_by_version::MIGRATION);
    steps
}

#[cfg(test)]
mod tests {
    use mesh::{
        Store,
        store::{Location, Row, sql},
    };

    #[derive(Row)]
    struct Step {
        opcode: String,
    }

    #[tokio::test]
    async fn no_check_of_a_table_that_every_batch_writes_calls_a_function() {
        // Of a statement that may call one SQLite keeps the pages that it changes as they were.
        let store = Store::open(Location::Memory).await.unwrap();
        store.migrate(&super::all()).await.unwrap();
        for table in ["requests", "transactions", "wallets", "outbox"] {
            let text = format!("explain insert into {table} default values");
            let steps = Step::find_by_statement(sql(store.reader(), &text, [])).all(store.reader()).await.unwrap();
            assert!(steps.iter().any(|step| step.opcode == "Insert"), "{table}");
            let calls = steps.iter().filter(|step| step.opcode.ends_with("Func") || step.opcode == "Function").count();
            assert_eq!(calls, 0, "{table}");
        }
        store.close().await.unwrap();
    }

    #[tokio::test]
    async fn every_table_is_strict_on_sqlite() {
        #[derive(Row)]
        struct Table {
            name: String,
        }
        let store = Store::open(Location::Memory).await.unwrap();
        store.migrate(&super::all()).await.unwrap();
        let text =
            "select name from pragma_table_list where schema = 'main' and type = 'table' and strict = 0 order by name";
        let loose = Table::find_by_statement(sql(store.reader(), text, [])).all(store.reader()).await.unwrap();
        let loose: Vec<String> = loose.into_iter().map(|table| table.name).collect();
        assert_eq!(loose, ["seaql_migrations", "sqlite_schema", "sqlite_sequence"], "those of others");
        store.close().await.unwrap();
    }
}
