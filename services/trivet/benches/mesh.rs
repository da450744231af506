//! What the mesh costs: one small rpc over bare tonic, over the whole calling and serving stacks, with a hundredth and with all
//! of its calls traced, with mutual TLS, and, where `TRIVET_BENCH_ENVOY` names the program, over bare tonic with an Envoy at either end.
//!
//! `cargo bench -p trivet --bench mesh`; `-- --quick` only looks whether it runs. Each row is a process of its own, set up as
//! `trivet serve` sets itself up, in which caller and server share the processors; CPU per call counts both, and the Envoys of
//! a row, but not the collector that spans are sent to. Rows are measured in turn, because a machine's speed drifts, and each
//! is compared with the bare one of the same round. Compare rows of one run with each other; never two runs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::as_conversions,
    clippy::float_arithmetic,
    clippy::cast_precision_loss,
    clippy::disallowed_methods
)]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use mesh::{
    CallSettings, Clock, Context, EventSettings, IdentitySettings, Peer, Placement, Plan, Role, Running,
    ServerSettings, Services, Target, Telemetry, TelemetrySettings, Tenant, Tls, TlsSettings, events,
    store::{Location, SECRETS},
};
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::TcpListener,
    process::{Child, ChildStdin, ChildStdout, Command},
};
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};
use trivet::{
    Config,
    commands::{CertsCommand, certs},
};
use trivet_proto::account::v1::{
    self as account, GetTenantRequest, GetTenantResponse,
    tenant_service_client::TenantServiceClient,
    tenant_service_server::{TenantService, TenantServiceServer},
};

mod load;
mod mesh_collector;
mod mesh_sidecars;
mod stores;
use load::Load;
use mesh_collector::Collector;
use mesh_sidecars::{Between, Sidecars};
use stores::channel;

/// Callers at once, block by block.
const CALLERS: [u64; 2] = [64, 1];
/// Times that the rows of a block are measured in turn.
const ROUNDS: usize = 5;
/// Connections of a bare caller; as many as the mesh has on two processors.
const CONNECTIONS: usize = 2;
/// How long a call may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// The bars: CPU of the whole stack over bare tonic's, and its calls over those of two sidecars.
const MOST_CPU: f64 = 1.25;
const LEAST_CALLS: f64 = 3.0;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// tonic's own client and server.
    Bare,
    /// Both stacks of the mesh. Of so many of a thousand calls spans are made, and sent to a collector.
    Mesh { traced: u64 },
    /// The same with mutual TLS, where it is known who calls and looked up whether they may.
    Secured,
    /// tonic's own client and server, and an Envoy beside each.
    Sidecars(Between),
}

/// The rows. The first is what the others are compared with.
const ROWS: [(&str, Way); 7] = [
    ("bare tonic", Way::Bare),
    ("mesh", Way::Mesh { traced: 0 }),
    ("mesh, 1 % traced", Way::Mesh { traced: 10 }),
    ("mesh, 100 % traced", Way::Mesh { traced: 1_000 }),
    ("mesh, mutual TLS", Way::Secured),
    ("Envoys, in plaintext", Way::Sidecars(Between::Plaintext)),
    ("Envoys, mutual TLS", Way::Sidecars(Between::MutualTls)),
];

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.iter().position(|argument| argument == "--row") {
        Some(at) => be_measured(ROWS[arguments[at + 1].parse::<usize>().unwrap()].1, &arguments[at + 2]).await,
        None => measure_all(arguments.iter().any(|argument| argument == "--quick")).await,
    }
}

/// A row's process, and its last results.
struct Row {
    name: &'static str,
    way: Way,
    /// It ends by itself when there are no more orders, and whatever it started with it.
    process: Child,
    orders: ChildStdin,
    results: Lines<BufReader<ChildStdout>>,
    rounds: Vec<(Load, f64)>,
}

