//! A process of two stub services, and how a test waits.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use mesh::{
    CallSettings, Clock, EventSettings, IdentityMode, IdentitySettings, Peer, Placement, Plan, Role, Running,
    ServerSettings, Target, Telemetry, TlsSettings, events,
    store::{self, Location, Migration},
};
use tokio::{sync::oneshot, task::JoinHandle};
use trivet_proto::account::v1::{
    GetAccountRequest, UpdateAccountRequest, account_service_client::AccountServiceClient,
};

use crate::stub::Stub;

/// Nothing here takes longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(30);

/// The schema of a role that keeps nothing of its own.
pub(crate) fn migrations() -> Vec<Migration> {
    [&[store::SECRETS][..], &events::MIGRATIONS].concat()
}

/// A plan of account and product, in memory and on free ports, that goes away without delay.
pub(crate) fn plan(stub: &Stub) -> Plan {
    plan_of(vec![stub.account_role(), stub.product_role()])
}

/// A plan of these roles.
pub(crate) fn plan_of(roles: Vec<Role>) -> Plan {
    let place = |role| Placement { role, port: 0, location: Location::Memory };
    Plan {
        server: ServerSettings { admin_port: 0, announce_ms: 0, grace_ms: 10_000, ..ServerSettings::default() },
        placements: roles.into_iter().map(place).collect(),
        peers: BTreeMap::new(),
        calls: CallSettings::default(),
        tls: TlsSettings::default(),
        // With certificates, too, whoever gets in may do everything: what callers may do is looked at elsewhere.
        identity: IdentitySettings { mode: IdentityMode::Off, ..IdentitySettings::default() },
        events: EventSettings::default(),
        telemetry: telemetry(),
        clock: Clock::system(),
    }
}

/// Starts a plan that is good.
pub(crate) async fn start(plan: Plan) -> Running {
    in_time("binding", plan.bind()).await.unwrap().start().await.unwrap()
}

/// A running process, and where its account service listens.
pub(crate) async fn house(stub: &Stub) -> (Running, SocketAddr) {
    let running = start(plan(stub)).await;
    let account = running.addresses["account"];
    (running, account)
}

/// Goes away at its own pace.
pub(crate) async fn drain(running: Running) {
    in_time("the drain", running.drain(std::future::pending())).await;
}

/// Begins to go away, and only announces it until the sender says to hurry. For processes that announce for long.
pub(crate) fn announce(running: Running) -> (oneshot::Sender<()>, JoinHandle<()>) {
    let (hurry, hurried) = oneshot::channel();
    let hurried = async { hurried.await.unwrap() };
    (hurry, tokio::spawn(async { in_time("the drain", running.drain(hurried)).await }))
}

/// Goes away at once, as after a second signal.
pub(crate) async fn kill(running: Running) {
    in_time("the forced end", running.drain(std::future::ready(()))).await;
}

pub(crate) fn telemetry() -> Arc<Telemetry> {
    Arc::new(Telemetry::quiet().unwrap())
}

/// A caller of account at these addresses.
pub(crate) fn caller(addresses: &[SocketAddr], settings: CallSettings) -> AccountServiceClient<Peer> {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let target: Target = addresses.join(",").parse().unwrap();
    AccountServiceClient::new(Peer::new("account", &target, telemetry(), settings))
}

/// An address that refuses every connection for as long as the socket is held: bound, and never listened on.
pub(crate) fn dead_end() -> (tokio::net::TcpSocket, SocketAddr) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Asks for this account; the stub knows what to make of the id.
pub(crate) fn get(user_id: &str) -> GetAccountRequest {
    use trivet_proto::account::v1::get_account_request::Key;
    GetAccountRequest { key: Some(Key::UserId(user_id.to_owned())), ..Default::default() }
}

/// Asks to update this account, which the schema does not let anybody repeat.
pub(crate) fn update(user_id: &str) -> UpdateAccountRequest {
    UpdateAccountRequest { user_id: user_id.to_owned(), ..UpdateAccountRequest::default() }
}

/// The answer, unless it takes longer than anything here may.
pub(crate) async fn in_time<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what} takes too long"))
}

/// Asks again and again until the condition holds.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    in_time(what, async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
