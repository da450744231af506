//! Owns money.
#![doc = include_str!("../README.md")]
// An invariant of services/README.md: no float touches money, and no sum wraps unseen.
#![deny(clippy::float_arithmetic, clippy::arithmetic_side_effects, clippy::as_conversions)]

mod ledger;

mod wallet;

mod deduction;

mod migrations;

use mesh::{Role, Services};

/// The port of the billing service where nothing else is said.
pub const PORT: u16 = 8216;

/// The billing service: a schema, its rpcs, and what it does about events.
pub fn role() -> Role {
    Role {
        name: "billing",
        migrations: migrations::all(),
        postgres: &[],
        services: Box::new(|parts| {
            Ok(Services::default()
                .with(deduction::server(&parts))
                .with(wallet::server(&parts)?)
                .hearing(wallet::handlers()))
        }),
    }
}
