//! `trivet stat`, `edges`, `tap` and `trace`: what flows, with the words and columns of Linkerd's command line.

mod tap;
mod trace;

pub use tap::{TapArguments, tap};
pub use trace::trace;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use clap::Args;
use mesh::{Peer, Tenant};
use prost_types::Duration as WireDuration;
use serde::{Serialize, Serializer};
use tonic::Code;
use trivet_proto::mesh::v1::{
    BreakerState, Edge, GetEdgesRequest, GetGraphRequest, Node, Viewpoint, observe_service_client::ObserveServiceClient,
};

use super::{
    output::{Output, Shown},
    service::{Service, ask, services},
};
use crate::Config;

/// Whom to look at, and how to show it.
#[derive(Args)]
pub struct Look {
    /// host:port of one service, for what its process sees; all three where it is left out.
    #[arg(long)]
    address: Option<String>,
    /// How to show it.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

impl Look {
    async fn services(&self, config: &Config) -> anyhow::Result<Vec<Service>> {
        services(config, self.address.as_deref(), &Tenant::default_tenant()).await
    }
}

impl Service {
    fn observer(&self) -> ObserveServiceClient<Peer> {
        ObserveServiceClient::new(self.peer.clone())
    }

    async fn nodes(&self) -> anyhow::Result<(String, Vec<Node>)> {
        let graph = self.observer().get_graph(self.call().onward(GetGraphRequest {})).await?.into_inner();
        Ok((graph.process, graph.nodes))
    }

    async fn edges(&self) -> anyhow::Result<(String, Vec<Edge>)> {
        let edges = self.observer().get_edges(self.call().onward(GetEdgesRequest {})).await?.into_inner();
        Ok((edges.process, edges.edges))
    }
}

/// What the processes behind these services answer: several services can be of one, which is heard once.
async fn ask_processes<'s, T>(
    services: &'s [Service],
    question: impl AsyncFn(&'s Service) -> anyhow::Result<(String, T)>,
) -> anyhow::Result<Vec<(&'s Service, T)>> {
    let mut heard = BTreeSet::new();
    let answers = ask(services, question).await?;
    Ok(answers
        .into_iter()
        .filter_map(|(service, (process, answer))| heard.insert(process).then_some((service, answer)))
        .collect())
}

/// How each service does that is served by a process which answers.
pub async fn stat(config: &Config, look: &Look) -> anyhow::Result<String> {
    let services = look.services(config).await?;
    let answers = ask_processes(&services, Service::nodes).await?;
    let nodes = answers.into_iter().flat_map(|(_, nodes)| nodes).filter(|node| node.serves);
    let mut rows: Vec<Stat> = nodes.map(Stat::from).collect();
    rows.sort_by(|one, other| one.name.cmp(&other.name));
    look.output.show(&rows)
}

/// How the calls of each method go.
pub async fn edges(config: &Config, look: &Look) -> anyhow::Result<String> {
    let services = look.services(config).await?;
    let answers = ask_processes(&services, Service::edges).await?;
    let edges = once(answers.into_iter().flat_map(|(_, edges)| edges).collect());
    if edges.is_empty() && look.output == Output::Table {
        return Ok("There were no calls in the last minute.\n".to_owned());
    }
    look.output.show(&edges.into_iter().map(Row::from).collect::<Vec<_>>())
}

/// Each edge as its caller sees it where that is among those who answered, sorted: the callee's process saw the same calls.
fn once(edges: Vec<Edge>) -> Vec<Edge> {
    let mut by_name: BTreeMap<(String, String, String), Vec<Edge>> = BTreeMap::new();
    for edge in edges {
        by_name.entry((edge.caller.clone(), edge.callee.clone(), edge.method.clone())).or_default().push(edge);
    }
    let of_callers = |edges: Vec<Edge>| {
        let known = edges.iter().any(|edge| edge.viewpoint() == Viewpoint::Caller);
        edges.into_iter().filter(move |edge| !known || edge.viewpoint() == Viewpoint::Caller)
    };
    by_name.into_values().flat_map(of_callers).collect()
}

/// A line of `trivet stat`.
#[derive(Serialize)]
struct Stat {
    name: String,
    #[serde(flatten)]
    traffic: Traffic,
}

/// What is shown of calls.
#[derive(Serialize)]
struct Traffic {
    /// The share that did not fail.
    success: Option<f64>,
    rps: f64,
    latency_ms_p50: Option<Latency>,
    latency_ms_p95: Option<Latency>,
    latency_ms_p99: Option<Latency>,
}

/// A line of `trivet edges`.
#[derive(Serialize)]
struct Row {
    src: String,
    dst: String,
    method: String,
    #[serde(flatten)]
    traffic: Traffic,
    retries: i64,
    /// Nothing where the caller is in a process that was not asked.
    breaker: Option<&'static str>,
}

impl From<Node> for Stat {
    fn from(node: Node) -> Self {
        let how = (node.success_rate, node.rate);
        Self { traffic: Traffic::new(node.calls, how, [node.p50, node.p95, node.p99]), name: node.name }
    }
}

impl From<Edge> for Row {
    fn from(edge: Edge) -> Self {
        let breaker = match edge.breaker_state() {
            BreakerState::Unspecified => None,
            state => Some(state.as_str_name().trim_start_matches("BREAKER_STATE_")),
        };
        let how = (edge.success_rate, edge.rate);
        let traffic = Traffic::new(edge.calls, how, [edge.p50, edge.p95, edge.p99]);
        Self { src: edge.caller, dst: edge.callee, method: edge.method, traffic, retries: edge.retries, breaker }
    }
}

impl Traffic {
    /// Of so many calls; where there were none, nothing can be said of how they went.
    fn new(calls: i64, (success, rps): (f64, f64), latencies: [Option<WireDuration>; 3]) -> Self {
        let some = calls > 0;
        let [latency_ms_p50, latency_ms_p95, latency_ms_p99] =
            latencies.map(|latency| some.then_some(Latency::of(latency)));
        Self { success: some.then_some(success), rps, latency_ms_p50, latency_ms_p95, latency_ms_p99 }
    }

