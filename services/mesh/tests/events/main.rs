//! Events through their narrowest public door: real processes that are really killed, real databases, and where it is
//! given a real NATS. Told once, felt once, in order.

#![allow(
    clippy::explicit_write,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "a test that cannot go on should end where it stands"
)]

mod ground;
mod waiting;

mod felt;
mod told;

mod child;
mod house;
mod proxy;
mod server;

mod drain;
mod kills;
mod leads;
mod letters;
mod nats;
mod order;
mod strange;
mod stream;
