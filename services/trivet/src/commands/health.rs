//! `trivet health`: asks a running process how it is, for HEALTHCHECK and for people.

use std::time::Duration;

use anyhow::{Context as _, bail};
use mesh::{Target, TlsSettings};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::{here, peer};
use crate::Config;

/// Who does not answer within this is not well.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks the process behind `address`, by default the admin port of this machine, for the health of `service`. An error
/// is anything but SERVING.
pub async fn health(config: &Config, address: Option<&str>, service: &str) -> anyhow::Result<String> {
    let target: Target = address.map_or_else(|| Ok(here(config, config.server.admin_port)), str::parse)?;
    // Every admin port speaks plaintext, here and elsewhere: Kubernetes' probes know no TLS.
    let admin = address.is_none_or(|address| address.ends_with(&format!(":{}", config.server.admin_port)));
    let plain = Config { tls: TlsSettings::default(), ..config.clone() };
    let peer = peer(if admin { &plain } else { config }, "health", &target, PATIENCE).await?;
    let request = HealthCheckRequest { service: service.to_owned() };
    let response =
        HealthClient::new(peer).check(request).await.with_context(|| format!("{target} does not say how it is"))?;
    match response.into_inner().status() {
        ServingStatus::Serving => Ok(format!("{service} SERVING")),
        other => bail!("{service} {}", other.as_str_name()),
    }
}
