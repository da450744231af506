//! Who is let in, and who is believed to be whom: certificates that name a workload, on both ends of a connection.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use mesh::{
    CallSettings, Clock, Peer, Placement, Running, Target, Telemetry, Time, Tls, TlsSettings,
    identity::{SpiffeId, Transport},
    store::Location,
};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyUsagePurpose};
use rustls::{ClientConfig, HandshakeKind, pki_types::ServerName};
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use trivet_proto::account::v1::account_service_client::AccountServiceClient;

use crate::{
    hops::check_availability,
    house::{eventually, get, house, in_time, plan, plan_of, start, telemetry},
    line::{Line, outcome},
    papers::{Authority, Folder, Paper, bundle, stranger},
    raw::Raw,
    stub::Stub,
};

/// A house whose process is `trivet`, and what it is asked and counts.
struct Secured {
    running: Running,
    telemetry: Arc<Telemetry>,
    stub: Stub,
    authority: Authority,
    _folder: Folder,
}

impl Secured {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut TlsSettings)) -> Self {
        let (stub, authority) = (Stub::default(), Authority::new("ours"));
        let folder = Folder::new(&authority.paper("trivet"), &authority.pem());
        let mut plan = plan(&stub);
        plan.tls = folder.settings();
        change(&mut plan.tls);
        let telemetry = plan.telemetry.clone();
        Self { running: start(plan).await, telemetry, stub, authority, _folder: folder }
    }

    fn address(&self) -> SocketAddr {
        self.running.addresses["account"]
    }

    fn client(&self, paper: Option<&Paper>) -> Arc<ClientConfig> {
        stranger(paper, &self.authority.pem())
    }

    /// How many connections were not taken for this reason.
    fn refused(&self, reason: &str) -> u32 {
        counted(&self.telemetry, "trivet_tls_refused_total", &format!("reason=\"{reason}\""))
    }

    /// Whom the handlers saw, one after the other.
    fn seen(&self) -> Vec<(bool, Option<SpiffeId>)> {
        let of = |Transport { encrypted, peer }: Transport| (encrypted, peer.map(|certified| certified.id));
        self.stub.seen().into_iter().map(|seen| of(seen.transport.unwrap())).collect()
    }
}

/// What the sample of this name with this label says, if there is one.
pub(crate) fn sample(telemetry: &Telemetry, name: &str, label: &str) -> Option<String> {
    let text = telemetry.prometheus().unwrap();
    let line = text.lines().find(|line| line.starts_with(name) && line.contains(label))?;
    Some(line.rsplit(' ').next().unwrap().to_owned())
}

/// What a counter with this label says, to which nothing may have happened yet.
pub(crate) fn counted(telemetry: &Telemetry, name: &str, label: &str) -> u32 {
    sample(telemetry, name, label).map_or(0, |count| count.parse().unwrap())
}

