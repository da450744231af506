//! What a process says of itself: `grpc.health.v1` on every port, pages on the admin port.

use std::{collections::BTreeMap, net::SocketAddr, sync::mpsc};

use mesh::{Parts, Phase, Placement, Role, store::Location};
use prost::Message as _;
use prost_types::FileDescriptorProto;
use tokio::net::TcpListener;
use tonic::{Code, Streaming};
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use trivet_proto::health::v1::{HealthListRequest, health_client as list};

use crate::{
    house::{announce, dead_end, house, in_time, plan, plan_of, start},
    line::{Line, fetch, told},
    stub::Stub,
};

const ACCOUNT: &str = "trivet.account.v1.AccountService";
const EVENTS: &str = "trivet.mesh.v1.EventService";
const STATUS: &str = "trivet.mesh.v1.StatusService";

/// How the service of this name is, as one word.
async fn ask(line: &Line, name: &str) -> String {
    let request = HealthCheckRequest { service: name.to_owned() };
    match in_time("a health check", HealthClient::new(line.clone()).check(request)).await {
        Ok(response) => response.into_inner().status().as_str_name().to_owned(),
        Err(status) => format!("{:?}", status.code()),
    }
}

async fn watch(line: &Line, name: &str) -> Streaming<HealthCheckResponse> {
    let request = HealthCheckRequest { service: name.to_owned() };
    in_time("a watch", HealthClient::new(line.clone()).watch(request)).await.unwrap().into_inner()
}

async fn next(watch: &mut Streaming<HealthCheckResponse>) -> ServingStatus {
    in_time("news", watch.message()).await.unwrap().expect("the watch has ended").status()
}

#[tokio::test]
async fn a_service_is_known_by_its_name_on_its_own_port() {
    let (running, address) = house(&Stub::default()).await;
    let line = Line::to(address).await;
    for name in ["", "readiness", "liveness", ACCOUNT, EVENTS, STATUS] {
        assert_eq!(ask(&line, name).await, "SERVING", "{name:?}");
    }
    for name in ["trivet.product.v1.CatalogService", "account", "nothing"] {
        assert_eq!(ask(&line, name).await, "NotFound", "{name:?}");
    }
    let admin = Line::to(running.admin).await;
    for name in ["", "readiness", "liveness", ACCOUNT, EVENTS, STATUS, "trivet.product.v1.CatalogService"] {
        assert_eq!(ask(&admin, name).await, "SERVING", "{name:?} on the admin port");
    }
    assert_eq!(ask(&admin, "nothing").await, "NotFound");
}

/// How every service is that is listed, by its name.
async fn list(line: &Line) -> BTreeMap<String, ServingStatus> {
    let list = in_time("a list", list::HealthClient::new(line.clone()).list(HealthListRequest {})).await.unwrap();
    list.into_inner().statuses.into_iter().map(|(name, answer)| (name, answer.status())).collect()
}

#[tokio::test]
async fn a_list_has_what_a_check_says_of_every_name() {
    let mut plan = plan(&Stub::default());
    plan.server.announce_ms = 3_600_000;
    let running = start(plan).await;
    let line = Line::to(running.addresses["account"]).await;
    let admin = Line::to(running.admin).await;
    let listed = list(&line).await;
    let named = ["", "readiness", "liveness", ACCOUNT, EVENTS, STATUS];
    assert!(named.iter().all(|name| listed[*name] == ServingStatus::Serving), "{listed:?}");
    let foreign = listed.keys().filter(|name| name.starts_with("trivet.product."));
    assert_eq!(foreign.count(), 0, "{listed:?}");
    assert!(list(&admin).await.contains_key("trivet.product.v1.CatalogService"));

    let mut news = watch(&line, "readiness").await;
    let (hurry, draining) = announce(running);
    while next(&mut news).await != ServingStatus::NotServing {}
    for (name, status) in list(&line).await {
        assert_eq!(ask(&line, &name).await, status.as_str_name(), "{name:?}");
        assert_eq!(status == ServingStatus::Serving, name == "liveness", "{name:?}");
    }
    drop((line, admin, news));
    hurry.send(()).unwrap();
    in_time("the drain", draining).await.unwrap();
}

#[tokio::test]
async fn reflection_describes_all_of_its_rpcs() {
    let (_running, address) = house(&Stub::default()).await;
    let symbol = "grpc.health.v1.Health.List".to_owned();
    let message_request = Some(MessageRequest::FileContainingSymbol(symbol));
    let asked = futures_util::stream::iter([ServerReflectionRequest { host: String::new(), message_request }]);
    let mut reflection = ServerReflectionClient::new(Line::to(address).await);
    let mut answers = reflection.server_reflection_info(asked).await.unwrap().into_inner();
    let answer = in_time("the file", answers.message()).await.unwrap().unwrap().message_response;
    let Some(MessageResponse::FileDescriptorResponse(found)) = answer else { panic!("{answer:?}") };
    let file = FileDescriptorProto::decode(found.file_descriptor_proto[0].as_slice()).unwrap();
    let names: Vec<_> = file.service[0].method.iter().map(|method| method.name().to_owned()).collect();
    assert_eq!(names, ["Check", "List", "Watch"]);
}

#[tokio::test]
async fn a_check_of_nobody_says_what_was_not_found() {
    let (_running, address) = house(&Stub::default()).await;
    let request = HealthCheckRequest { service: "nothing".to_owned() };
    let status = HealthClient::new(Line::to(address).await).check(request).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(!told(&status).contains("EVENT"), "{}", told(&status));
}

