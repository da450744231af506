//! Erasure, looked at from below: after it, no file of the database holds a byte of what was erased.

use std::time::Duration;

use mesh::Store;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, Executor as _, PgConnection, Row as _,
    sqlite::SqliteConnectOptions,
};
use tonic::{Code, Request};
use trivet::{Config, RoleName};
use trivet_proto::account::v1::{
    AccountStatus, ChangeAccountStatusRequest, CreateOrganizationRequest, EnsureAccountRequest, EraseAccountRequest,
    Preferences, UpdateAccountRequest, UpdatePreferencesRequest,
};

use crate::harness::{Databases, House, config, on_every_store, person, reason};

/// What must not be found: parts of every personal value that the account has or had.
const CANARIES: [&str; 6] = ["Quokka", "quokka", "Zebulon", "zebulon", "Pacific/Chatham", "🜁🜂🜃"];

/// How long PostgreSQL may be read by others.
const PATIENCE: Duration = Duration::from_mins(1);

/// An account whose every field has sung, more than once.
async fn sing(house: &House) {
    let mut signup = Request::new(EnsureAccountRequest {
        user_id: "u-1".to_owned(),
        email: "Quokka.First@zebulon.example".to_owned(),
        name: "Quokka Zebulon 🜁🜂🜃".to_owned(),
        subscription_tier: 0,
    });
    signup.metadata_mut().insert("x-request-id", "signup-of-quokka".parse().unwrap());
    house.accounts().ensure_account(signup).await.unwrap();
    let rename = UpdateAccountRequest {
        user_id: "u-1".to_owned(),
        name: Some("Quokka Zebulon the Second 🜁🜂🜃".to_owned()),
        email: Some("quokka.second@zebulon.example".to_owned()),
        ..UpdateAccountRequest::default()
    };
    house.accounts().update_account(rename).await.unwrap();
    let settings = UpdatePreferencesRequest {
        user_id: "u-1".to_owned(),
        preferences: Some(Preferences {
            timezone: Some("Pacific/Chatham".to_owned()),
            language: Some("mi-x-quokka".to_owned()),
            ..Preferences::default()
        }),
        ..UpdatePreferencesRequest::default()
    };
    house.accounts().update_preferences(settings).await.unwrap();
    let suspend = ChangeAccountStatusRequest {
        user_id: "u-1".to_owned(),
        status: AccountStatus::Suspended.into(),
        reason: "Quokka did not pay".to_owned(),
        etag: String::new(),
    };
    house.accounts().change_account_status(suspend).await.unwrap();
    let mut found = Request::new(CreateOrganizationRequest {
        organization_id: "acme".to_owned(),
        name: "Acme".to_owned(),
        owner_user_id: "u-1".to_owned(),
        ..CreateOrganizationRequest::default()
    });
    found.metadata_mut().insert("x-request-id", "founded-by-quokka".parse().unwrap());
    house.organizations().create_organization(found).await.unwrap();
}

/// The canaries that the database's files hold.
async fn heard(config: &Config) -> Vec<&'static str> {
    let files = match config.account.database_url.reveal() {
        "" => sqlite_files(&config.data_dir),
        url => postgres_files(url).await,
    };
    let holds =
        |canary: &&str| files.iter().any(|file| file.windows(canary.len()).any(|part| part == canary.as_bytes()));
    CANARIES.into_iter().filter(holds).collect()
}

fn sqlite_files(folder: &str) -> Vec<Vec<u8>> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| std::fs::read(path).unwrap()).collect()
}

/// The files of every table and index of the account service, and of the planner's statistics.
async fn postgres_files(url: &str) -> Vec<Vec<u8>> {
    let mut connection = PgConnection::connect(url).await.unwrap();
    connection.execute("checkpoint").await.unwrap();
    // The planner's samples are kept in the catalog, long ones in its toast table.
    let files = "select pg_read_binary_file(pg_relation_filepath(oid)) from pg_class
                  where relnamespace = 'account'::regnamespace and relfilenode <> 0
                     or oid = 'pg_catalog.pg_statistic'::regclass
                     or oid = (select reltoastrelid from pg_class where oid = 'pg_catalog.pg_statistic'::regclass)";
    connection.fetch_all(files).await.unwrap().iter().map(|row| row.get(0)).collect()
}

