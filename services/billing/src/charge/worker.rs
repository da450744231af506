//! Has wallets pay what is owed: right after it was written down, and again and again until each was asked once.

use mesh::{Background, StoreError, Tenant};

use super::table;
use crate::{
    book::{Books, Upkeep},
    upkeep::{self, Task},
};

/// Charges whose wallets are looked at in one go.
const LOOKED_AT: usize = 1_000;

/// Starts to have wallets pay, until the process goes.
pub(crate) fn work(background: &Background, books: &Books) {
    upkeep::work(background, books, Paying);
}

struct Paying;

impl Task for Paying {
    const WHAT: &'static str = "Charges";

    async fn due(&self, books: &Books) -> Result<Vec<(Tenant, Upkeep)>, StoreError> {
        let wallets = table::untried(books.store.reader(), LOOKED_AT).await?;
        Ok(wallets.into_iter().map(|wallet| (wallet.tenant.clone(), Upkeep::Settle(wallet))).collect())
    }
}
