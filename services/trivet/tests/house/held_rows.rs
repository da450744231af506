//! What somebody else holds in the database, longer than is waited for it.

use std::collections::BTreeMap;

use futures_util::{StreamExt as _, stream};
use sqlx::{Connection as _, Executor as _, PgConnection};
use trivet::RoleName;
use trivet_proto::billing::v1::{BatchDeductRequest, DeductionOrder, StreamDeductRequest};

use crate::{
    databases::{Databases, url},
    harness::{House, config, order, reason},
};

/// So many that each lane has some.
const USERS: usize = 24;

fn orders(prefix: &str) -> Vec<DeductionOrder> {
    let order = |number| DeductionOrder {
        request_id: format!("{prefix}{number}"),
        user_id: format!("u{number}"),
        amount: "1".to_owned(),
        ..DeductionOrder::default()
    };
    (0..USERS).map(order).collect()
}

/// The reasons for which orders were refused, with the empty one for those that were not.
fn counted(reasons: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for reason in reasons {
        *counts.entry(reason).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_that_somebody_holds_keeps_its_own_orders_waiting_and_nobody_elses() {
    let Some(databases) = Databases::furnished().await else { return };
    let Databases::Postgres { server, name } = &databases else { unreachable!() };
    let house = House::start(config(&databases, &[]), &RoleName::ALL).await;
    for number in 0..USERS {
        house.user(&format!("u{number}"), "10").await;
    }
    let mut session = PgConnection::connect(&url(server, name)).await.unwrap();
    session.execute("begin").await.unwrap();
    session.execute("select 1 from billing.wallets where user_id = 'u7' for update").await.unwrap();

    let expected = BTreeMap::from([(String::new(), USERS - 1), ("CONFLICT".to_owned(), 1)]);
    let batch = BatchDeductRequest { deductions: orders("batch"), ..BatchDeductRequest::default() };
    let results = house.billing().batch_deduct(batch.clone()).await.unwrap().into_inner().results;
    let reasons = results.iter().map(|result| result.error.clone().unwrap_or_default().reason);
    assert_eq!(counted(reasons), expected);
    assert_eq!(results[7].error.as_ref().unwrap().code, i32::from(tonic::Code::Aborted));

    let streamed = stream::iter(orders("stream")).map(|order| StreamDeductRequest { deduction: Some(order) });
    let answers = house.billing().stream_deduct(streamed).await.unwrap().into_inner();
    let reasons = answers.map(|answer| answer.unwrap().error.unwrap_or_default().reason).collect::<Vec<_>>().await;
    assert_eq!(counted(reasons), expected);

    // Where none of a batch can be decided, the batch fails as a single order does.
    let alone = BatchDeductRequest { deductions: vec![batch.deductions[7].clone()], ..BatchDeductRequest::default() };
    let refused = house.billing().batch_deduct(alone).await.unwrap_err();
    assert_eq!(reason(&refused), "CONFLICT");
    let refused = house.billing().deduct(order("single", "u7", "1")).await.unwrap_err();
    assert_eq!(reason(&refused), "CONFLICT");
    let atomic = BatchDeductRequest { atomic: true, ..batch.clone() };
    assert_eq!(reason(&house.billing().batch_deduct(atomic).await.unwrap_err()), "CONFLICT");

    session.execute("rollback").await.unwrap();
    let results = house.billing().batch_deduct(batch).await.unwrap().into_inner().results;
    assert!(results.iter().all(|result| result.error.is_none()));
    assert_eq!(results.iter().filter(|result| result.already_processed).count(), USERS - 1);
    house.end().await;
    databases.done().await;
}
