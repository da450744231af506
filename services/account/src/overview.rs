//! View FULL: what billing and product know of a person, asked of both at once and never waited for longer than half of
//! the time that the call has.

mod rpc;

pub(crate) use rpc::{Overview, View, asked};
