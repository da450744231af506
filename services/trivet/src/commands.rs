//! What the binary can be told to do.

mod health;
mod migrate;
mod serve;
mod settings;

pub use health::health;
pub use migrate::{migrate_status, migrate_up};
pub use serve::{Show, serve};
pub use settings::{explain, manual, show};
