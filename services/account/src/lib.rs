//! Owns people: who they are and how they stand.
#![doc = include_str!("../README.md")]

mod account;

mod profile;

mod preferences;

mod standing;

mod tier;

mod directory;

mod history;

mod overview;

mod organization;

mod api_key;

mod tenant;

mod migrations;

use mesh::{Role, Services};

/// The port of the account service where nothing else is said.
pub const PORT: u16 = 8202;

/// The account service: a schema and its rpcs.
pub fn role() -> Role {
    Role {
        name: "account",
        migrations: migrations::all(),
        // Whether an index or a walk finds a text faster depends on how common the text is: a plan for all is wrong for
        // half of them.
        postgres: &[("plan_cache_mode", "force_custom_plan")],
        services: Box::new(|parts| {
            let store = parts.store.clone();
            parts.background.spawn(|end| directory::keep_folded(store, end));
            Ok(Services::default()
                .with(account::rpc::server(&parts))
                .with(organization::server(&parts))
                .with(api_key::server(&parts))
                .with(tenant::server(&parts))
                .hearing(tier::handlers()))
        }),
    }
}