async fn measure_all(quick: bool) {
    let time = Duration::from_millis(if quick { 100 } else { 1_000 });
    let (collector, endpoint) = Collector::listening().await;
    let mut rows = Vec::new();
    for (number, (name, way)) in ROWS.into_iter().enumerate() {
        if matches!(way, Way::Sidecars(_)) && mesh_sidecars::program().is_none() {
            println!("left out: {name}: {} does not name a program", mesh_sidecars::PROGRAM);
            continue;
        }
        rows.push(Row::start(name, way, number, &endpoint).await);
    }
    println!("{:<24} {:>8} {} {:>8} {:>8}", "", "callers", load::COLUMNS, "x CPU", "x calls");
    for callers in CALLERS {
        for _ in 0..if quick { 1 } else { ROUNDS } {
            let mut bare = None;
            for row in &mut rows {
                let load = row.measure(callers, time).await;
                let bare = *bare.get_or_insert(load);
                row.rounds.push((load, cpu(&load) / cpu(&bare)));
            }
        }
        report(&mut rows, callers);
    }
    for row in rows {
        row.end().await;
    }
    println!(
        "{} spans reached the collector; what comes too fast for the exporter's queue is dropped",
        collector.count()
    );
}

/// Prints a block, and what became of the bars.
fn report(rows: &mut [Row], callers: u64) {
    let middles: Vec<(Way, &str, Load, f64)> = rows
        .iter_mut()
        .map(|row| {
            let (load, of_bare) = middle(std::mem::take(&mut row.rounds));
            (row.way, row.name, load, of_bare)
        })
        .collect();
    let bare = middles[0].2;
    for (_, name, load, of_bare) in &middles {
        let calls = load.calls_per_second / bare.calls_per_second;
        println!("{name:<24} {callers:>8} {} {of_bare:>8.3} {calls:>8.3}", load.columns());
    }
    let of = |way: Way| middles.iter().find(|(this, ..)| *this == way);
    let Some((_, _, mesh, of_bare)) = of(Way::Mesh { traced: 0 }) else { return };
    println!("  the whole stack takes {of_bare:.2} times the CPU of bare tonic; it may take {MOST_CPU}");
    for between in [Between::Plaintext, Between::MutualTls] {
        if let Some((_, name, sidecars, _)) = of(Way::Sidecars(between)) {
            let times = mesh.calls_per_second / sidecars.calls_per_second;
            println!("  and does {times:.1} times the calls of {name}; it must do {LEAST_CALLS}");
        }
    }
}

/// The round in the middle of these, by how its CPU compares.
fn middle(mut rounds: Vec<(Load, f64)>) -> (Load, f64) {
    rounds.sort_by(|one, other| one.1.total_cmp(&other.1));
    rounds[rounds.len() / 2]
}

fn cpu(load: &Load) -> f64 {
    load.cpu_per_call.map_or(f64::NAN, |cpu| cpu.as_secs_f64())
}

impl Row {
    async fn start(name: &'static str, way: Way, number: usize, endpoint: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--row", &number.to_string(), endpoint]);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (orders, results) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        let mut results = BufReader::new(results).lines();
        assert_eq!(results.next_line().await.unwrap().as_deref(), Some("ready"), "{name}");
        Self { name, way, process, orders, results, rounds: Vec::new() }
    }

    async fn measure(&mut self, callers: u64, time: Duration) -> Load {
        self.orders.write_all(format!("{callers} {}\n", time.as_millis()).as_bytes()).await.unwrap();
        let result = self.results.next_line().await.unwrap().unwrap();
        let numbers: Vec<f64> = result.split(' ').map(|number| number.parse().unwrap()).collect();
        let [p50, p99, cpu] = [1, 2, 3].map(|at| Duration::from_secs_f64(numbers[at]));
        Load { calls_per_second: numbers[0], p50, p99, cpu_per_call: Some(cpu) }
    }

    async fn end(mut self) {
        drop(self.orders);
        assert!(self.process.wait().await.unwrap().success(), "{}", self.name);
    }
}

/// The process of one row: sets itself up, and measures as often as it is told to.
async fn be_measured(way: Way, endpoint: &str) {
    match way {
        Way::Bare => {
            let (address, _server) = bare_server().await;
            obey(&[], bare_caller(address)).await;
        }
        Way::Mesh { traced } => {
            let (running, client) = house(if traced > 0 { endpoint } else { "" }, None).await;
            obey(&[], mesh_caller(client, traced)).await;
            running.drain(std::future::ready(())).await;
        }
        Way::Secured => {
            let folder = tempfile::tempdir().unwrap();
            let (running, client) = house("", Some(folder.path())).await;
            obey(&[], mesh_caller(client, 0)).await;
            running.drain(std::future::ready(())).await;
        }
        Way::Sidecars(between) => {
            let (address, _server) = bare_server().await;
            let sidecars = Sidecars::start(address, between).await;
            obey(&sidecars.processes(), bare_caller(sidecars.address)).await;
        }
    }
}

