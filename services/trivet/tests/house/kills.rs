//! A laptop that loses power: `trivet dev --data` is killed at any moment, again and again, and nothing that it told is
//! lost or felt twice.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures_util::future::join_all;
use mesh::{Store, store::sql};
use sea_orm::ConnectionTrait as _;
use tonic::{Status, transport::Channel};
use trivet::Config;
use trivet_proto::account::v1::{
    AccountStatus, ChangeAccountStatusRequest, DeleteAccountRequest, RestoreAccountRequest, UpdateAccountRequest,
    account_service_client::AccountServiceClient,
};

use crate::{
    harness::{Databases, books_balance, channel, config, eventually, payment, person},
    process::Process,
};

/// How often it is killed.
const KILLS: usize = 20;
/// Users whose accounts are changed, each by one caller.
const USERS: usize = 12;
/// Calls that are answered before it is killed: so many and up to twice as many.
const CALLS: usize = 40;

/// One step of an account's life, over and over: what it is refused is an answer, too.
async fn step(accounts: &mut AccountServiceClient<Channel>, user_id: &str, number: usize) -> Result<(), Status> {
    let (user_id, reason) = (user_id.to_owned(), "a test".to_owned());
    let status = |status: AccountStatus| ChangeAccountStatusRequest {
        user_id: user_id.clone(),
        status: status.into(),
        reason: reason.clone(),
        etag: String::new(),
    };
    match number % 6 {
        0 => accounts.ensure_account(person(&user_id)).await.map(drop),
        1 => accounts.change_account_status(status(AccountStatus::Suspended)).await.map(drop),
        2 => accounts.change_account_status(status(AccountStatus::Active)).await.map(drop),
        3 => {
            let name = Some(format!("Name {number}"));
            accounts.update_account(UpdateAccountRequest { user_id, name, ..Default::default() }).await.map(drop)
        }
        4 => accounts.delete_account(DeleteAccountRequest { user_id, reason }).await.map(drop),
        _ => accounts.restore_account(RestoreAccountRequest { user_id, reason }).await.map(drop),
    }
}

/// Calls as fast as it can until the process is gone; counts the answers.
async fn live(process: &Process, user: usize, answered: &AtomicUsize) {
    let mut accounts = AccountServiceClient::new(channel(process.addresses["account"]));
    for number in 0.. {
        match step(&mut accounts, &format!("user-{user}"), number).await {
            Err(status) if matches!(status.code(), tonic::Code::Unavailable | tonic::Code::Unknown) => return,
            _ => answered.fetch_add(1, Ordering::SeqCst),
        };
    }
}

/// Rows of two texts.
async fn pairs(store: &Store, text: &str) -> BTreeMap<String, String> {
    let reader = store.reader();
    let rows = reader.query_all_raw(sql(reader, text, [])).await.unwrap();
    rows.iter().map(|row| (row.try_get("", "name").unwrap(), row.try_get("", "value").unwrap())).collect()
}

async fn store(config: &Config, role: &'static str) -> Store {
    Store::open(config.account.location(role, &config.data_dir).unwrap()).await.unwrap()
}

async fn count(store: &Store, text: &str) -> i64 {
    mesh::store::count(store.reader(), text, []).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_laptop_that_loses_power_twenty_times_has_told_everything_once_in_the_end() {
    let databases = Databases::sqlite();
    let config = config(&databases, &[]);
    let unsent = "select count(*) from outbox_waiting";
    let mut left = 0;
    for kill in 0..KILLS {
        let process = Process::dev(&databases).await;
        if kill == 0 {
            let mut accounts = AccountServiceClient::new(channel(process.addresses["account"]));
            let mut wallets = process.wallets();
            for user in 0..USERS {
                let user_id = format!("user-{user}");
                accounts.ensure_account(person(&user_id)).await.unwrap();
                wallets.record_payment(payment(&format!("fund-{user}"), &user_id, "1")).await.unwrap();
            }
        }
        let answered = AtomicUsize::new(0);
        let enough = CALLS + kill * CALLS / KILLS + kill % 7;
        let killer = async {
            eventually("the calls are answered", async || answered.load(Ordering::SeqCst) >= enough).await;
            process.kill();
        };
        tokio::join!(killer, join_all((0..USERS).map(|user| live(&process, user, &answered))));
        let account = store(&config, "account").await;
        left += count(&account, unsent).await;
        account.close().await.unwrap();
    }
    // Else the moments were not the ones that matter.
    assert!(left > 0, "no kill came between an event and its being told");
    let process = Process::dev(&databases).await;
    let (account, product, billing) =
        (store(&config, "account").await, store(&config, "product").await, store(&config, "billing").await);
    eventually("the outbox is empty", async || count(&account, unsent).await == 0).await;
    let told = count(&account, "select count(*) from outbox").await;
    assert!(told > i64::try_from(KILLS * CALLS / 2).unwrap(), "only {told} events were told");
    let felt = count(&product, "select count(*) from inbox where state = 'FELT' and type like 'user.%'").await;
    let received = count(&product, "select count(*) from inbox where type like 'user.%'").await;
    assert_eq!((felt, received), (told, told), "each is felt, and once");
    assert_eq!(count(&product, "select count(*) from letters").await, 0);
    let source = "select user_id as name, status || ' ' || version as value from accounts";
    let projection = "select user_id as name, status || ' ' || version as value from buyers";
    assert_eq!(pairs(&account, source).await, pairs(&product, projection).await);
    let deleted = "select distinct subject as name, 'FROZEN' as value from outbox where type = 'user.deleted'";
    let frozen = "select user_id as name, state as value from wallets where state = 'FROZEN'";
    assert_eq!(pairs(&account, deleted).await, pairs(&billing, frozen).await);
    for store in [account, product, billing] {
        store.close().await.unwrap();
    }
    process.end().await;
    books_balance(&config).await;
    databases.done().await;
}
