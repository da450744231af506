//! What `StatusService` tells of a role: its phase, its database, its peers.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use mesh::{Clock, Placement, Role, Running, Store, StoreError, Time, store::Location};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
};
use tokio_util::sync::CancellationToken;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use trivet_proto::mesh::v1::{
    GetStatusRequest, GetStatusResponse, StatusCheck, status_service_client::StatusServiceClient,
};

use crate::{
    database::{context, on_each_database},
    house::{announce, dead_end, eventually, house, in_time, kill, plan, plan_of, start},
    line::Line,
    stub::Stub,
};

const SERVICE: &str = "trivet.mesh.v1.StatusService";
/// Two seconds for a part that does not answer, and more than that for a busy machine.
const AT_MOST: Duration = Duration::from_secs(5);

async fn status(address: SocketAddr) -> GetStatusResponse {
    let mut client = StatusServiceClient::new(Line::to(address).await);
    in_time("the status", client.get_status(GetStatusRequest {})).await.unwrap().into_inner()
}

/// The status without what differs each time: `DEGRADED: api OK, database OK, billing DOWN`. Events are no matter here:
/// without their database they have none either.
fn shown(status: &GetStatusResponse) -> String {
    let word = |name: &'static str| name.trim_start_matches("STATUS_");
    let check = |check: &StatusCheck| format!("{} {}", check.name, word(check.status().as_str_name()));
    let checks: Vec<String> = status.checks.iter().filter(|check| check.name != "events").map(check).collect();
    format!("{}: {}", word(status.status().as_str_name()), checks.join(", "))
}

fn check<'s>(status: &'s GetStatusResponse, name: &str) -> &'s StatusCheck {
    status.checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("no {name} in {status:?}"))
}

