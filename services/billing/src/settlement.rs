//! Settlement: how a deduction gets from this ledger to a network outside. There is none yet: no trait stands here before
//! there are two ways of doing it.

use trivet_proto::billing::v1::SettlementState;

/// How far a deduction has come outside: nothing is settled there.
pub(crate) const fn state() -> SettlementState {
    SettlementState::NotRequired
}
