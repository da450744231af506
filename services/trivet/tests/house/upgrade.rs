//! A database of an older release under this one: nothing of it is lost, and all of it can be found.

use std::time::Duration;

use mesh::Store;
use sea_orm::ConnectionTrait as _;
use trivet::RoleName;
use trivet_proto::account::v1::{ListAccountsRequest, SearchAccountsRequest};

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

#[tokio::test(flavor = "multi_thread")]
async fn accounts_of_an_older_release_are_kept_listed_counted_and_found() {
    for databases in [Some(Databases::sqlite()), Databases::postgres().await].into_iter().flatten() {
        let config = config(&databases, &[]);
        let store = Store::open(config.account.location("account", &config.data_dir).unwrap()).await.unwrap();
        let migrations = RoleName::Account.role(&config).migrations;
        let landed = migrations.iter().position(|step| step.name() == "m0001_accounts").unwrap();
        store.migrate(&migrations[..=landed]).await.unwrap();
        store.reader().execute_unprepared(OLD).await.unwrap();
        store.close().await.unwrap();

        let house = House::start(config, &RoleName::ALL).await;
        let ada = house.accounts().get_account(by_id("ada")).await.unwrap().into_inner().account.unwrap();
        assert_eq!((ada.name.as_str(), ada.etag.as_str(), ada.preferences.unwrap().timezone()), ("Adá", "v2", "UTC"));
        let list = ListAccountsRequest { with_total: true, ..ListAccountsRequest::default() };
        let list = house.accounts().list_accounts(list).await.unwrap().into_inner();
        let ids: Vec<&str> = list.accounts.iter().map(|account| account.user_id.as_str()).collect();
        assert_eq!((ids, list.total_size), (vec!["bob", "ada"], Some(2)));
        let again = house.accounts().ensure_account(person("dora")).await.unwrap().into_inner();
        assert!(again.created, "new numbers follow the old ones");

        let search = || SearchAccountsRequest { query: "ADA".to_owned(), ..SearchAccountsRequest::default() };
        let found = async {
            loop {
                let found = house.accounts().search_accounts(search()).await.unwrap().into_inner().summaries;
                if !found.is_empty() {
                    return found;
                }
                tokio::task::yield_now().await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, found).await.expect("old accounts are folded soon");
        assert_eq!(found[0].user_id, "ada");
        house.running.drain(std::future::pending()).await;
        databases.done().await;
    }
}
