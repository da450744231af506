//! The contract of Trivet: all that account, product and billing know of each other.
//!
//! Everything here is made from `proto/trivet/**` by `build.rs`: messages, clients, servers, and what the schema says
//! of repeating each rpc. The .proto files and `proto/README.md` are the manual.

use std::{collections::HashMap, sync::LazyLock};

/// `trivet.account.v1`: people.
#[allow(clippy::all, clippy::pedantic, clippy::restriction)]
pub mod account {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("trivet.account.v1");
    }
}

/// `trivet.product.v1`: what is sold.
#[allow(clippy::all, clippy::pedantic, clippy::restriction)]
pub mod product {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("trivet.product.v1");
    }
}

/// `trivet.billing.v1`: money.
#[allow(clippy::all, clippy::pedantic, clippy::restriction)]
pub mod billing {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("trivet.billing.v1");
    }
}

/// `trivet.mesh.v1`: what every service can be asked beside its own.
#[allow(clippy::all, clippy::pedantic, clippy::restriction)]
pub mod mesh {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("trivet.mesh.v1");
    }
}

/// `grpc.health.v1`, with List, which tonic-health does not have; the messages of the other rpcs are its.
#[allow(clippy::all, clippy::pedantic, clippy::restriction)]
pub mod health {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("grpc.health.v1");
    }
}

/// The encoded `google.protobuf.FileDescriptorSet` of the whole contract, `grpc.health.v1` and comments included. Reflection
/// serves it.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// What `option idempotency_level` of an rpc promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idempotency {
    /// It changes nothing: sending it again is always safe.
    NoSideEffects,
    /// Sending it again has the effect of sending it once.
    Idempotent,
    /// Sending it again may do it again.
    Unknown,
}

/// One rpc as the schema declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Method {
    /// The HTTP/2 path, `/package.Service/Method`.
    pub path: &'static str,
    /// What it promises of being repeated.
    pub idempotency: Idempotency,
    /// The number of the request's `request_id` field, where it has one.
    pub request_id: Option<u32>,
    /// One message in, one message out.
    pub unary: bool,
}

include!(concat!(env!("OUT_DIR"), "/methods.rs"));

/// One kind of event as the contract declares it, with `option (trivet.mesh.v1.event_type)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventKind {
    /// The CloudEvents `type`, `user.created`.
    pub kind: &'static str,
    /// The full name of the message that is its data, `trivet.account.v1.UserCreated`.
    pub message: &'static str,
}

/// A message that is the data of an event.
pub trait Event: prost::Message + Default {
    /// What kind of event.
    const KIND: EventKind;
}

include!(concat!(env!("OUT_DIR"), "/events.rs"));

/// Finds an rpc of the contract by its path, `/package.Service/Method`.
pub fn method(path: &str) -> Option<&'static Method> {
    /// Every call asks several times, and paths have long beginnings in common: hashing is quicker than comparing.
    type Paths = HashMap<&'static str, &'static Method, foldhash::fast::RandomState>;
    static PATHS: LazyLock<Paths> = LazyLock::new(|| METHODS.iter().map(|method| (method.path, method)).collect());
    PATHS.get(path).copied()
}
