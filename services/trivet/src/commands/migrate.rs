//! `trivet migrate`: brings the schemas of all roles up to date, or says how they are.

use std::fmt::Write as _;

use anyhow::Context as _;
use mesh::{Store, store::Migration};

use crate::{Config, RoleName, make_data_dir};

/// Applies what is missing, role by role. Any number of processes may do so at once.
pub async fn migrate_up(config: &Config) -> anyhow::Result<String> {
    for name in RoleName::ALL {
        let (store, migrations) = open(config, name).await?;
        store
            .migrate(&migrations)
            .await
            .with_context(|| format!("the schema of {} cannot be migrated", name.as_str()))?;
        store.close().await?;
    }
    migrate_status(config).await
}

/// A line per migration: its role, its name, and whether the database has it.
pub async fn migrate_status(config: &Config) -> anyhow::Result<String> {
    let mut text = String::new();
    for name in RoleName::ALL {
        let (store, migrations) = open(config, name).await?;
        for state in store.migration_states(&migrations).await? {
            let applied = if state.applied { "applied" } else { "pending" };
            let _ = writeln!(text, "{:<8} {:<24} {applied}", name.as_str(), state.name);
        }
        store.close().await?;
    }
    Ok(text)
}

async fn open(config: &Config, name: RoleName) -> anyhow::Result<(Store, Vec<Migration>)> {
    let location = name.config(config).location(name.as_str(), &config.data_dir)?;
    make_data_dir(config)?;
    let what = format!("the database of {} ({location}) cannot be opened", name.as_str());
    Ok((Store::open(location).await.context(what)?, name.role(config).migrations))
}