#[tokio::test]
async fn a_watch_of_an_unknown_service_stays_open() {
    let mut plan = plan(&Stub::default());
    plan.server.announce_ms = 3_600_000;
    let running = start(plan).await;
    let line = Line::to(running.addresses["account"]).await;
    let mut unknown = watch(&line, "nothing").await;
    assert_eq!(next(&mut unknown).await, ServingStatus::ServiceUnknown);
    let mut known = watch(&line, "readiness").await;
    assert_eq!(next(&mut known).await, ServingStatus::Serving);
    let (hurry, draining) = announce(running);
    assert_eq!(next(&mut known).await, ServingStatus::NotServing);
    assert!(futures_util::poll!(Box::pin(unknown.message())).is_pending(), "no news of it, and no end");
    hurry.send(()).unwrap();
    in_time("the drain", draining).await.unwrap();
}

/// A role that becomes ready when the test says so, and the word that says so.
fn late_role() -> (Role, mpsc::Sender<()>) {
    let (ready, waits) = mpsc::channel();
    let stub = Stub::default();
    let services = Box::new(move |parts: Parts| {
        tokio::task::block_in_place(|| waits.recv().unwrap());
        (stub.account_role().services)(parts)
    });
    (Role { name: "account", migrations: crate::house::migrations(), postgres: &[], services }, ready)
}

/// Binds a plan on an admin port that is known beforehand.
async fn bound_with_admin(mut plan: impl FnMut() -> mesh::Plan) -> (mesh::Bound, SocketAddr) {
    loop {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let mut plan = plan();
        plan.server.admin_port = free.port();
        // Somebody else may have been faster.
        if let Ok(bound) = plan.bind().await {
            return (bound, free);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_is_not_ready_before_its_roles_are_nor_once_it_drains() {
    let mut ready = None;
    let (bound, admin) = bound_with_admin(|| {
        let (role, word) = late_role();
        ready = Some(word);
        let mut plan = plan_of(vec![role]);
        plan.server.announce_ms = 3_600_000;
        plan
    })
    .await;
    let starting = tokio::spawn(bound.start());
    let line = in_time("the admin port", Line::to(admin)).await;
    for (name, expected) in
        [("", "NOT_SERVING"), ("readiness", "NOT_SERVING"), (ACCOUNT, "NOT_SERVING"), ("liveness", "SERVING")]
    {
        assert_eq!(ask(&line, name).await, expected, "{name:?}");
    }
    assert_eq!(fetch(admin, "/livez").await, (200, "ok\n".to_owned()));
    assert_eq!(fetch(admin, "/readyz").await, (503, "starting\n".to_owned()));
    assert_eq!(fetch(admin, "/startupz").await, (503, "starting\n".to_owned()));
    let mut news = watch(&line, "readiness").await;
    assert_eq!(next(&mut news).await, ServingStatus::NotServing);

    ready.unwrap().send(()).unwrap();
    assert_eq!(next(&mut news).await, ServingStatus::Serving);
    let running = in_time("the start", starting).await.unwrap().unwrap();
    assert_eq!(running.life.phase(), Phase::Serving);
    assert_eq!(fetch(admin, "/readyz").await, (200, "ok\n".to_owned()));
    assert_eq!(fetch(admin, "/startupz").await, (200, "ok\n".to_owned()));

    let (hurry, draining) = announce(running);
    assert_eq!(next(&mut news).await, ServingStatus::NotServing);
    hurry.send(()).unwrap();
    in_time("the drain", draining).await.unwrap();
}

#[tokio::test]
async fn a_database_that_does_not_answer_is_waited_for_and_the_process_is_not_ready() {
    let (_held, dead) = dead_end();
    let (bound, admin) = bound_with_admin(|| {
        let mut plan = plan_of(vec![]);
        let location = Location::Postgres {
            url: format!("postgres://nobody@{dead}/none"),
            schema: "x".to_owned(),
            connections: 1,
        };
        plan.placements.push(Placement { role: Stub::default().account_role(), port: 0, location });
        plan
    })
    .await;
    let starting = tokio::spawn(bound.start());
    assert_eq!(fetch(admin, "/readyz").await.0, 503);
    assert_eq!(fetch(admin, "/livez").await.0, 200);
    let line = Line::to(admin).await;
    assert_eq!(ask(&line, "readiness").await, "NOT_SERVING");
    assert_eq!(ask(&line, "liveness").await, "SERVING");
    assert!(!starting.is_finished(), "it waits");
    starting.abort();
}

#[tokio::test]
async fn metrics_count_calls_by_method_and_code_and_callers_cannot_add_methods() {
    let stub = Stub::default();
    let running = start(plan(&stub)).await;
    let line = Line::to(running.addresses["product"]).await;
    crate::hops::check_availability(&line, "ada", &[]).await;
    crate::hops::check_availability(&line, "fail", &[("grpc-timeout", "100m")]).await;
    line.post("/some.Service/Invented", &[], bytes::Bytes::new()).await;
    let (status, page) = fetch(running.admin, "/metrics").await;
    assert_eq!(status, 200);
    let count = |metric: &str, method: &str, code: &str| {
        page.lines().any(|line| {
            line.starts_with(metric)
                && line.contains(&format!("\"{method}\""))
                && line.contains(&format!("\"{code}\""))
                && line.ends_with(" 1")
        })
    };
    let server = "rpc_server_call_duration_seconds_count";
    assert!(count(server, "trivet.product.v1.CatalogService/CheckAvailability", "OK"), "{page}");
    assert!(count(server, "trivet.product.v1.CatalogService/CheckAvailability", "UNAVAILABLE"), "{page}");
    assert!(
        count("rpc_client_call_duration_seconds_count", "trivet.account.v1.AccountService/GetAccount", "OK"),
        "{page}"
    );
    assert!(count(server, "other", "UNIMPLEMENTED"), "{page}");
    assert!(!page.contains("Invented"), "{page}");
}
