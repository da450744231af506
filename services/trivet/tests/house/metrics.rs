//! What Prometheus is told of money.

use std::{collections::BTreeMap, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use trivet_proto::{
    account::v1::account_service_client::AccountServiceClient,
    billing::v1::{
        BatchDeductRequest, DeductionOrder, VerifyLedgerRequest, billing_service_client::BillingServiceClient,
        ledger_service_client::LedgerServiceClient,
    },
};

use crate::{
    harness::{Databases, channel, config, order, payment, person},
    process::Process,
    tenants::of,
};

/// The samples of `/metrics` whose names begin like this, with their labels.
pub(crate) async fn samples(process: &Process, name: &str) -> BTreeMap<String, f64> {
    samples_at(process.addresses["admin"], name).await
}

/// The same of who has this admin port.
pub(crate) async fn samples_at(admin: SocketAddr, name: &str) -> BTreeMap<String, f64> {
    let mut socket = TcpStream::connect(admin).await.unwrap();
    socket.write_all(b"GET /metrics HTTP/1.1\r\nhost: trivet\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut told = String::new();
    socket.read_to_string(&mut told).await.unwrap();
    let sample = |line: &str| {
        let (sample, value) = line.rsplit_once(' ')?;
        sample.starts_with(name).then(|| (sample.to_owned(), value.parse().unwrap()))
    };
    told.lines().filter_map(sample).collect()
}

/// The one sample that has all of these in it.
async fn sample(process: &Process, name: &str, labels: &[&str]) -> f64 {
    let samples = samples(process, name).await;
    let mut found = samples.iter().filter(|(sample, _)| labels.iter().all(|label| sample.contains(label)));
    let (_, value) = found.next().unwrap_or_else(|| panic!("{name} {labels:?} is not among {samples:?}"));
    assert!(found.next().is_none(), "{name} {labels:?} is there twice: {samples:?}");
    *value
}

async fn verify(process: &Process, tenant: &str) {
    let mut ledger = LedgerServiceClient::new(channel(process.addresses["billing"]));
    let mut said = ledger.verify_ledger(of(tenant, VerifyLedgerRequest::default())).await.unwrap().into_inner();
    while said.message().await.unwrap().is_some() {}
}

#[tokio::test(flavor = "multi_thread")]
async fn repeats_durations_and_what_does_not_add_up_of_any_tenant_are_told() {
    for databases in [Some(Databases::sqlite()), Databases::postgres().await].into_iter().flatten() {
        let process = Process::serve("all", &databases, &[("server.announce_ms", "0")]).await;
        let mut accounts = AccountServiceClient::new(channel(process.addresses["account"]));
        let mut billing = BillingServiceClient::new(channel(process.addresses["billing"]));
        for tenant in ["acme", "beta"] {
            accounts.ensure_account(of(tenant, person("ada"))).await.unwrap();
            process.wallets().record_payment(of(tenant, payment("fund", "ada", "10"))).await.unwrap();
            for _ in 0..3 {
                billing.deduct(of(tenant, order("d1", "ada", "1"))).await.unwrap();
            }
        }
        for _ in 0..2 {
            billing.deduct(of("acme", order("d2", "ada", "100"))).await.unwrap_err();
        }
        assert!((sample(&process, "billing_duplicate_requests_total", &["\"Deduct\""]).await - 5.0).abs() < 0.5);
        for atomic in [false, true] {
            let deductions = [("d1", "1"), ("d3", "1"), ("d2", "100")].map(|(request_id, amount)| DeductionOrder {
                request_id: request_id.to_owned(),
                user_id: "ada".to_owned(),
                amount: amount.to_owned(),
                ..DeductionOrder::default()
            });
            let batch = BatchDeductRequest { deductions: deductions.to_vec(), atomic, validate_only: false };
            // All of it is known by the second time, and what is refused stops it.
            assert_eq!(billing.batch_deduct(of("acme", batch)).await.is_err(), atomic);
        }
        for (method, outcome, count) in [
            ("Deduct", "applied", 2.0),
            ("Deduct", "repeated", 4.0),
            ("Deduct", "refused", 2.0),
            ("BatchDeduct", "applied", 1.0),
            ("BatchDeduct", "repeated", 1.0),
            ("BatchDeduct", "refused", 2.0),
        ] {
            let labels = [&*format!("method=\"{method}\""), &format!("outcome=\"{outcome}\"")];
            let told = sample(&process, "billing_duration_seconds_count", &labels).await;
            assert!((told - count).abs() < 0.5, "{method} {outcome}: {told}");
        }

        let config = config(&databases, &[]);
        let location = config.billing.location("billing", &config.data_dir).unwrap();
        let store = mesh::Store::open(location).await.unwrap();
        let spoil = "update wallets set balance = balance + 1 where tenant_id = 'acme'";
        sea_orm::ConnectionTrait::execute_unprepared(store.reader(), spoil).await.unwrap();
        verify(&process, "acme").await;
        assert!((sample(&process, "billing_ledger_imbalance", &[]).await - 1.0).abs() < 0.5);
        verify(&process, "beta").await;
        let both = sample(&process, "billing_ledger_imbalance", &[]).await;
        assert!((both - 1.0).abs() < 0.5, "a ledger that adds up says nothing of another one: {both}");
        store.close().await.unwrap();
        process.end().await;
        databases.done().await;
    }
}
