//! Work that a role does of itself, beside its calls: it ends when the process goes, and drain waits for it.

use std::future::Future;

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

/// The tasks that a role keeps running. Cheap to clone; clones share the tasks.
#[derive(Clone, Default)]
pub struct Background {
    end: CancellationToken,
    tasks: TaskTracker,
}

impl Background {
    /// Starts a task. It is handed the token that says when to stop: once no call is under way any more, and before the
    /// stores close.
    pub fn spawn<F>(&self, work: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(work(self.end.clone()).in_current_span());
    }

    /// Tells every task to stop once the guard is dropped.
    pub(crate) fn stop_on_drop(&self) -> tokio_util::sync::DropGuard {
        self.end.clone().drop_guard()
    }

    /// Tells every task to stop, and waits until all have.
    pub(crate) async fn finish(&self) {
        self.end.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}
