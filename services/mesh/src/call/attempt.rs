//! One attempt of a call, and what is known when it fails.

use tonic::{Code, Status};

/// Why an attempt failed: the status that the caller would see, and whether the other side can have seen anything.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// For the caller.
    pub(crate) status: Status,
    /// Nothing was sent: trying elsewhere at once is safe, whatever the rpc.
    pub(crate) unsent: bool,
}

impl Failure {
    /// Nothing left this process.
    pub(crate) fn unsent(status: Status) -> Self {
        Self { status, unsent: true }
    }

    /// It may have been carried out.
    pub(crate) fn unclear(status: Status) -> Self {
        Self { status, unsent: false }
    }
}

/// Whether an outcome says that the endpoint is ill. A refusal such as NOT_FOUND says that it is well.
pub(crate) fn is_illness(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::DeadlineExceeded | Code::Internal | Code::DataLoss | Code::Unknown)
}
