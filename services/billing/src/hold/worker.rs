//! Frees what is still set aside when its time is over: exactly once, for the book decides on it like on everything else.

use mesh::{Background, StoreError, Tenant};

use super::table;
use crate::{
    book::{Books, Upkeep},
    upkeep::{self, Task},
};

/// Holds that are looked at in one go.
const LOOKED_AT: usize = 1_000;

/// Starts to free what is due, until the process goes.
pub(crate) fn work(background: &Background, books: &Books) {
    upkeep::work(background, books, Expiring);
}

struct Expiring;

impl Task for Expiring {
    const WHAT: &'static str = "Holds that are due";

    async fn due(&self, books: &Books) -> Result<Vec<(Tenant, Upkeep)>, StoreError> {
        let holds = table::due(books.store.reader(), books.clock.now(), LOOKED_AT).await?;
        let expire = |(tenant, hold): (Tenant, super::Hold)| {
            let wallet = hold.wallet(&tenant);
            (tenant, Upkeep::Expire { wallet, hold_id: hold.hold_id })
        };
        Ok(holds.into_iter().map(expire).collect())
    }
}
