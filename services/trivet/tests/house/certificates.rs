//! `trivet certs dev`, and processes and callers with what it makes.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;
use trivet_proto::account::v1::account_service_client::AccountServiceClient;

use crate::{
    harness::{Databases, eventually, person, reason},
    metrics::samples,
    process::{Process, binary},
};

/// Makes certificates in this folder, and says what the command said.
pub(crate) async fn certs(out: &Path, further: &[&str]) -> Result<String, String> {
    let arguments = [&["certs", "dev", "--out", out.to_str().unwrap()], further].concat();
    let output = binary(&arguments, &[]).output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// The settings of a process of this name.
pub(crate) fn settings(out: &Path, name: &str) -> [(String, String); 3] {
    let file = |name: String| out.join(name).to_str().unwrap().to_owned();
    let pair = |key: &str, value| (format!("tls.{key}"), value);
    [
        pair("certificate", file(format!("{name}.pem"))),
        pair("key", file(format!("{name}-key.pem"))),
        pair("trust_bundle", file("ca.pem".to_owned())),
    ]
}

pub(crate) async fn serve(role: &str, databases: &Databases, out: &Path, further: &[(&str, &str)]) -> Process {
    let tls = settings(out, if role == "all" { "trivet" } else { role });
    let tls = tls.each_ref().map(|(key, value)| (key.as_str(), value.as_str()));
    let operators = ("identity.operators", "spiffe://trivet.local/operator");
    Process::serve(role, databases, &[&tls[..], &[operators], further].concat()).await
}

/// A channel of a client that is none of ours: it knows a server by the name of its host.
pub(crate) fn foreign(address: SocketAddr, out: &Path, name: Option<&str>) -> Channel {
    let mut anchors = RootCertStore::empty();
    anchors.add(CertificateDer::from_pem_file(out.join("ca.pem")).unwrap()).unwrap();
    let builder = ClientConfig::builder().with_root_certificates(anchors);
    let mut config = match name {
        Some(name) => {
            let chain = vec![CertificateDer::from_pem_file(out.join(format!("{name}.pem"))).unwrap()];
            let key = PrivateKeyDer::from_pem_file(out.join(format!("{name}-key.pem"))).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let connect = service_fn(move |_| {
        let connector = connector.clone();
        async move {
            let socket = TcpStream::connect(address).await?;
            let host = ServerName::try_from("localhost").unwrap();
            Ok::<_, std::io::Error>(TokioIo::new(connector.connect(host, socket).await?))
        }
    });
    Endpoint::from_shared(format!("http://localhost:{}", address.port())).unwrap().connect_with_connector_lazy(connect)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_serves_callers_of_every_make_with_what_certs_dev_made() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    let said = certs(out, &[]).await.unwrap();
    for part in [
        "ca.pem",
        "spiffe://trivet.local/billing",
        "TRIVET_TLS_CERTIFICATE=",
        "TRIVET_IDENTITY_OPERATORS=",
        "operator-key.pem",
        "grpcurl",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    let databases = Databases::sqlite();
    // Nothing is said of trusting the network, and nothing needs to be.
    let further = [("server.host", "0.0.0.0"), ("server.announce_ms", "0")];
    let process = serve("all", &databases, out, &further).await;
    let here = |name: &str| SocketAddr::from(([127, 0, 0, 1], process.addresses[name].port()));
    let accounts = |caller| AccountServiceClient::new(foreign(here("account"), out, caller));
    accounts(Some("operator")).ensure_account(person("ada")).await.unwrap();
    let refused = accounts(None).ensure_account(person("ada")).await.unwrap_err();
    assert_eq!(reason(&refused), "CREDENTIALS_MISSING", "it is encrypted, and nobody knows who it is");
    let (billing, admin) = (here("billing").to_string(), here("admin").to_string());
    let mut operator = settings(out, "operator").to_vec();
    operator.push(("server.admin_port".to_owned(), here("admin").port().to_string()));
    let service = "trivet.billing.v1.BillingService";
    let commands: [&[&str]; 4] = [
        &["status", "--address", &billing],
        &["events", "flow", "--address", &billing],
        &["health", "--address", &billing, "--service", service],
        &["health", "--address", &admin],
    ];
    for command in commands {
        let output = binary(command, &operator).output().await.unwrap();
        assert!(output.status.success(), "{command:?}: {output:?}");
    }
    assert!(!binary(commands[0], &[]).output().await.unwrap().status.success(), "who speaks plaintext is not heard");
    process.end().await;
    databases.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_run_apart_know_each_other_by_their_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    certs(out, &[]).await.unwrap();
    let (of_account, of_product) = (Databases::sqlite(), Databases::sqlite());
    let further = [("server.announce_ms", "0"), ("tls.require_client_certificate", "true"), ("tls.reload_ms", "50")];
    let account = serve("account", &of_account, out, &further).await;
    let check = async |at: SocketAddr| {
        let at = at.to_string();
        let peers = [("account.address", at.as_str()), ("billing.address", at.as_str())];
        let product = serve("product", &of_product, out, &[&further[..], &peers].concat()).await;
        let address = product.addresses["product"].to_string();
        let status = binary(&["status", "--address", &address], &settings(out, "operator")).output().await.unwrap();
        product.end().await;
        let said = String::from_utf8(status.stdout).unwrap();
        let of_account = said.lines().find_map(|line| line.strip_prefix("account")).map(str::trim_start);
        of_account.unwrap_or_else(|| panic!("account is not in {said}")).split(' ').next().unwrap().to_owned()
    };
    assert_eq!(check(account.addresses["account"]).await, "OK");
    let (of_impostor, nobody) = (Databases::sqlite(), [("account.address", "127.0.0.1:9")]);
    let impostor = serve("billing", &of_impostor, out, &[&further[..], &nobody].concat()).await;
    assert_eq!(check(impostor.addresses["billing"]).await, "DOWN", "somebody else answers there");

    let renewals = async || samples(&account, "trivet_tls_renewals_total").await.into_values().sum::<f64>();
    assert!(
        samples(&account, "trivet_tls_certificate_expiry_seconds")
            .await
            .into_values()
            .all(|left| left > 29.0 * 86_400.0)
    );
    certs(out, &["account", "--days", "1"]).await.unwrap();
    eventually("the renewal", async || renewals().await > 0.0).await;
    eventually("a day that is left", async || {
        let left = samples(&account, "trivet_tls_certificate_expiry_seconds").await;
        left.into_values().all(|left| (86_000.0..=86_400.0).contains(&left))
    })
    .await;
    assert_eq!(check(account.addresses["account"]).await, "OK");
    impostor.end().await;
    account.end().await;
    of_impostor.done().await;
    of_account.done().await;
    of_product.done().await;
}

/// The files of a folder, what is in them, and who may read them.
fn files(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, u32)> {
    let file = |entry: fs::DirEntry| {
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        (entry.file_name().into(), (fs::read(entry.path()).unwrap(), mode))
    };
    fs::read_dir(folder).unwrap().map(|entry| file(entry.unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_is_there_signs_again_and_is_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("deep").join("er");
    certs(&out, &["billing", "ops.2"]).await.unwrap();
    let first = files(&out);
    let names: Vec<_> = first.keys().map(|name| name.to_str().unwrap()).collect();
    assert_eq!(names, ["billing-key.pem", "billing.pem", "ca-key.pem", "ca.pem", "ops.2-key.pem", "ops.2.pem"]);
    for (name, (_, mode)) in &first {
        let expected = if name.to_str().unwrap().ends_with("-key.pem") { 0o600 } else { 0o644 };
        assert_eq!(*mode, expected, "{name:?}");
    }
    let said = certs(&out, &["billing"]).await.unwrap();
    assert!(said.contains("signs again"), "{said}");
    let second = files(&out);
    let changed: Vec<_> = first.keys().filter(|name| first[*name] != second[*name]).collect();
    assert_eq!(changed, [Path::new("billing-key.pem"), Path::new("billing.pem")]);
    assert_eq!(first.len(), second.len(), "nothing is left lying about");

    for (further, expected) in [
        (&["ca"][..], "ca.pem"),
        (&["billing-key"], "billing-key.pem"),
        (&["a/b"], "a/b"),
        (&[".."], ".."),
        (&["--trust-domain", "Trivet"], "trust domain"),
        (&["--days", "366"], "366"),
    ] {
        let said = certs(&out, further).await.unwrap_err();
        assert!(said.contains(expected), "{expected:?} is not in {said}");
        assert_eq!(files(&out), second, "{further:?}");
    }
    fs::remove_file(out.join("ca-key.pem")).unwrap();
    let said = certs(&out, &[]).await.unwrap_err();
    assert!(said.contains("put the other one back"), "{said}");
    let elsewhere = folder.path().join("elsewhere");
    certs(&elsewhere, &["--trust-domain", "example.org", "billing"]).await.unwrap();
    fs::copy(elsewhere.join("ca-key.pem"), out.join("ca-key.pem")).unwrap();
    let said = certs(&out, &["billing"]).await.unwrap_err();
    assert!(said.contains("of no use"), "a key of another CA: {said}");
    assert_eq!(files(&out)[Path::new("billing.pem")], second[Path::new("billing.pem")]);
}
