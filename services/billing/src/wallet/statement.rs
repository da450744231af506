//! Statements: what became of a balance in a stretch of time.

use mesh::{Context, StoreError, Time, UserId};
use money::{Amount, Currency};

use super::{Wallets, key};
use crate::ledger::{self, Line, Wallet, WalletKey};

/// A stretch of a wallet's time, end not included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    /// `None`: from the wallet's beginning.
    pub(super) start: Option<Time>,
    /// `None`: until now.
    pub(super) end: Option<Time>,
}

/// What became of a balance.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    pub(super) opening: Amount,
    pub(super) lines: Vec<Line>,
    pub(super) closing: Amount,
}

impl Wallets {
    /// The statement of a wallet; `None` where there is no wallet.
    pub(super) async fn statement(
        &self,
        context: &Context,
        (user_id, currency): (&UserId, Currency),
        stretch: Stretch,
    ) -> Result<Option<Statement>, StoreError> {
        let Some(wallet) = self.find(context, user_id, currency).await? else { return Ok(None) };
        let key = key(context, user_id, currency);
        // Changes are only ever added, and what stands before a version stays: no transaction is needed.
        let first = self.before(&key, &wallet, stretch.start.unwrap_or(Time::from_micros(i64::MIN))).await?;
        let last = match stretch.end {
            None => wallet.version,
            Some(end) => self.before(&key, &wallet, end).await?,
        };
        let reader = self.books.store.reader();
        let opening = self.balance_at(&key, first).await?;
        let closing = self.balance_at(&key, last).await?;
        let lines = ledger::lines(reader, &key, (first, last)).await?;
        Ok(Some(Statement { opening, lines, closing }))
    }

    /// The last version that a wallet had before this time, 0 for none. Its changes are in the order of their times, so that
    /// halving finds it, however long its history is.
    async fn before(&self, key: &WalletKey, wallet: &Wallet, time: Time) -> Result<i64, StoreError> {
        let (mut before, mut not_before) = (0_i64, wallet.version.saturating_add(1));
        while let Some(middle) = middle(before, not_before) {
            let change = ledger::changes(self.books.store.reader(), key, middle.saturating_add(1), 1).await?.pop();
            if change.is_some_and(|change| change.create_time < time) {
                before = middle;
            } else {
                not_before = middle;
            }
        }
        Ok(before)
    }

    async fn balance_at(&self, key: &WalletKey, version: i64) -> Result<Amount, StoreError> {
        if version == 0 {
            return Ok(Amount::zero(key.currency));
        }
        let change = ledger::changes(self.books.store.reader(), key, version.saturating_add(1), 1).await?.pop();
        change
            .map(|change| change.balance_after)
            .ok_or(StoreError::Impossible("a wallet has a version without a change"))
    }
}

/// A number between two others, if there is one.
fn middle(low: i64, high: i64) -> Option<i64> {
    let apart = high.checked_sub(low)?;
    (apart > 1).then(|| low.saturating_add(apart.checked_div(2).unwrap_or(0)))
}
