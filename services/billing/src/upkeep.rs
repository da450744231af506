//! What the house does of itself: each task finds out what is due and hands it to the book, where it is decided in line with
//! all orders. Several replicas may find the same; the book does it once.

use std::time::Duration;

use mesh::{Background, Context, StoreError, Tenant, chain};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::book::{Books, NotCarriedOut, Upkeep};

/// How often it looks without having been woken: other processes commit too, and time passes.
const POLL: Duration = Duration::from_secs(1);
/// It looks at most this often, however much is committed.
const LEAST_WAIT: Duration = Duration::from_millis(20);
/// How much time there is for one piece of work.
const BUDGET: Duration = Duration::from_secs(10);

/// Something that becomes due.
pub(crate) trait Task: Send + Sync + 'static {
    /// What waits while the database is away, as the log has it.
    const WHAT: &'static str;

    /// What is due, a bounded piece of it.
    fn due(&self, books: &Books) -> impl Future<Output = Result<Vec<(Tenant, Upkeep)>, StoreError>> + Send;
}

/// Starts to do what becomes due, until the process goes.
pub(crate) fn work<T: Task>(background: &Background, books: &Books, task: T) {
    let books = books.clone();
    background.spawn(|end| run(books, task, end));
}

async fn run<T: Task>(books: Books, task: T, end: CancellationToken) {
    let (mut committed, mut moved) = (books.store.committed(), books.clock.moved());
    while !end.is_cancelled() {
        // Before it looks: what happens while it does is looked at again.
        committed.mark_unchanged();
        moved.mark_unchanged();
        let idle = match pass(&books, &task).await {
            Ok(done) => done == 0,
            Err(error) => {
                if matches!(&error, NotCarriedOut::Store(error) if !error.is_passing()) {
                    warn!("{} cannot be dealt with: {}", T::WHAT, chain(&error));
                } else {
                    debug!("{} wait: {}", T::WHAT, chain(&error));
                }
                tokio::select! {
                    () = end.cancelled() => return,
                    () = tokio::time::sleep(POLL) => false,
                }
            }
        };
        if idle {
            let woken = async {
                tokio::time::sleep(LEAST_WAIT).await;
                tokio::select! {
                    // The sender lives as long as the store that is held here.
                    _ = committed.changed() => {}
                    Ok(()) = moved.changed() => {}
                }
            };
            tokio::select! {
                () = end.cancelled() => return,
                () = tokio::time::sleep(POLL) => {}
                () = woken => {}
            }
        }
    }
}

/// Does what is due now; says how much that was.
async fn pass<T: Task>(books: &Books, task: &T) -> Result<usize, NotCarriedOut> {
    let due = task.due(books).await?;
    let count = due.len();
    let mut pending = Vec::with_capacity(count);
    // Handed in all before the first is waited for, so that they are committed together.
    for (tenant, upkeep) in due {
        pending.push(books.keep_up(&Context::own(tenant, BUDGET), upkeep).await?);
    }
    for pending in pending {
        pending.answer().await?.map_err(|stopped| stopped.refused)?;
    }
    Ok(count)
}
