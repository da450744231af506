//! The whole house through gRPC: three real listeners that call each other over real connections, on SQLite and, where
//! `TRIVET_TEST_POSTGRES_URL` is set, on PostgreSQL.
#![allow(
    clippy::explicit_write,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions
)]

mod databases;
mod harness;

mod accounts;
mod apart;
mod api_keys;
mod audit;
mod availability;
mod bad_input;
mod batches;
mod by_chance;
mod catalog;
mod certificates;
mod charges;
mod crash;
mod dead_letters;
mod deductions;
mod directory;
mod erasure;
mod event_service;
mod events;
mod events_command;
mod flow;
mod garbage;
mod held_rows;
mod holds;
mod identity;
mod kills;
mod ledger;
mod metrics;
mod model;
mod money_bounds;
mod money_told;
mod observe;
mod organizations;
mod outbox;
mod overview;
mod payments;
mod plans;
mod pricing;
mod process;
mod races;
mod refunds;
mod replicas;
mod settings;
mod standing;
mod subscriptions;
mod tenants;
mod traces;
mod upgrade;
mod usage;
mod wallets;
mod way;
