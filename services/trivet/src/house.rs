//! Who lives in the house, and how a process with some of them is planned.

use std::{collections::BTreeMap, fs::DirBuilder, os::unix::fs::DirBuilderExt as _, sync::Arc};

use anyhow::Context as _;
use mesh::{CallSettings, Clock, Placement, Plan, Role, Telemetry};

use crate::config::{Config, RoleConfig};

/// A service of the house.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleName {
    /// People.
    Account,
    /// What is sold.
    Product,
    /// Money.
    Billing,
}

impl RoleName {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 3] = [Self::Account, Self::Product, Self::Billing];

    /// Its name, `billing`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Product => "product",
            Self::Billing => "billing",
        }
    }

    /// Its settings.
    pub const fn config(self, config: &Config) -> &RoleConfig {
        match self {
            Self::Account => &config.account,
            Self::Product => &config.product,
            Self::Billing => &config.billing,
        }
    }

    /// The role itself.
    pub fn role(self, config: &Config) -> Role {
        match self {
            Self::Account => account::role(),
            Self::Product => product::role(config.catalog.clone()),
            Self::Billing => billing::role(),
        }
    }
}

/// Plans a process of these roles.
pub fn plan(config: &Config, roles: &[RoleName], telemetry: Telemetry, clock: Clock) -> anyhow::Result<Plan> {
    make_data_dir(config)?;
    let mut placements = Vec::new();
    for name in roles {
        let settings = name.config(config);
        let location = settings.location(name.as_str(), &config.data_dir)?;
        placements.push(Placement { role: name.role(config), port: settings.port, location });
    }
    let mut peers = BTreeMap::new();
    for name in RoleName::ALL {
        let target = name.config(config).target().with_context(|| format!("{}.address", name.as_str()))?;
        peers.extend(target.map(|target| (name.as_str(), target)));
    }
    Ok(Plan {
        server: config.server.clone(),
        placements,
        peers,
        calls: CallSettings { hedge: config.server.hedge_reads, ..CallSettings::default() },
        tls: config.tls.clone(),
        identity: config.identity.clone(),
        events: config.events.clone(),
        telemetry: Arc::new(telemetry),
        clock,
    })
}

/// Makes the folder of SQLite's files, where there is to be one: people and money are for nobody else's eyes.
pub(crate) fn make_data_dir(config: &Config) -> anyhow::Result<()> {
    if config.data_dir.is_empty() {
        return Ok(());
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&config.data_dir);
    made.with_context(|| format!("data_dir {} cannot be made", config.data_dir))
}