/// Reads orders, `CALLERS MILLISECONDS`, and answers each with what came of it, until there are no more.
async fn obey<F>(others: &[u32], call: impl Fn(u64) -> F + Clone + Send + 'static)
where
    F: Future<Output = Result<(), Status>> + Send,
{
    let processes: Vec<String> = std::iter::once("self".to_owned()).chain(others.iter().map(u32::to_string)).collect();
    let cpu = || processes.iter().filter_map(|process| load::time_of(process)).sum::<Duration>();
    println!("ready");
    // Waiting here holds up nobody: servers and callers have threads of their own.
    for order in std::io::stdin().lines() {
        let order = order.unwrap();
        let (callers, millis) = order.split_once(' ').unwrap();
        let (callers, time) = (callers.parse().unwrap(), Duration::from_millis(millis.parse().unwrap()));
        round(callers, time / 10, &call).await;
        let (began, before) = (Instant::now(), cpu());
        let taken = round(callers, time, &call).await;
        let load = Load::of(taken, began.elapsed(), Some(cpu().saturating_sub(before)));
        let [p50, p99, cpu] = [load.p50, load.p99, load.cpu_per_call.unwrap()].map(|time| time.as_secs_f64());
        println!("{} {p50} {p99} {cpu}", load.calls_per_second);
    }
}

/// Calls as fast as so many callers can, each a task of its own, for this long; how long each call took.
async fn round<F>(callers: u64, time: Duration, call: &(impl Fn(u64) -> F + Clone + Send + 'static)) -> Vec<Duration>
where
    F: Future<Output = Result<(), Status>> + Send,
{
    let end = Instant::now() + time;
    let caller = |first: u64| {
        let call = call.clone();
        tokio::spawn(async move {
            let mut taken = Vec::new();
            let mut number = first;
            while Instant::now() < end {
                let began = Instant::now();
                call(number).await.unwrap();
                taken.push(began.elapsed());
                number += callers;
            }
            taken
        })
    };
    let callers: Vec<_> = (0..callers).map(caller).collect();
    let mut taken = Vec::new();
    for caller in callers {
        taken.extend(caller.await.unwrap());
    }
    taken
}

fn ask() -> GetTenantRequest {
    GetTenantRequest { tenant_id: "default".to_owned() }
}

async fn get<T>(mut client: TenantServiceClient<T>, request: Request<GetTenantRequest>) -> Result<(), Status>
where
    T: tonic::client::GrpcService<tonic::body::Body>,
    T::Error: Into<tonic::codegen::StdError>,
    T::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error: Into<tonic::codegen::StdError> + Send,
{
    client.get_tenant(request).await.map(drop)
}

/// The place of a call in a trace that somebody before us has begun, and has decided to record or not.
fn trace(number: u64, recorded: bool) -> SpanContext {
    let flags = if recorded { TraceFlags::SAMPLED } else { TraceFlags::NOT_SAMPLED };
    let (trace, span) = (TraceId::from(u128::from(number) + 1), SpanId::from(number + 1));
    SpanContext::new(trace, span, flags, true, TraceState::NONE)
}

/// The handler of every row: it does nothing but answer.
struct Echo;

#[tonic::async_trait]
impl TenantService for Echo {
    async fn get_tenant(&self, request: Request<GetTenantRequest>) -> Result<Response<GetTenantResponse>, Status> {
        let tenant_id = request.into_inner().tenant_id;
        let tenant = account::Tenant { tenant_id, name: "Whoever names none".to_owned(), create_time: None };
        Ok(Response::new(GetTenantResponse { tenant: Some(tenant) }))
    }

    async fn create_tenant(
        &self,
        _: Request<account::CreateTenantRequest>,
    ) -> Result<Response<account::CreateTenantResponse>, Status> {
        Err(Status::unimplemented("only GetTenant is measured"))
    }

    async fn list_tenants(
        &self,
        _: Request<account::ListTenantsRequest>,
    ) -> Result<Response<account::ListTenantsResponse>, Status> {
        Err(Status::unimplemented("only GetTenant is measured"))
    }
}

/// A caller of the mesh, with spans for so many of a thousand calls.
fn mesh_caller(
    client: TenantServiceClient<Peer>,
    traced: u64,
) -> impl Fn(u64) -> BoxFuture<'static, Result<(), Status>> + Clone + Send {
    move |number| {
        let mut context = Context::own(Tenant::default_tenant(), DEADLINE);
        context.trace = trace(number, number % 1_000 < traced);
        Box::pin(get(client.clone(), context.onward(ask())))
    }
}

/// Certificates in this folder, of a process and of an operator who calls it.
async fn papers(folder: &Path) -> [TlsSettings; 2] {
    let names = ["trivet", "operator"];
    let (out, names_of) = (folder.to_owned(), names.map(str::to_owned).to_vec());
    certs(&Config::default(), &CertsCommand::Dev { out, trust_domain: None, days: 1, names: names_of }).await.unwrap();
    names.map(|name| {
        let file = |name: String| folder.join(name).display().to_string();
        TlsSettings {
            certificate: file(format!("{name}.pem")),
            key: file(format!("{name}-key.pem")),
            trust_bundle: file("ca.pem".to_owned()),
            ..TlsSettings::default()
        }
    })
}

/// A caller that is tonic's own client.
fn bare_caller(address: SocketAddr) -> impl Fn(u64) -> BoxFuture<'static, Result<(), Status>> + Clone + Send {
    let clients: [_; CONNECTIONS] = std::array::from_fn(|_| TenantServiceClient::new(channel(address)));
    move |number| {
        let client = clients[usize::try_from(number).unwrap() % CONNECTIONS].clone();
        Box::pin(get(client, Request::new(ask())))
    }
}

/// tonic's own server, and where it listens.
async fn bare_server() -> (SocketAddr, tokio::task::JoinHandle<Result<(), tonic::transport::Error>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = Server::builder().add_service(TenantServiceServer::new(Echo));
    (address, tokio::spawn(server.serve_with_incoming(incoming)))
}

/// A process of the mesh with one role, and a caller of it; spans go to this collector, if there is one, and with a folder
/// for certificates both have TLS.
async fn house(endpoint: &str, folder: Option<&Path>) -> (Running, TenantServiceClient<Peer>) {
    let [own, caller] = match folder {
        Some(folder) => papers(folder).await,
        None => Default::default(),
    };
    let operators = if folder.is_some() { "spiffe://trivet.local/operator" } else { "" };
    // The caller has decided already what is traced.
    let settings = TelemetrySettings { otlp_endpoint: endpoint.to_owned(), ..TelemetrySettings::default() };
    let settings = TelemetrySettings { log: "warn".to_owned(), ..settings };
    let telemetry = Arc::new(Telemetry::install(&settings, "bench").unwrap());
    let role = Role {
        name: "account",
        migrations: [&[SECRETS][..], &events::MIGRATIONS].concat(),
        postgres: &[],
        services: Box::new(|_| Ok(Services::default().with(TenantServiceServer::new(Echo)))),
    };
    let plan = Plan {
        server: ServerSettings { admin_port: 0, announce_ms: 0, ..ServerSettings::default() },
        placements: vec![Placement { role, port: 0, location: Location::Memory }],
        peers: BTreeMap::new(),
        calls: CallSettings::default(),
        tls: own,
        identity: IdentitySettings { operators: operators.to_owned(), ..IdentitySettings::default() },
        events: EventSettings::default(),
        telemetry: telemetry.clone(),
        clock: Clock::system(),
    };
    let running = plan.bind().await.unwrap().start().await.unwrap();
    let target = Target::from(running.addresses["account"]);
    let tls = Tls::load(&caller, &Clock::system(), &telemetry).await.unwrap().map(|tls| tls.toward("account"));
    let client = TenantServiceClient::new(Peer::over(tls, "account", &target, telemetry, CallSettings::default()));
    (running, client)
}