/// A process of account alone that knows these others.
async fn account_among(peers: &[(&'static str, SocketAddr)]) -> Running {
    let mut plan = plan_of(vec![Stub::default().account_role()]);
    plan.peers = peers.iter().map(|(name, address)| (*name, (*address).into())).collect();
    start(plan).await
}

/// Account, and the store that it is given.
fn account_and_its_store() -> (Role, UnboundedReceiver<Store>) {
    let (tell, told) = unbounded_channel();
    let role = Stub::default().account_role();
    let services = role.services;
    let telling = Box::new(move |parts: mesh::Parts| {
        tell.send(parts.store.clone()).unwrap();
        services(parts)
    });
    (Role { services: telling, ..role }, told)
}

#[tokio::test]
async fn a_role_that_is_well_says_so_part_by_part() {
    let (running, account) = house(&Stub::default()).await;
    let well = status(account).await;
    assert_eq!(shown(&well), "OK: api OK, database OK, product OK");
    assert_eq!(check(&well, "events").status(), trivet_proto::mesh::v1::Status::Ok);
    assert_eq!(shown(&status(running.addresses["product"]).await), "OK: api OK, database OK, account OK");
    assert_eq!(well.version, env!("CARGO_PKG_VERSION"));
    assert!(well.time.is_some() && Duration::try_from(well.uptime.unwrap()).unwrap() > Duration::ZERO);
    for check in &well.checks {
        assert_eq!(check.message, "", "{check:?}");
        assert!(Duration::try_from(check.latency.unwrap()).unwrap() > Duration::ZERO, "{check:?}");
    }
}

#[tokio::test]
async fn the_status_is_known_to_health_and_reflection_of_every_port() {
    let (running, _) = house(&Stub::default()).await;
    for address in running.addresses.values() {
        let line = Line::to(*address).await;
        let request = HealthCheckRequest { service: SERVICE.to_owned() };
        HealthClient::new(line.clone()).check(request).await.unwrap();
        let message_request = Some(MessageRequest::ListServices(String::new()));
        let list = ServerReflectionRequest { host: String::new(), message_request };
        let mut reflection = ServerReflectionClient::new(line);
        let mut answers =
            reflection.server_reflection_info(futures_util::stream::iter([list])).await.unwrap().into_inner();
        let answer = in_time("the list", answers.message()).await.unwrap().unwrap().message_response;
        let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("{answer:?}") };
        assert!(list.service.iter().any(|service| service.name == SERVICE), "{list:?}");
    }
}

#[tokio::test]
async fn a_peer_that_is_away_makes_it_degraded_and_no_more() {
    let (_held, dead) = dead_end();
    let running = account_among(&[("billing", dead)]).await;
    let degraded = status(running.addresses["account"]).await;
    assert_eq!(shown(&degraded), "DEGRADED: api OK, database OK, billing DOWN");
    assert_eq!(check(&degraded, "billing").message, "billing does not answer (DEPENDENCY_UNAVAILABLE)");
}

#[tokio::test]
async fn a_peer_that_drains_is_not_ready() {
    let mut plan = plan(&Stub::default());
    plan.server.announce_ms = 3_600_000;
    let elsewhere = start(plan).await;
    let running = account_among(&[("product", elsewhere.addresses["product"])]).await;
    let account = running.addresses["account"];
    assert_eq!(shown(&status(account).await), "OK: api OK, database OK, product OK");
    let (hurry, draining) = announce(elsewhere);
    eventually("the drain", async || shown(&status(account).await) == "DEGRADED: api OK, database OK, product DOWN")
        .await;
    assert_eq!(check(&status(account).await, "product").message, "product is NOT_SERVING");
    hurry.send(()).unwrap();
    in_time("the drain", draining).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_never_answers_is_down_and_nobody_waits_for_it_for_long() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let running = account_among(&[("billing", address), ("product", address)]).await;
    let began = Instant::now();
    let degraded = status(running.addresses["account"]).await;
    assert!(began.elapsed() < AT_MOST, "it took {:?}", began.elapsed());
    assert_eq!(shown(&degraded), "DEGRADED: api OK, database OK, billing DOWN, product DOWN");
    // The call ended; it was not only left alone. Who says nothing is not connected to.
    assert_eq!(check(&degraded, "billing").message, "billing does not answer (DEPENDENCY_UNAVAILABLE)");
}

#[tokio::test]
async fn a_peer_of_which_one_endpoint_is_gone_is_well() {
    let (there, _) = house(&Stub::default()).await;
    let (_held, dead) = dead_end();
    let target: mesh::Target = format!("{dead},{}", there.addresses["account"]).parse().unwrap();
    let mut plan = plan_of(vec![Stub::default().account_role()]);
    // Many, because the endpoint that is asked first is chosen at random.
    let peers = ["a", "b", "c", "d", "e", "f", "g", "h"];
    plan.peers = peers.into_iter().map(|name| (name, target.clone())).collect();
    let running = start(plan).await;
    let well = status(running.addresses["account"]).await;
    assert!(shown(&well).starts_with("OK: "), "{well:?}");
}

#[tokio::test]
async fn a_peer_that_is_back_is_seen_at_once_however_often_it_failed() {
    let (there, behind) = house(&Stub::default()).await;
    let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = door.local_addr().unwrap();
    let back = CancellationToken::new();
    let is_back = back.clone();
    let doorkeeper = tokio::spawn(async move {
        while let Ok((mut caller, _)) = door.accept().await {
            if is_back.is_cancelled() {
                let mut house = TcpStream::connect(behind).await.unwrap();
                tokio::spawn(async move { tokio::io::copy_bidirectional(&mut caller, &mut house).await });
            }
        }
    });
    let running = account_among(&[("billing", address)]).await;
    let account = running.addresses["account"];
    for _ in 0..10 {
        let degraded = status(account).await;
        assert_eq!(check(&degraded, "billing").message, "billing does not answer (DEPENDENCY_UNAVAILABLE)");
    }
    back.cancel();
    assert_eq!(shown(&status(account).await), "OK: api OK, database OK, billing OK");
    doorkeeper.abort();
    kill(there).await;
}

#[tokio::test]
async fn a_database_that_is_away_makes_it_down_and_the_answer_does_not_say_where_it_was() {
    Box::pin(on_each_database(async |database| {
        let (role, mut store) = account_and_its_store();
        let mut plan = plan_of(vec![]);
        plan.placements.push(Placement { role, port: 0, location: database.location() });
        let running = start(plan).await;
        let account = running.addresses["account"];
        assert_eq!(shown(&status(account).await), "OK: api OK, database OK");
        database.take_away(&store.recv().await.unwrap()).await;
        // The second time there is no connection any more that could break.
        for _ in 0..2 {
            let down = status(account).await;
            assert_eq!(shown(&down), "DOWN: api OK, database DOWN");
            assert_eq!(check(&down, "database").message, "the database cannot be asked");
        }
        kill(running).await;
    }))
    .await;
}

/// Holds a transaction open until it is told to let go.
struct Hold {
    holds: CancellationToken,
    let_go: CancellationToken,
}

#[tokio::test]
async fn a_database_that_does_not_answer_makes_it_down_and_is_well_once_it_does() {
    let (role, mut store) = account_and_its_store();
    let mut plan = plan_of(vec![]);
    // Its one connection is the database.
    plan.placements.push(Placement { role, port: 0, location: Location::Memory });
    let running = start(plan).await;
    let (account, store) = (running.addresses["account"], store.recv().await.unwrap());
    let (holds, let_go) = (CancellationToken::new(), CancellationToken::new());
    let hold = Hold { holds: holds.clone(), let_go: let_go.clone() };
    let holding = tokio::spawn(async move {
        let work: mesh::store::Work<Hold, ()> = |hold, _| {
            Box::pin(async {
                hold.holds.cancel();
                hold.let_go.cancelled().await;
                Ok::<_, StoreError>(())
            })
        };
        store.unit(&context()).run(hold, work).await
    });
    in_time("the hold", holds.cancelled()).await;
    let began = Instant::now();
    let down = status(account).await;
    assert!(began.elapsed() < AT_MOST, "it took {:?}", began.elapsed());
    assert_eq!(shown(&down), "DOWN: api OK, database DOWN");
    assert_eq!(check(&down, "database").message, "no answer within 2 s");
    let_go.cancel();
    in_time("the end of the hold", holding).await.unwrap().unwrap();
    eventually("the database", async || shown(&status(account).await) == "OK: api OK, database OK").await;
}

#[tokio::test]
async fn a_part_is_as_it_is_since_it_last_changed() {
    const MINUTE: Duration = Duration::from_mins(1);
    let begin = Time::from_micros(1_700_000_000_000_000);
    let clock = Clock::held(begin);
    let (there, elsewhere) = house(&Stub::default()).await;
    let mut plan = plan_of(vec![Stub::default().account_role()]);
    plan.clock = clock.clone();
    plan.peers = BTreeMap::from([("billing", elsewhere.into())]);
    let running = start(plan).await;
    let account = running.addresses["account"];
    let since = |status: &GetStatusResponse, name| Time::from_wire(&check(status, name).since.unwrap()).unwrap();
    let time = |status: &GetStatusResponse| Time::from_wire(&status.time.unwrap()).unwrap();

    let first = status(account).await;
    assert_eq!(since(&first, "billing"), begin, "as far as it was asked");
    clock.advance(MINUTE);
    let second = status(account).await;
    assert_eq!((time(&second), since(&second, "billing")), (begin.plus(MINUTE), begin));

    kill(there).await;
    clock.advance(MINUTE);
    for minutes in 2..4 {
        let down = status(account).await;
        assert_eq!(shown(&down), "DEGRADED: api OK, database OK, billing DOWN");
        assert_eq!(time(&down), begin.plus(MINUTE * minutes));
        assert_eq!(since(&down, "billing"), begin.plus(MINUTE * 2));
        assert_eq!((since(&down, "api"), since(&down, "database")), (begin, begin), "nothing happened to these");
        clock.advance(MINUTE);
    }
}

#[tokio::test]
async fn a_role_that_drains_says_that_it_is_degraded() {
    let mut plan = plan_of(vec![Stub::default().account_role()]);
    plan.server.announce_ms = 3_600_000;
    let running = start(plan).await;
    let account = running.addresses["account"];
    assert_eq!(shown(&status(account).await), "OK: api OK, database OK");
    let (hurry, draining) = announce(running);
    eventually("draining", async || shown(&status(account).await) == "DEGRADED: api DEGRADED, database OK").await;
    let message = check(&status(account).await, "api").message.clone();
    assert!(message.contains("draining"), "{message}");
    hurry.send(()).unwrap();
    in_time("the drain", draining).await.unwrap();
}
