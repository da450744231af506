//! The mesh through its narrowest public door: real processes on free ports, called over real connections, and stores
//! on real databases.

#![allow(
    clippy::explicit_write,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "a test that cannot go on should end where it stands"
)]

mod house;
mod line;
mod page;
mod papers;
mod proxy;
mod raw;
mod stub;

mod deadlines;
mod drain;
mod health;
mod serving;
mod sessions;
mod start;
mod status;
mod web;

mod abuse;
mod balancing;
mod breaker;
mod endpoints;
mod hops;
mod limits;
mod names;
mod observe;
mod retries;
mod returns;

mod certificates;
mod identity;
mod renewal;
mod tls;

mod claim;
mod claims;
mod database;
mod lanes;
mod migrate;
mod store;
mod writes;
