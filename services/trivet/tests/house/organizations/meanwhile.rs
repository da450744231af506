//! What is decided about members while an account is being deleted waits for that to be decided. On PostgreSQL, where
//! there is more than one writer.

use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::task::JoinHandle;
use trivet::RoleName;

use super::*;
use crate::{
    databases::is_one_waiting,
    harness::{Databases, config},
};

/// An organization of Ada's and Bob's, in which a call is made while Bob's account is being deleted: its outcome, which
/// is known only after that of the deletion.
async fn while_bob_is_deleted<T: Send + 'static>(
    call: impl FnOnce(&House) -> JoinHandle<Result<T, Status>>,
) -> Option<Result<T, Status>> {
    let databases = Databases::postgres().await?;
    let house = House::start(config(&databases, &[]), &RoleName::ALL).await;
    people(&house, &["ada", "bob"]).await;
    house.organizations().create_organization(acme("acme", "ada")).await.unwrap();
    join(&house, "acme", "bob", Owner).await.unwrap();
    let url = house.config.account.database_url.reveal();
    let (mut deleting, mut watching) =
        (PgConnection::connect(url).await.unwrap(), PgConnection::connect(url).await.unwrap());
    deleting.execute("begin").await.unwrap();
    let delete = "update account.accounts set status = 'DELETED', delete_time = 1 where user_id = 'bob'";
    deleting.execute(delete).await.unwrap();
    let call = call(&house);
    while !call.is_finished() && !is_one_waiting(&mut watching).await {
        tokio::task::yield_now().await;
    }
    deleting.execute("commit").await.unwrap();
    let outcome = call.await.unwrap();
    house.running.drain(std::future::pending()).await;
    databases.done().await;
    Some(outcome)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_stays_while_the_account_of_the_only_other_one_is_being_deleted() {
    let outcome = while_bob_is_deleted(|house| {
        let mut organizations = house.organizations();
        tokio::spawn(async move { organizations.remove_member(remove("acme", "ada")).await })
    });
    let Some(outcome) = outcome.await else { return };
    assert_eq!(why(outcome), (Code::FailedPrecondition, "LAST_OWNER".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_account_is_being_deleted_is_not_given_a_role() {
    let outcome = while_bob_is_deleted(|house| {
        let mut organizations = house.organizations();
        tokio::spawn(async move { organizations.add_member(add("acme", "bob", Admin)).await })
    });
    let Some(outcome) = outcome.await else { return };
    assert_eq!(why(outcome), (Code::FailedPrecondition, "ACCOUNT_DELETED".to_owned()));
}
