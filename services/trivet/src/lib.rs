//! The house: its settings, its roles, and what the one binary can be told to do.

mod config;
pub use config::{Config, DatabaseFault, RoleConfig};

mod house;
use house::make_data_dir;
pub use house::{RoleName, plan};

pub mod commands;
