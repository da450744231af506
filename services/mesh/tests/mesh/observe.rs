//! What a process sees of its calls, through the port of any of its roles.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use mesh::{CallSettings, Context, Peer, Placement, Plan, Running, Target, Tenant, store::Location};
use tonic::{Code, Request, Status};
use trivet_proto::{
    account::v1::account_service_client::AccountServiceClient,
    mesh::v1::{
        BreakerState, Edge, GetEdgesRequest, GetGraphRequest, GetStatusRequest, GetTraceRequest, ListCallsRequest,
        Span, TapRequest, Viewpoint, get_trace_request::Key, observe_service_client::ObserveServiceClient,
        status_service_client::StatusServiceClient,
    },
};

use crate::{
    hops::check_availability,
    house::{drain, eventually, get, house, in_time, plan, plan_of, start, telemetry},
    line::{GET_ACCOUNT, Line, frame, outcome},
    stub::Stub,
};

type Observer = ObserveServiceClient<Peer>;

fn peer(address: SocketAddr) -> Peer {
    Peer::new("account", &Target::from(address), telemetry(), CallSettings::default())
}

fn observer(address: SocketAddr) -> Observer {
    ObserveServiceClient::new(peer(address))
}

async fn edges(observer: &Observer) -> Vec<Edge> {
    observer.clone().get_edges(GetEdgesRequest {}).await.unwrap().into_inner().edges
}

/// The edges as `caller callee method calls`.
async fn told(observer: &Observer) -> Vec<String> {
    let told = |edge: &Edge| {
        let (_, method) = edge.method.split_once('/').unwrap_or(("", &edge.method));
        format!("{} {} {method} {}", edge.caller, edge.callee, edge.calls)
    };
    edges(observer).await.iter().map(told).collect()
}

async fn trace(observer: &Observer, key: Key) -> Result<Vec<Span>, Status> {
    let answer = observer.clone().get_trace(GetTraceRequest { key: Some(key) }).await?;
    Ok(answer.into_inner().spans)
}

/// Makes sure that each span has an id of its own, in one trace.
fn are_apart(spans: &[Span]) {
    let ids: BTreeSet<&str> = spans.iter().map(|span| span.span_id.as_str()).collect();
    assert!(ids.len() == spans.len() && ids.iter().all(|id| id.len() == 16), "{spans:?}");
    assert!(spans.iter().all(|span| span.trace_id == spans[0].trace_id && span.trace_id.len() == 32), "{spans:?}");
}

fn request(id: &str) -> Key {
    Key::RequestId(id.to_owned())
}

/// A house of both roles, and a line to product.
async fn asked_house() -> (Running, Line, Observer) {
    let running = start(plan(&Stub::default())).await;
    let line = Line::to(running.addresses["product"]).await;
    let observer = observer(running.addresses["account"]);
    (running, line, observer)
}

