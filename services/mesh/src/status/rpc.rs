//! The wire: `trivet.mesh.v1.StatusService`, and how a peer is asked whether it is ready.

use std::time::Duration;

use tonic::{Code, Request, Response, Status, async_trait};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_types::StatusExt as _;
use tracing::warn;
use trivet_proto::mesh::v1::{
    GetStatusRequest, GetStatusResponse, Status as WireStanding, StatusCheck,
    status_service_server::{StatusService, StatusServiceServer},
};

use super::{Check, Finding, Overview, PartReport, Report, Standing, Subject};
use crate::{CallSettings, Peer, REQUEST_BYTES};

/// A peer is given up this long after it was asked: before whoever asked gives up, so that the answer says why.
const PEER_PATIENCE: Duration = Duration::from_millis(1_900);

impl Subject<'_> {
    /// The service that tells how the role is; `further` is looked at beside what every role has.
    pub(crate) fn server(&self, further: Vec<Check>) -> StatusServiceServer<impl StatusService + use<>> {
        let overview = Overview::new(self.checks(further), self);
        StatusServiceServer::new(overview).max_decoding_message_size(REQUEST_BYTES)
    }
}

#[async_trait]
impl StatusService for Overview {
    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        let Report { standing, time, uptime, parts } = self.report().await;
        Ok(Response::new(GetStatusResponse {
            status: wire(standing).into(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            time: Some(time.to_wire()),
            uptime: Some(lasting(uptime)),
            checks: parts.into_iter().map(check).collect(),
        }))
    }
}

fn check(report: PartReport) -> StatusCheck {
    let PartReport { name, standing, latency, since, message } = report;
    StatusCheck {
        name: name.to_owned(),
        status: wire(standing).into(),
        latency: Some(lasting(latency)),
        since: Some(since.to_wire()),
        message,
    }
}

fn wire(standing: Standing) -> WireStanding {
    match standing {
        Standing::Ok => WireStanding::Ok,
        Standing::Degraded => WireStanding::Degraded,
        Standing::Down => WireStanding::Down,
    }
}

/// No process is up for the 292 billion years that a duration of the wire can hold.
fn lasting(duration: Duration) -> prost_types::Duration {
    duration.try_into().unwrap_or_default()
}

/// How peers are asked. Without a breaker, which would go on saying DOWN for a minute after a peer is back, and without
/// waits between attempts to connect; one small question at a time does an ill peer no harm.
pub(super) fn settings() -> CallSettings {
    CallSettings {
        default_deadline: PEER_PATIENCE,
        // Twice within the time.
        connect_timeout: PEER_PATIENCE * 4 / 9,
        breaker_failures: u32::MAX,
        longest_wait: Duration::ZERO,
        connections: 1,
        ..CallSettings::default()
    }
}

/// Asks a peer whether it is ready, a second time where it could not be heard: the connection may have been an old one,
/// or the endpoint one that is gone, and others are there. The retries of the call stack know methods of our contract
/// only.
pub(super) async fn readiness(peer: Peer) -> Finding {
    let name = peer.name();
    let mut client = HealthClient::new(peer);
    let question = || HealthCheckRequest { service: "readiness".to_owned() };
    let mut answer = client.check(question()).await;
    if answer.as_ref().is_err_and(|status| status.code() == Code::Unavailable) {
        answer = client.check(question()).await;
    }
    match answer.map(|response| response.into_inner().status()) {
        Ok(ServingStatus::Serving) => Finding::Ok,
        Ok(other) => Finding::Down(format!("{name} is {}", other.as_str_name())),
        Err(status) => {
            warn!("{name} was asked how it is: {status}");
            // Not the message: that names addresses.
            let reason = status.get_details_error_info().map(|info| info.reason);
            let reason = reason.unwrap_or_else(|| format!("{:?}", status.code()));
            Finding::Down(format!("{name} does not answer ({reason})"))
        }
    }
}
