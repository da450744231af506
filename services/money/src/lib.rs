//! Exact amounts of money: integers of minor units, and the exact decimals that they are computed from. No float.
#![doc = include_str!("../README.md")]
// An invariant of services/README.md: no float touches money, and no sum wraps or is cut short unseen.
#![deny(clippy::float_arithmetic, clippy::arithmetic_side_effects, clippy::as_conversions)]

mod amount;
mod currency;
mod decimal;
mod fault;
mod text;
mod total;

pub use amount::Amount;
pub use currency::Currency;
pub use decimal::{Cost, Decimal, Quantity, QuantitySum, UnitPrice};
pub use fault::Fault;
pub use total::Total;
