//! Exact amounts of money: integers of minor units, read and printed as decimals, never rounded, never a float.
#![doc = include_str!("../README.md")]
// An invariant of services/README.md: no float touches money, and no sum wraps or is cut short unseen.
#![deny(clippy::float_arithmetic, clippy::arithmetic_side_effects, clippy::as_conversions)]

mod amount;
mod currency;
mod fault;

pub use amount::Amount;
pub use currency::Currency;
pub use fault::Fault;
