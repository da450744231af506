//! The beginning of a process: ports first, then everything that takes time.

use std::{collections::BTreeMap, net::TcpListener};

use mesh::{Parts, Placement, Role, Services, StartError, store::Location};

use crate::{
    house::{plan, plan_of, start},
    line::Line,
    stub::Stub,
};

#[tokio::test]
async fn a_port_that_is_taken_names_itself_and_the_setting_that_moves_it() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let check = |fault: StartError, who: &str, key: &str, variable: &str| {
        let said = fault.to_string();
        for part in [&format!("{who} cannot listen on {address}"), key, variable] {
            assert!(said.contains(part), "{part:?} is not in {said:?}");
        }
    };
    let mut of_role = plan(&Stub::default());
    of_role.placements[1].port = address.port();
    check(of_role.bind().await.err().unwrap(), "product", "product.port", "TRIVET_PRODUCT_PORT");
    let mut of_admin = plan(&Stub::default());
    of_admin.server.admin_port = address.port();
    check(of_admin.bind().await.err().unwrap(), "the admin port", "server.admin_port", "TRIVET_SERVER_ADMIN_PORT");
}

#[tokio::test]
async fn a_port_that_is_taken_costs_no_database() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("account.db");
    let mut plan = plan(&Stub::default());
    plan.placements[0].location = Location::File(file.clone());
    plan.placements[1].port = taken.local_addr().unwrap().port();
    assert!(plan.bind().await.is_err());
    assert!(!file.exists());
}

#[tokio::test]
async fn others_reach_a_process_without_tls_only_where_that_was_said_to_be_meant() {
    let everywhere = "0.0.0.0".parse().unwrap();
    let mut plain = plan(&Stub::default());
    plain.server.host = everywhere;
    let said = plain.bind().await.err().unwrap().to_string();
    assert!(said.contains("0.0.0.0") && said.contains("server.insecure"), "{said}");

    let mut meant = plan(&Stub::default());
    (meant.server.host, meant.server.insecure) = (everywhere, true);
    let running = start(meant).await;
    let port = running.addresses["account"].port();
    assert_eq!(Line::to(([127, 0, 0, 1], port).into()).await.get("ada", &[]).await.told(), "Ok");
}

#[tokio::test]
async fn a_role_whose_peer_is_nowhere_does_not_start_and_says_what_to_set() {
    let bound = plan_of(vec![Stub::default().product_role()]).bind().await.unwrap();
    let said = bound.start().await.err().unwrap().to_string();
    assert!(said.contains("account") && said.contains("account.address"), "{said}");
}

#[tokio::test]
async fn a_peer_that_is_named_wins_over_the_role_of_the_same_process() {
    let (here, there) = (Stub::default(), Stub::default());
    let elsewhere = start(plan_of(vec![there.account_role()])).await;
    let mut plan = plan(&here);
    plan.peers = BTreeMap::from([("account", elsewhere.addresses["account"].into())]);
    let running = start(plan).await;
    let line = Line::to(running.addresses["product"]).await;
    assert_eq!(crate::hops::check_availability(&line, "ada", &[]).await.told(), "Ok");
    assert_eq!((here.seen().len(), there.seen().len()), (1, 1), "product here, account there");
}

#[tokio::test]
async fn a_database_that_cannot_be_used_ends_the_start_with_its_role_s_name() {
    let nowhere = tempfile::tempdir().unwrap().path().join("gone").join("ledger.db");
    let role = Role {
        name: "ledger",
        migrations: vec![],
        postgres: &[],
        services: Box::new(|_: Parts| Ok(Services::default())),
    };
    let mut plan = plan_of(vec![]);
    plan.placements.push(Placement { role, port: 0, location: Location::File(nowhere) });
    let fault = plan.bind().await.unwrap().start().await.err().unwrap();
    assert!(matches!(fault, StartError::Store { role: "ledger", .. }), "{fault:?}");
}
