//! One attempt of a call, and what is known when it fails.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tonic::{Code, Status};

/// Why an attempt failed: the status that the caller would see, and what is known of what happened.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// For the caller.
    pub(crate) status: Status,
    /// How far it got.
    pub(crate) reach: Reach,
}

/// The endpoints that a call was tried at, which another attempt leaves out while there are others.
#[derive(Clone, Debug, Default)]
pub(super) struct Tried(pub(super) Arc<Mutex<BTreeSet<SocketAddr>>>);

/// How far a failed attempt got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The breaker did not let it through, and would not in a moment either.
    Shut,
    /// It was held back here: nothing was tried, nothing was learnt. Another endpoint may take it.
    HeldBack,
    /// It was tried and nothing was sent: trying elsewhere at once is safe, whatever the rpc.
    Unsent,
    /// The connection ended under it: it was sent, and may have been carried out. So did every other call on it.
    Broken,
    /// It was sent, and may have been carried out.
    Unclear,
}

impl Failure {
    /// An attempt that got so far.
    pub(crate) fn new(reach: Reach, status: impl Into<Status>) -> Self {
        Self { status: status.into(), reach }
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let mut status = failure.status;
        status.set_source(Arc::new(Reached(failure.reach)));
        status
    }
}

/// Rides in a status from the connection up to the retries.
#[derive(Debug, thiserror::Error)]
#[error("the call got as far as {0:?}")]
struct Reached(Reach);

/// How far the attempt got that ended in this status; `None` where the other side made it.
pub(crate) fn reach(status: &Status) -> Option<Reach> {
    std::error::Error::source(status)?.downcast_ref::<Reached>().map(|reached| reached.0)
}

/// Whether an outcome says that the endpoint is ill. A refusal such as NOT_FOUND says that it is well.
pub(crate) fn is_illness(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::DeadlineExceeded | Code::Internal | Code::DataLoss | Code::Unknown)
}