    /// Success, requests a second, and how long they take; a dash where there were none.
    fn cells(&self) -> [String; 5] {
        let dash = || "-".to_owned();
        let success = self.success.map_or_else(dash, percent);
        let rps = self.success.map_or_else(dash, |_| format!("{:.1}rps", self.rps));
        let latencies = [self.latency_ms_p50, self.latency_ms_p95, self.latency_ms_p99];
        let [p50, p95, p99] = latencies.map(|latency| latency.map_or_else(dash, |latency| latency.to_string()));
        [success, rps, p50, p95, p99]
    }
}

impl Shown<6> for Stat {
    const HEADER: [&'static str; 6] = ["NAME", "SUCCESS", "RPS", "LATENCY_P50", "LATENCY_P95", "LATENCY_P99"];

    fn cells(&self) -> [String; 6] {
        let [success, rps, p50, p95, p99] = self.traffic.cells();
        [self.name.clone(), success, rps, p50, p95, p99]
    }
}

impl Shown<10> for Row {
    const HEADER: [&'static str; 10] =
        ["SRC", "DST", "METHOD", "SUCCESS", "RPS", "P50", "P95", "P99", "RETRIES", "BREAKER"];

    fn cells(&self) -> [String; 10] {
        let [success, rps, p50, p95, p99] = self.traffic.cells();
        let [src, dst, method] = [&self.src, &self.dst, &self.method].map(Clone::clone);
        let breaker = self.breaker.unwrap_or("-").to_owned();
        [src, dst, method, success, rps, p50, p95, p99, self.retries.to_string(), breaker]
    }
}

#[allow(clippy::float_arithmetic, reason = "a share is shown in percent; no money is counted here")]
fn percent(share: f64) -> String {
    format!("{:.2}%", share * 100.0)
}

/// How long something took: short for people, such as `480µs`, `3.1ms` or `2.0s`, and milliseconds for programs.
#[derive(Clone, Copy)]
struct Latency(Duration);

impl Latency {
    fn of(wire: Option<WireDuration>) -> Self {
        Self(wire.and_then(|duration| duration.try_into().ok()).unwrap_or_default())
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = usize::from(self.0 >= Duration::from_millis(1));
        formatter.pad(&format!("{:.digits$?}", self.0))
    }
}

impl Serialize for Latency {
    #[allow(clippy::float_arithmetic, reason = "milliseconds for programs to read; no money is counted here")]
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0.as_secs_f64() * 1_000.0)
    }
}

/// A code as gRPC spells it.
fn code_name(code: i32) -> &'static str {
    mesh::code_name(Code::from_i32(code))
}
