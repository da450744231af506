//! Owns what is sold and to whom.
#![doc = include_str!("../README.md")]

mod catalog;
mod category;
mod pricing;

mod plan;
mod subscription;

mod usage;

mod buyer;
mod funds;

mod migrations;

use mesh::{Role, Services};
use serde::{Deserialize, Serialize};

/// The port of the product service where nothing else is said.
pub const PORT: u16 = 8215;

/// Settings of the product service.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Config {
    /// How many bytes of products are kept in memory.
    pub cache_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { cache_bytes: 64 * 1024 * 1024 }
    }
}

/// The product service: a schema, its rpcs, and what it does about events.
pub fn role(config: Config) -> Role {
    Role {
        name: "product",
        migrations: migrations::all(),
        // Tables grow from nothing to millions of rows while connections live: a plan for all, made while there was little,
        // would walk through what it should look up.
        postgres: &[("plan_cache_mode", "force_custom_plan")],
        services: Box::new(move |parts| {
            let accounts = buyer::Accounts::new(&parts)?;
            let usages = usage::Usages::new(&parts);
            subscription::work(&parts);
            Ok(Services::default()
                .with(catalog::server(&parts, &config, accounts.clone()))
                .with(plan::server(&parts))
                .with(subscription::server(&parts, accounts))
                .with(usage::server(&parts, usages))
                .hearing(subscription::handlers(buyer::handlers())))
        }),
    }
}
