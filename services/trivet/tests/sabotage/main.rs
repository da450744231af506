//! Every protection of the books is taken out once, and whoever checks them must notice: a check that passes without what it
//! checks is none. In a process of its own, for a protection that is out is out for everybody.
#![allow(
    clippy::explicit_write,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    dead_code
)]

#[path = "../house/databases.rs"]
mod databases;
#[path = "../house/harness.rs"]
mod harness;
#[path = "../house/model.rs"]
mod model;
mod tenants;

use billing::sabotage::{Protection, felt, switch_off};
use mesh::Clock;
use trivet::RoleName;
use trivet_proto::billing::v1::{
    BatchDeductRequest, DeductionOrder, VerifyLedgerRequest, billing_service_client::BillingServiceClient,
    verify_ledger_response::Event,
};

use harness::{Databases, House, channel, config, order};

/// Cases of the model that are played; each uses every kind of call several times.
const CASES: u64 = 24;
/// Callers at one wallet through two houses, and how often that is tried: they may happen to come one after the other.
const CALLERS: usize = 64;
const ROUNDS: usize = 10;

async fn start(databases: &Databases) -> House {
    House::start_by(Clock::system(), config(databases, &[]), &RoleName::ALL).await
}

/// Everything that is checked, up to the first thing that is not as it must be.
async fn check(databases: &Databases) -> Result<(), String> {
    let one = start(databases).await;
    let two = if matches!(databases, Databases::Postgres { .. }) { Some(start(databases).await) } else { None };
    let checked = check_houses(&one, two.as_ref()).await;
    // Not ended like an honest house: its books are not to balance.
    for house in [Some(one), two].into_iter().flatten() {
        house.running.drain(std::future::pending()).await;
    }
    checked
}

async fn check_houses(one: &House, two: Option<&House>) -> Result<(), String> {
    for number in 0..CASES {
        model::play(one, number).await?;
        verify(one, &format!("case-{number}")).await?;
    }
    one.user("ada", "10").await;
    let deduction = |id: &str, amount: &str| DeductionOrder {
        request_id: id.to_owned(),
        user_id: "ada".to_owned(),
        amount: amount.to_owned(),
        ..DeductionOrder::default()
    };
    let deductions = vec![deduction("a", "6"), deduction("b", "6")];
    let batch = BatchDeductRequest { deductions, atomic: true, ..BatchDeductRequest::default() };
    if one.billing().batch_deduct(batch).await.is_ok() {
        return Err("an atomic batch was carried out that is not covered".to_owned());
    }
    if one.billing().deduct(order("c", "ada", "5")).await.is_err() {
        return Err("a batch that was not carried out left something behind".to_owned());
    }
    if let Some(two) = two {
        for round in 0..ROUNDS {
            race(one, two, &format!("eve-{round}")).await?;
        }
    }
    verify(one, "default").await
}

/// Charges one wallet from everywhere at once, for less than it covers.
async fn race(one: &House, two: &House, user_id: &str) -> Result<(), String> {
    one.user(user_id, "33").await;
    let addresses = [one, two].map(|house| house.running.addresses["billing"]);
    let callers = (0..CALLERS).map(async |caller| {
        let mut billing = BillingServiceClient::new(channel(addresses[caller % 2]));
        billing.deduct(order(&format!("{user_id}-{caller}"), user_id, "1")).await
    });
    for answer in futures_util::future::join_all(callers).await {
        match answer {
            Ok(_) => {}
            Err(status) if mesh::Reason::of(&status) == Some(mesh::Reason::InsufficientFunds) => {}
            Err(status) => return Err(format!("a caller of a wallet that others charge is told {status:?}")),
        }
    }
    Ok(())
}

async fn verify(house: &House, tenant: &str) -> Result<(), String> {
    let ask = tenants::of(tenant, VerifyLedgerRequest::default());
    let mut said = house.ledger().verify_ledger(ask).await.map_err(|status| format!("{status:?}"))?.into_inner();
    let mut finding = None;
    while let Some(message) = said.message().await.map_err(|status| format!("{status:?}"))? {
        match message.event {
            Some(Event::Finding(found)) => finding = Some(found),
            Some(Event::Verdict(verdict)) if verdict.ok => return Ok(()),
            _ => {}
        }
    }
    Err(format!("the ledger does not verify: {finding:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_checks_the_books_notices_every_protection_that_is_missing() {
    for kind in [Some(Databases::sqlite()), Databases::postgres().await].into_iter().flatten() {
        let replicas = matches!(kind, Databases::Postgres { .. });
        kind.done().await;
        let fresh = async || if replicas { Databases::furnished().await.unwrap() } else { Databases::sqlite() };
        let databases = fresh().await;
        check(&databases).await.expect("all is well while nothing is missing");
        databases.done().await;
        for protection in Protection::ALL {
            if protection == Protection::Locks && !replicas {
                // There is one writer, who needs none.
                continue;
            }
            let databases = fresh().await;
            switch_off(Some(protection));
            let checked = check(&databases).await;
            let missed = felt();
            switch_off(None);
            println!(
                "{protection:?}: missed {missed} times: {}",
                checked.as_ref().err().map_or("nobody noticed", String::as_str)
            );
            assert!(missed > 0, "{protection:?} was never missed: nothing was tried");
            assert!(checked.is_err(), "nobody noticed that {protection:?} is missing");
            databases.done().await;
        }
    }
}
