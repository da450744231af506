//! The rows of usage, and every statement on them.

mod records;
mod stats;
mod totals;

pub(super) use records::{count, find_all, insert, list, lock, void};
pub(super) use stats::{Asked, Place, Sum, sums};
pub(super) use totals::{Counted, lock_totals, peek_totals, set_totals, sum_up};
