//! The admin port: plaintext, for the platform. Probes, metrics, and `grpc.health.v1` for Kubernetes' gRPC probes, which
//! know no TLS.

use std::sync::Arc;

use axum::{Router, extract::State, http::StatusCode, routing::get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::{
    Telemetry,
    health::{HealthService, Life, Phase},
};

#[derive(Clone)]
struct Admin {
    life: Life,
    telemetry: Arc<Telemetry>,
}

/// Serves the admin port until told to end.
pub(crate) async fn serve(
    listener: TcpListener,
    life: Life,
    telemetry: Arc<Telemetry>,
    services: Vec<&'static str>,
    end: CancellationToken,
) -> std::io::Result<()> {
    let health = Routes::new(HealthService::server(&life, &services)).into_axum_router();
    let pages = Router::new()
        .route("/livez", get(async || (StatusCode::OK, "ok\n")))
        .route("/readyz", get(readyz))
        .route("/startupz", get(startupz))
        .route("/metrics", get(metrics))
        .with_state(Admin { life, telemetry });
    axum::serve(listener, pages.merge(health)).with_graceful_shutdown(end.cancelled_owned()).await
}

async fn readyz(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    match admin.life.phase() {
        Phase::Serving => (StatusCode::OK, "ok\n"),
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Phase::Draining | Phase::Leaving => (StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
    }
}

async fn startupz(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    match admin.life.phase() {
        Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Phase::Serving | Phase::Draining | Phase::Leaving => (StatusCode::OK, "ok\n"),
    }
}

async fn metrics(State(admin): State<Admin>) -> (StatusCode, String) {
    match admin.telemetry.prometheus() {
        Ok(text) => (StatusCode::OK, text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}
