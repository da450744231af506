//! Owns money.
#![doc = include_str!("../README.md")]
// An invariant of services/README.md: no float touches money, and no sum wraps unseen.
#![deny(clippy::float_arithmetic, clippy::arithmetic_side_effects, clippy::as_conversions)]

mod ledger;

mod book;

mod wallet;

mod deduction;

mod refund;

mod hold;

mod charge;

mod settlement;

mod audit;

mod instruments;
mod migrations;
mod upkeep;

use mesh::{Role, Services, events::Handlers};

use book::Books;

/// The port of the billing service where nothing else is said.
pub const PORT: u16 = 8216;

/// The billing service: a schema, its rpcs, and what it does about events and of itself.
pub fn role() -> Role {
    Role {
        name: "billing",
        migrations: migrations::all(),
        postgres: &[("plan_cache_mode", "force_custom_plan")],
        services: Box::new(|parts| {
            let books = Books::new(&parts);
            hold::work(&parts.background, &books);
            charge::work(&parts.background, &books);
            let audits = audit::Audits::new(&books);
            Ok(Services::default()
                .with(deduction::server(&parts, &books))
                .with(wallet::server(&parts, &books)?)
                .with(charge::server(&parts, &books))
                .with(audit::server(&parts, audits.clone()))
                .checking("ledger", move || audit::health(audits.clone()))
                .hearing(charge::handlers(wallet::handlers(Handlers::default()))))
        }),
    }
}
