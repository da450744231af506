//! The life of a process: bind every port, open the stores, serve, and go away without failing a call.

mod role;
mod settings;

pub use role::{Parts, Peers, Role, Services};
pub use settings::ServerSettings;

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpListener, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;
use tracing::{info, warn};

use crate::{
    Background, CallSettings, Clock, Target, Telemetry, Tls, TlsFault, TlsSettings, admin, config,
    events::{self, EventSettings, Events},
    health::{HealthService, Life, Phase},
    observe,
    serve::{
        self, FaultFault, Faults, Identity, IdentityMode, IdentitySettings, Known, OriginFaults, Origins, ProcessWord,
        Rate, Serving, Streams, Workloads,
        accept::{Ending, Limits},
    },
    status,
    store::{Location, Migration, Store, StoreError},
};

/// A database that does not answer is asked again after this long.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// How long callers of the admin port may take to hear that it closes.
const ADMIN_GRACE: Duration = Duration::from_secs(1);

/// How long work that no call asked for may take to come to its end; the rest of [`STORE_GRACE`] is the databases'.
const BACKGROUND_GRACE: Duration = Duration::from_secs(5);

/// How long everything that writes may take to end, all databases together. With what a drain waits before, it is less
/// than the 40 s that deploy/ grants a process.
const STORE_GRACE: Duration = Duration::from_secs(10);

/// Where one role of this process is to be.
pub struct Placement {
    /// The role.
    pub role: Role,
    /// Its port; 0 takes any that is free.
    pub port: u16,
    /// Its database.
    pub location: Location,
}

/// Everything that a process is started from.
pub struct Plan {
    /// Settings of the process.
    pub server: ServerSettings,
    /// The roles that run in it.
    pub placements: Vec<Placement>,
    /// Services that run elsewhere. A role that runs here needs no entry, and an entry wins over it.
    pub peers: BTreeMap<&'static str, Target>,
    /// How peers are called.
    pub calls: CallSettings,
    /// Who the process is, and whom it believes.
    pub tls: TlsSettings,
    /// Who may call, and how often.
    pub identity: IdentitySettings,
    /// What carries events.
    pub events: EventSettings,
    /// Logs, spans, metrics.
    pub telemetry: Arc<Telemetry>,
    /// The time.
    pub clock: Clock,
}

