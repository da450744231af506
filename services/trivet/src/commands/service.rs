//! Whom a command asks: the service at an address, or all three.

use std::time::Duration;

use anyhow::Context as _;
use mesh::{Context, Peer, Target, Tenant, chain};

use super::{here, peer};
use crate::{Config, RoleName};

/// Who does not begin to answer within this does not answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// One service that is asked.
pub(super) struct Service {
    /// Its role where it is known, else its address.
    pub(super) name: String,
    pub(super) target: Target,
    pub(super) tenant: Tenant,
    pub(super) peer: Peer,
}

impl Service {
    /// A call of ours, now.
    pub(super) fn call(&self) -> Context {
        Context::own(self.tenant.clone(), PATIENCE)
    }
}

/// The service at this address, or all three: where the settings say that they are, else on this machine.
pub(super) async fn services(config: &Config, address: Option<&str>, tenant: &Tenant) -> anyhow::Result<Vec<Service>> {
    let service = async |name: &str, role, target: Target| {
        let peer = peer(config, role, &target, PATIENCE).await?;
        anyhow::Ok(Service { name: name.to_owned(), tenant: tenant.clone(), peer, target })
    };
    if let Some(address) = address {
        return Ok(vec![service(address, "service", address.parse()?).await?]);
    }
    let mut services = Vec::new();
    for role in RoleName::ALL {
        let settings = role.config(config);
        let target = settings.target().with_context(|| format!("{}.address", role.as_str()))?;
        let target = target.unwrap_or_else(|| here(config, settings.port));
        services.push(service(role.as_str(), role.as_str(), target).await?);
    }
    Ok(services)
}

/// What the services answer. Who does not is named on standard error; it is an error where nobody does.
pub(super) async fn ask<'s, T>(
    services: &'s [Service],
    question: impl AsyncFn(&'s Service) -> anyhow::Result<T>,
) -> anyhow::Result<Vec<(&'s Service, T)>> {
    let (mut answers, mut failed) = (Vec::new(), None);
    for service in services {
        match question(service).await {
            Ok(answer) => answers.push((service, answer)),
            Err(error) => {
                eprintln!("trivet: {}: {}", service.name, chain(error.as_ref()));
                failed = Some(error);
            }
        }
    }
    match failed {
        Some(error) if answers.is_empty() => Err(error.context("nobody answered")),
        _ => Ok(answers),
    }
}
