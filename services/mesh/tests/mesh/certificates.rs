//! Certificates that a process does not start with, and what it says of them.

use std::fs;

use mesh::{StartError, TlsSettings};
use rcgen::{ExtendedKeyUsagePurpose, IsCa};
use time::{Duration, OffsetDateTime};

use crate::{
    house::{plan, start},
    papers::{Authority, Folder, Paper, stranger},
    stub::Stub,
    tls::ask,
};

async fn refused(settings: TlsSettings) -> String {
    let mut plan = plan(&Stub::default());
    plan.tls = settings;
    let fault = plan.bind().await.err().expect("it must not start");
    assert!(matches!(fault, StartError::Tls(_)), "{fault:?}");
    mesh::chain(&fault)
}

#[tokio::test]
async fn a_process_does_not_start_with_a_certificate_that_nobody_would_believe() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let account: &[&str] = &["spiffe://trivet.local/account"];
    let check = async |paper: Paper, expected: &str| {
        let said = refused(Folder::new(&paper, &ours.pem()).settings()).await;
        assert!(said.contains(expected), "{expected:?} is not in {said:?}");
    };
    let expired = |params: &mut rcgen::CertificateParams| {
        params.not_after = OffsetDateTime::now_utc() - Duration::days(1);
    };
    let for_servers =
        |params: &mut rcgen::CertificateParams| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let mixed = Paper { key: ours.paper("account").key, ..ours.paper("account") };
    check(ours.issue(account, expired), "expired").await;
    check(ours.issue(account, for_servers), "nobody would believe").await;
    check(theirs.paper("account"), "UnknownIssuer").await;
    check(ours.issue(account, |params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained)), "sign").await;
    check(ours.paper_of(&[]), "no URI").await;
    check(ours.paper_of(&["spiffe://elsewhere/account"]), "trust domain").await;
    check(mixed, "used together").await;
}

#[tokio::test]
async fn a_file_that_is_not_what_it_should_be_is_named() {
    let ours = Authority::new("ours");
    let paper = ours.paper("account");
    let check = async |name: &str, content: Option<&str>, expected: &str| {
        let folder = Folder::new(&paper, &ours.pem());
        match content {
            Some(content) => folder.put_one(name, content),
            None => fs::remove_file(folder.path(name)).unwrap(),
        }
        let said = refused(folder.settings()).await;
        assert!(said.contains(name) && said.contains(expected), "{name} and {expected:?} are not in {said:?}");
    };
    for name in ["tls.crt", "tls.key", "ca.crt"] {
        check(name, None, "cannot be read").await;
        check(name, Some("nonsense"), "PEM").await;
        check(name, Some(""), "PEM").await;
        check(name, Some(&"x".repeat(1024 * 1024 + 1)), "too large").await;
    }
    check("ca.crt", Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), "no CA").await;
    let half = TlsSettings { certificate: "tls.crt".to_owned(), ..TlsSettings::default() };
    let said = refused(half).await;
    assert!(said.contains("tls.key") && said.contains("tls.trust_bundle"), "{said}");
}

#[tokio::test]
async fn others_reach_a_process_with_tls_without_further_words() {
    let ours = Authority::new("ours");
    let folder = Folder::new(&ours.paper("trivet"), &ours.pem());
    let mut plan = plan(&Stub::default());
    plan.server.host = "0.0.0.0".parse().unwrap();
    plan.tls = folder.settings();
    let running = start(plan).await;
    let address = ([127, 0, 0, 1], running.addresses["account"].port()).into();
    assert_eq!(ask(address, &stranger(None, &ours.pem())).await.unwrap(), "Ok");
}