/// Why a process did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A port cannot be had.
    #[error(
        "{what} cannot listen on {address}: {source}; set {key} to another port, with {variable} or --set {key}=.."
    )]
    Port {
        /// Whose port.
        what: String,
        /// Where.
        address: SocketAddr,
        /// The setting that moves it.
        key: String,
        /// The variable that moves it.
        variable: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Plaintext on a network that is not the machine's own.
    #[error(
        "server.host is {0}, which others can reach, and nothing is encrypted: set tls.certificate, tls.key and \
         tls.trust_bundle, or server.insecure if that is meant"
    )]
    Insecure(IpAddr),
    /// Certificates that cannot be used.
    #[error("TLS cannot be had")]
    Tls(#[from] TlsFault),
    /// Settings of who may call that say nothing that could be done.
    #[error(transparent)]
    Identity(#[from] config::Faults),
    /// A role needs a service that is nowhere.
    #[error("no address of {0} is known: set {0}.address")]
    NoPeer(&'static str),
    /// The database is there and not as it must be.
    #[error("the database of {role} cannot be used")]
    Store {
        /// Whose.
        role: &'static str,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The bus that the settings name cannot be one.
    #[error("events.nats_url cannot be used: {0}")]
    Events(String),
    /// Faults on purpose that cannot be read.
    #[error("server.faults cannot be used: {0}")]
    Faults(#[from] FaultFault),
    /// Origins that cannot be read.
    #[error("server.web_origins cannot be used: {0}")]
    Origins(#[from] OriginFaults),
    /// Reflection cannot be built from the contract.
    #[error("the contract cannot be reflected")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// A process whose ports are bound and which does nothing yet.
pub struct Bound {
    plan: Plan,
    faults: Faults,
    tls: Option<Tls>,
    workloads: Arc<Workloads>,
    origins: Origins,
    admin: TcpListener,
    listeners: Vec<TcpListener>,
}

/// A process that serves.
pub struct Running {
    /// Where each role listens.
    pub addresses: BTreeMap<&'static str, SocketAddr>,
    /// Where the admin port is.
    pub admin: SocketAddr,
    /// The phase it is in.
    pub life: Life,
    server: ServerSettings,
    ending: Ending,
    admin_end: CancellationToken,
    tasks: TaskTracker,
    background: Background,
    stores: Vec<Store>,
    telemetry: Arc<Telemetry>,
}

impl Plan {
    /// Binds every port before anything else: a port that is taken must not cost a migration.
    pub async fn bind(self) -> Result<Bound, StartError> {
        let host = self.server.host;
        if !host.is_loopback() && !self.server.insecure && !self.tls.on() {
            return Err(StartError::Insecure(host));
        }
        let tls = Tls::load(&self.tls, &self.clock, &self.telemetry).await?;
        let workloads = Arc::new(self.identity.read(&self.tls)?);
        let mode = self.identity.mode(tls.is_some());
        if mode == IdentityMode::Enforce && self.identity.operators.is_empty() {
            warn!("Nobody is an operator: keys, tenants and dead letters are out of reach (identity.operators)");
        } else if mode != IdentityMode::Enforce && (tls.is_some() || !host.is_loopback()) {
            warn!("Every caller may do everything (identity.mode)");
        }
        let origins: Origins = self.server.web_origins.parse()?;
        let faults: Faults = self.server.faults.parse()?;
        if !faults.is_empty() {
            warn!("Calls go wrong on purpose: {faults} (server.faults)");
        }
        let admin = bind("the admin port", host, self.server.admin_port, "server.admin_port").await?;
        let mut listeners = Vec::new();
        for placement in &self.placements {
            let name = placement.role.name;
            listeners.push(bind(name, host, placement.port, &format!("{name}.port")).await?);
        }
        Ok(Bound { plan: self, faults, origins, tls, workloads, admin, listeners })
    }
}

async fn bind(what: &str, host: IpAddr, port: u16, key: &str) -> Result<TcpListener, StartError> {
    let address = SocketAddr::from((host, port));
    TcpListener::bind(address).await.map_err(|source| StartError::Port {
        what: what.to_owned(),
        address,
        key: key.to_owned(),
        variable: format!("{}{}", crate::config::PREFIX, key.to_uppercase().replace('.', "_")),
        source,
    })
}

impl Bound {
    /// Opens the stores, starts the roles and becomes ready. A database that does not answer is waited for, with
    /// readiness NOT_SERVING; dropping the future gives up.
    pub async fn start(self) -> Result<Running, StartError> {
        let Self { plan, faults, origins, tls, workloads, admin, listeners } = self;
        let began = Instant::now();
        let life = Life::default();
        let ending = Ending::default();
        let limits = Limits::of(&plan.server, &origins);
        let (admin_end, tasks) = (CancellationToken::new(), TaskTracker::new());
        let background = Background::default();
        // Whatever was begun ends with a start that fails or is given up.
        let undo = [ending.drain.clone().drop_guard(), admin_end.clone().drop_guard(), background.stop_on_drop()];
        let names = contract_services(&plan.placements);
        let admin_address = address_of(&admin);
        tasks.spawn(serve_admin(admin, life.clone(), plan.telemetry.clone(), names, admin_end.clone()));
        let addresses: BTreeMap<_, _> = plan
            .placements
            .iter()
            .zip(&listeners)
            .map(|(place, listener)| (place.role.name, address_of(listener)))
            .collect();
        // Whom a certificate names needs no word.
        let word = (tls.is_none() && plan.identity.mode(false) != IdentityMode::Off).then(ProcessWord::new);
        let peers = peers(&plan, &addresses, tls.clone(), word.clone());
        if let Some(tls) = tls.clone() {
            background.spawn(|end| tls.keep_up(end));
        }
        let known = Known { settings: &plan.identity, workloads, tls: &plan.tls, word };
        let rate = Rate::new(&plan.identity);
        let mut events = Events::new(&plan.events, &plan.clock, &plan.telemetry).await.map_err(StartError::Events)?;
        let mut stores = Vec::new();
        for (placement, listener) in plan.placements.into_iter().zip(listeners) {
            let Role { name, migrations, postgres, services } = placement.role;
            let store = open_store(name, &placement.location, &migrations, postgres).await?;
            let tokens = store.token_key().await.map_err(|source| StartError::Store { role: name, source })?;
            stores.push(store.clone());
            let (clock, telemetry) = (plan.clock.clone(), plan.telemetry.clone());
            let (peers, background, streams) = (peers.of(name), background.clone(), Streams(life.clone()));
            let (own, time, signals) = (store.clone(), clock.clone(), telemetry.clone());
            let parts = Parts { store: own, clock: time, tokens, peers, background, telemetry: signals, streams };
            let services = services(parts.clone())?.with(events::server(name, &parts));
            let mut services = services.with(observe::server(name, &parts));
            let mut checks = vec![events.check(&store)];
            checks.append(&mut services.checks);
            let status = status::Subject { role: name, parts: &parts, life: &life, began };
            services = services.with(status.server(checks));
            events.add(name, &store, std::mem::take(&mut services.handlers));
            let routes = with_health_and_reflection(services, &life)?;
            let default_deadline = Duration::from_millis(plan.server.deadline_ms);
            let identity = Identity::new(&known, &parts);
            let (faults, origins, rate) = (faults.clone(), origins.clone(), rate.clone());
            let serving = Serving { role: name, telemetry, clock, default_deadline, faults, origins, identity, rate };
            let (stack, tls) = (serve::stack(&serving, routes), tls.clone());
            tasks.spawn(serve::accept::accept(listener, tls, stack, limits, ending.clone()));
        }
        events.start(&background);
        life.enter(Phase::Serving);
        for guard in undo {
            guard.disarm();
        }
        Ok(Running {
            addresses,
            admin: admin_address,
            life,
            server: plan.server,
            ending,
            admin_end,
            tasks,
            background,
            stores,
            telemetry: plan.telemetry,
        })
    }
}

async fn serve_admin(
    listener: TcpListener,
    life: Life,
    telemetry: Arc<Telemetry>,
    names: Vec<&'static str>,
    end: CancellationToken,
) {
    if let Err(error) = admin::serve(listener, life, telemetry, names, end).await {
        warn!(error = %error, "The admin port failed: {error}");
    }
}

/// The address of a listener that was bound a moment ago.
fn address_of(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)))
}

/// The services and where each is: here, unless it is said to be elsewhere.
fn peers(plan: &Plan, here: &BTreeMap<&'static str, SocketAddr>, tls: Option<Tls>, word: Option<ProcessWord>) -> Peers {
    let here = here.iter().filter(|(name, _)| !plan.peers.contains_key(*name));
    let said = word.map(|word| (word, here.clone().map(|(name, _)| *name).collect()));
    let here = here.map(|(name, address)| (*name, Target::from(*address)));
    let targets = Arc::new(here.chain(plan.peers.clone()).collect());
    Peers { role: None, targets, telemetry: plan.telemetry.clone(), settings: plan.calls, tls, said }
}

/// The full names of these roles' services, and of those that every role has, each once.
fn contract_services(placements: &[Placement]) -> Vec<&'static str> {
    let of_role =
        |name: &&str| placements.iter().any(|place| name.starts_with(&format!("trivet.{}.", place.role.name)));
    let ours = |name: &&str| name.starts_with("trivet.mesh.") || of_role(name);
    let name = |method: &trivet_proto::Method| method.path.trim_start_matches('/').split('/').next();
    let mut names: Vec<_> = trivet_proto::METHODS.iter().filter_map(name).filter(ours).collect();
    names.dedup();
    names
}

/// Opens and migrates a database; one that does not answer is waited for, and the log says so.
async fn open_store(
    role: &'static str,
    location: &Location,
    migrations: &[Migration],
    postgres: &'static [(&'static str, &'static str)],
) -> Result<Store, StartError> {
    loop {
        let opened: Result<Store, StoreError> = async {
            let store = Store::open_with(location.clone(), postgres).await?;
            store.migrate(migrations).await?;
            Ok(store)
        }
        .await;
        match opened {
            Ok(store) => {
                info!("{role} keeps its rows in {location}");
                return Ok(store);
            }
            Err(error @ StoreError::Unavailable(_)) => {
                warn!("Still waiting for the database of {role} ({location}): {}", crate::chain(&error));
                tokio::time::sleep(STORE_RETRY).await;
            }
            Err(source) => return Err(StartError::Store { role, source }),
        }
    }
}

/// Every port can say what it serves and how it is.
fn with_health_and_reflection(services: Services, life: &Life) -> Result<Routes, StartError> {
    let Services { mut routes, names, .. } = services;
    let builder = || {
        let builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(trivet_proto::DESCRIPTORS)
            // Without these grpcurl prints details as bytes, and Python cannot ask for them.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
            .with_service_name("grpc.health.v1.Health");
        names.iter().fold(builder, |builder, name| builder.with_service_name(*name))
    };
    routes.add_service(HealthService::server(life, &names));
    routes.add_service(builder().build_v1()?);
    routes.add_service(builder().build_v1alpha()?);
    Ok(routes.routes().prepare())
}

impl Running {
    /// Goes away without failing a call: says NOT_SERVING, goes on for a while, then takes no new connection, sends
    /// GOAWAY, and waits for what is under way. `hurry` cuts every wait short.
    pub async fn drain(self, hurry: impl Future<Output = ()>) {
        let mut hurry = std::pin::pin!(hurry);
        self.life.enter(Phase::Draining);
        let announce = Duration::from_millis(self.server.announce_ms);
        info!("Draining: not ready any more, still serving for {} ms", announce.as_millis());
        let hurried = tokio::select! {
            () = tokio::time::sleep(announce) => false,
            () = &mut hurry => true,
        };
        self.life.enter(Phase::Leaving);
        self.ending.drain.cancel();
        self.ending.connections.close();
        if !hurried {
            let grace = Duration::from_millis(self.server.grace_ms);
            tokio::select! {
                () = self.ending.connections.wait() => {}
                () = tokio::time::sleep(grace) => warn!("Calls are still under way after {} ms", grace.as_millis()),
                () = hurry => {}
            }
        }
        self.ending.force.cancel();
        self.ending.connections.wait().await;
        let end = Instant::now() + STORE_GRACE;
        if tokio::time::timeout(BACKGROUND_GRACE, self.background.finish()).await.is_err() {
            warn!("Work in the background is still under way after {} s", BACKGROUND_GRACE.as_secs());
        }
        for store in &self.stores {
            match tokio::time::timeout_at(end, store.close()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => warn!("A store did not close: {}", crate::chain(&error)),
                Err(_) => warn!("A database does not answer; what was under way there is left to it"),
            }
        }
        self.admin_end.cancel();
        self.tasks.close();
        if tokio::time::timeout(ADMIN_GRACE, self.tasks.wait()).await.is_err() {
            warn!("The admin port still has callers, which are cut off");
        }
        let telemetry = self.telemetry;
        // The exporter blocks its thread while it sends.
        let flushed = tokio::task::spawn_blocking(move || telemetry.flush()).await;
        if let Err(error) = flushed {
            warn!(error = %error, "Telemetry was not flushed: {error}");
        }
        info!("Drained");
    }
}
