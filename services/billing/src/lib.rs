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
pub mod sabotage;
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
        // Every statement finds its rows through an index, however few a table had when it was planned first, and in the
        // order of the index: a bitmap of all that is after a place, sorted for its first page, is the whole ledger.
        postgres: &[("plan_cache_mode", "force_generic_plan"), ("enable_seqscan", "off"), ("enable_bitmapscan", "off")],
        services: Box::new(|parts| {
            let books = Books::new(&parts.store, &parts.clock, &parts.background, &parts.telemetry);
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
