//! Schemas: applied once, by however many processes begin at the same time.

use futures_util::future::join_all;
use mesh::store::{Migration, MigrationState};

use crate::database::{Database, MIGRATIONS, context, lines, on_each_database, write};

const BROKEN: Migration = Migration::new("m0002_broken", "create table fine (\n  n bigint\n);\ncreate table;");

async fn applied(database: &Database, migrations: &[Migration]) -> Vec<bool> {
    let states: Vec<MigrationState> = database.open().await.migration_states(migrations).await.unwrap();
    states.iter().map(|state| state.applied).collect()
}

#[tokio::test]
async fn four_processes_may_migrate_one_empty_database_at_once() {
    on_each_database(async |database| {
        let begin = async || {
            let store = database.open().await;
            store.migrate(MIGRATIONS).await
        };
        for migrated in join_all((0..4).map(|_| begin())).await {
            migrated.unwrap();
        }
        assert_eq!(applied(database, MIGRATIONS).await, [true; 3]);
        let store = database.store().await;
        store.unit(&context()).run("ada".to_owned(), write).await.unwrap();
        assert_eq!(lines(&store, "ada").await, 2);
    })
    .await;
}

#[tokio::test]
async fn a_schema_says_what_it_lacks_and_looking_changes_nothing() {
    on_each_database(async |database| {
        assert_eq!(applied(database, MIGRATIONS).await, [false; 3]);
        assert_eq!(applied(database, MIGRATIONS).await, [false; 3]);
        database.open().await.migrate(&MIGRATIONS[..1]).await.unwrap();
        assert_eq!(applied(database, MIGRATIONS).await, [true, false, false]);
        database.store().await;
        assert_eq!(applied(database, MIGRATIONS).await, [true; 3]);
    })
    .await;
}

#[tokio::test]
async fn an_older_release_starts_on_the_schema_of_a_later_one() {
    on_each_database(async |database| {
        database.store().await;
        let older = &MIGRATIONS[..2];
        database.open().await.migrate(older).await.unwrap();
        assert_eq!(applied(database, older).await, [true; 2]);
    })
    .await;
}

#[tokio::test]
async fn a_step_that_fails_leaves_nothing_behind() {
    on_each_database(async |database| {
        let store = database.store().await;
        let steps = [MIGRATIONS, &[BROKEN]].concat();
        assert!(store.migrate(&steps).await.is_err());
        assert_eq!(applied(database, &steps).await, [true, true, true, false]);
        let mended = Migration::new("m0002_broken", "create table fine (\n  n bigint\n);");
        store.migrate(&[MIGRATIONS, &[mended]].concat()).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn replicas_share_the_key_of_their_page_tokens() {
    on_each_database(async |database| {
        let (one, other) = (database.store().await, database.store().await);
        let keys =
            join_all((0..8).map(|number| if number % 2 == 0 { one.token_key() } else { other.token_key() })).await;
        let keys: Vec<_> = keys.into_iter().map(Result::unwrap).collect();
        assert!(keys.windows(2).all(|pair| same(&pair[0], &pair[1])));
    })
    .await;
}

/// Whether a page token of the one opens with the other.
fn same(one: &mesh::TokenKey, other: &mesh::TokenKey) -> bool {
    let listing = |key: &mesh::TokenKey| key.listing("List", &mesh::Tenant::default_tenant(), &"").unwrap();
    let token = listing(one).seal(&"cursor".to_owned()).unwrap();
    listing(other).open::<String>(&token).is_ok()
}
