//! What every Trivet service is made of, so that a service is its rules and nothing else.
//!
//! Read [`Plan`] for the life of a process, `serve.rs` for the way of a request in, `call.rs` for the way of a call out,
//! [`store`] for how rows are kept.

pub mod config;

mod process;
pub use process::{Bound, Parts, Peers, Placement, Plan, Role, Running, ServerSettings, Services, StartError};

pub mod identity;
mod tls;
pub use tls::{LeafFault, Tls, TlsFault, TlsSettings, Toward};

mod header;
mod socket;
mod stack;

mod serve;
pub use serve::{
    Answers, BATCH_BYTES, FaultFault, Faults, IdentityMode, IdentitySettings, OriginFaults, Origins, REQUEST_BYTES,
    Streams,
};

mod call;
pub use call::{CallSettings, Lookup, Peer, Target, TargetFault, unanswered};

mod context;
pub use context::{Caller, Context, open};

mod background;
pub use background::Background;

pub mod refusal;
pub use refusal::{Fields, Reason, Refusal};

pub mod store;
pub use store::{Store, StoreError};

pub mod claim;
pub mod coalesce;
pub mod events;
pub use events::EventSettings;
pub mod id;
pub mod page;
pub mod text;
pub mod update;
pub use id::{RequestId, Slug, Tenant, UserId};
pub use page::TokenKey;

mod clock;
pub use clock::{Clock, Time};

mod health;
pub use health::{Life, Phase};

mod status;
pub use status::Finding;

mod admin;

mod observe;

mod telemetry;
pub use telemetry::{LogFormat, Telemetry, TelemetryError, TelemetrySettings, chain, rpc::name as code_name};

/// Used by [`text_enum`].
#[doc(hidden)]
pub use serde;