#[tokio::test]
async fn a_call_over_two_hops_is_a_tree_of_three_spans_whether_or_not_it_is_sampled() {
    const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let (_running, line, observer) = asked_house().await;
    for (id, traceparent, parent) in [
        ("sampled", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "00f067aa0ba902b7"),
        ("not-sampled", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b8-00", "00f067aa0ba902b8"),
        ("without", "", ""),
    ] {
        check_availability(&line, "ada", &[("traceparent", traceparent), ("x-request-id", id)]).await;
        let spans = trace(&observer, request(id)).await.unwrap();
        let sides: Vec<_> = spans.iter().map(|span| (span.service.as_str(), span.viewpoint())).collect();
        let expected = [("product", Viewpoint::Callee), ("product", Viewpoint::Caller), ("account", Viewpoint::Callee)];
        assert_eq!(sides, expected, "in the order in which they began");
        let parents: Vec<&str> = spans.iter().map(|span| span.parent_span_id.as_str()).collect();
        assert_eq!(parents, [parent, &spans[0].span_id, &spans[1].span_id], "{id}");
        let names = spans.iter().map(|span| span.name.rsplit('/').next().unwrap());
        assert_eq!(names.collect::<Vec<_>>(), ["CheckAvailability", "GetAccount", "GetAccount"]);
        are_apart(&spans);
        assert_ne!(spans[0].span_id, parent);
        assert!(spans.iter().all(|span| span.request_id == id && span.code == 0));
        let took = spans.iter().map(|span| Duration::try_from(span.duration.unwrap()).unwrap());
        assert!(took.collect::<Vec<_>>().is_sorted_by(|outer, inner| outer > inner), "{spans:?}");
    }
    let both = trace(&observer, Key::TraceId(TRACE_ID.to_owned())).await.unwrap();
    assert_eq!(both.len(), 6);
    for unknown in [request("nobody"), Key::TraceId("1".repeat(32))] {
        assert_eq!(outcome(&trace(&observer, unknown).await), "NotFound TRACE_NOT_FOUND");
    }
    for garbled in [request(""), request("two words"), Key::TraceId("x".repeat(32)), Key::TraceId("0".repeat(32))] {
        assert_eq!(outcome(&trace(&observer, garbled).await), "InvalidArgument INVALID_FIELDS");
    }
    let nothing = observer.clone().get_trace(GetTraceRequest { key: None }).await;
    assert_eq!(outcome(&nothing), "InvalidArgument INVALID_FIELDS");
}

#[tokio::test]
async fn edges_and_the_graph_count_each_call_once_and_no_call_that_only_looks() {
    let (running, line, observer) = asked_house().await;
    for _ in 0..3 {
        check_availability(&line, "ada", &[]).await;
    }
    check_availability(&line, "notfound", &[]).await;
    assert!(
        line.post("/trivet.account.v1.AccountService/Nonsense", &[], Vec::new().into()).await.told().contains("METHOD")
    );
    StatusServiceClient::new(peer(running.addresses["product"])).get_status(GetStatusRequest {}).await.unwrap();
    let edges = edges(&observer).await;
    assert_eq!(
        told(&observer).await,
        ["operator product CheckAvailability 4", "operator product other 1", "product account GetAccount 4"]
    );
    let asked = &edges[2];
    assert_eq!((asked.viewpoint(), asked.breaker_state()), (Viewpoint::Caller, BreakerState::Closed));
    let codes: Vec<_> = asked.codes.iter().map(|count| (count.code, count.calls)).collect();
    assert_eq!(codes, [(0, 3), (5, 1)]);
    assert!((asked.success_rate - 1.0).abs() < 1e-9, "a refusal is no failure");
    let durations = [asked.p50, asked.p95, asked.p99].map(|p| Duration::try_from(p.unwrap()).unwrap());
    assert!(durations[0] > Duration::ZERO && durations.is_sorted() && asked.rate > 0.0, "{asked:?}");
    assert_eq!((edges[0].viewpoint(), edges[0].breaker_state()), (Viewpoint::Callee, BreakerState::Unspecified));

    let graph = observer.clone().get_graph(GetGraphRequest {}).await.unwrap().into_inner();
    let nodes: Vec<_> = graph.nodes.iter().map(|node| (node.name.as_str(), node.serves, node.calls)).collect();
    assert_eq!(nodes, [("account", true, 4), ("operator", false, 0), ("product", true, 5)]);
    let pairs: BTreeMap<_, _> =
        graph.edges.iter().map(|edge| ((edge.caller.as_str(), edge.callee.as_str()), edge.calls)).collect();
    assert_eq!(pairs, [(("operator", "product"), 5), (("product", "account"), 4)].into());
    assert!(graph.edges.iter().all(|edge| edge.method.is_empty()));
}

#[tokio::test]
async fn another_process_is_another_viewpoint_and_a_made_up_caller_is_nobody() {
    let stub = Stub::default();
    let account = start(plan_of(vec![stub.account_role()])).await;
    let peers = BTreeMap::from([("account", Target::from(account.addresses["account"]))]);
    let product = start(Plan { peers, ..plan_of(vec![stub.product_role()]) }).await;
    check_availability(&Line::to(product.addresses["product"]).await, "ada", &[("x-request-id", "one")]).await;
    let (here, there) = (observer(product.addresses["product"]), observer(account.addresses["account"]));
    assert_eq!(told(&here).await, ["operator product CheckAvailability 1", "product account GetAccount 1"]);
    assert_eq!(told(&there).await, ["product account GetAccount 1"]);
    let views = (edges(&here).await[1].viewpoint(), edges(&there).await[0].viewpoint());
    assert_eq!(views, (Viewpoint::Caller, Viewpoint::Callee));
    let process =
        async |observer: &Observer| observer.clone().get_graph(GetGraphRequest {}).await.unwrap().into_inner().process;
    assert_ne!(process(&here).await, process(&there).await);
    let parents: Vec<String> = trace(&here, request("one")).await.unwrap().into_iter().map(|s| s.span_id).collect();
    let spans = trace(&there, request("one")).await.unwrap();
    assert_eq!((spans.len(), &spans[0].parent_span_id), (1, &parents[1]), "the tree goes on in the other process");

    let house = start(plan(&stub)).await;
    let line = Line::to(house.addresses["account"]).await;
    for caller in ["", "product", "mallory@1", "product@made-up"] {
        line.post(GET_ACCOUNT, &[("x-trivet-caller", caller)], frame(&get("ada"))).await;
    }
    let house = observer(house.addresses["account"]);
    assert_eq!(told(&house).await, ["operator account GetAccount 3", "product account GetAccount 1"]);
    assert_eq!(edges(&house).await[1].viewpoint(), Viewpoint::Callee, "and so it is not taken for a call of our own");
}

#[tokio::test]
async fn retries_and_breakers_are_those_of_the_caller() {
    let stub = Stub::failing(1);
    let running =
        start(Plan { calls: CallSettings { breaker_failures: 2, ..CallSettings::default() }, ..plan(&stub) }).await;
    let (line, observer) = (Line::to(running.addresses["product"]).await, observer(running.addresses["product"]));
    check_availability(&line, "flaky", &[]).await;
    let edge = |edges: Vec<Edge>| edges.into_iter().find(|edge| edge.caller == "product").unwrap();
    let flaky = edge(edges(&observer).await);
    assert_eq!((flaky.calls, flaky.retries, flaky.breaker_state()), (1, 1, BreakerState::Closed));
    check_availability(&line, "fail", &[]).await;
    let failed = edge(edges(&observer).await);
    assert_eq!((failed.calls, failed.breaker_state()), (2, BreakerState::Open));
    assert!((failed.success_rate - 0.5).abs() < 1e-9);
}

#[tokio::test]
async fn a_call_that_its_caller_gives_up_is_seen_as_cancelled() {
    let stub = Stub::default();
    let (_running, address) = house(&stub).await;
    let mut accounts = AccountServiceClient::new(peer(address));
    let call = tokio::spawn(async move { accounts.get_account(get("held")).await });
    stub.begun(1).await;
    call.abort();
    let observer = observer(address);
    let cancelled = i32::from(Code::Cancelled);
    let seen = async || edges(&observer).await.iter().any(|edge| edge.codes.iter().any(|of| of.code == cancelled));
    eventually("the call is seen", seen).await;
}

#[tokio::test]
async fn calls_are_listed_page_by_page_and_by_what_they_are() {
    let (_running, line, observer) = asked_house().await;
    for number in 0..5 {
        check_availability(&line, "ada", &[("x-request-id", &format!("call-{number}"))]).await;
    }
    let list = async |asked: ListCallsRequest| Ok(observer.clone().list_calls(asked).await?.into_inner());
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let page = list(ListCallsRequest { page_size: 3, page_token, ..ListCallsRequest::default() }).await.unwrap();
        seen.extend(page.calls.into_iter().map(|call| format!("{} {}", call.request_id, call.callee)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let expected = (0..5).rev().flat_map(|n| [format!("call-{n} product"), format!("call-{n} account")]);
    assert_eq!(seen, expected.collect::<Vec<_>>());
    let of_product = ListCallsRequest { caller: "product".to_owned(), page_size: 2, ..ListCallsRequest::default() };
    let page = list(of_product.clone()).await.unwrap();
    assert!(page.calls.iter().all(|call| call.callee == "account" && call.method.ends_with("/GetAccount")));
    let elsewhere = ListCallsRequest { page_token: page.next_page_token, code: Some(0), ..of_product };
    assert_eq!(outcome(&list(elsewhere).await), "InvalidArgument INVALID_PAGE_TOKEN");
    let failed = list(ListCallsRequest { code: Some(14), ..ListCallsRequest::default() }).await.unwrap();
    assert_eq!(failed.calls.len(), 0);
}

#[tokio::test]
async fn a_tap_shows_calls_as_they_end_and_ends_with_the_process() {
    let (running, line, observer) = asked_house().await;
    let asked = TapRequest { method: "trivet.account.v1.".to_owned(), ..TapRequest::default() };
    let mut calls = observer.clone().tap(asked).await.unwrap().into_inner();
    check_availability(&line, "ada", &[("x-request-id", "one")]).await;
    check_availability(&line, "notfound", &[]).await;
    for (id, code) in [("one", Code::Ok), ("", Code::NotFound)] {
        let call = in_time("a call", calls.message()).await.unwrap().unwrap();
        assert_eq!((call.caller.as_str(), call.callee.as_str()), ("product", "account"));
        assert_eq!((call.method.as_str(), call.code), ("trivet.account.v1.AccountService/GetAccount", code.into()));
        assert!(id.is_empty() || call.request_id == id);
        assert!(call.time.is_some() && call.duration.is_some() && call.trace_id.len() == 32 && call.missed == 0);
    }
    drop(line);
    let ending = tokio::spawn(drain(running));
    assert_eq!(outcome(&in_time("the end", calls.message()).await.map(drop)), "Unavailable DRAINING");
    drop(calls);
    in_time("the drain", ending).await.unwrap();
}

#[tokio::test]
async fn too_many_taps_are_refused_until_one_goes() {
    let (running, address) = house(&Stub::default()).await;
    let observer = observer(address);
    let tap = async || observer.clone().tap(TapRequest::default()).await;
    let mut taps = Vec::new();
    for _ in 0..16 {
        taps.push(tap().await.unwrap());
    }
    assert_eq!(outcome(&tap().await), "ResourceExhausted OVERLOADED");
    taps.pop();
    eventually("a place is free", async || tap().await.is_ok()).await;
    drop(taps);
    drain(running).await;
}

#[tokio::test]
async fn what_a_process_does_of_itself_is_seen_as_well_and_traced_from_where_it_begins() {
    let stub = Stub::default();
    let place = |role| Placement { role, port: 0, location: Location::Memory };
    let (tell, told) = tokio::sync::oneshot::channel();
    let mut product = stub.product_role();
    let services = product.services;
    product.services = Box::new(move |parts| {
        let accounts = AccountServiceClient::new(parts.peers.get("account")?);
        parts.background.spawn(|_| async move {
            let mut request = Request::new(get("ada"));
            request.extensions_mut().insert(Context::own(Tenant::default_tenant(), Duration::from_secs(9)));
            let answer = { accounts }.get_account(request).await.map(drop);
            tell.send(answer).unwrap();
        });
        services(parts)
    });
    let placements = vec![place(stub.account_role()), place(product)];
    let running = start(Plan { placements, ..plan(&stub) }).await;
    in_time("the call", told).await.unwrap().unwrap();
    let observer = observer(running.addresses["account"]);
    assert_eq!(self::told(&observer).await, ["product account GetAccount 1"]);
    let spans = trace(&observer, request("own")).await.unwrap();
    assert_eq!((spans.len(), spans[0].parent_span_id.as_str()), (2, ""));
    assert_eq!(spans[1].parent_span_id, spans[0].span_id);
    are_apart(&spans);
}
