//! Certificates and CAs that are replaced while calls go on.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use mesh::{Clock, Running, Telemetry, Time};
use rustls::{ClientConfig, pki_types::ServerName};
use time::OffsetDateTime;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{
    hops::check_availability,
    house::{eventually, in_time, plan_of, start},
    line::Line,
    papers::{Authority, Folder, bundle, stranger},
    stub::Stub,
    tls::{ask, counted, sample},
};

/// Calls that must have come and gone in each state of the certificates.
const CALLS: u32 = 20;

/// One process and where its certificates are.
struct Process {
    running: Running,
    telemetry: Arc<Telemetry>,
    clock: Clock,
    folder: Folder,
}

impl Process {
    /// Waits until it has looked at its files once more, from beginning to end.
    async fn looked(&self) {
        // What is left of its certificate it says after a look; and the first one had begun before the clock moved.
        for _ in 0..2 {
            let left = || sample(&self.telemetry, "trivet_tls_certificate_expiry_seconds", "");
            let before = left();
            self.clock.advance(Duration::from_secs(1));
            eventually("a look at the files", async || left() != before).await;
        }
    }

    fn renewals(&self, outcome: &str) -> u32 {
        counted(&self.telemetry, "trivet_tls_renewals_total", &format!("outcome=\"{outcome}\""))
    }

    fn refused(&self) -> u32 {
        counted(&self.telemetry, "trivet_tls_refused_total", "")
    }
}

/// Account and product, each a process of its own. Product's connections to account get no older than a moment; the tests
/// call product over a new one each time, and know nothing of a GOAWAY.
async fn two_processes(stub: &Stub, authority: &Authority) -> [Process; 2] {
    let process = async |name: &'static str, peers: BTreeMap<_, _>| {
        let folder = Folder::new(&authority.paper(name), &authority.pem());
        let role = if name == "account" { stub.account_role() } else { stub.product_role() };
        let mut plan = plan_of(vec![role]);
        (plan.tls, plan.peers) = (folder.settings(), peers);
        if name == "account" {
            plan.server.connection_age_ms = 50;
        }
        let now = OffsetDateTime::now_utc().unix_timestamp();
        plan.clock = Clock::held(Time::from_micros(now * 1_000_000));
        let (telemetry, clock) = (plan.telemetry.clone(), plan.clock.clone());
        Process { running: start(plan).await, telemetry, clock, folder }
    };
    let account = process("account", BTreeMap::new()).await;
    let peers = BTreeMap::from([("account", account.running.addresses["account"].into())]);
    [account, process("product", peers).await]
}

/// Asks product, which asks account, each time over a new connection.
async fn call(product: SocketAddr, client: Arc<ClientConfig>) -> Result<String, String> {
    let socket = TcpStream::connect(product).await.map_err(|error| error.to_string())?;
    let host = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(client).connect(host, socket).await.map_err(|error| error.to_string())?;
    let line = Line::over(stream, product).await?;
    Ok(check_availability(&line, "ada", &[]).await.told())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_and_the_ca_are_replaced_under_load_without_a_call_that_fails() {
    let stub = Stub::default();
    let mut old = Authority::new("ours");
    let processes = two_processes(&stub, &old).await;
    let product = processes[1].running.addresses["product"];
    let client = Arc::new(Mutex::new(stranger(Some(&old.paper("operator")), &old.pem())));
    let (calls, done) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    let callers: Vec<_> = (0..3)
        .map(|_| {
            let (client, calls, done) = (client.clone(), calls.clone(), done.clone());
            tokio::spawn(async move {
                while !done.load(Ordering::Relaxed) {
                    let now = client.lock().unwrap().clone();
                    assert_eq!(call(product, now).await.as_deref(), Ok("Ok"));
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let go_on = async || {
        let before = calls.load(Ordering::Relaxed);
        eventually("further calls", async || calls.load(Ordering::Relaxed) >= before + CALLS).await;
    };
    for round in 0..3 {
        // The new CA has the old one's name, as one has whose key alone is replaced.
        let new = Authority::new("ours");
        let (both, new_only) = (bundle(&[&old, &new]), new.pem());
        for (state, (signs, believed)) in [(&old, &both), (&new, &both), (&new, &new_only)].into_iter().enumerate() {
            let before = processes.each_ref().map(|process| process.renewals("taken"));
            for (process, name) in processes.iter().zip(["account", "product"]) {
                process.folder.put(&signs.paper(name), believed);
            }
            eventually("taking them", async || {
                processes.iter().zip(before).all(|(process, before)| process.renewals("taken") > before)
            })
            .await;
            *client.lock().unwrap() = stranger(Some(&signs.paper("operator")), believed);
            go_on().await;
            let refused = processes.each_ref().map(Process::refused);
            assert_eq!(refused, [0, 0], "round {round}, state {state}");
        }
        old = new;
    }
    done.store(true, Ordering::Relaxed);
    for caller in callers {
        in_time("the last calls", caller).await.unwrap();
    }
    let served = u32::try_from(stub.seen().len()).unwrap();
    assert_eq!(served, 2 * calls.load(Ordering::Relaxed), "each call is carried out once, here and there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_believed_before_is_not_believed_once_their_ca_is_gone() {
    let (stub, old, new) = (Stub::default(), Authority::new("old"), Authority::new("new"));
    let [account, _product] = two_processes(&stub, &old).await;
    let address = account.running.addresses["account"];
    let caller = stranger(Some(&old.paper("operator")), &bundle(&[&old, &new]));
    assert_eq!(ask(address, &caller).await.unwrap(), "Ok");
    account.folder.put(&new.paper("account"), &new.pem());
    eventually("taking it", async || account.renewals("taken") == 1).await;
    assert!(ask(address, &caller).await.is_err());
    let caller = stranger(Some(&new.paper("operator")), &new.pem());
    assert_eq!(ask(address, &caller).await.unwrap(), "Ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_renewal_leaves_the_last_good_one_in_force_and_is_said_once() {
    let (stub, ours, theirs) = (Stub::default(), Authority::new("ours"), Authority::new("theirs"));
    let [account, _product] = two_processes(&stub, &ours).await;
    let address = account.running.addresses["account"];
    let caller = stranger(Some(&ours.paper("operator")), &ours.pem());
    let renewed = ours.paper("account");
    let cases = [
        ("tls.crt", renewed.certificate.clone(), 1),
        ("tls.crt", "-----BEGIN CERT".to_owned(), 2),
        ("tls.crt", theirs.paper("account").certificate, 3),
        ("tls.crt", ours.paper_of(&["spiffe://elsewhere/account"]).certificate, 4),
        ("tls.crt", ours.issue(&["spiffe://trivet.local/account"], |it| it.not_after = it.not_before).certificate, 5),
        ("ca.crt", String::new(), 6),
    ];
    for (file, content, refused) in cases {
        account.folder.put_one(file, &content);
        eventually("looking at it", async || account.renewals("refused") == refused).await;
        account.looked().await;
        assert_eq!(account.renewals("refused"), refused, "{file} is said once");
        assert_eq!(ask(address, &caller).await.unwrap(), "Ok", "with {file} {content:?}");
    }
    assert_eq!(account.renewals("taken"), 0);
    account.folder.put(&renewed, &ours.pem());
    eventually("taking all of it", async || account.renewals("taken") == 1).await;
    assert_eq!(ask(address, &caller).await.unwrap(), "Ok");
}
