//! A database of an older release under this one: nothing of it is lost, and all of it can be found.

use std::time::Duration;

use mesh::Store;
use sea_orm::ConnectionTrait as _;
use trivet::RoleName;
use trivet_proto::account::v1::{GetAccountStatsRequest, ListAccountsRequest, SearchAccountsRequest};

use crate::{
    accounts::by_id,
    harness::{Databases, House, config, person},
};

/// How long the service may take to make old rows searchable.
const PATIENCE: Duration = Duration::from_secs(30);

/// Three accounts as the release before preferences wrote them.
const OLD: &str = "
    insert into accounts (tenant_id, user_id, email, email_key, name, subscription_tier, status, status_reason, version,
                          create_time, update_time)
    values ('default', 'cyd', 'cyd@example.com', 'cyd@example.com', 'Cyd', 'FREE', 'SUSPENDED', 'late', 4, 30, 40),
           ('default', 'bob', 'Bob@example.com', 'bob@example.com', 'Bob', 'BASIC', 'ACTIVE', '', 1, 20, 20),
           ('default', 'ada', 'ada@example.com', 'ada@example.com', 'Adá', 'FREE', 'ACTIVE', '', 2, 10, 15)";

/// A change of a name as that release makes it.
const RENAME: &str = "
    update accounts set name = 'Grace', email = 'ada@example.com', email_key = 'ada@example.com', version = 3,
                        update_time = 50
     where tenant_id = 'default' and user_id = 'ada'";

/// Waits until a search finds these accounts.
async fn found(house: &House, query: &str, expected: &[&str]) {
    let search = || SearchAccountsRequest { query: query.to_owned(), ..SearchAccountsRequest::default() };
    let found = async {
        loop {
            let found = house.accounts().search_accounts(search()).await.unwrap().into_inner().summaries;
            if found.iter().map(|summary| summary.user_id.as_str()).eq(expected.iter().copied()) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("what an older release wrote is found soon");
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_of_an_older_release_are_kept_listed_counted_and_found() {
    for databases in [Some(Databases::sqlite()), Databases::postgres().await].into_iter().flatten() {
        let config = config(&databases, &[]);
        let store = Store::open(config.account.location("account", &config.data_dir).unwrap()).await.unwrap();
        let migrations = RoleName::Account.role(&config).migrations;
        let landed = migrations.iter().position(|step| step.name() == "m0001_accounts").unwrap();
        store.migrate(&migrations[..=landed]).await.unwrap();
        store.reader().execute_unprepared(OLD).await.unwrap();
        if !config.account.database_url.reveal().is_empty() {
            // Somebody may have needed trigrams before.
            store.reader().execute_unprepared("create extension pg_trgm schema public").await.unwrap();
        }

        let house = House::start(config, &RoleName::ALL).await;
        let ada = house.accounts().get_account(by_id("ada")).await.unwrap().into_inner().account.unwrap();
        assert_eq!((ada.name.as_str(), ada.etag.as_str(), ada.preferences.unwrap().timezone()), ("Adá", "v2", "UTC"));
        let list = ListAccountsRequest { with_total: true, ..ListAccountsRequest::default() };
        let list = house.accounts().list_accounts(list).await.unwrap().into_inner();
        let ids: Vec<&str> = list.accounts.iter().map(|account| account.user_id.as_str()).collect();
        assert_eq!((ids, list.total_size), (vec!["bob", "ada"], Some(2)));
        let again = house.accounts().ensure_account(person("dora")).await.unwrap().into_inner();
        assert!(again.created, "new numbers follow the old ones");

        let stats = house.accounts().get_account_stats(GetAccountStatsRequest {}).await.unwrap().into_inner();
        let by_status: Vec<i64> = stats.by_status.iter().map(|count| count.accounts).collect();
        assert_eq!(by_status, [3, 1, 0, 0]);
        found(&house, "ADA", &["ada"]).await;
        house.running.drain(std::future::pending()).await;

        // Replicas of the older release write on until the last of them is gone.
        store.reader().execute_unprepared(RENAME).await.unwrap();
        store.close().await.unwrap();
        let house = House::start(house.config, &RoleName::ALL).await;
        found(&house, "grace", &["ada"]).await;
        found(&house, "ADA@", &["ada"]).await;
        house.running.drain(std::future::pending()).await;
        databases.done().await;
    }
}
