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

mod harness;

mod accounts;
mod api_keys;
mod availability;
mod bad_input;
mod catalog;
mod dead_letters;
mod deductions;
mod directory;
mod erasure;
mod event_service;
mod events;
mod events_command;
mod flow;
mod kills;
mod ledger;
mod organizations;
mod overview;
mod payments;
mod plans;
mod pricing;
mod process;
mod races;
mod settings;
mod standing;
mod subscriptions;
mod tenants;
mod traces;
mod upgrade;
mod usage;
