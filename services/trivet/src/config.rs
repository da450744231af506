//! The settings of the binary: those of the process, of logs and spans, and of each role.

use std::path::Path;

use mesh::{
    EventSettings, IdentityMode, IdentitySettings, ServerSettings, Target, TargetFault, TelemetrySettings, TlsSettings,
    config::{Faults, Secret},
    store::Location,
};

use crate::RoleName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Every setting there is.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Config {
    /// Where SQLite keeps its files, one per role. Empty: in memory and gone with the process, which only `trivet dev`
    /// takes.
    pub data_dir: String,
    /// The process.
    pub server: ServerSettings,
    /// Who the process is, and whom it believes.
    pub tls: TlsSettings,
    /// Who may call, and how often.
    pub identity: IdentitySettings,
    /// Logs, spans, metrics.
    pub telemetry: TelemetrySettings,
    /// Events, and what carries them.
    pub events: EventSettings,
    /// The account service.
    pub account: RoleConfig,
    /// The product service.
    pub product: RoleConfig,
    /// The billing service.
    pub billing: RoleConfig,
    /// The product service's catalog.
    pub catalog: product::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: String::new(),
            server: ServerSettings::default(),
            tls: TlsSettings::default(),
            identity: IdentitySettings::default(),
            telemetry: TelemetrySettings::default(),
            events: EventSettings::default(),
            account: RoleConfig::on(account::PORT),
            product: RoleConfig::on(product::PORT),
            billing: RoleConfig::on(billing::PORT),
            catalog: product::Config::default(),
        }
    }
}

impl Config {
    /// Looks at what a type cannot say, and names every fault at once.
    pub fn check(&self) -> Result<(), Faults> {
        let mut faults = Vec::new();
        for (name, role) in [("account", &self.account), ("product", &self.product), ("billing", &self.billing)] {
            if role.database_connections == 0 {
                faults.push(format!("{name}.database_connections is 0, at least 1 is needed"));
            }
        }
        if self.server.deadline_ms >= self.server.grace_ms {
            let (deadline, grace) = (self.server.deadline_ms, self.server.grace_ms);
            faults.push(format!("server.deadline_ms is {deadline}, it must be below server.grace_ms, {grace}"));
        }
        if !(0.0..=1.0).contains(&self.telemetry.sample_ratio) {
            faults.push(format!("telemetry.sample_ratio is {}, it must be 0 to 1", self.telemetry.sample_ratio));
        }
        // More than that is no memory of a moment any more, and is looked through whenever somebody asks.
        if self.telemetry.recent_bytes > 1024 * 1024 * 1024 {
            faults.push(format!(
                "telemetry.recent_bytes is {}, it must be 1 GiB (1073741824) at most",
                self.telemetry.recent_bytes
            ));
        }
        if let Err(fault) = self.server.faults.parse::<mesh::Faults>() {
            faults.push(format!("server.faults: {fault}"));
        }
        faults.extend(self.tls.faults());
        if let Err(mesh::OriginFaults(more)) = self.server.web_origins.parse::<mesh::Origins>() {
            faults.extend(more.iter().map(|fault| format!("server.web_origins: {fault}")));
        }
        faults.extend(self.identity.faults(&self.tls));
        faults.extend(self.unknown_peers());
        faults.extend(self.event_faults());
        if faults.is_empty() { Ok(()) } else { Err(Faults(faults)) }
    }

    /// Services of other processes that would refuse what this one asks of them.
    fn unknown_peers(&self) -> Vec<String> {
        if self.tls.on() || self.identity.mode != IdentityMode::Enforce {
            return Vec::new();
        }
        let elsewhere = RoleName::ALL.into_iter().filter(|name| !name.config(self).address.is_empty());
        let fault = |name: RoleName| {
            format!("{}.address is set and identity.mode is enforce: services of two processes need TLS", name.as_str())
        };
        elsewhere.map(fault).collect()
    }

