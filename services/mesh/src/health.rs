//! `grpc.health.v1`: whether a process turns (`liveness`), and whether it should get calls (`readiness`, the empty name,
//! and every service by its full name).
//!
//! tonic-health's own service says SERVING from birth, ends a Watch of a name it does not know, and has no List; this one is
//! better.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, StreamExt as _, stream};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus};
use trivet_proto::health::v1::{
    HealthListRequest, HealthListResponse,
    health_server::{Health, HealthServer},
};

use crate::{Reason, Refusal};

/// Another replica is there at once.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// What is SERVING for as long as the process turns.
const LIVENESS: &str = "liveness";

/// Where a process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not ready yet: ports are bound, dependencies are awaited.
    Starting,
    /// Takes calls.
    Serving,
    /// Takes the calls that still come, and asks for no more.
    Draining,
    /// Takes nothing new, and ends what would never end by itself.
    Leaving,
}

/// The phase that a process is in, for whoever wants to watch it.
#[derive(Clone)]
pub struct Life(Arc<watch::Sender<Phase>>);

impl Default for Life {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Phase::Starting)))
    }
}

impl Life {
    /// The present phase.
    pub fn phase(&self) -> Phase {
        *self.0.borrow()
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.0.send_replace(phase);
    }

    fn watch(&self) -> watch::Receiver<Phase> {
        self.0.subscribe()
    }

    /// The stream up to its first error, that included, and no longer than the process takes calls: who hears DRAINING
    /// goes on elsewhere.
    pub(crate) fn until_leaving<T, S>(&self, stream: S) -> impl Stream<Item = Result<T, Status>> + use<T, S>
    where
        S: Stream<Item = Result<T, Status>>,
    {
        stream::unfold(Some((Box::pin(stream), self.watch())), async |going_on| {
            let (mut stream, mut phases) = going_on?;
            let item = tokio::select! {
                biased;
                () = left(&mut phases) => Some(Err(draining())),
                item = stream.next() => item,
            }?;
            let going_on = item.is_ok().then_some((stream, phases));
            Some((item, going_on))
        })
    }
}

/// Comes back once the process ends what would never end by itself.
async fn left(phases: &mut watch::Receiver<Phase>) {
    // A process that is gone altogether has left, too.
    let _ = phases.wait_for(|phase| *phase == Phase::Leaving).await;
}

fn draining() -> Status {
    Refusal::new(Reason::Draining, "the process is going away; another one answers").retry_after(RETRY_AFTER).into()
}

/// The health service of one port.
#[derive(Clone)]
pub(crate) struct HealthService {
    life: Life,
    services: Arc<[&'static str]>,
}

impl HealthService {
    /// Health over these services, by their full names.
    pub(crate) fn server(life: &Life, services: &[&'static str]) -> HealthServer<Self> {
        HealthServer::new(Self { life: life.clone(), services: services.into() })
    }

    /// Every name that can be asked for.
    fn names(&self) -> impl Iterator<Item = &'static str> {
        ["", LIVENESS, "readiness"].into_iter().chain(self.services.iter().copied())
    }

    fn status(&self, name: &str, phase: Phase) -> ServingStatus {
        match self.names().find(|known| *known == name) {
            None => ServingStatus::ServiceUnknown,
            Some(LIVENESS) => ServingStatus::Serving,
            Some(_) if phase == Phase::Serving => ServingStatus::Serving,
            Some(_) => ServingStatus::NotServing,
        }
    }
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let name = request.into_inner().service;
        match self.status(&name, self.life.phase()) {
            ServingStatus::ServiceUnknown => {
                Err(Refusal::new(Reason::ServiceNotFound, "no service of this name is served on this port").into())
            }
            status => Ok(Response::new(response(status))),
        }
    }

    async fn list(&self, _: Request<HealthListRequest>) -> Result<Response<HealthListResponse>, Status> {
        let phase = self.life.phase();
        let status = |name: &'static str| (name.to_owned(), response(self.status(name, phase)));
        Ok(Response::new(HealthListResponse { statuses: self.names().map(status).collect() }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let name = request.into_inner().service;
        let service = self.clone();
        let phases = WatchStream::new(self.life.watch());
        // A watch ends when its caller ends it, or with the process.
        let news = phases.scan(None, move |last, phase| {
            let status = service.status(&name, phase);
            let news = (*last != Some(status)).then_some(Ok(response(status)));
            *last = Some(status);
            std::future::ready(Some(news))
        });
        Ok(Response::new(Box::pin(self.life.until_leaving(news.filter_map(std::future::ready)))))
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}