/// Everything that statements can read of the account service's tables, statistics included.
async fn readable(url: &str) -> String {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let tables = connection
        .fetch_all("select relname::text from pg_class where relnamespace = 'account'::regnamespace and relkind = 'r'");
    let mut read = String::new();
    for table in tables.await.unwrap() {
        let table: String = table.get(0);
        let rows = AssertSqlSafe(format!("select coalesce(string_agg(t::text, ' '), '') from account.{table} t"));
        read.push_str(connection.fetch_one(rows).await.unwrap().get(0));
    }
    let statistics = "select coalesce(string_agg(s::text, ' '), '') from pg_stats s where schemaname = 'account'";
    read.push_str(connection.fetch_one(statistics).await.unwrap().get(0));
    read
}

/// What the runbook has its reader do, until it has worked: whatever somebody still reads at that moment, PostgreSQL's
/// own collector of samples say, is kept for them.
async fn vacuum(config: &Config) {
    let mut connection = PgConnection::connect(config.account.database_url.reveal()).await.unwrap();
    while !heard(config).await.is_empty() {
        connection.execute("vacuum (full, analyze) account.accounts").await.unwrap();
        connection.execute("vacuum (full, analyze) account.history").await.unwrap();
        connection.execute("vacuum full pg_catalog.pg_statistic").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_of_an_erased_person_is_left_in_any_file() {
    on_every_store(async |house| {
        house.accounts().ensure_account(person("bystander")).await.unwrap();
        sing(house).await;
        assert!(!heard(&house.config).await.is_empty(), "the canaries sing before the erasure");
        let store =
            Store::open(house.config.account.location("account", &house.config.data_dir).unwrap()).await.unwrap();
        // With everything in the files themselves, all of them are heard: what is not heard later is gone.
        store.forget_the_past().await.unwrap();
        store.close().await.unwrap();
        assert_eq!(heard(&house.config).await, CANARIES);
        let url = house.config.account.database_url.reveal();
        if !url.is_empty() {
            PgConnection::connect(url).await.unwrap().execute("analyze").await.unwrap();
        }

        let erase = EraseAccountRequest { user_id: "u-1".to_owned(), reason: "Quokka asked to".to_owned() };
        house.accounts().erase_account(erase).await.unwrap();

        if !url.is_empty() {
            tokio::time::timeout(PATIENCE, vacuum(&house.config)).await.expect("nothing is heard after a while");
            let read = readable(url).await;
            assert!(!CANARIES.iter().any(|canary| read.contains(canary)), "{read}");
            assert!(read.contains("bystander"), "others stay");
        }
        assert_eq!(heard(&house.config).await, [""; 0]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_that_a_reader_holds_up_says_so_and_ends_when_it_is_sent_again() {
    let databases = Databases::sqlite();
    let house = House::start(config(&databases, &[]), &RoleName::ALL).await;
    sing(&house).await;
    let file = format!("{}/account.db", house.config.data_dir);
    let mut reader = SqliteConnectOptions::new().filename(&file).connect().await.unwrap();
    reader.execute("begin").await.unwrap();
    reader.fetch_one("select count(*) from accounts").await.unwrap();
    let erase = || EraseAccountRequest { user_id: "u-1".to_owned(), reason: String::new() };
    let refused = house.accounts().erase_account(erase()).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Aborted, "CONFLICT"));
    assert!(!heard(&house.config).await.is_empty(), "the reader still has what it reads");
    reader.execute("commit").await.unwrap();
    house.accounts().erase_account(erase()).await.unwrap();
    assert_eq!(heard(&house.config).await, [""; 0]);
    house.running.drain(std::future::pending()).await;
    databases.done().await;
}
