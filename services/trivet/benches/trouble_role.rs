//! Small services to be in trouble: one that can do so much and no more, and three that ask each other.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use mesh::{
    CallSettings, Clock, EventSettings, IdentitySettings, Peer, Placement, Plan, Role, Running, ServerSettings,
    Services, Target, TlsSettings, events, open,
    store::{Location, SECRETS},
};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use trivet_proto::account::v1::{
    self as account, GetTenantRequest, GetTenantResponse,
    tenant_service_client::TenantServiceClient,
    tenant_service_server::{TenantService, TenantServiceServer},
};

use crate::{stores::channel, telemetry};

/// What GetTenant does.
#[derive(Clone)]
enum Handler {
    /// Works on so many calls at once, so long on each.
    Limited(Arc<Semaphore>, Duration),
    /// Answers at once.
    Prompt,
    /// Notes what time is left, and asks the next one; the last one never answers.
    Link { next: Option<TenantServiceClient<Peer>>, left: Arc<Mutex<Vec<Duration>>> },
}

pub(crate) fn ask(tenant_id: &str) -> GetTenantRequest {
    GetTenantRequest { tenant_id: tenant_id.to_owned() }
}

pub(crate) fn client(address: SocketAddr) -> TenantServiceClient<Channel> {
    TenantServiceClient::new(channel(address))
}

/// Asks whether it is ready.
pub(crate) async fn health(address: SocketAddr) {
    let ask = HealthCheckRequest { service: String::new() };
    HealthClient::new(channel(address)).check(ask).await.unwrap();
}

#[tonic::async_trait]
impl TenantService for Handler {
    async fn get_tenant(&self, request: Request<GetTenantRequest>) -> Result<Response<GetTenantResponse>, Status> {
        match self {
            Self::Prompt => {}
            Self::Limited(places, work) => {
                let _place = places.acquire().await.unwrap();
                tokio::time::sleep(*work).await;
            }
            Self::Link { next, left } => {
                let (context, message) = open(request)?;
                left.lock().unwrap().push(context.remaining());
                match next {
                    Some(next) => return next.clone().get_tenant(context.onward(message)).await,
                    None => std::future::pending().await,
                }
            }
        }
        Ok(Response::new(GetTenantResponse { tenant: None }))
    }

    async fn create_tenant(
        &self,
        _: Request<account::CreateTenantRequest>,
    ) -> Result<Response<account::CreateTenantResponse>, Status> {
        Err(Status::unimplemented("only GetTenant is called"))
    }

    async fn list_tenants(
        &self,
        _: Request<account::ListTenantsRequest>,
    ) -> Result<Response<account::ListTenantsResponse>, Status> {
        Err(Status::unimplemented("only GetTenant is called"))
    }
}

fn role(name: &'static str, handler: impl FnOnce(&mesh::Parts) -> Handler + Send + 'static) -> Role {
    Role {
        name,
        migrations: [&[SECRETS][..], &events::MIGRATIONS].concat(),
        postgres: &[],
        services: Box::new(move |parts| Ok(Services::default().with(TenantServiceServer::new(handler(&parts))))),
    }
}

async fn start(roles: Vec<Role>) -> Running {
    let place = |role| Placement { role, port: 0, location: Location::Memory };
    let plan = Plan {
        server: ServerSettings { admin_port: 0, announce_ms: 0, ..ServerSettings::default() },
        placements: roles.into_iter().map(place).collect(),
        peers: BTreeMap::new(),
        calls: CallSettings::default(),
        tls: TlsSettings::default(),
        identity: IdentitySettings::default(),
        events: EventSettings::default(),
        telemetry: telemetry(),
        clock: Clock::system(),
    };
    plan.bind().await.unwrap().start().await.unwrap()
}

/// A service whose handler works on so many calls at once, so long on each.
pub(crate) async fn limited(at_once: usize, work: Duration) -> (Running, SocketAddr) {
    let places = Arc::new(Semaphore::new(at_once));
    let running = start(vec![role("account", move |_| Handler::Limited(places, work))]).await;
    let address = running.addresses["account"];
    (running, address)
}

/// A service that answers at once.
pub(crate) async fn prompt() -> (Running, SocketAddr) {
    let running = start(vec![role("account", |_| Handler::Prompt)]).await;
    let address = running.addresses["account"];
    (running, address)
}

/// Three services that ask each other, of which the last never answers.
pub(crate) struct Chain {
    running: Running,
    left: Arc<Mutex<Vec<Duration>>>,
}

impl Chain {
    pub(crate) async fn start() -> Self {
        let left: Arc<Mutex<Vec<Duration>>> = Arc::default();
        let link = |name, next: Option<&'static str>| {
            let left = left.clone();
            role(name, move |parts| {
                let next = next.map(|next| TenantServiceClient::new(parts.peers.get(next).unwrap()));
                Handler::Link { next, left }
            })
        };
        let roles = vec![link("account", Some("product")), link("product", Some("billing")), link("billing", None)];
        Self { running: start(roles).await, left }
    }

    pub(crate) fn client(&self) -> TenantServiceClient<Peer> {
        let target = Target::from(self.running.addresses["account"]);
        TenantServiceClient::new(Peer::new("account", &target, telemetry(), CallSettings::default()))
    }

    /// Whether less time was left at each service than at the one before it, of every call.
    pub(crate) fn fell(&self) -> bool {
        self.left.lock().unwrap().chunks(3).all(|call| call.is_sorted_by(|one, next| one > next))
    }

    pub(crate) async fn end(self) {
        self.running.drain(std::future::ready(())).await;
    }
}
