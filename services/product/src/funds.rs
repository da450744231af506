//! Funds: whether somebody can pay, which billing knows and nobody else.

mod rpc;

pub(crate) use rpc::Funds;
