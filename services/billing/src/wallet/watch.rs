//! Watching a wallet: as it is now, and then every change of it.

use std::{collections::VecDeque, time::Duration};

use mesh::StoreError;
use tokio::sync::watch;

use crate::{
    book::Books,
    ledger::{self, Change, Wallet, WalletKey},
};

/// Changes read at once.
const PAGE: u64 = 64;
/// How often it looks without having been woken: other processes commit too, and wake nobody here.
const POLL: Duration = Duration::from_millis(250);
/// It looks at most this often, however much is committed: a look costs the database a statement.
const LEAST_WAIT: Duration = Duration::from_millis(20);

/// Where a watch is.
pub(super) struct Watch {
    books: Books,
    key: WalletKey,
    /// As it was told of last.
    told: Wallet,
    page: VecDeque<Change>,
    committed: watch::Receiver<()>,
}

impl Watch {
    /// Watches a wallet that is so now.
    pub(super) fn new(books: &Books, key: WalletKey, now: Wallet) -> Self {
        Self { books: books.clone(), key, told: now, page: VecDeque::new(), committed: books.store.committed() }
    }

    /// The wallet after its next change, with that change where money moved; however long that takes.
    pub(super) async fn next(&mut self) -> Result<(Wallet, Option<Change>), StoreError> {
        loop {
            if let Some(change) = self.page.pop_front() {
                self.told = after(&self.told, &change)?;
                return Ok((self.told.clone(), Some(change)));
            }
            // Before looking: what is committed from now on is looked for again.
            self.committed.mark_unchanged();
            if let Some(wallet) = self.look().await? {
                self.told = wallet.clone();
                return Ok((wallet, None));
            }
            if self.page.is_empty() {
                tokio::time::sleep(LEAST_WAIT).await;
                // The sender lives as long as the store that is held here.
                let _ = tokio::time::timeout(POLL, self.committed.changed()).await;
            }
        }
    }

    /// Reads what has changed. The wallet where that is no movement of money.
    async fn look(&mut self) -> Result<Option<Wallet>, StoreError> {
        let reader = self.books.store.reader();
        let wallet = ledger::find_wallet(reader, &self.key).await?;
        let wallet = wallet.ok_or(StoreError::Impossible("a wallet that was there is not there"))?;
        if wallet.version > self.told.version {
            let versions = (self.told.version, wallet.version);
            self.page.extend(ledger::changes_between(reader, &self.key, versions, PAGE).await?);
            return Ok(None);
        }
        let altered = (wallet.state, &wallet.fault) != (self.told.state, &self.told.fault);
        Ok(altered.then_some(wallet))
    }
}

/// A wallet right after a change.
fn after(before: &Wallet, change: &Change) -> Result<Wallet, StoreError> {
    let held = change.balance_after.minus(change.available_after);
    Ok(Wallet {
        balance: change.balance_after,
        held: held.ok_or(StoreError::Impossible("a change left less than nothing"))?,
        version: change.wallet_version,
        update_time: change.create_time,
        ..before.clone()
    })
}
