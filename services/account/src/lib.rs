//! Owns people: who they are and how they stand.
#![doc = include_str!("../README.md")]

mod profile;

mod migrations;

use mesh::{Role, Services};

/// The port of the account service where nothing else is said.
pub const PORT: u16 = 8202;

/// The account service: a schema and its rpcs.
pub fn role() -> Role {
    Role {
        name: "account",
        migrations: migrations::all(),
        services: Box::new(|parts| Ok(Services::default().with(profile::server(&parts)))),
    }
}
