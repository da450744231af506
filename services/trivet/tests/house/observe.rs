//! What flows through the house, as its operators see it: through ObserveService, and from the command line.

use std::{collections::BTreeSet, process::Output};

use serde_json::Value;
use tonic::{Code, Request, transport::Channel};
use trivet::RoleName;
use trivet_proto::{
    account::v1::account_service_client::AccountServiceClient,
    mesh::v1::{
        BreakerState, GetEdgesRequest, GetGraphRequest, GetTraceRequest, ListCallsRequest, Span, TapRequest, Viewpoint,
        get_trace_request::Key, observe_service_client::ObserveServiceClient,
    },
    product::v1::{
        BillingCycle, CheckAvailabilityRequest, CreateSubscriptionRequest, catalog_service_client::CatalogServiceClient,
    },
};

use crate::{
    certificates::{certs, foreign, serve, settings},
    harness::{Databases, House, channel, eventually, on_every_store, person, reason},
    plans::{plan, sell},
    process::{Process, binary},
};

fn observer(house: &House, role: RoleName) -> ObserveServiceClient<Channel> {
    ObserveServiceClient::new(channel(house.running.addresses[role.as_str()]))
}

fn under<M>(request_id: &str, message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-request-id", request_id.parse().unwrap());
    request
}

fn available(user_id: &str) -> CheckAvailabilityRequest {
    CheckAvailabilityRequest { product_id: "oak".to_owned(), user_id: user_id.to_owned(), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_is_one_tree_of_spans_through_product_and_account_from_whichever_port() {
    on_every_store(async |house| {
        sell(house, plan("pro", "30", "300")).await;
        // Of an account that product has not heard of it asks.
        let wish = CreateSubscriptionRequest {
            request_id: "sub-1".to_owned(),
            user_id: "nobody".to_owned(),
            plan_id: "pro".to_owned(),
            billing_cycle: BillingCycle::Monthly.into(),
            ..CreateSubscriptionRequest::default()
        };
        let refused = house.subscriptions().create_subscription(under("wish-1", wish)).await.unwrap_err();
        assert_eq!(reason(&refused), "ACCOUNT_NOT_FOUND");
        for role in RoleName::ALL {
            let mut observer = observer(house, role);
            let asked = GetTraceRequest { key: Some(Key::RequestId("wish-1".to_owned())) };
            let spans = observer.get_trace(asked).await.unwrap().into_inner().spans;
            let root = spans.iter().find(|span| span.parent_span_id.is_empty()).unwrap();
            assert_eq!((root.service.as_str(), root.viewpoint()), ("product", Viewpoint::Callee));
            assert_eq!(root.name, "trivet.product.v1.SubscriptionService/CreateSubscription");
            let below = |parent: &Span| spans.iter().find(|span| span.parent_span_id == parent.span_id).unwrap();
            let asking = below(root);
            assert_eq!((asking.service.as_str(), asking.peer.as_str()), ("product", "account"));
            let asked = below(asking);
            assert_eq!((asked.service.as_str(), asked.name.as_str()), ("account", asking.name.as_str()));
            assert!(spans.iter().all(|span| span.trace_id == root.trace_id && span.request_id == "wish-1"));
            assert_eq!([root, asking, asked].map(|span| span.code), [5; 3], "not found, all the way");

            let unknown = GetTraceRequest { key: Some(Key::RequestId("never".to_owned())) };
            assert_eq!(reason(&observer.get_trace(unknown).await.unwrap_err()), "TRACE_NOT_FOUND");
            let edges = observer.get_edges(GetEdgesRequest {}).await.unwrap().into_inner().edges;
            let edge = edges.iter().find(|edge| (&*edge.caller, &*edge.callee) == ("product", "account")).unwrap();
            assert_eq!((edge.calls > 0, edge.breaker_state(), edge.retries), (true, BreakerState::Closed, 0));
            let graph = observer.get_graph(GetGraphRequest {}).await.unwrap().into_inner();
            let serving: Vec<_> = graph.nodes.iter().filter(|node| node.serves).map(|node| &*node.name).collect();
            assert_eq!(serving, ["account", "billing", "product"]);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_listed_and_tapped_by_what_they_are() {
    on_every_store(async |house| {
        let mut observer = observer(house, RoleName::Billing);
        let asked = TapRequest { method: "trivet.product.".to_owned(), ..TapRequest::default() };
        let mut tap = observer.tap(asked).await.unwrap().into_inner();
        for number in 0..5 {
            let call = under(&format!("call-{number}"), available("nobody"));
            house.catalog().check_availability(call).await.unwrap();
            let shown = tap.message().await.unwrap().unwrap();
            assert_eq!(shown.request_id, format!("call-{number}"));
            assert_eq!((&*shown.caller, &*shown.callee, shown.code), ("operator", "product", 0));
        }
        let mut listed = Vec::new();
        let mut page_token = String::new();
        loop {
            let method = "trivet.product.v1.CatalogService/".to_owned();
            let asked = ListCallsRequest { page_size: 2, page_token, method, ..ListCallsRequest::default() };
            let page = observer.list_calls(asked).await.unwrap().into_inner();
            listed.extend(page.calls.into_iter().map(|call| call.request_id));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(listed, ["call-4", "call-3", "call-2", "call-1", "call-0"]);
    })
    .await;
}

/// The settings by which a command finds a process.
fn ports(process: &Process) -> Vec<(String, String)> {
    let port =
        |role: RoleName| (format!("{}.port", role.as_str()), process.addresses[role.as_str()].port().to_string());
    RoleName::ALL.map(port).to_vec()
}

async fn run(settings: &[(String, String)], arguments: &[&str]) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = binary(arguments, settings).output().await.unwrap();
    (status.code(), String::from_utf8(if stdout.is_empty() { stderr } else { stdout }).unwrap())
}

/// Some calls through product and account, the last of them under this request id.
async fn busy(product: Channel) {
    for id in ["look-1", "look-2", "look-3"] {
        CatalogServiceClient::new(product.clone()).check_availability(under(id, available("nobody"))).await.unwrap();
    }
}

/// The same again and again.
async fn forever(product: Channel) {
    loop {
        busy(product.clone()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_flows_is_shown_by_commands_for_people_and_for_programs() {
    let databases = Databases::sqlite();
    let process = Process::serve("all", &databases, &[("server.announce_ms", "0")]).await;
    let ports = ports(&process);
    let run = async |arguments: &[&str]| run(&ports, arguments).await;
    assert_eq!(run(&["edges"]).await, (Some(0), "There were no calls in the last minute.\n".to_owned()));
    busy(channel(process.addresses["product"])).await;
    let (code, table) = run(&["stat"]).await;
    let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(code, Some(0));
    assert_eq!(words[0], ["NAME", "SUCCESS", "RPS", "LATENCY_P50", "LATENCY_P95", "LATENCY_P99"]);
    assert_eq!(
        (words.len(), &words[1][..2], &words[3][..2]),
        (4, &["account", "100.00%"][..], &["product", "100.00%"][..])
    );
    assert_eq!(words[2], ["billing", "-", "-", "-", "-", "-"], "nobody asked it anything");
    let (_, json) = run(&["stat", "-o", "json"]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json[0]["name"].as_str(), json[0]["success"].as_f64()), (Some("account"), Some(1.0)));
    assert!(json[0]["latency_ms_p50"].as_f64() > Some(0.0) && json[1]["latency_ms_p50"].is_null(), "{json}");

    let (_, table) = run(&["edges"]).await;
    let header: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(header, ["SRC", "DST", "METHOD", "SUCCESS", "RPS", "P50", "P95", "P99", "RETRIES", "BREAKER"]);
    let asked = table.lines().find(|line| line.starts_with("product") && line.contains("GetAccount")).unwrap();
    assert!(asked.ends_with("CLOSED") && asked.contains("100.00%"), "{table}");
    let (_, lines) = run(&["edges", "-o", "jsonl", "--address", &process.addresses["account"].to_string()]).await;
    let edge = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert!(edge.clone().any(|edge| edge["src"] == "product" && edge["dst"] == "account"), "{lines}");
    assert_eq!(edge.count(), table.lines().count() - 1, "any port tells of the whole process");

    let (_, tree) = run(&["trace", "look-1"]).await;
    let spans: Vec<&str> = tree.lines().collect();
    assert!(
        spans[0].starts_with("trace ") && spans[0].contains("request look-1") && spans[1].starts_with("SPAN"),
        "{tree}"
    );
    assert!(spans[2].starts_with("product  trivet.product.v1.CatalogService/CheckAvailability"), "{tree}");
    assert!(spans[3].starts_with("  product -> account  trivet.account.v1.AccountService/GetAccount"), "{tree}");
    assert!(spans[4].starts_with("    account  trivet.account.v1") && spans[4].ends_with("NOT_FOUND"), "{tree}");
    let trace_id = spans[0].split_whitespace().nth(1).unwrap().trim_end_matches(',');
    assert_eq!(run(&["trace", trace_id]).await.1, tree, "by its id as well");
    let (_, json) = run(&["trace", trace_id, "-o", "json"]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json[1]["parent_span_id"], &json[1]["viewpoint"]), (&json[0]["span_id"], &"caller".into()));

    let (code, said) = run(&["trace", "nobody"]).await;
    assert!(code == Some(64 + 5) && said.contains("no trace nobody"), "{code:?} {said}");
    for command in [&["stat"][..], &["edges"], &["tap"], &["trace", "x"], &["events", "flow"], &["status"], &["health"]]
    {
        let (code, said) = run(&[command, &["--address", "127.0.0.1:1"]].concat()).await;
        assert_eq!(code, Some(64 + 14), "{command:?} {said}");
    }
    process.end().await;
    databases.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tap_prints_calls_until_there_were_enough() {
    let databases = Databases::sqlite();
    let process = Process::serve("all", &databases, &[("server.announce_ms", "0")]).await;
    let (ports, product) = (ports(&process), channel(process.addresses["product"]));
    // Nobody knows when a tap has begun: there are calls every now and then.
    let tapped = async |arguments: &[&str]| {
        let arguments = [&["tap", "--max", "2", "--from", "product", "--code", "not_found"], arguments].concat();
        tokio::select! {
            (code, said) = run(&ports, &arguments) => {
                assert_eq!(code, Some(0), "{said}");
                said
            }
            () = forever(product.clone()) => unreachable!(),
        }
    };
    let table = tapped(&["--to", "account", "--method", "trivet.account.v1.AccountService/Get"]).await;
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines.len() == 3 && lines[0].starts_with("TIME"), "{table}");
    let columns: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(columns[1..4], ["product", "account", "NOT_FOUND"], "{table}");
    assert!(columns[0].ends_with('Z') && columns[6].starts_with("look-"), "{table}");
    let json: Value = serde_json::from_str(&tapped(&["-o", "json"]).await).unwrap();
    assert_eq!((json.as_array().unwrap().len(), &json[0]["code"]), (2, &"NOT_FOUND".into()));
    process.end().await;
    databases.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_processes_are_shown_as_one_house() {
    let databases = Databases::sqlite();
    let quick = ("server.announce_ms", "0");
    let account = Process::serve("account", &databases, &[quick]).await;
    let address = account.addresses["account"].to_string();
    let product = Process::serve(
        "product",
        &databases,
        &[quick, ("account.address", &address), ("billing.address", "127.0.0.1:1")],
    )
    .await;
    let places = [
        ("account.address", &address),
        ("product.address", &product.addresses["product"].to_string()),
        ("billing.address", &"127.0.0.1:1".to_owned()),
    ];
    let settings = places.map(|(key, value)| (key.to_owned(), value.clone()));
    AccountServiceClient::new(channel(account.addresses["account"])).ensure_account(person("ada")).await.unwrap();
    busy(channel(product.addresses["product"])).await;
    let (code, stat) = run(&settings, &["stat"]).await;
    let names: Vec<_> = stat.lines().skip(1).map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!((code, names), (Some(0), vec!["account", "product"]), "who is there is shown, {stat}");
    let (_, edges) = run(&settings, &["edges"]).await;
    let asked: Vec<_> = edges.lines().filter(|line| line.contains("GetAccount")).collect();
    assert!(asked.len() == 1 && asked[0].ends_with("CLOSED"), "as its caller sees it, and once: {edges}");
    let asked_of = channel(product.addresses["product"]);
    let tap = ["tap", "--max", "5", "--to", "account", "--from", "product", "-o", "jsonl"];
    let tapped = tokio::select! {
        (code, said) = run(&settings, &tap) => (code, said),
        () = forever(asked_of) => unreachable!(),
    };
    let traces = tapped.1.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["trace_id"].to_string());
    assert_eq!((tapped.0, traces.collect::<BTreeSet<_>>().len()), (Some(0), 5), "each call once: {}", tapped.1);
    let (_, tree) = run(&settings, &["trace", "look-1"]).await;
    assert!(tree.lines().nth(4).unwrap().starts_with("    account  trivet.account.v1.AccountService"), "{tree}");
    let (code, said) = run(&settings, &["check"]).await;
    assert_eq!(code, Some(1), "{said}");
    for line in
        ["√ is ready, its schema up to date", "× answers at 127.0.0.1:1", "× billing", "Status check results are ×"]
    {
        assert!(said.lines().any(|found| found == line), "{line} is not in {said}");
    }
    product.end().await;
    account.end().await;
    databases.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_house_that_is_well_passes_every_check() {
    let databases = Databases::sqlite();
    let process = Process::serve("all", &databases, &[("server.announce_ms", "0")]).await;
    let ports = ports(&process);
    let mut last = String::new();
    eventually("all is well", async || {
        let (code, said) = run(&ports, &["check"]).await;
        last = said;
        code == Some(0)
    })
    .await;
    assert!(last.ends_with("Status check results are √\n") && !last.contains('×'), "{last}");
    for name in ["account", "product", "billing"] {
        assert!(last.lines().any(|line| line == name), "{last}");
    }
    let (code, json) =
        run(&ports, &["check", "-o", "json", "--address", &process.addresses["billing"].to_string()]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["success"], json["categories"].as_array().unwrap().len()), (Some(0), &true.into(), 1));
    let checks = json["categories"][0]["checks"].as_array().unwrap();
    assert!(checks.iter().all(|check| check["result"] == "success"), "{checks:?}");
    process.end().await;
    databases.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_are_known_by_their_credentials_and_not_by_what_they_call_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    certs(out, &["trivet", "operator", "shop"]).await.unwrap();
    let databases = Databases::sqlite();
    let workloads = "spiffe://trivet.local/shop default product.read";
    let identities = [("identity.operators", "spiffe://trivet.local/operator"), ("identity.workloads", workloads)];
    let further = [&identities[..], &[("server.announce_ms", "0")]].concat();
    let process = serve("all", &databases, out, &further).await;
    let calls = [
        (Some("shop"), "10S", Code::Ok),
        (None, "10S", Code::Unauthenticated),
        // Refused before anybody asks who it is.
        (Some("shop"), "soon", Code::InvalidArgument),
    ];
    for (name, timeout, outcome) in calls {
        let mut request = Request::new(available("nobody"));
        request.metadata_mut().insert("x-trivet-caller", "billing@1".parse().unwrap());
        request.metadata_mut().insert("grpc-timeout", timeout.parse().unwrap());
        let mut catalog = CatalogServiceClient::new(foreign(process.addresses["product"], out, name));
        assert_eq!(
            catalog.check_availability(request).await.map_or_else(|status| status.code(), |_| Code::Ok),
            outcome
        );
    }
    let operator = [&ports(&process)[..], &settings(out, "operator")].concat();
    let (code, lines) = run(&operator, &["edges", "-o", "jsonl"]).await;
    let edges = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let edges = edges.map(|edge| format!("{} {}", edge["src"].as_str().unwrap(), edge["dst"].as_str().unwrap()));
    assert_eq!(code, Some(0));
    assert_eq!(
        edges.collect::<Vec<_>>(),
        ["operator product", "product account", "refused product", "workload product"],
        "{lines}"
    );
    process.end().await;
    databases.done().await;
}
