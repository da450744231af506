//! A database of an older release under this one: nothing of it is lost, and all of it can be found.

use std::time::Duration;

use mesh::Store;
use sea_orm::ConnectionTrait as _;
use sha2::{Digest as _, Sha256};
use trivet::RoleName;
use trivet_proto::{
    account::v1::{GetAccountStatsRequest, ListAccountsRequest, SearchAccountsRequest},
    billing::v1::RefundRequest,
};

use crate::{
    accounts::by_id,
    harness::{Databases, House, config, order, person},
    payments::transactions,
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

/// A field of a request as its claim is kept.
fn kept(name: &str, value: &str) -> String {
    let digest = Sha256::digest(value.as_bytes());
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{name}={digits}")
}

/// A wallet with a payment and a deduction, as the release before the book wrote them.
fn old_ledger() -> String {
    let fields = [("user_id", "ada"), ("currency", "USDC"), ("amount", "4")].map(|(name, value)| kept(name, value));
    let fields = fields.join(" ");
    let outcome = |transaction: &str, minor: i64, version: i64| {
        format!(
            r#"{{"Ok":{{"transaction_id":"{transaction}","balance_after":{{"currency":"USDC","minor":{minor}}},"wallet_version":{version},"time":{version}}}}}"#
        )
    };
    let (paid, taken) = (outcome("txn_1", 100_000_000, 1), outcome("txn_2", 60_000_000, 2));
    format!(
        "insert into wallets (tenant_id, user_id, currency, balance, held, version, state, create_time, update_time)
             values ('default', 'ada', 'USDC', 60000000, 0, 2, 'ACTIVE', 1, 2);
         insert into requests (tenant_id, request_id, method, fields, state, outcome, create_time)
             values ('default', 'pay', 'RecordPayment', '', 'APPLIED', '{paid}', 1),
                    ('default', 'req', 'Deduct', '{fields}', 'APPLIED', '{taken}', 2);
         insert into transactions (tenant_id, transaction_id, kind, request_id, user_id, currency, amount, api_id,
                                   endpoint_id, api_key_id, provider, provider_reference, create_time)
             values ('default', 'txn_1', 'PAYMENT', 'pay', 'ada', 'USDC', 100000000, '', '', '', 'bank', 'b-1', 1),
                    ('default', 'txn_2', 'DEDUCTION', 'req', 'ada', 'USDC', 40000000, 'chat', '', '', '', '', 2);
         insert into entries (tenant_id, transaction_id, ordinal, account, user_id, currency, amount, wallet_version,
                              balance_after, available_after)
             values ('default', 'txn_1', 1, 'WALLET', 'ada', 'USDC', 100000000, 1, 100000000, 100000000),
                    ('default', 'txn_1', 2, 'PAYMENTS', null, 'USDC', -100000000, null, null, null),
                    ('default', 'txn_2', 1, 'WALLET', 'ada', 'USDC', -40000000, 2, 60000000, 60000000),
                    ('default', 'txn_2', 2, 'REVENUE', null, 'USDC', 40000000, null, null, null);"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_of_an_older_release_goes_on_and_verifies() {
    for databases in [Some(Databases::sqlite()), Databases::postgres().await].into_iter().flatten() {
        let config = config(&databases, &[]);
        let store = Store::open(config.billing.location("billing", &config.data_dir).unwrap()).await.unwrap();
        let migrations = RoleName::Billing.role(&config).migrations;
        let landed = migrations.iter().position(|step| step.name() == "m0002_books").unwrap();
        store.migrate(&migrations[..landed]).await.unwrap();
        store.reader().execute_unprepared(&old_ledger()).await.unwrap();
        store.close().await.unwrap();

        let house = House::start(config, &RoleName::ALL).await;
        let again = house.billing().deduct(order("req", "ada", "4")).await.unwrap().into_inner();
        let deduction = again.deduction.unwrap();
        assert_eq!((again.already_processed, &*deduction.balance_after, deduction.wallet_version), (true, "6", 2));
        let next = house.billing().deduct(order("req-2", "ada", "1")).await.unwrap().into_inner().deduction.unwrap();
        assert_eq!((&*next.balance_after, next.wallet_version), ("5", 3));
        let back = RefundRequest {
            request_id: "back".to_owned(),
            deduction_request_id: "req".to_owned(),
            ..RefundRequest::default()
        };
        house.billing().refund(back).await.unwrap();
        let told: Vec<_> = transactions(&house, "ada")
            .await
            .into_iter()
            .map(|change| (change.wallet_version, change.amount, change.api_id, change.provider_reference))
            .collect();
        let of = |version, amount: &str, api: &str, reference: &str| {
            (version, amount.to_owned(), api.to_owned(), reference.to_owned())
        };
        assert_eq!(told, [of(4, "4", "", ""), of(3, "-1", "", ""), of(2, "-4", "chat", ""), of(1, "10", "", "b-1")]);
        house.end().await;
        databases.done().await;
    }
}