async fn handshake(address: SocketAddr, client: &Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, String> {
    let socket = TcpStream::connect(address).await.unwrap();
    let connecting = TlsConnector::from(client.clone()).connect(ServerName::try_from("localhost").unwrap(), socket);
    in_time("a handshake", connecting).await.map_err(|error| error.to_string())
}

/// Asks for an account over a connection of its own. That it was refused a client hears after it has said its all: over TLS
/// 1.3 it is done before the server is.
pub(crate) async fn ask(address: SocketAddr, client: &Arc<ClientConfig>) -> Result<String, String> {
    let line = Line::over(handshake(address, client).await?, address).await?;
    let body = crate::line::frame(&get("ada"));
    let headers = [("content-type", "application/grpc"), ("te", "trailers")];
    let answer = line.send(&http::Method::POST, crate::line::GET_ACCOUNT, &headers, body).await;
    answer.map(|answer| answer.told()).map_err(|error| error.to_string())
}

fn encrypted(peer: Option<&str>) -> (bool, Option<SpiffeId>) {
    (true, peer.map(|id| id.parse().unwrap()))
}

#[tokio::test]
async fn a_handler_learns_whom_the_certificate_of_its_caller_names_hop_by_hop() {
    let secured = Secured::new().await;
    let operator = secured.client(Some(&secured.authority.paper("operator")));
    let product = secured.running.addresses["product"];
    let line = Line::over(handshake(product, &operator).await.unwrap(), product).await.unwrap();
    for _ in 0..2 {
        assert_eq!(check_availability(&line, "ada", &[]).await.told(), "Ok");
    }
    let (operator, process) = ("spiffe://trivet.local/operator", "spiffe://trivet.local/trivet");
    let expected = [operator, process, operator, process].map(|id| encrypted(Some(id)));
    assert_eq!(secured.seen(), expected, "the operator asks product, the process asks itself");
}

#[tokio::test]
async fn who_shows_no_certificate_is_nobody_and_without_tls_nobody_is_encrypted() {
    let secured = Secured::new().await;
    assert_eq!(ask(secured.address(), &secured.client(None)).await.unwrap(), "Ok");
    assert_eq!(secured.seen(), [encrypted(None)]);

    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    assert_eq!(Line::to(address).await.get("ada", &[]).await.told(), "Ok");
    assert_eq!(stub.seen()[0].transport, Some(Transport { encrypted: false, peer: None }));
}

#[tokio::test]
async fn who_shows_no_certificate_is_sent_away_where_one_is_required() {
    let secured = Secured::with(|tls| tls.require_client_certificate = true).await;
    assert!(ask(secured.address(), &secured.client(None)).await.is_err());
    assert_eq!(secured.refused("no_certificate"), 1);
    let operator = secured.authority.paper("operator");
    assert_eq!(ask(secured.address(), &secured.client(Some(&operator))).await.unwrap(), "Ok");
    assert_eq!(secured.stub.seen().len(), 1);
}

/// A certificate of these days, counted from today.
fn days(from: i64, to: i64) -> impl FnOnce(&mut CertificateParams) {
    move |params| {
        let now = OffsetDateTime::now_utc();
        params.not_before = now + time::Duration::days(from);
        params.not_after = now + time::Duration::days(to);
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_good_is_refused_in_the_handshake_whatever_else_it_says() {
    let secured = Secured::new().await;
    let (ours, theirs) = (&secured.authority, Authority::new("theirs"));
    let operator: &[&str] = &["spiffe://trivet.local/operator"];
    let papers = [
        ("expired", ours.issue(operator, days(-2, -1))),
        ("not yet good", ours.issue(operator, days(1, 2))),
        ("of another CA", theirs.paper("operator")),
        ("of another CA of the same name", Authority::new("ours").paper("operator")),
        ("of another trust domain", ours.paper_of(&["spiffe://elsewhere.local/operator"])),
        ("of a trust domain that ours begins", ours.paper_of(&["spiffe://trivet.local.evil/operator"])),
        ("with a common name only", ours.paper_of(&[])),
        ("without any alternative name", ours.issue(&[], |params| params.subject_alt_names.clear())),
        ("with two names", ours.paper_of(&["spiffe://trivet.local/operator", "spiffe://trivet.local/billing"])),
        ("with another URI beside", ours.paper_of(&["spiffe://trivet.local/operator", "https://trivet.local"])),
        ("with a URI of another kind", ours.paper_of(&["https://trivet.local/operator"])),
        ("with a name that none can be", ours.paper_of(&["spiffe://trivet.local/a/../operator"])),
        ("of the trust domain itself", ours.paper_of(&["spiffe://trivet.local"])),
        ("of the CA itself", ours.itself()),
        ("that may sign", ours.issue(operator, |params| params.key_usages.push(KeyUsagePurpose::KeyCertSign))),
        (
            "that is for servers only",
            ours.issue(operator, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
        ),
    ];
    let count = u32::try_from(papers.len()).unwrap();
    for (what, paper) in papers {
        assert!(ask(secured.address(), &secured.client(Some(&paper))).await.is_err(), "one {what} is let in");
        assert!(secured.stub.seen().is_empty(), "one {what} reaches a handler");
    }
    assert_eq!(secured.refused("certificate"), count);
    let good = ask(secured.address(), &secured.client(Some(&ours.paper("operator")))).await;
    assert_eq!(good.unwrap(), "Ok", "others are not in the way");
}

#[tokio::test]
async fn no_session_is_taken_up_again_nothing_older_than_tls_1_3_spoken_and_nothing_but_h2() {
    let secured = Secured::new().await;
    let operator = secured.authority.paper("operator");
    let client = secured.client(Some(&operator));
    for _ in 0..2 {
        let mut stream = handshake(secured.address(), &client).await.unwrap();
        // The preface of HTTP/2, so that it is heard until the server has said its settings: tickets would come before.
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        stream.read_u8().await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(stream.get_ref().1.tls13_tickets_received(), 0);
    }
    let anchors = {
        let mut anchors = rustls::RootCertStore::empty();
        let pem = secured.authority.pem();
        anchors.add(rustls::pki_types::pem::PemObject::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
        anchors
    };
    let old = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS12]);
    let mut old = old.with_root_certificates(anchors).with_no_client_auth();
    old.alpn_protocols = vec![b"h2".to_vec()];
    assert!(handshake(secured.address(), &Arc::new(old)).await.is_err());
    for (protocols, refused) in [(vec![], 1), (vec![b"http/1.1".to_vec()], 2)] {
        let mut client = (*client).clone();
        client.alpn_protocols = protocols;
        assert!(ask(secured.address(), &Arc::new(client)).await.is_err());
        assert_eq!(secured.refused("protocol"), refused);
    }
    assert!(secured.stub.seen().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_speaks_plaintext_is_cut_off_and_who_says_nothing_within_five_seconds_too() {
    let secured = Secured::new().await;
    let address = secured.address();
    in_time("plaintext", async { Raw::to(address).await.until_the_end().await }).await;
    assert_eq!(secured.refused("handshake"), 1);

    let began = std::time::Instant::now();
    let silent = TcpStream::connect(address).await.unwrap();
    let mut slow = TcpStream::connect(address).await.unwrap();
    // The beginning of a record that says it has 512 bytes.
    slow.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    let mut idle = handshake(address, &secured.client(None)).await.unwrap();
    idle.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    let ends = async |mut socket: TcpStream| {
        let mut heard = Vec::new();
        let _ = socket.read_to_end(&mut heard).await;
    };
    let rest = async { while idle.read_u8().await.is_ok() {} };
    in_time("the end of three silent connections", async { tokio::join!(ends(silent), ends(slow), rest) }).await;
    assert!((4..15).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    assert_eq!(secured.refused("late"), 2);
    assert_eq!(ask(address, &secured.client(None)).await.unwrap(), "Ok");
}

#[tokio::test]
async fn a_connection_is_ended_with_the_certificate_that_was_shown_on_it_however_old_it_might_get() {
    let secured = Secured::new().await;
    let brief = secured.authority.issue(&["spiffe://trivet.local/operator"], |params| {
        params.not_after = OffsetDateTime::now_utc() + time::Duration::seconds(2);
    });
    let client = secured.client(Some(&brief));
    let line = Line::over(handshake(secured.address(), &client).await.unwrap(), secured.address()).await.unwrap();
    let headers = [("content-type", "application/grpc"), ("te", "trailers")];
    let body = crate::line::frame(&get("ada"));
    let call = async || line.send(&http::Method::POST, crate::line::GET_ACCOUNT, &headers, body.clone()).await;
    assert_eq!(call().await.unwrap().told(), "Ok");
    eventually("the end of the connection", async || call().await.is_err()).await;
}

/// An account service whose process is called so, at a time, and the CA of its certificate.
struct Server {
    running: Running,
    _folder: Folder,
}

async fn server(authority: &Authority, paper: &Paper, trust_domain: &str, clock: Clock) -> Server {
    let folder = Folder::new(paper, &authority.pem());
    let role = Stub::default().account_role();
    let mut plan = plan_of(vec![]);
    plan.placements = vec![Placement { role, port: 0, location: Location::Memory }];
    plan.clock = clock;
    plan.tls = TlsSettings { trust_domain: trust_domain.to_owned(), ..folder.settings() };
    Server { running: start(plan).await, _folder: folder }
}

/// A client of ours, and whom it takes for whom.
struct Client {
    tls: Tls,
    _folder: Folder,
}

impl Client {
    async fn new(authorities: &[&Authority], change: impl FnOnce(&mut TlsSettings)) -> Self {
        let folder = Folder::new(&authorities[0].paper("operator"), &bundle(authorities));
        let mut settings = folder.settings();
        change(&mut settings);
        let tls = Tls::load(&settings, &Clock::system(), &telemetry()).await.unwrap().unwrap();
        Self { tls, _folder: folder }
    }

    /// Asks for an account, of the service of this name, or of anybody.
    async fn ask(&self, service: Option<&'static str>, server: &Server) -> String {
        let target = Target::from(server.running.addresses["account"]);
        let toward = service.map_or_else(|| self.tls.toward_anybody(), |name| self.tls.toward(name));
        let settings = CallSettings { default_deadline: Duration::from_secs(5), ..CallSettings::default() };
        let peer = Peer::over(Some(toward), service.unwrap_or("any"), &target, telemetry(), settings);
        let answer = in_time("a call", AccountServiceClient::new(peer).get_account(get("ada"))).await;
        match &answer {
            Ok(_) => "Ok".to_owned(),
            Err(status) => format!("{} {}", outcome(&answer), status.message()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_takes_an_answer_from_the_service_that_it_called_or_a_process_with_all_roles_only() {
    let ours = Authority::new("ours");
    let client = Client::new(&[&ours], |_| {}).await;
    let check = async |id: &str, service: Option<&'static str>, expected: &str| {
        let server = server(&ours, &ours.paper_of(&[id]), "trivet.local", Clock::system()).await;
        let told = client.ask(service, &server).await;
        assert!(told.starts_with(expected), "{id} for {service:?}: {told}");
        told
    };
    check("spiffe://trivet.local/account", Some("account"), "Ok").await;
    check("spiffe://trivet.local/trivet", Some("account"), "Ok").await;
    check("spiffe://trivet.local/product", None, "Ok").await;
    for id in ["product", "x/account", "account/x", "Account", "operator"] {
        let id = format!("spiffe://trivet.local/{id}");
        let told = check(&id, Some("account"), "Unavailable").await;
        assert!(told.contains(&id) && told.contains("who was called"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ids_of_services_begin_as_the_settings_say() {
    let ours = Authority::new("ours");
    let client = Client::new(&[&ours], |tls| tls.id_prefix = "spiffe://trivet.local/ns/a/sa/".to_owned()).await;
    for (id, account, anybody) in [
        ("spiffe://trivet.local/ns/a/sa/account", "Ok", "Ok"),
        ("spiffe://trivet.local/ns/a/sa/trivet", "Ok", "Ok"),
        ("spiffe://trivet.local/ns/a/sa/product", "Unavailable", "Ok"),
        ("spiffe://trivet.local/account", "Unavailable", "Unavailable"),
        ("spiffe://trivet.local/ns/b/sa/account", "Unavailable", "Unavailable"),
    ] {
        let server = server(&ours, &ours.paper_of(&[id]), "trivet.local", Clock::system()).await;
        let told = [client.ask(Some("account"), &server).await, client.ask(None, &server).await];
        assert!(told[0].starts_with(account) && told[1].starts_with(anybody), "{id}: {told:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_refuses_a_server_of_another_ca_trust_domain_or_time() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let client = Client::new(&[&ours], |_| {}).await;
    let account: &[&str] = &["spiffe://trivet.local/account"];
    let now = OffsetDateTime::now_utc().unix_timestamp() * 1_000_000;
    let day = Duration::from_hours(24);
    let today = Time::from_micros(now);
    let servers = [
        ("of another CA", &theirs, theirs.paper_of(account), "trivet.local", today),
        ("of another trust domain", &ours, ours.paper_of(&["spiffe://other/account"]), "other", today),
        ("expired", &ours, ours.issue(account, days(-4, -2)), "trivet.local", today.minus(3 * day)),
        ("not yet good", &ours, ours.issue(account, days(2, 4)), "trivet.local", today.plus(3 * day)),
    ];
    for (what, authority, paper, trust_domain, time) in servers {
        let server = server(authority, &paper, trust_domain, Clock::held(time)).await;
        for service in [Some("account"), None] {
            let told = client.ask(service, &server).await;
            assert!(told.starts_with("Unavailable"), "one {what} is believed: {told}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_hears_why_the_other_side_does_not_believe_it() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    // It believes both and is of theirs, and the server believes ours only.
    let client = Client::new(&[&theirs, &ours], |_| {}).await;
    let server = server(&ours, &ours.paper("account"), "trivet.local", Clock::system()).await;
    in_time("the reason", async {
        loop {
            let told = client.ask(Some("account"), &server).await;
            assert!(told.starts_with("Unavailable"), "{told}");
            // A socket that is closed with words of ours unread is reset, and the alert with it, now and then.
            if told.contains("UnknownCA") {
                break;
            }
        }
    })
    .await;
}