    /// What the settings of events say that cannot be.
    fn event_faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let EventSettings { nats_stream, nats_replicas, nats_max_age_hours, max_bytes, retry_ms, .. } = &self.events;
        let is_name = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        if !(1..=32).contains(&nats_stream.len()) || !is_name(nats_stream) {
            faults.push(format!("events.nats_stream is {nats_stream:?}, it must be 1 to 32 of A-Z, a-z, 0-9, _ and -"));
        }
        if ![1, 3, 5].contains(nats_replicas) {
            faults.push(format!("events.nats_replicas is {nats_replicas}, it must be 1, 3 or 5"));
        }
        // Longer than that, and the inboxes would forget what the stream can still bring.
        if !(1..=30 * 24).contains(nats_max_age_hours) {
            faults.push(format!("events.nats_max_age_hours is {nats_max_age_hours}, it must be 1 to 720"));
        }
        if !(1_024..=64 * 1_024 * 1_024).contains(max_bytes) {
            faults.push(format!("events.max_bytes is {max_bytes}, it must be 1024 to 67108864"));
        }
        if !(1..=60_000).contains(retry_ms) {
            faults.push(format!("events.retry_ms is {retry_ms}, it must be 1 to 60000"));
        }
        faults
    }

    /// Makes sure that what these roles tell reaches all three: inside of one process it does, between processes it
    /// needs NATS.
    pub fn must_carry(&self, roles: &[RoleName]) -> Result<(), Faults> {
        let apart = |name: &RoleName| roles != RoleName::ALL && roles.contains(name);
        if !self.events.nats_url.reveal().is_empty() {
            return Ok(());
        }
        let fault = |name: RoleName| {
            format!("{} runs apart from the others: set events.nats_url, by which they hear its events", name.as_str())
        };
        let faults: Vec<String> = RoleName::ALL.into_iter().filter(apart).map(fault).collect();
        if faults.is_empty() { Ok(()) } else { Err(Faults(faults)) }
    }

    /// Makes sure that these roles keep what they acknowledge: in memory it would be gone with the process.
    pub fn must_keep(&self, roles: &[RoleName]) -> Result<(), Faults> {
        let forgets = |name: &&RoleName| self.data_dir.is_empty() && name.config(self).database_url.reveal().is_empty();
        let fault = |name: &RoleName| {
            let name = name.as_str();
            format!(
                "{name} has no database: set {name}.database_url or data_dir (`trivet dev` keeps its data in memory)"
            )
        };
        let faults: Vec<String> = roles.iter().filter(forgets).map(fault).collect();
        if faults.is_empty() { Ok(()) } else { Err(Faults(faults)) }
    }
}

/// The settings that every role has.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RoleConfig {
    /// The port of the role's rpcs; 0 takes any that is free.
    pub port: u16,
    /// Where the other roles find it: `host:port`, several with commas, names asked anew every 5 s. Empty: in this
    /// process.
    pub address: String,
    /// `postgres://user:password@host:port/database`. Empty: SQLite.
    pub database_url: Secret,
    /// How many connections to PostgreSQL this process opens at most.
    pub database_connections: u32,
}

/// A database URL that is none of ours.
#[derive(Debug, thiserror::Error)]
#[error("{0}.database_url must begin with postgres:// or be empty, for SQLite")]
pub struct DatabaseFault(&'static str);

impl RoleConfig {
    fn on(port: u16) -> Self {
        Self { port, address: String::new(), database_url: Secret::default(), database_connections: 10 }
    }

    /// Where the role's rows are.
    pub fn location(&self, role: &'static str, data_dir: &str) -> Result<Location, DatabaseFault> {
        let url = self.database_url.reveal();
        if url.is_empty() {
            return Ok(match data_dir {
                "" => Location::Memory,
                folder => Location::File(Path::new(folder).join(format!("{role}.db"))),
            });
        }
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(DatabaseFault(role));
        }
        Ok(Location::Postgres { url: url.to_owned(), schema: role.to_owned(), connections: self.database_connections })
    }

    /// Where the others find it, if that is said.
    pub fn target(&self) -> Result<Option<Target>, TargetFault> {
        if self.address.is_empty() { Ok(None) } else { self.address.parse().map(Some) }
    }
}
