//! Who is let in where there is nobody to ask who they are.

use std::{collections::BTreeMap, net::SocketAddr};

use mesh::{IdentityMode, Plan, Role, Services, StartError};
use tonic_health::pb::HealthCheckRequest;

use crate::{
    house::{dead_end, migrations, plan_of, start},
    line::{Line, frame},
};

/// A role without rpcs of its own that lets in whom it knows, beside account at this address, if that is anywhere.
fn guarded(account: Option<SocketAddr>) -> Plan {
    let services = Box::new(|_| Ok(Services::default()));
    let mut plan = plan_of(vec![Role { name: "product", migrations: migrations(), postgres: &[], services }]);
    plan.identity.mode = IdentityMode::Enforce;
    plan.peers = account.map(|address| ("account", address.into())).into_iter().collect::<BTreeMap<_, _>>();
    plan
}

/// What who comes with what looks like a good key hears of the status, and of its health.
async fn told_to_a_key(plan: Plan) -> (String, String) {
    let running = start(plan).await;
    let line = Line::to(running.addresses["product"]).await;
    let bearer = format!("Bearer tvt_{}", "0".repeat(85));
    let headers = [("authorization", bearer.as_str())];
    let status = line.post("/trivet.mesh.v1.StatusService/GetStatus", &headers, frame(&())).await;
    let health = line.post("/grpc.health.v1.Health/Check", &headers, frame(&HealthCheckRequest::default())).await;
    (status.told(), health.told())
}

#[tokio::test]
async fn without_account_no_key_is_let_in_and_health_asks_for_none() {
    let (status, health) = told_to_a_key(guarded(None)).await;
    assert_eq!((status.as_str(), health.as_str()), ("Unauthenticated CREDENTIALS_INVALID", "Ok"));
    let (_held, dead) = dead_end();
    let (status, health) = told_to_a_key(guarded(Some(dead))).await;
    assert_eq!((status.as_str(), health.as_str()), ("Unavailable DEPENDENCY_UNAVAILABLE", "Ok"));
}

#[tokio::test]
async fn a_process_does_not_start_with_workloads_that_cannot_be_read() {
    let mut plan = guarded(None);
    "somebody * billing.read".clone_into(&mut plan.identity.workloads);
    let Err(StartError::Identity(faults)) = plan.bind().await else { panic!("it starts") };
    assert!(faults.to_string().contains("\"somebody\""), "{faults}");
}
