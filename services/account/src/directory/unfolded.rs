//! Accounts that an older release wrote are not found by what they are called now: this task sees to it, after an upgrade
//! and while one is under way.

use std::time::Duration;

use mesh::{Context, Store, StoreError, Tenant};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::table;

/// Accounts in one transaction: it holds SQLite's writer for some milliseconds.
const BATCH: u64 = 500;
/// How much time there is to begin one. Less than a drain grants work in the background.
const BUDGET: Duration = Duration::from_secs(3);
/// Replicas of the older release may write more until the last of them is gone.
const PAUSE: Duration = Duration::from_mins(1);

/// Looks for such accounts until told to stop.
pub(crate) async fn keep_folded(store: Store, end: CancellationToken) {
    let mut folded = 0;
    loop {
        let pause = match fold_some(&store).await {
            Ok(0) if folded == 0 => PAUSE,
            Ok(0) => {
                info!("Made {folded} accounts of an older release searchable");
                folded = 0;
                PAUSE
            }
            Ok(more) => {
                folded += more;
                Duration::ZERO
            }
            Err(error) => {
                warn!("Accounts of an older release are not searchable yet: {}", mesh::chain(&error));
                PAUSE
            }
        };
        tokio::select! {
            () = end.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Folds some, and says how many.
async fn fold_some(store: &Store) -> Result<usize, StoreError> {
    let context = Context::own(Tenant::default_tenant(), BUDGET);
    store.unit(&context).run((), |(), transaction| Box::pin(table::fold_some(transaction, BATCH))).await
}
